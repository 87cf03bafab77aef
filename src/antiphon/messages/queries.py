"""Reading the ledger: one message, its history and attempts, and lists by key."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.db import Connection


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One communication, in or out, with one contact on one channel. `status` is `sending` while an attempt is open."""

    id: UUID
    direction: str
    channel: str
    purpose: str
    origin: str
    caused_by: str
    status: str
    stage: str
    reason: str
    code: str | None
    detail: str | None
    sender_id: UUID | None
    contact_id: UUID | None
    address: str
    template_version_id: UUID | None
    language: str | None
    variables: dict[str, Any] | None
    campaign_id: UUID | None
    reply_to_id: UUID | None
    is_once: bool
    is_automatic: bool
    provider_message_id: str | None
    attempt_no: int
    segments: int | None
    cost: Decimal | None
    currency: str | None
    scheduled_for: datetime | None
    expires_at: datetime | None
    created_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    clicked_at: datetime | None
    replied_at: datetime | None
    closed_at: datetime | None
    failed_at: datetime | None
    bounced_at: datetime | None
    skipped_at: datetime | None
    canceled_at: datetime | None
    received_at: datetime | None
    subject: str | None
    text: str | None
    html: str | None
    media: list[dict[str, Any]] | None
    metadata: dict[str, Any] | None


class MessageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about a message: what, when, from which source."""

    kind: str
    source: str
    old_status: str | None
    new_status: str | None
    reason: str | None
    code: str | None
    attempt_no: int | None
    provider_at: datetime | None
    at: datetime
    detail: dict[str, Any] | None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try to hand a message to a provider. Without an outcome it is on the wire, or its worker died."""

    attempt_no: int
    claimed_at: datetime
    outcome: str | None
    code: str | None
    reason: str | None
    provider_message_id: str | None
    finished_at: datetime | None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Where an unfinished message stands, with what its lane and gate say."""

    state: int
    due_at: datetime
    wait_reason: str | None
    attempt_no: int
    retries: int
    gate_open: bool
    gate_reason: str | None
    blocked_until: datetime | None
    block_reason: str | None
    paused_reason: str | None


async def get(conn: Connection, org_id: UUID, message_id: UUID) -> Message:
    """A message; raises NotFound."""
    return await db.one(conn, Message, GET, org_id=org_id, id=message_id)


VIEW: LiteralString = """
    SELECT m.id, m.direction, m.channel, m.purpose, m.origin, m.caused_by,
           CASE WHEN o.state = 1 AND m.status = 'scheduled' THEN 'sending' ELSE m.status END AS status, m.stage,
           m.reason, m.code, m.detail, m.sender_id, m.contact_id, m.address, m.template_version_id, m.language,
           m.variables, m.campaign_id, m.reply_to_id, m.is_once, m.is_automatic, m.provider_message_id, m.attempt_no,
           m.segments, m.cost, m.currency, coalesce(o.due_at, m.scheduled_for) AS scheduled_for, m.expires_at,
           m.created_at, m.sent_at, m.delivered_at, m.read_at, m.clicked_at, m.replied_at, m.closed_at, m.failed_at,
           m.bounced_at, m.skipped_at, m.canceled_at, m.received_at, c.subject, c.text, c.html, c.media, c.metadata
      FROM messages m
      LEFT JOIN message_contents c ON c.org_id = %(org_id)s AND c.message_id = m.id
      LEFT JOIN outbox o ON o.org_id = %(org_id)s AND o.message_id = m.id
"""

GET: LiteralString = VIEW + " WHERE m.org_id = %(org_id)s AND m.id = %(id)s"


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of messages is narrowed to; None is everything."""

    direction: str | None = None
    channel: str | None = None
    statuses: list[str] | None = None
    stage: str | None = None
    reason: str | None = None
    campaign_id: UUID | None = None
    contact_id: UUID | None = None
    sender_id: UUID | None = None
    address: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def page(
    conn: Connection, org_id: UUID, wanted: Filter, before: UUID | None, limit: int
) -> list[Message]:
    """The next messages, newest first, below the key `before`."""
    return await db.rows(
        conn, Message, LIST, org_id=org_id, before=before, limit=limit, **msgspec.structs.asdict(wanted)
    )


LIST: LiteralString = (
    VIEW
    + """
     WHERE m.org_id = %(org_id)s
       AND (%(before)s::uuid IS NULL OR m.id < %(before)s)
       AND (%(direction)s::text IS NULL OR m.direction = %(direction)s)
       AND (%(channel)s::text IS NULL OR m.channel = %(channel)s)
       AND (%(statuses)s::text[] IS NULL
            OR CASE WHEN o.state = 1 AND m.status = 'scheduled' THEN 'sending' ELSE m.status END = ANY(%(statuses)s))
       AND (%(stage)s::text IS NULL OR m.stage = %(stage)s)
       AND (%(reason)s::text IS NULL OR m.reason = %(reason)s)
       AND (%(campaign_id)s::uuid IS NULL OR m.campaign_id = %(campaign_id)s)
       AND (%(contact_id)s::uuid IS NULL OR m.contact_id = %(contact_id)s)
       AND (%(sender_id)s::uuid IS NULL OR m.sender_id = %(sender_id)s)
       AND (%(address)s::text IS NULL OR m.address = %(address)s)
       AND (%(since)s::timestamptz IS NULL OR m.id >= uuid7_from(%(since)s))
       AND (%(until)s::timestamptz IS NULL OR m.id < uuid7_from(%(until)s))
     ORDER BY m.id DESC
     LIMIT %(limit)s
"""
)


