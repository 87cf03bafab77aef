"""Moving ledger rows: lock in id order, advance each (pure), write all in one statement.

Everything that learns something about a message comes through here: the dispatcher's outcomes, receipts, a person's
word, a reply. History lines and the funnel's differences are written by the same statement, from the rows it locked.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.events import service as events
from antiphon.messages.model import Event, Fact, Ledger, advance

NO_CAMPAIGN = UUID(int=0)


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger row that this transaction holds, with what its counts are kept by and where its queue row stands."""

    row: Ledger
    campaign_id: UUID | None
    sender_id: UUID | None
    channel: str
    day: date
    address: str
    contact_id: UUID | None
    state: int | None
    current_attempt: int | None


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one message."""

    before: Locked
    after: Ledger
    events: list[Event]


async def lock(conn: Connection, org_id: UUID, message_ids: Iterable[UUID]) -> dict[UUID, Locked]:
    """The outbound messages of these ids, locked in id order; ids that are not the organization's are left out."""
    ids = sorted(set(message_ids))
    if not ids:
        return {}
    found = await db.tuples(conn, LOCK, org_id=org_id, ids=ids, low=ids[0], high=ids[-1])
    return {row[0]: _locked(row) for row in found}


def _locked(row: tuple[Any, ...]) -> Locked:
    fields = Ledger.__struct_fields__
    values = dict(zip(fields, row[: len(fields)], strict=True))
    campaign_id, sender_id, channel, day, address, contact_id, state, current = row[len(fields) :]
    return Locked(
        row=Ledger(**values), campaign_id=campaign_id, sender_id=sender_id, channel=channel, day=day,
        address=address, contact_id=contact_id, state=state, current_attempt=current,
    )  # fmt: skip


LOCK = """
    SELECT m.id, m.status, m.stage, m.reason, m.code, m.detail, m.created_at, m.attempt_no, m.provider_message_id,
           m.sent_at, m.delivered_at, m.read_at, m.clicked_at, m.replied_at, m.closed_at, m.failed_at, m.bounced_at,
           m.skipped_at, m.canceled_at, m.campaign_id, m.sender_id, m.channel, m.day, m.address, m.contact_id,
           o.state, o.attempt_no
      FROM messages m LEFT JOIN outbox o ON o.org_id = %(org_id)s AND o.message_id = m.id
     WHERE m.org_id = %(org_id)s AND m.id BETWEEN %(low)s AND %(high)s AND m.id = ANY(%(ids)s)
       AND m.direction = 'out'
     ORDER BY m.id
       FOR NO KEY UPDATE OF m
"""


def settle(locked: dict[UUID, Locked], facts: Iterable[Fact]) -> list[Moved]:
    """Apply the facts to the rows they name, in the order given; facts about other ids are left out. Pure."""
    rows: dict[UUID, Ledger] = {}
    events: dict[UUID, list[Event]] = {}
    for fact in facts:
        held = locked.get(fact.message_id)
        if held is None:
            continue
        row, event = advance(rows.get(fact.message_id, held.row), fact)
        rows[fact.message_id] = row
        events.setdefault(fact.message_id, []).append(event)
    return [Moved(before=locked[id_], after=rows[id_], events=events[id_]) for id_ in sorted(rows)]


Lines = set[tuple[UUID, str]]
"""Lines of history: a message and the key of a fact about it."""


async def write(conn: Connection, org_id: UUID, moved: list[Moved]) -> Lines:
    """Store the rows, their history, and the differences that they make to the funnel; returns the lines that are new:
    what was known already must have no consequences a second time."""
    if not moved:
        return set()
    changed = [m.after for m in moved if m.after != m.before.row]
    lines = [_line(event) for m in moved for event in m.events]
    found = await db.tuples(
        conn, MOVE, org_id=org_id, rows=db.json(changed), lines=db.json(lines), deltas=db.json(_deltas(moved)),
        low=moved[0].after.id, high=moved[-1].after.id,
    )  # fmt: skip
    news = {(message_id, key) for message_id, key, _ in found}
    if found and found[0][2]:
        await tell(conn, org_id, _changes(moved, news))
    return news


class StatusChange(msgspec.Struct, frozen=True, kw_only=True):
    """What the event `message_status_changed` says."""

    id: UUID
    campaign_id: UUID | None
    contact_id: UUID | None
    channel: str
    old_status: str
    status: str
    reason: str = ""
    code: str | None = None
    at: datetime


def _changes(moved: list[Moved], news: Lines) -> list[StatusChange]:
    return [
        StatusChange(
            id=m.after.id, campaign_id=m.before.campaign_id, contact_id=m.before.contact_id, channel=m.before.channel,
            old_status=event.old_status, status=event.new_status, reason=event.fact.reason, code=event.fact.code,
            at=event.fact.at,
        )
        for m in moved
        for event in m.events
        if event.old_status != event.new_status and (m.after.id, event.fact.key) in news
    ]  # fmt: skip


