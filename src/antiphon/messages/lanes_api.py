"""Routes of senders. A sender and its lane change together, and only here both are known."""

from __future__ import annotations

from uuid import UUID

from litestar import Router, delete, get, patch, post

from antiphon.core.db import Connection
from antiphon.core.paging import Page, check_limit
from antiphon.messages import lane_service
from antiphon.organizations.access import Permission, StrictBody, Unit, requires
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.senders.model import NewSender, Sender, SenderChanges


@post("/", **requires(Permission.SENDERS_WRITE), dto=StrictBody[NewSender], return_dto=None)
async def add_sender(unit: Unit, data: NewSender) -> Sender:
    """A number or address to send from, on one channel of a provider account."""
    return await unit.write(lane_service.add_sender, data)


@get("/", **requires(Permission.SENDERS_READ))
async def list_senders(
    unit: Unit,
    limit: int | None = None,
    cursor: str | None = None,
    channel: str | None = None,
    account_id: UUID | None = None,
    is_active: bool | None = None,
) -> Page[Sender]:
    """Senders, the newest first."""
    return await unit.read(
        senders.list_senders, channel=channel, account_id=account_id, is_active=is_active, limit=check_limit(limit),
        cursor=cursor,
    )  # fmt: skip


@get("/{sender_id:uuid}", **requires(Permission.SENDERS_READ))
async def get_sender(unit: Unit, sender_id: UUID) -> Sender:
    """One sender."""
    return await unit.read(_get, sender_id)


async def _get(conn: Connection, actor: Actor, sender_id: UUID) -> Sender:
    return await senders.get_sender(conn, actor.org_id, sender_id)


@get("/{sender_id:uuid}/lane", **requires(Permission.SENDERS_READ))
async def get_lane(unit: Unit, sender_id: UUID) -> lane_service.LaneView:
    """The sender's queue: how much waits, how fast it goes, and what stops it."""
    return await unit.read(lane_service.view, sender_id)


@patch(
    "/{sender_id:uuid}", **requires(Permission.SENDERS_WRITE), dto=StrictBody[SenderChanges], return_dto=None
)
async def update_sender(unit: Unit, sender_id: UUID, data: SenderChanges) -> Sender:
    """Another name or pace; `is_active` false pauses it, true lets it go on. What waits, waits."""
    return await unit.write(lane_service.update_sender, sender_id, data)


@delete("/{sender_id:uuid}", **requires(Permission.SENDERS_WRITE))
async def delete_sender(unit: Unit, sender_id: UUID) -> None:
    """Delete a sender of which nothing waits any more."""
    await unit.write(lane_service.delete_sender, sender_id)


router = Router(
    path="/senders",
    tags=["Senders"],
    route_handlers=[add_sender, list_senders, get_sender, get_lane, update_sender, delete_sender],
)
