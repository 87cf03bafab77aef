"""Routes of suppressions. Adding one must also settle the messages that wait for the address, and those lie a floor
above: `make_router` takes the function that does both, and whoever puts the application together hands it in."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from litestar import Router, get, post
from litestar.params import Parameter
from msgspec import Struct

from antiphon.contacts import service
from antiphon.contacts.consent import SuppressionFilter
from antiphon.contacts.model import Suppression, SuppressionReason
from antiphon.core.channel import Channel, parse_channel
from antiphon.core.db import Connection
from antiphon.core.paging import Page
from antiphon.organizations.access import Moment, Permission, StrictBody, Unit, moment, requires
from antiphon.organizations.model import Actor


class Suppress(Protocol):
    """`contacts.service.suppress`, or what wraps it."""

    def __call__(
        self,
        conn: Connection,
        actor: Actor,
        channel: Channel,
        address: str,
        reason: Literal["opt_out", "complaint", "not_reachable", "manual"],
        *,
        source: str,
        detail: str | None = None,
        until: datetime | None = None,
    ) -> Awaitable[Any]: ...


class NewSuppression(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address that must not be used on a channel; `until` ends that by itself."""

    channel: str
    address: str
    reason: Literal["opt_out", "complaint", "not_reachable", "manual"] = "manual"
    detail: str | None = None
    until: Moment | None = None


class FreedAddress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address that may be used again."""

    channel: str
    address: str


@get("/", **requires(Permission.CONTACTS_READ))
async def list_suppressions(
    unit: Unit,
    limit: int | None = None,
    cursor: str | None = None,
    channel: str | None = None,
    reason: Annotated[SuppressionReason | None, Parameter(description="Why")] = None,
    ended: bool = False,
) -> Page[Suppression]:
    """Addresses that must not be used, and why, the newest first; `ended` shows also those that may be used again."""
    wanted = SuppressionFilter(channel=channel, reason=reason, ended=ended)
    return await unit.read(service.list_suppressions, wanted, limit, cursor)


@post(
    "/lift",
    **requires(Permission.CONTACTS_WRITE),
    dto=StrictBody[FreedAddress],
    return_dto=None,
    status_code=200,
)
async def lift_suppression(unit: Unit, data: FreedAddress) -> Suppression:
    """Let an address be used again. The record stays, with who decided so."""
    return await unit.write(service.lift, parse_channel(data.channel), data.address)


def make_router(suppress: Suppress) -> Router:
    """The routes, with the function that forbids an address."""

    async def forbid(conn: Connection, actor: Actor, data: NewSuppression) -> Suppression:
        until = None if data.until is None else moment(data.until, "until")
        await suppress(
            conn,
            actor,
            parse_channel(data.channel),
            data.address,
            data.reason,
            source="api",
            detail=data.detail,
            until=until,
        )
        return await service.get_suppression(conn, actor, parse_channel(data.channel), data.address)

    @post("/", **requires(Permission.CONTACTS_WRITE), dto=StrictBody[NewSuppression], return_dto=None)
    async def add_suppression(unit: Unit, data: NewSuppression) -> Suppression:
        """Forbid an address on a channel. One that is forbidden for as long already keeps its first reason."""
        return await unit.write(forbid, data)

    return Router(
        "/suppressions",
        route_handlers=[list_suppressions, lift_suppression, add_suppression],
        tags=["Suppressions"],
    )


router = make_router(service.suppress)
