"""Routes of the ledger: send, look, explain, cancel, move, say what is known, decide about a doubt."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Router, get, patch, post
from msgspec import Meta

from antiphon.core.channel import parse_channel
from antiphon.core.db import Connection
from antiphon.core.paging import Page, check_limit
from antiphon.messages import explain, queries, sending, service
from antiphon.messages.queries import Attempt, Filter, Message, MessageEvent
from antiphon.messages.sending import OutgoingMessage, OutgoingMessages, Queued
from antiphon.organizations.access import Moment, Permission, StrictBody, Unit, moment, requires
from antiphon.organizations.model import Actor


@post(
    "/",
    **requires(Permission.MESSAGES_SEND),
    dto=StrictBody[OutgoingMessage | OutgoingMessages],
    return_dto=None,
)
async def send_messages(unit: Unit, data: OutgoingMessage | OutgoingMessages) -> Queued:
    """Send one message, or up to 1,000 at once (all or none), now or scheduled."""
    if isinstance(data, OutgoingMessages):
        return await unit.write(sending.send, data.messages)
    return await unit.write_together(sending.send_each, sending.send_one, data)


@get("/", **requires(Permission.MESSAGES_READ))
async def list_messages(
    unit: Unit,
    limit: int | None = None,
    cursor: str | None = None,
    status: list[str] | None = None,
    direction: Literal["in", "out"] | None = None,
    channel: str | None = None,
    stage: str | None = None,
    reason: str | None = None,
    campaign_id: UUID | None = None,
    contact_id: UUID | None = None,
    sender_id: UUID | None = None,
    address: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Page[Message]:
    """Messages, newest first. `status` may be given several times; the documents' words are understood too."""
    wanted = Filter(
        direction=direction, channel=parse_channel(channel) if channel else None, statuses=service.statuses(status),
        stage=stage, reason=reason, campaign_id=campaign_id, contact_id=contact_id, sender_id=sender_id,
        address=address, since=since, until=until,
    )  # fmt: skip
    return await unit.read(service.page, wanted, check_limit(limit), cursor)


@get("/{message_id:uuid}", **requires(Permission.MESSAGES_READ))
async def get_message(unit: Unit, message_id: UUID) -> Message:
    """One message."""
    return await unit.read(service.get, message_id)


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a message, and each try to hand it over."""

    events: list[MessageEvent]
    attempts: list[Attempt]


@get("/{message_id:uuid}/history", **requires(Permission.MESSAGES_READ))
async def get_history(unit: Unit, message_id: UUID) -> History:
    """A message's events and attempts, oldest first."""
    return await unit.read(_history, message_id)


async def _history(conn: Connection, actor: Actor, message_id: UUID) -> History:
    await queries.get(conn, actor.org_id, message_id)
    return History(
        events=await queries.events(conn, actor.org_id, message_id),
        attempts=await queries.attempts(conn, actor.org_id, message_id),
    )


@get("/{message_id:uuid}/explain", **requires(Permission.MESSAGES_READ))
async def explain_message(unit: Unit, message_id: UUID) -> explain.Story:
    """The story of a message in words."""
    return await unit.read(explain.explain, message_id)


@post("/{message_id:uuid}/cancel", **requires(Permission.MESSAGES_SEND), status_code=200)
async def cancel_message(unit: Unit, message_id: UUID) -> Message:
    """Stop a message that still waits."""
    return await unit.write(service.cancel, message_id)


class Reschedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new time."""

    scheduled_for: Moment


@patch(
    "/{message_id:uuid}", **requires(Permission.MESSAGES_SEND), dto=StrictBody[Reschedule], return_dto=None
)
async def reschedule_message(unit: Unit, message_id: UUID, data: Reschedule) -> Message:
    """Another time for a message that still waits."""
    at: datetime = moment(data.scheduled_for, "scheduled_for")
    return await unit.write(service.reschedule, message_id, at)


class MarkMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person knows of a message, and how."""

    what: service.Mark
    reason: Annotated[str, Meta(min_length=1, max_length=500)]


@post("/{message_id:uuid}/mark", **requires(Permission.MESSAGES_WRITE), status_code=200,
      dto=StrictBody[MarkMessage], return_dto=None)  # fmt: skip
async def mark_message(unit: Unit, message_id: UUID, data: MarkMessage) -> Message:
    """Say that a message was replied to, its sale closed, that it failed or arrived: kept as a fact with the reason."""
    return await unit.write(service.mark, message_id, data.what, data.reason)


@post("/{message_id:uuid}/resend", **requires(Permission.MESSAGES_SEND), status_code=200)
async def resend_message(unit: Unit, message_id: UUID) -> Message:
    """Send a message in doubt once more; it may arrive twice."""
    return await unit.write(service.resend, message_id)


router = Router(
    path="/messages",
    tags=["Messages"],
    route_handlers=[
        send_messages, list_messages, get_message, get_history, explain_message, cancel_message, reschedule_message,
        mark_message, resend_message,
    ],
)  # fmt: skip
