"""Say what happened; read it in order.

Writers append without an order, in the transaction of the fact. The pump (`pump.py`) numbers what has committed,
densely and per organization, so a reader that resumes after n never misses an event that committed late.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from antiphon.core.db import Connection
from antiphon.events import queries
from antiphon.events.model import Event

SUBSCRIPTION_LASTS = timedelta(hours=24)
"""How long a consumer that went away is waited for."""


async def emit(
    conn: Connection, org_id: UUID, name: str, subject_id: UUID | None, payload: dict[str, Any]
) -> None:
    """Append an event in the caller's transaction: `emit(conn, org_id, "contact_created", contact.id, {…})`."""
    await queries.add_new(conn, org_id, name, subject_id, payload)


async def emit_many(
    conn: Connection, org_id: UUID, name: str, subjects: Sequence[tuple[UUID, dict[str, Any]]]
) -> None:
    """Append one event of this name for each subject and payload, in their order, with one statement."""
    if subjects:
        await queries.add_many_new(conn, org_id, name, subjects)


async def read(conn: Connection, org_id: UUID, after: int, limit: int) -> list[Event]:
    """Up to `limit` events with seq > after, in order, without a gap."""
    return await queries.read(conn, org_id, after, limit)


async def head(conn: Connection, org_id: UUID) -> int:
    """The seq of the newest readable event; 0 when there is none."""
    return await queries.head(conn, org_id)


async def forget_old(conn: Connection, org_id: UUID, kept: timedelta, limit: int) -> int:
    """Remove up to `limit` events that are older than `kept`; returns how many there were. Numbers are not reused."""
    return await queries.forget_old(conn, org_id, kept, limit)


async def subscribe(
    conn: Connection,
    org_id: UUID,
    consumer: str,
    names: Sequence[str],
    lasts: timedelta = SUBSCRIPTION_LASTS,
) -> None:
    """Have the high-volume names written, for so long from now. Call again to prolong."""
    await queries.add_subscription(conn, org_id, consumer, sorted(set(names)), lasts)


async def unsubscribe(conn: Connection, org_id: UUID, consumer: str) -> None:
    """Want nothing any more."""
    await queries.remove_subscriptions(conn, org_id, consumer)


async def wants(conn: Connection, org_id: UUID, name: str) -> bool:
    """Whether events of a high-volume name should be written for this organization."""
    return await queries.is_wanted(conn, org_id, name)
