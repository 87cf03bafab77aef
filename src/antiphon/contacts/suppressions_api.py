"""Routes of suppressions and of consent. Forbidding must also settle the messages that wait for the address, and those
lie a floor above: `make_routers` takes the functions that do both, and whoever puts the application together hands them
in."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol
from uuid import UUID

from litestar import Router, get, post
from litestar.params import Parameter
from msgspec import Struct

from antiphon.contacts import service
from antiphon.contacts.consent import SuppressionFilter
from antiphon.contacts.model import Consent, Suppression, SuppressionReason
from antiphon.core.channel import Channel, parse_channel
from antiphon.core.db import Connection
from antiphon.core.paging import Page
from antiphon.organizations.access import Moment, Permission, StrictBody, Unit, moment, requires
from antiphon.organizations.model import Actor


class Suppress(Protocol):
    """`contacts.service.suppress`, and what follows from it."""

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


class RecordConsent(Protocol):
    """`contacts.service.record_consent`, and what follows from it."""

    def __call__(
        self,
        conn: Connection,
        actor: Actor,
        contact_id: UUID,
        channel: Channel,
        address: str | None,
        is_given: bool,
        source: str,
        wording: str | None = None,
    ) -> Awaitable[Consent]: ...


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


def make_routers(suppress: Suppress, record_consent: RecordConsent) -> list[Router]:
    """The routes, with the functions that forbid an address and that append what a contact said."""
    return [_suppressions(suppress), _consents(record_consent)]


def _suppressions(suppress: Suppress) -> Router:
    async def forbid(conn: Connection, actor: Actor, data: NewSuppression) -> Suppression:
        channel = parse_channel(data.channel)
        until = None if data.until is None else moment(data.until, "until")
        await suppress(
            conn, actor, channel, data.address, data.reason, source="api", detail=data.detail, until=until
        )
        return await service.get_suppression(conn, actor, channel, data.address)

    @post("/", **requires(Permission.CONTACTS_WRITE), dto=StrictBody[NewSuppression], return_dto=None)
    async def add_suppression(unit: Unit, data: NewSuppression) -> Suppression:
        """Forbid an address on a channel. One that is forbidden for as long already keeps its first reason."""
        return await unit.write(forbid, data)

    return Router(
        "/suppressions",
        route_handlers=[list_suppressions, lift_suppression, add_suppression],
        tags=["Suppressions"],
    )


@get("/{contact_id:uuid}/consents", **requires(Permission.CONTACTS_READ))
async def list_consents(
    unit: Unit, contact_id: UUID, limit: int | None = None, cursor: str | None = None
) -> Page[Consent]:
    """What a contact agreed to and withdrew, the newest first."""
    return await unit.read(service.list_consents, contact_id, limit, cursor)


class NewConsent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody said. Without an address, the primary one of the channel's kind is meant."""

    channel: str
    is_given: bool
    address: str | None = None
    source: str = "api"
    wording: str | None = None


def _consents(append: RecordConsent) -> Router:
    @post(
        "/{contact_id:uuid}/consents",
        **requires(Permission.CONTACTS_WRITE),
        dto=StrictBody[NewConsent],
        return_dto=None,
    )
    async def record_consent(unit: Unit, contact_id: UUID, data: NewConsent) -> Consent:
        """Record that a contact agreed or withdrew, where, and in which words. Facts are appended, never changed."""
        channel = parse_channel(data.channel)
        return await unit.write(
            append, contact_id, channel, data.address, data.is_given, data.source, data.wording
        )

    return Router("/contacts", route_handlers=[list_consents, record_consent], tags=["Contacts"])
