"""A sender and its lane, changed together: add, update, pause and resume, delete, look."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, NotFound
from antiphon.messages import lanes
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.senders.model import NewSender, Sender, SenderChanges, name_key

PAUSED = "paused by a person"


class LaneView(msgspec.Struct, frozen=True, kw_only=True):
    """A sender's queue. `rate` is messages a second that the bucket refills with, a tenth below the sender's own."""

    rate: float
    daily_cap: int | None
    sent_today: int
    waiting: int
    open: int
    in_doubt: int
    held: int
    blocked_until: datetime | None
    block_reason: str | None
    paused_reason: str | None
    next_due_at: datetime | None


async def add_sender(conn: Connection, actor: Actor, new: NewSender) -> Sender:
    """A sender with a lane of its own."""
    sender = await senders.add_sender(conn, actor, new)
    await _sync(conn, actor.org_id, sender)
    return sender


async def road_of(
    conn: Connection, org_id: UUID, id_or_name: str, traffic: lanes.TrafficClass
) -> tuple[Sender, UUID]:
    """The sender that somebody means by an id or a name, and the default gate of the class in its lane: one look.

    Raises NotFound, and Conflict when the sender is not active.
    """
    found = await db.find(
        conn,
        _Road,
        ROAD,
        org_id=org_id,
        sender_id=_uuid(id_or_name),
        name_key=name_key(id_or_name),
        traffic=traffic,
    )
    if found is None:
        raise NotFound("sender", id_or_name)
    sender = Sender(**{name: getattr(found, name) for name in Sender.__struct_fields__})
    sender.check_usable()
    return sender, found.gate_id or await lanes.default_gate(conn, org_id, sender.id, traffic)


class _Road(Sender, frozen=True, kw_only=True):
    gate_id: UUID | None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


ROAD = """
    SELECT s.id, s.account_id, a.provider, s.channel, s.name, s.address, s.rate, s.daily_cap, s.in_flight, s.is_active,
           s.created_at, s.updated_at, g.id AS gate_id
      FROM senders s JOIN provider_accounts a ON a.org_id = s.org_id AND a.id = s.account_id
      LEFT JOIN gates g ON g.org_id = s.org_id AND g.lane_id = s.id AND g.cause = 'default' AND g.class = %(traffic)s
     WHERE s.org_id = %(org_id)s AND s.deleted_at IS NULL
       AND CASE WHEN %(sender_id)s::uuid IS NULL THEN s.name_key = %(name_key)s ELSE s.id = %(sender_id)s END
"""


async def _sync(conn: Connection, org_id: UUID, sender: Sender) -> None:
    await lanes.save_lane(
        conn,
        lanes.LaneSpec(
            org_id=org_id, id=sender.id, account_id=sender.account_id, provider=sender.provider,
            channel=sender.channel, rate=sender.rate, in_flight=sender.in_flight, daily_cap=sender.daily_cap,
        ),
    )  # fmt: skip


async def update_sender(conn: Connection, actor: Actor, sender_id: UUID, changes: SenderChanges) -> Sender:
    """Another name or pace, or a pause; the lane follows in the same transaction."""
    before = await senders.get_sender(conn, actor.org_id, sender_id)
    sender = await senders.update_sender(conn, actor, sender_id, changes)
    await _sync(conn, actor.org_id, sender)
    if changes.is_active is True:
        await lanes.resume_lane(conn, actor.org_id, sender_id)
        await senders.close_incident(conn, actor.org_id, sender_id, closed_by=actor.label)
    elif before.is_active and not sender.is_active:
        await lanes.pause_lane(conn, actor.org_id, sender_id, PAUSED)
    return sender


async def delete_sender(conn: Connection, actor: Actor, sender_id: UUID) -> None:
    """Delete a sender. Raises Conflict while messages wait in its lane: they would wait for ever."""
    left = await db.value(conn, LEFT, org_id=actor.org_id, id=sender_id)
    if left:
        raise Conflict(
            "sender_in_use",
            f"{left} messages still wait for this sender; cancel them or let them leave first",
        )
    await senders.delete_sender(conn, actor, sender_id)
    await db.execute(conn, FORGET_POLLS, org_id=actor.org_id, id=sender_id)
    await lanes.pause_lane(conn, actor.org_id, sender_id, "the sender was deleted")


FORGET_POLLS = "DELETE FROM polls WHERE org_id = %(org_id)s AND lane_id = %(id)s"

LEFT = """
    SELECT count(*)
      FROM (SELECT FROM outbox WHERE org_id = %(org_id)s AND lane_id = %(id)s AND state < 3 LIMIT 100000) AS waiting
"""


async def view(conn: Connection, actor: Actor, sender_id: UUID) -> LaneView:
    """A sender's queue at this instant. Raises NotFound."""
    await senders.get_sender(conn, actor.org_id, sender_id)
    return await db.one(conn, LaneView, VIEW, org_id=actor.org_id, id=sender_id)


VIEW = """
    SELECT l.rate, l.daily_cap,
           CASE WHEN l.day = (now() AT TIME ZONE 'UTC')::date THEN l.day_count ELSE 0 END AS sent_today,
           coalesce(o.waiting, 0) AS waiting, coalesce(o.open, 0) AS open, coalesce(o.in_doubt, 0) AS in_doubt,
           coalesce(o.held, 0) AS held, l.blocked_until, l.block_reason, l.paused_reason,
           nullif(l.next_due_at, 'infinity') AS next_due_at
      FROM lanes l
      LEFT JOIN (SELECT lane_id,
                        count(*) FILTER (WHERE state = 0) AS waiting, count(*) FILTER (WHERE state = 1) AS open,
                        count(*) FILTER (WHERE state = 2) AS in_doubt, count(*) FILTER (WHERE state = 3) AS held
                   FROM outbox
                  WHERE org_id = %(org_id)s AND lane_id = %(id)s
                  GROUP BY lane_id) o ON o.lane_id = l.id
     WHERE l.org_id = %(org_id)s AND l.id = %(id)s
"""
