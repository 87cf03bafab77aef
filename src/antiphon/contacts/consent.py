"""The verbs of consent and suppressions: who agreed to what, and which addresses must not be used.

Consent is a fact that is appended, never changed; the newest one for a channel and address is what a send asks about.
A suppression outweighs it: nothing but `lift` frees a suppressed address.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Required, TypedDict, Unpack
from uuid import UUID

from msgspec import Struct

from antiphon.contacts import address_queries, consent_queries, model, queries
from antiphon.contacts.model import Consent, Suppression, SuppressionReason
from antiphon.core import clock, ids
from antiphon.core.channel import ADDRESS_KIND, Channel, parse_channel
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, Invalid, NotFound
from antiphon.core.paging import Page, check_limit, cut, decode_cursor
from antiphon.events import service as events
from antiphon.organizations import audit
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor

_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_LAST = UUID(int=(1 << 128) - 1)


async def record_consent(
    conn: Connection,
    actor: Actor,
    contact_id: UUID,
    channel: Channel,
    address: str | None,
    is_given: bool,
    source: str,
    wording: str | None = None,
) -> Consent:
    """Append that a contact agreed (or withdrew) on a channel: where, and in which words.

    Without an address, the contact's primary one of the channel's kind. Raises NotFound, and Invalid for an address
    that the contact has not. A suppression stays what it is. Marketing that waits already is in the outbox, a floor
    above: `messages.withdrawal.record_consent` calls this and settles it in the same transaction.
    """
    contact = await queries.get(conn, actor.org_id, contact_id)
    kind = ADDRESS_KIND[channel]
    value = contact.address(kind) if address is None else await _stored(conn, actor, channel, address)
    if value is None or not any(a.kind is kind and a.value == value for a in contact.addresses):
        raise Invalid.field(
            "address", f"contact {contact_id} has no such {kind}; add it to the contact first", address
        )
    consent = Consent(
        id=ids.new_id(),
        contact_id=contact_id,
        channel=channel,
        address=value,
        is_given=is_given,
        source=model.clean("source", source) or "api",
        wording=model.clean("wording", wording, 2000),
        at=clock.now(),
        recorded_by=actor.label,
    )
    await consent_queries.add_consent(conn, actor.org_id, consent)
    verb = "given" if is_given else "withdrawn"
    await audit.record(conn, actor, f"consent.{verb}", contact_id, channel=channel, source=consent.source)
    payload = {"contact_id": str(contact_id), "channel": channel, "address": value, "is_given": is_given}
    await events.emit(conn, actor.org_id, "consent_recorded", contact_id, payload)
    return consent


async def list_consents(
    conn: Connection, actor: Actor, contact_id: UUID, limit: int | None = None, cursor: str | None = None
) -> Page[Consent]:
    """A contact's consent facts, the newest first. Raises NotFound."""
    await queries.get(conn, actor.org_id, contact_id)
    count = check_limit(limit)
    before, before_id = decode_cursor(cursor, datetime, UUID) if cursor else (_LATEST, _LAST)
    found = await consent_queries.list_consents(conn, actor.org_id, contact_id, before, before_id, count + 1)
    return cut(found, count, lambda consent: (consent.at, consent.id))


class Evidence(TypedDict, total=False):
    """Who says that an address must not be used, in whose words, about which message; `until` ends it by itself."""

    source: Required[str]
    detail: str | None
    message_id: UUID | None
    until: datetime | None


