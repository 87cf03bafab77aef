"""What one organization's webhooks become: receipts, messages from people, and the rows that keep them as they came.

`store` is all or nothing. `store_piecewise` is the last resort for one that fails by itself: each piece stands behind a
savepoint, so what cannot be done is kept raw with the reason, and its neighbours have their effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar
from uuid import UUID

import psycopg

from antiphon.core import db, logging
from antiphon.core.db import Connection
from antiphon.inbox import service as inbox
from antiphon.messages import receipts
from antiphon.providers.contract import Inbound, Receipt
from antiphon.receiving import queries
from antiphon.receiving.model import Delivery, Door, Kept, Sorted, kept_headers, note_of, sort

log = logging.get(__name__)
T = TypeVar("T")

AT_ONCE = 500
"""Receipts in one statement; Meta's largest body holds some fifteen thousand."""

CROSSED = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
"""Two transactions waited for each other: one was taken back, and may try again at once."""

Parked = set[tuple[UUID, str]]  # account, the receipt's key


def is_everybodys(error: Exception) -> bool:
    """Is it the database that is away, full or too slow, so that whatever comes next would meet the same?"""
    problem = db.problem_of(error)
    return problem is not None and problem.status == 503 and not isinstance(error, CROSSED)


async def store(conn: Connection, org_id: UUID, deliveries: Sequence[Delivery]) -> None:
    """Everything that these webhooks of one organization say, in the caller's transaction; all or nothing."""
    parts = [(delivery, sort(delivery.door, delivery.events)) for delivery in deliveries]
    parked = await _apply_all(conn, org_id, parts)
    remarks: dict[UUID, list[str]] = {}
    for delivery, inbound in _messages(parts):
        if (why := await _receive(conn, org_id, delivery.door, inbound)) is not None:
            remarks.setdefault(delivery.id, []).append(why)
    kept = [_kept(delivery, part, parked, remarks.get(delivery.id, [])) for delivery, part in parts]
    await queries.keep(conn, org_id, kept, [delivery.body for delivery in deliveries])


async def store_piecewise(conn: Connection, org_id: UUID, delivery: Delivery) -> None:
    """Everything of one webhook that can be done; the rest is kept, logged and counted as unreadable."""
    part = sort(delivery.door, delivery.events)
    parked: Parked = set()
    remarks: list[str] = []
    for receipt in part.receipts:
        try:
            async with db.organization(conn, org_id):
                parked |= await _apply(conn, org_id, delivery.door, [receipt])
        except Exception as error:
            remarks.append(_defect(conn, delivery, error))
    for inbound in part.inbound:
        try:
            async with db.organization(conn, org_id):
                why = await _receive(conn, org_id, delivery.door, inbound)
            remarks += [why] if why else []
        except Exception as error:
            remarks.append(_defect(conn, delivery, error))
    await queries.keep(conn, org_id, [_kept(delivery, part, parked, remarks)], [delivery.body])


def _defect(conn: Connection, delivery: Delivery, error: Exception) -> str:
    """What cannot be stored, as a remark; raises the error again where the database is what failed."""
    if conn.closed or is_everybodys(error) or isinstance(error, CROSSED):
        raise error
    log.error("webhook_entry_failed", provider_event=str(delivery.id), exc_info=error)
    return f"not stored, a defect of ours: {type(error).__name__}"


async def _apply_all(conn: Connection, org_id: UUID, parts: Sequence[tuple[Delivery, Sorted]]) -> Parked:
    """Each account's receipts in one go, the accounts in the same order everywhere, so that no two wait in a circle."""
    doors: dict[UUID, Door] = {}
    by_account: dict[UUID, list[Receipt]] = {}
    for delivery, part in parts:
        if part.receipts:
            doors[delivery.door.account_id] = delivery.door
            by_account.setdefault(delivery.door.account_id, []).extend(part.receipts)
    parked: Parked = set()
    for account_id in sorted(by_account):
        for some in _chunks(by_account[account_id], AT_ONCE):
            parked |= await _apply(conn, org_id, doors[account_id], some)
    return parked


async def _apply(conn: Connection, org_id: UUID, door: Door, some: list[Receipt]) -> Parked:
    account_id, is_polled = door.account_id, door.provider.polling is not None
    applied = await receipts.apply(conn, org_id, account_id, some, "webhook", is_polled=is_polled)
    if not applied.parked:
        return set()
    told = {event.fact.key for moved in applied.moved for event in moved.events}
    return {(account_id, receipt.dedupe_key) for receipt in some if receipt.dedupe_key not in told}


def _messages(parts: Iterable[tuple[Delivery, Sorted]]) -> list[tuple[Delivery, Inbound]]:
    """By address, so that two batches make contacts in one order; one person's messages stay in theirs."""
    found = [(delivery, inbound) for delivery, part in parts for inbound in part.inbound]
    return sorted(found, key=lambda each: each[1].sender_address)


async def _receive(conn: Connection, org_id: UUID, door: Door, inbound: Inbound) -> str | None:
    """Hand one message on; says why if it cannot be used."""
    sender_id = door.sender_of(inbound)
    reception = await inbox.receive(conn, org_id, door.account_id, sender_id, inbound)
    return reception.reason if reception.outcome == "unusable" else None


def _kept(delivery: Delivery, part: Sorted, parked: Parked, remarks: list[str]) -> Kept:
    account_id = delivery.door.account_id
    return Kept(
        id=delivery.id,
        account_id=account_id,
        headers=kept_headers(delivery.headers),
        receipts=len(part.receipts),
        inbound=len(part.inbound),
        unreadable=part.unreadable + len(remarks),
        unmatched=part.unmatched,
        parked=sum((account_id, receipt.dedupe_key) in parked for receipt in part.receipts) if parked else 0,
        note=note_of([*part.remarks, *remarks]),
    )


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