async def events(conn: Connection, org_id: UUID, message_id: UUID) -> list[MessageEvent]:
    """A message's history, oldest first."""
    return await db.rows(conn, MessageEvent, EVENTS, org_id=org_id, id=message_id)


EVENTS = """
    SELECT kind, source, old_status, new_status, reason, code, attempt_no, provider_at, at, detail
      FROM message_events WHERE org_id = %(org_id)s AND message_id = %(id)s
     ORDER BY at, kind, key
"""


async def attempts(conn: Connection, org_id: UUID, message_id: UUID) -> list[Attempt]:
    """A message's tries, first to last."""
    return await db.rows(conn, Attempt, ATTEMPTS, org_id=org_id, id=message_id)


ATTEMPTS = """
    SELECT attempt_no, claimed_at, outcome, code, reason, provider_message_id, finished_at
      FROM attempts WHERE org_id = %(org_id)s AND message_id = %(id)s
     ORDER BY attempt_no
"""


async def waiting(conn: Connection, org_id: UUID, message_id: UUID) -> Waiting | None:
    """Where an unfinished message stands, or None when it left the queue."""
    return await db.find(conn, Waiting, WAITING, org_id=org_id, id=message_id)


WAITING = """
    SELECT o.state, o.due_at, o.wait_reason, o.attempt_no, o.retries, g.is_open AS gate_open, g.reason AS gate_reason,
           l.blocked_until, l.block_reason, l.paused_reason
      FROM outbox o
      JOIN gates g ON g.org_id = o.org_id AND g.id = o.gate_id
      JOIN lanes l ON l.org_id = o.org_id AND l.id = o.lane_id
     WHERE o.org_id = %(org_id)s AND o.message_id = %(id)s
"""


async def provider_names(conn: Connection, org_id: UUID, message_ids: set[UUID]) -> dict[UUID, str]:
    """The provider's names of these messages, for those that have one."""
    found = await db.tuples(conn, PROVIDER_NAMES, org_id=org_id, ids=sorted(message_ids))
    return {row[0]: row[1] for row in found}


PROVIDER_NAMES = """
    SELECT id, provider_message_id FROM messages
     WHERE org_id = %(org_id)s AND id = ANY(%(ids)s) AND provider_message_id IS NOT NULL
"""


async def take_waiting(conn: Connection, org_id: UUID, message_id: UUID) -> bool:
    """Remove a message from the queue if nothing of it is on the wire; the row lock orders this against the claim."""
    return await db.execute(conn, TAKE_WAITING, org_id=org_id, id=message_id) == 1


TAKE_WAITING = """
    DELETE FROM outbox WHERE org_id = %(org_id)s AND message_id = %(id)s AND state = 0
"""


async def move_due(conn: Connection, org_id: UUID, message_id: UUID, due_at: datetime) -> UUID | None:
    """A new time for a message that waits; returns its lane, or None when it does not wait any more."""
    return await db.value(conn, MOVE_DUE, org_id=org_id, id=message_id, due_at=due_at)


MOVE_DUE = """
    WITH moved AS (
        UPDATE outbox SET due_at = %(due_at)s, order_at = %(due_at)s, wait_reason = NULL
         WHERE org_id = %(org_id)s AND message_id = %(id)s AND state = 0
        RETURNING lane_id, message_id
    ), told AS (
        UPDATE messages m SET scheduled_for = %(due_at)s FROM moved
         WHERE m.org_id = %(org_id)s AND m.id = moved.message_id
    )
    SELECT lane_id FROM moved
"""


class Retaken(msgspec.Struct, frozen=True):
    """A message that waits again. Its gate may be gone or closed for good, with a campaign that has ended."""

    attempt_no: int
    lane_id: UUID
    has_gate: bool


async def take_unsure(conn: Connection, org_id: UUID, message_id: UUID) -> Retaken | None:
    """A doubtful or held message goes back to the queue as a new series, under a new key."""
    return await db.find(conn, Retaken, TAKE_UNSURE, org_id=org_id, id=message_id)


TAKE_UNSURE = """
    UPDATE outbox o
       SET state = 0, due_at = now(), wait_reason = 'resend', resends = o.resends + 1, retries = 0, crashes = 0,
           first_try = o.attempt_no + 1
     WHERE o.org_id = %(org_id)s AND o.message_id = %(id)s AND o.state IN (2, 3)
    RETURNING o.attempt_no + 1 AS attempt_no, o.lane_id,
              EXISTS (SELECT FROM gates g WHERE g.org_id = %(org_id)s AND g.id = o.gate_id
                         AND g.reason IS DISTINCT FROM 'canceled') AS has_gate
"""


async def move_gate(conn: Connection, org_id: UUID, message_id: UUID, gate_id: UUID) -> None:
    """Let a message wait behind another gate."""
    await db.execute(conn, MOVE_GATE, org_id=org_id, id=message_id, gate_id=gate_id)


MOVE_GATE = "UPDATE outbox SET gate_id = %(gate_id)s WHERE org_id = %(org_id)s AND message_id = %(id)s"


async def leave_queue(conn: Connection, org_id: UUID, message_id: UUID) -> None:
    """A settled message has nothing left to do. One on the wire stays until its call has ended."""
    await db.execute(conn, LEAVE_QUEUE, org_id=org_id, id=message_id)


LEAVE_QUEUE = "DELETE FROM outbox WHERE org_id = %(org_id)s AND message_id = %(id)s AND state <> 1"
