"""Receipts: one function for webhook and polling.

    apply    find each receipt's message (our reference first, else the provider's id), lock, advance, write
             what names no message of ours yet is parked, and tried again by `apply_parked` within seconds

The caller's transaction may hold several organizations' parts (`receiving`'s group commit); each call is one
organization's. Order, repetition and batching change nothing: `model.advance` computes the row from its facts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.core.ids import new_id, uuid7_at
from antiphon.messages import consequences, ledger
from antiphon.messages.ledger import Lines, Moved
from antiphon.messages.model import Fact
from antiphon.providers.contract import Receipt

PARKED_FOR = timedelta(days=8)
"""Longer than the seven days for which Meta repeats."""

FRESH = timedelta(minutes=10)
"""A hand-over is stored within seconds of its first receipt. What is parked for longer is most likely nobody's, and
looked at seldom: somebody else's webhooks must not cost us a look at each of them every second."""
AT_ONCE = 500

REASONS = {"failed": "undelivered", "bounced": "bounced"}


class Applied(msgspec.Struct, frozen=True):
    """What became of a batch of receipts."""

    moved: list[Moved]
    parked: int


class _Target(msgspec.Struct, frozen=True):
    message_id: UUID
    attempt_no: int | None


class _Told(msgspec.Struct, frozen=True):
    """A receipt and when it arrived."""

    receipt: Receipt
    at: datetime


async def apply(
    conn: Connection,
    org_id: UUID,
    account_id: UUID,
    receipts: list[Receipt],
    source: Literal["webhook", "polling"],
    *,
    is_polled: bool = True,
) -> Applied:
    """Learn what a provider says about messages of one account; parks what names none of ours (yet).

    `is_polled` False: the caller knows that the account's provider is never asked for a status.
    """
    at = now()
    tolds = [_Told(receipt, at) for receipt in receipts]
    return await _apply(conn, org_id, account_id, tolds, source, is_polled=is_polled)


async def _apply(
    conn: Connection,
    org_id: UUID,
    account_id: UUID,
    tolds: list[_Told],
    source: Literal["webhook", "polling"],
    *,
    is_polled: bool = True,
) -> Applied:
    targets = await _find(conn, org_id, account_id, [told.receipt for told in tolds])
    facts: list[Fact] = []
    said: dict[tuple[UUID, str], _Told] = {}
    strange: list[_Told] = []
    for told, target in zip(tolds, targets, strict=True):
        if target is None:
            strange.append(told)
        else:
            facts.append(_fact(told.receipt, target, source, told.at))
            said.setdefault((target.message_id, told.receipt.dedupe_key), told)
    moved = ledger.settle(await ledger.lock(conn, org_id, (fact.message_id for fact in facts)), facts)
    news = await ledger.write(conn, org_id, moved)
    if is_polled or any(m.before.state is not None for m in moved):
        await _follow(conn, org_id, moved, source)
    await _obey(conn, org_id, moved, said, news)
    await _park(conn, org_id, account_id, strange, source)
    return Applied(moved, len(strange))


def _fact(
    receipt: Receipt, target: _Target, source: Literal["webhook", "polling"], arrived: datetime
) -> Fact:
    return Fact(
        message_id=target.message_id,
        kind=receipt.status,
        key=receipt.dedupe_key,
        at=arrived,
        source=source,
        provider_at=receipt.at,
        attempt_no=target.attempt_no,
        provider_message_id=receipt.provider_message_id,
        reason=REASONS.get(receipt.status, ""),
        code=receipt.code,
        detail=receipt.reason,
        payload=receipt.payload or None,
    )


async def _find(
    conn: Connection, org_id: UUID, account_id: UUID, receipts: list[Receipt]
) -> list[_Target | None]:
    """Our reference wins over the provider's id: it cannot be confused, and it is there before the hand-over is."""
    references = {id_ for r in receipts if (id_ := _uuid(r.reference))}
    names = {r.provider_message_id for r in receipts if r.provider_message_id}
    found = await db.tuples(
        conn, FIND, org_id=org_id, account_id=account_id, references=sorted(references), names=sorted(names),
        low=min(references, default=UUID(int=0)), high=max(references, default=UUID(int=0)),
    )  # fmt: skip
    ours = {row[0] for row in found if row[1] is None}
    named = {row[1]: _Target(row[0], row[2] or None) for row in found if row[1] is not None}
    targets: list[_Target | None] = []
    for receipt in receipts:
        by_name = named.get(receipt.provider_message_id) if receipt.provider_message_id else None
        reference = _uuid(receipt.reference)
        targets.append(
            _Target(reference, by_name.attempt_no if by_name else None)
            if reference in ours and reference
            else by_name
        )
    return targets


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


FIND = """
    SELECT p.message_id, p.provider_message_id, p.attempt_no
      FROM provider_ids p
     WHERE p.org_id = %(org_id)s AND p.account_id = %(account_id)s AND p.provider_message_id = ANY(%(names)s::text[])
    UNION ALL
    SELECT m.id, NULL, 0
      FROM messages m JOIN lanes l ON l.org_id = m.org_id AND l.id = m.sender_id
     WHERE m.org_id = %(org_id)s AND m.id BETWEEN %(low)s AND %(high)s AND m.id = ANY(%(references)s::uuid[])
       AND l.account_id = %(account_id)s
"""


