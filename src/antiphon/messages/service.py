"""What a person or another part may do with messages beyond sending them: cancel, reschedule, say what is known, decide
about a doubt. Each is audited, and each is a fact like any other. Each locks the ledger's row before the queue's, as
receipts and recovery do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from antiphon.core.channel import Purpose
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, Invalid, NotFound
from antiphon.core.ids import new_id
from antiphon.core.paging import Page, cut, decode_cursor
from antiphon.messages import ledger, queries
from antiphon.messages.lanes import default_gate, traffic_of, wake_after_commit
from antiphon.messages.model import PROVEN, STATUSES, Fact, expand_aliases
from antiphon.messages.queries import Filter, Message
from antiphon.messages.reading import with_texts
from antiphon.organizations import audit
from antiphon.organizations.model import Actor

Mark = Literal["replied", "closed", "failed", "delivered"]


async def get(conn: Connection, actor: Actor, message_id: UUID) -> Message:
    """One message; raises NotFound."""
    [message] = await with_texts(conn, actor.org_id, [await queries.get(conn, actor.org_id, message_id)])
    return message


async def page(
    conn: Connection, actor: Actor, wanted: Filter, limit: int, cursor: str | None
) -> Page[Message]:
    """Messages, newest first."""
    before = decode_cursor(cursor, UUID)[0] if cursor else None
    found = await queries.page(conn, actor.org_id, wanted, before, limit + 1)
    shown = cut(found, limit, lambda m: (m.id,))
    return Page(await with_texts(conn, actor.org_id, shown.items), shown.next)


def statuses(words: list[str] | None) -> list[str] | None:
    """The statuses that a filter means; raises Invalid naming a word that means none."""
    if not words:
        return None
    meant, strange = expand_aliases(words)
    if strange:
        known = ", ".join(("sending", *STATUSES))
        raise Invalid.field("status", f"is not a status; use one of {known}", strange[0])
    return meant


async def cancel(conn: Connection, actor: Actor, message_id: UUID) -> Message:
    """Stop a message that waits. Raises Conflict when it is too late, saying how far it has gone."""
    message = await queries.get(conn, actor.org_id, message_id)
    await ledger.lock(conn, actor.org_id, [message_id])
    if not await queries.take_waiting(conn, actor.org_id, message_id):
        raise Conflict(
            "too_late", f"this message is {message.status} already; only one that still waits can be canceled"
        )
    fact = Fact(
        message_id=message_id, kind="canceled", key="canceled", at=now(), source="manual", reason="canceled"
    )
    await ledger.learn(conn, actor.org_id, [fact])
    await audit.record(conn, actor, "message.canceled", message_id)
    return await queries.get(conn, actor.org_id, message_id)


async def reschedule(conn: Connection, actor: Actor, message_id: UUID, at: datetime) -> Message:
    """Another time for a message that waits. Raises Conflict when it is too late."""
    message = await queries.get(conn, actor.org_id, message_id)
    if message.expires_at is not None and at >= message.expires_at:
        raise Invalid.field(
            "scheduled_for", "is after the message expires; nothing would be sent", at.isoformat()
        )
    await ledger.lock(conn, actor.org_id, [message_id])
    lane_id = await queries.move_due(conn, actor.org_id, message_id, at)
    if lane_id is None:
        raise Conflict(
            "too_late", f"this message is {message.status} already; only one that still waits can be moved"
        )
    wake_after_commit(conn, actor.org_id, lane_id, at)
    await audit.record(conn, actor, "message.rescheduled", message_id, to=at.isoformat())
    return await queries.get(conn, actor.org_id, message_id)


async def mark(conn: Connection, actor: Actor, message_id: UUID, what: Mark, reason: str) -> Message:
    """A person says what they know of a message: under the same rules as a provider's word, with source `manual`."""
    fact = Fact(
        message_id=message_id, kind=what, key=f"manual:{what}:{new_id()}", at=now(), source="manual",
        reason="manual" if what == "failed" else "", detail=reason,
    )  # fmt: skip
    moved = await ledger.learn(conn, actor.org_id, [fact])
    if not moved:
        raise NotFound("message", message_id)
    if moved[0].after.status in PROVEN:
        await queries.leave_queue(conn, actor.org_id, message_id)
    await audit.record(conn, actor, f"message.{what}", message_id, reason=reason)
    return await queries.get(conn, actor.org_id, message_id)


async def resend(conn: Connection, actor: Actor, message_id: UUID) -> Message:
    """Send a message in doubt once more, as a person's decision: it may arrive twice. Raises Conflict for others."""
    message = await queries.get(conn, actor.org_id, message_id)
    await ledger.lock(conn, actor.org_id, [message_id])
    taken = await queries.take_unsure(conn, actor.org_id, message_id)
    if taken is None:
        raise Conflict("not_in_doubt", f"this message is {message.status}; only one in doubt can be resent")
    if not taken.has_gate:
        traffic = traffic_of(Purpose(message.purpose))
        gate_id = await default_gate(conn, actor.org_id, taken.lane_id, traffic)
        await queries.move_gate(conn, actor.org_id, message_id, gate_id)
    fact = Fact(
        message_id=message_id, kind="resent", key=f"resent:{taken.attempt_no}", at=now(), source="manual",
        attempt_no=taken.attempt_no, detail=f"ordered by {actor.label}",
    )  # fmt: skip
    await ledger.learn(conn, actor.org_id, [fact])
    wake_after_commit(conn, actor.org_id, taken.lane_id, now())
    await audit.record(conn, actor, "message.resent", message_id)
    return await queries.get(conn, actor.org_id, message_id)