async def suppress(
    conn: Connection,
    actor: Actor,
    channel: Channel,
    address: str,
    reason: SuppressionReason,
    **evidence: Unpack[Evidence],
) -> Suppression:
    """Forbid an address on a channel; an opt-out also withdraws the consent of whoever has it.

    Messages that wait for it already are in the outbox, a floor above: `messages.withdrawal.suppress` calls this and
    settles them in the same transaction. An address that is suppressed already keeps its first reason, unless the new
    one lasts longer.
    """
    value = await _stored(conn, actor, channel, address)
    suppression = Suppression(
        channel=channel,
        address=value,
        reason=reason,
        source=evidence["source"],
        detail=model.clean("detail", evidence.get("detail"), 500),
        message_id=evidence.get("message_id"),
        at=clock.now(),
        until=evidence.get("until"),
        lifted_at=None,
        lifted_by=None,
    )
    if not await consent_queries.add_suppression(conn, actor.org_id, suppression):
        found = await consent_queries.find_suppression(conn, actor.org_id, channel, value)
        return found or suppression
    if reason == "opt_out":
        await _withdraw(conn, actor, channel, value, suppression.source)
    detail = {"reason": reason, "source": suppression.source}
    await _tell(conn, actor, "suppression_created", channel, value, detail)
    return suppression


async def find_owner(conn: Connection, actor: Actor, channel: Channel, address: str) -> UUID | None:
    """The contact that has this address, stored as it is."""
    pair = (str(ADDRESS_KIND[channel]), address)
    return (await address_queries.owners(conn, actor.org_id, [pair])).get(pair)


async def _withdraw(conn: Connection, actor: Actor, channel: Channel, value: str, source: str) -> None:
    owner = await find_owner(conn, actor, channel, value)
    if owner is not None:
        await record_consent(conn, actor, owner, channel, value, is_given=False, source=source)


async def get_suppression(conn: Connection, actor: Actor, channel: Channel, address: str) -> Suppression:
    """The record of an address on a channel, in force or not. Raises NotFound."""
    value = await _stored(conn, actor, channel, address)
    found = await consent_queries.find_suppression(conn, actor.org_id, channel, value)
    if found is None:
        raise NotFound("suppression", f"{channel} {value}")
    return found


async def lift(conn: Connection, actor: Actor, channel: Channel, address: str) -> Suppression:
    """Free a suppressed address; the row stays as evidence. Raises NotFound, Conflict for an erased person's."""
    found = await get_suppression(conn, actor, channel, address)
    if found.lifted_at is not None:
        raise NotFound("suppression", f"{channel} {found.address}")
    if found.reason == "erased":
        raise Conflict(
            "erased", "this person was erased and the address must stay unused; it cannot be lifted"
        )
    await consent_queries.lift(conn, actor.org_id, channel, found.address, actor.label, clock.now())
    await _tell(conn, actor, "suppression_lifted", channel, found.address, {"reason": found.reason})
    return await get_suppression(conn, actor, channel, found.address)


async def _tell(
    conn: Connection, actor: Actor, name: str, channel: Channel, value: str, detail: Mapping[str, Any]
) -> None:
    action = name.replace("_", ".", 1)
    await audit.record(conn, actor, action, channel=channel, address=value, **detail)
    payload = {"channel": channel, "address": value, **detail}
    await events.emit(conn, actor.org_id, name, None, payload)


class SuppressionFilter(Struct, frozen=True, kw_only=True):
    """Which suppressions: those in force, or (`ended`) all there ever were."""

    channel: str | None = None
    reason: SuppressionReason | None = None
    ended: bool = False


async def list_suppressions(
    conn: Connection,
    actor: Actor,
    wanted: SuppressionFilter,
    limit: int | None = None,
    cursor: str | None = None,
) -> Page[Suppression]:
    """Addresses that must not be used, the newest first."""
    count = check_limit(limit)
    at, channel, address = decode_cursor(cursor, datetime, str, str) if cursor else (_LATEST, "", "")
    found = await consent_queries.list_suppressions(
        conn,
        actor.org_id,
        parse_channel(wanted.channel) if wanted.channel else None,
        wanted.reason,
        None if wanted.ended else clock.now(),
        (at, channel, address),
        count + 1,
    )
    return cut(found, count, lambda s: (s.at, s.channel, s.address))


async def _stored(conn: Connection, actor: Actor, channel: Channel, address: str) -> str:
    kind = ADDRESS_KIND[channel]
    needs_country = kind == "phone" and not address.lstrip().startswith("+")
    country = (await organizations.get(conn, actor.org_id)).country if needs_country else None
    return model.normalize(kind, address, country)
