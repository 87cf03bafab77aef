"""The verbs of consent and suppressions: who agreed to what, and which addresses must not be used.

Consent is a fact that is appended, never changed; the newest one for a channel and address is what a send asks about.
A suppression outweighs it: nothing but `lift` frees a suppressed address.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

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
    that the contact has not. A suppression stays what it is.
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


async def suppress(
    conn: Connection,
    actor: Actor,
    channel: Channel,
    address: str,
    reason: SuppressionReason,
    *,
    source: str,
    detail: str | None = None,
    message_id: UUID | None = None,
) -> Suppression:
    """Forbid an address on a channel; an opt-out also withdraws the consent of whoever has it.

    Messages that wait for it already are in the outbox, a floor above: `messages.service.forbid` calls this and settles
    them in the same transaction. An address that is suppressed already keeps its first reason.
    """
    value = await _stored(conn, actor, channel, address)
    suppression = Suppression(
        channel=channel,
        address=value,
        reason=reason,
        source=source,
        detail=model.clean("detail", detail, 500),
        message_id=message_id,
        at=clock.now(),
        lifted_at=None,
        lifted_by=None,
    )
    if not await consent_queries.add_suppression(conn, actor.org_id, suppression):
        found = await consent_queries.find_suppression(conn, actor.org_id, channel, value)
        return found or suppression
    if reason == "opt_out":
        await _withdraw(conn, actor, channel, value, source)
    await _tell(conn, actor, "suppression_created", channel, value, {"reason": reason, "source": source})
    return suppression


async def _withdraw(conn: Connection, actor: Actor, channel: Channel, value: str, source: str) -> None:
    pair = (str(ADDRESS_KIND[channel]), value)
    owner = (await address_queries.owners(conn, actor.org_id, [pair])).get(pair)
    if owner is not None:
        await record_consent(conn, actor, owner, channel, value, is_given=False, source=source)


async def lift(conn: Connection, actor: Actor, channel: Channel, address: str) -> Suppression:
    """Free a suppressed address; the row stays as evidence. Raises NotFound, Conflict for an erased person's."""
    value = await _stored(conn, actor, channel, address)
    found = await consent_queries.find_suppression(conn, actor.org_id, channel, value)
    if found is None or found.lifted_at is not None:
        raise NotFound("suppression", f"{channel} {value}")
    if found.reason == "erased":
        raise Conflict(
            "erased", "this person was erased and the address must stay unused; it cannot be lifted"
        )
    await consent_queries.lift(conn, actor.org_id, channel, value, actor.label, clock.now())
    await _tell(conn, actor, "suppression_lifted", channel, value, {"reason": found.reason})
    lifted = await consent_queries.find_suppression(conn, actor.org_id, channel, value)
    return lifted or found


async def _tell(
    conn: Connection, actor: Actor, name: str, channel: Channel, value: str, detail: Mapping[str, Any]
) -> None:
    action = name.replace("_", ".", 1)
    await audit.record(conn, actor, action, channel=channel, address=value, **detail)
    payload = {"channel": channel, "address": value, **detail}
    await events.emit(conn, actor.org_id, name, None, payload)


async def list_suppressions(
    conn: Connection,
    actor: Actor,
    channel: str | None = None,
    reason: str | None = None,
    lifted: bool = False,
    limit: int | None = None,
    cursor: str | None = None,
) -> Page[Suppression]:
    """Addresses that must not be used (or, `lifted`, were freed again), the newest first."""
    count = check_limit(limit)
    before = decode_cursor(cursor, datetime, str, str) if cursor else (_LATEST, "", "")
    found = await consent_queries.list_suppressions(
        conn,
        actor.org_id,
        parse_channel(channel) if channel else None,
        reason,
        lifted,
        (before[0], before[1], before[2]),
        count + 1,
    )
    return cut(found, count, lambda s: (s.at, s.channel, s.address))


async def _stored(conn: Connection, actor: Actor, channel: Channel, address: str) -> str:
    kind = ADDRESS_KIND[channel]
    needs_country = kind == "phone" and not address.lstrip().startswith("+")
    country = (await organizations.get(conn, actor.org_id)).country if needs_country else None
    return model.normalize(kind, address, country)