async def _follow(conn: Connection, org_id: UUID, moved: list[Moved], source: str) -> None:
    """What a receipt settles beyond the row: queue rows that have nothing left to do, and polls."""
    if not moved:
        return
    done = [m.after.id for m in moved if m.after.status in ("sent", "delivered", "read", "failed", "bounced")]
    final = [m.after.id for m in moved if m.after.status in ("read", "failed", "bounced")]
    heard = [m.after.id for m in moved if source == "webhook"]
    await db.execute(conn, SETTLE, org_id=org_id, done=done, final=final, heard=heard)


SETTLE = """
    WITH settled AS (
        DELETE FROM outbox o
         WHERE o.org_id = %(org_id)s AND o.message_id = ANY(%(done)s::uuid[])
           AND (o.state IN (2, 3) OR (o.state = 0 AND o.attempt_no > 0))
    ), answered AS (
        DELETE FROM polls p WHERE p.org_id = %(org_id)s AND p.message_id = ANY(%(final)s::uuid[])
    )
    UPDATE polls p SET due_at = p.due_at + interval '5 minutes'
     WHERE p.org_id = %(org_id)s AND p.message_id = ANY(%(heard)s::uuid[])
       AND NOT p.message_id = ANY(%(final)s::uuid[])
"""


async def _obey(
    conn: Connection, org_id: UUID, moved: list[Moved], said: dict[tuple[UUID, str], _Told], news: Lines
) -> None:
    """Do what the receipts say of addresses, if it is news: a repetition must not undo what a person decided since."""
    held = {m.before.row.id: m.before for m in moved}
    for line, told in said.items():
        if line in news:
            await consequences.of_receipt(conn, org_id, held[line[0]], told.receipt, told.at)


async def _park(conn: Connection, org_id: UUID, account_id: UUID, tolds: list[_Told], source: str) -> None:
    if not tolds:
        return
    rows = [
        {
            "id": new_id(),
            "name": told.receipt.provider_message_id or told.receipt.reference or "",
            "receipt": told.receipt,
            "at": told.at,
            "expires_at": told.at + PARKED_FOR,
        }
        for told in tolds
    ]
    await db.execute(conn, PARK, org_id=org_id, account_id=account_id, source=source, rows=db.json(rows))


PARK = """
    INSERT INTO parked_receipts (org_id, id, account_id, provider_message_id, receipt, source, parked_at, expires_at)
    SELECT %(org_id)s, id, %(account_id)s, name, receipt, %(source)s, at, expires_at
      FROM jsonb_to_recordset(%(rows)s) AS r (
           id uuid, name text, receipt jsonb, at timestamptz, expires_at timestamptz)
        ON CONFLICT DO NOTHING
"""


async def organizations_with_parked(conn: Connection, *, old: bool = False) -> list[UUID]:
    """Whose receipts parked of late (`old`: at any time) may have found their message by now."""
    return [row[0] for row in await db.tuples(conn, WITH_PARKED, low=_lowest(old))]


def _lowest(old: bool) -> UUID:
    """Where the ids of what is looked at begin: they carry the time of the parking."""
    return UUID(int=0) if old else uuid7_at(int((now() - FRESH).timestamp() * 1000))


WITH_PARKED = """
    SELECT DISTINCT org_id FROM parked_receipts  -- any organization: the worker looks for receipts that wait
     WHERE id >= %(low)s
"""


async def apply_parked(conn: Connection, org_id: UUID, *, old: bool = False) -> int:
    """Apply receipts parked of late (`old`: at any time) whose message is known now, at most 500; returns how many.

    `old` also drops those that have waited too long.
    """
    found = await db.tuples(conn, UNPARK, org_id=org_id, low=_lowest(old), limit=AT_ONCE)
    if old:
        await db.execute(conn, EXPIRE, org_id=org_id)
    batches: dict[tuple[UUID, str], list[_Told]] = {}
    for account_id, source, receipt, at in found:
        batches.setdefault((account_id, source), []).append(_Told(msgspec.convert(receipt, Receipt), at))
    for (account_id, source), waiting in batches.items():
        await _apply(conn, org_id, account_id, waiting, "polling" if source == "polling" else "webhook")
    return len(found)


UNPARK = """
    DELETE FROM parked_receipts r
     WHERE r.org_id = %(org_id)s AND r.id = ANY (ARRAY(
           SELECT x.id FROM parked_receipts x
             JOIN provider_ids p ON p.org_id = x.org_id AND p.account_id = x.account_id
                                AND p.provider_message_id = x.provider_message_id
            WHERE x.org_id = %(org_id)s AND x.id >= %(low)s
            ORDER BY x.id LIMIT %(limit)s FOR UPDATE OF x SKIP LOCKED))
    RETURNING r.account_id, r.source, r.receipt, r.parked_at
"""

EXPIRE = "DELETE FROM parked_receipts WHERE org_id = %(org_id)s AND expires_at < now()"