async def tell(conn: Connection, org_id: UUID, changes: list[StatusChange]) -> None:
    """Say that statuses have changed, in the transaction that changed them. For an organization in which somebody
    wants to hear it: the statements that change them look whether anybody does, so that nobody pays who has none."""
    subjects = [(change.id, msgspec.to_builtins(change)) for change in changes]
    await events.emit_many(conn, org_id, "message_status_changed", subjects)


def _line(event: Event) -> dict[str, object]:
    fact = event.fact
    return {
        "message_id": fact.message_id, "key": fact.key, "kind": "anomaly" if event.anomaly else fact.kind,
        "source": fact.source, "old_status": event.old_status, "new_status": event.new_status,
        "reason": fact.reason or fact.detail, "code": fact.code, "attempt_no": fact.attempt_no,
        "provider_at": fact.provider_at, "at": fact.at, "detail": fact.payload,
    }  # fmt: skip


def _deltas(moved: list[Moved]) -> list[dict[str, object]]:
    """One difference for each (campaign, sender, channel, day, stage, reason) that gained or lost."""
    sums: dict[tuple[Any, ...], int] = {}
    for m in moved:
        old, new = (m.before.row.stage, m.before.row.reason), (m.after.stage, m.after.reason)
        if old == new:
            continue
        where = (  # ids as numbers: a UUID's own hash is a call into Python, and there are sixteen for each message
            (m.before.campaign_id or NO_CAMPAIGN).int,
            (m.before.sender_id or NO_CAMPAIGN).int,
            m.before.channel,
            m.before.day,
        )
        sums[(*where, *old)] = sums.get((*where, *old), 0) - 1
        sums[(*where, *new)] = sums.get((*where, *new), 0) + 1
    return [
        {
            "campaign_id": UUID(int=campaign_id), "sender_id": UUID(int=sender_id), "channel": channel, "day": day,
            "stage": stage, "reason": reason, "n": n,
        }
        for (campaign_id, sender_id, channel, day, stage, reason), n in sums.items()
        if n
    ]  # fmt: skip


MOVE = """
WITH changed AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS r (
        id uuid, status text, stage text, reason text, code text, detail text, attempt_no int, provider_message_id text,
        sent_at timestamptz, delivered_at timestamptz, read_at timestamptz, clicked_at timestamptz,
        replied_at timestamptz, closed_at timestamptz, failed_at timestamptz, bounced_at timestamptz,
        skipped_at timestamptz, canceled_at timestamptz)
), moved AS (
    UPDATE messages m
       SET status = r.status, stage = r.stage, reason = r.reason, code = r.code, detail = r.detail,
           attempt_no = r.attempt_no, provider_message_id = r.provider_message_id, sent_at = r.sent_at,
           delivered_at = r.delivered_at, read_at = r.read_at, clicked_at = r.clicked_at, replied_at = r.replied_at,
           closed_at = r.closed_at, failed_at = r.failed_at, bounced_at = r.bounced_at,
           skipped_at = r.skipped_at, canceled_at = r.canceled_at
      FROM changed r
     WHERE m.org_id = %(org_id)s AND m.id BETWEEN %(low)s AND %(high)s
       AND m.id = ANY (ARRAY(SELECT x.id FROM changed x)) AND m.id = r.id
), told AS (
    INSERT INTO message_events (org_id, message_id, key, kind, source, old_status, new_status, reason, code,
                                attempt_no, provider_at, at, detail)
    SELECT %(org_id)s, message_id, key, kind, source, old_status, new_status, reason, code, attempt_no, provider_at,
           at, detail
      FROM jsonb_to_recordset(%(lines)s) AS l (
           message_id uuid, key text, kind text, source text, old_status text, new_status text, reason text, code text,
           attempt_no int, provider_at timestamptz, at timestamptz, detail jsonb)
        ON CONFLICT DO NOTHING
    RETURNING message_id, key
), counted AS (
    INSERT INTO funnel_deltas (org_id, campaign_id, sender_id, channel, day, stage, reason, n)
    SELECT %(org_id)s, campaign_id, sender_id, channel, day, stage, reason, n
      FROM jsonb_to_recordset(%(deltas)s) AS d (
           campaign_id uuid, sender_id uuid, channel text, day date, stage text, reason text, n int)
        ON CONFLICT DO NOTHING
)
SELECT t.message_id, t.key,
       EXISTS (SELECT FROM event_subscriptions s
                WHERE s.org_id = %(org_id)s AND s.name = 'message_status_changed' AND s.valid_until > now())
  FROM told t
"""


async def learn(conn: Connection, org_id: UUID, facts: list[Fact]) -> list[Moved]:
    """Lock, advance and write in one go; returns what became of each message named."""
    moved = settle(await lock(conn, org_id, (f.message_id for f in facts)), facts)
    await write(conn, org_id, moved)
    return moved
