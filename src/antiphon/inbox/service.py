"""The verbs of the inbox: what a person wrote is resolved to a contact, recorded once, and obeyed.

`receive` runs in the caller's transaction, behind a savepoint of its own: a message that was received before leaves
nothing, not even the contact that it would have made anew.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from msgspec import Struct, structs

from antiphon.contacts import address_queries, consent_queries
from antiphon.contacts import model as contact_model
from antiphon.contacts import service as contacts
from antiphon.contacts.model import NewAddress, NewContact, Suppression
from antiphon.core import clock, db
from antiphon.core.channel import ADDRESS_KIND, AddressKind, Channel
from antiphon.core.db import Connection
from antiphon.core.errors import Invalid
from antiphon.events import service as events
from antiphon.inbox import keywords
from antiphon.inbox.keywords import Keyword
from antiphon.messages import inbound as ledger_in
from antiphon.messages import queries as messages
from antiphon.messages import withdrawal
from antiphon.messages.inbound import Received
from antiphon.messages.queries import Filter, Message
from antiphon.organizations.model import Actor
from antiphon.providers.contract import Inbound

SOURCE = "keyword"
"""What consent and suppressions name as their source when a person wrote STOP or START."""
SPOKEN = ("text", "button")
"""The kinds of message in which a keyword counts."""
LONGEST_EVENT_TEXT = 2000
LOOK_BACK = 200
"""Messages of one contact that are searched for a STOP that had no address to forbid."""


class Reception(Struct, frozen=True, kw_only=True):
    """What became of a person's message: received; known, so nothing happened; or unusable, because of `reason`."""

    outcome: Literal["received", "known", "unusable"]
    message: Received | None = None
    keyword: Keyword | None = None
    reason: str = ""


class _Known(Exception):
    """This message was received before: what was done for it again must go."""


class Person(Struct, frozen=True):
    """Who wrote, and the address that we write to them at; an opaque one if we know no other."""

    contact_id: UUID
    address: str
    is_reachable: bool


async def receive(
    conn: Connection, org_id: UUID, account_id: UUID, sender_id: UUID | None, inbound: Inbound
) -> Reception:
    """Record a message from a person, once, with what it answers; obey STOP and START; tell who listens."""
    try:
        async with db.organization(conn, org_id):
            return await _receive(conn, org_id, account_id, sender_id, inbound)
    except _Known:
        return Reception(outcome="known")
    except Invalid as error:
        return Reception(outcome="unusable", reason=error.detail)


async def _receive(
    conn: Connection, org_id: UUID, account_id: UUID, sender_id: UUID | None, inbound: Inbound
) -> Reception:
    person = await _person(conn, Actor.system(org_id, "inbox"), inbound)
    written = structs.replace(inbound, sender_address=person.address)
    message = await ledger_in.record(conn, org_id, account_id, sender_id, person.contact_id, written)
    if message is None:
        raise _Known
    keyword = keyword_of(inbound)
    if keyword is not None and person.is_reachable:
        actor = Actor(org_id, "contact", str(person.contact_id), frozenset())
        await _obey(conn, actor, keyword, person, inbound, message.message_id)
    await _tell(conn, org_id, sender_id, written, message, keyword)
    return Reception(outcome="received", message=message, keyword=keyword)


def keyword_of(inbound: Inbound) -> Keyword | None:
    """STOP, START or HELP, if a person said so; what a machine answers by itself is nobody's will."""
    if inbound.is_automatic or inbound.kind not in SPOKEN:
        return None
    return keywords.find(inbound.text)


# ---- who wrote ------------------------------------------------------------------------------------


async def _person(conn: Connection, actor: Actor, inbound: Inbound) -> Person:
    """The contact behind the address, made now if nobody has it.

    WhatsApp may hide the phone behind an opaque id, or tell both: then both lead to one contact.
    """
    name = name_of(inbound)
    if is_opaque(inbound):
        return await _behind_opaque(conn, actor, inbound, name)
    other = inbound.other_address
    known = await _owner(conn, actor, AddressKind.WHATSAPP_ID, other) if other else None
    if known is not None:
        await _add_if_free(conn, actor, known, inbound)
    found = await contacts.resolve_many(conn, actor, inbound.channel, [inbound.sender_address], name=name)
    contact_id, address = found[0]
    if other and known is None:
        new = NewAddress(kind=AddressKind.WHATSAPP_ID, value=other)
        await contacts.add_address(conn, actor, contact_id, new)
    return Person(contact_id, address, is_reachable=True)


async def _behind_opaque(conn: Connection, actor: Actor, inbound: Inbound, name: str | None) -> Person:
    """Whoever has this opaque id; if a phone of theirs is known, that is where we write to."""
    value = inbound.sender_address
    known = await _owner(conn, actor, AddressKind.WHATSAPP_ID, value)
    if known is None:
        new = NewContact(name=name, addresses=[NewAddress(kind=AddressKind.WHATSAPP_ID, value=value)])
        made = await contacts.create(conn, actor, new, source=str(inbound.channel))
        return Person(made.id, value, is_reachable=False)
    contact = await contacts.get(conn, actor, known)
    phone = contact.address(ADDRESS_KIND[inbound.channel])
    return Person(known, phone or value, is_reachable=phone is not None)


async def _add_if_free(conn: Connection, actor: Actor, contact_id: UUID, inbound: Inbound) -> None:
    """A contact known by its opaque id only gets the phone that it shows now, and a STOP that it wrote before holds."""
    kind = ADDRESS_KIND[inbound.channel]
    value = contact_model.normalize(kind, inbound.sender_address)
    if await _owner(conn, actor, kind, value) is not None:
        return
    await contacts.add_address(conn, actor, contact_id, NewAddress(kind=kind, value=value))
    if (stop := await _standing_stop(conn, actor.org_id, contact_id, inbound.channel)) is not None:
        await withdrawal.suppress(
            conn,
            actor,
            inbound.channel,
            value,
            "opt_out",
            source=SOURCE,
            detail=stop.text,
            message_id=stop.id,
        )


async def _standing_stop(
    conn: Connection, org_id: UUID, contact_id: UUID, channel: Channel
) -> Message | None:
    """The STOP that a contact wrote last, unless START came after it."""
    theirs = Filter(direction="in", channel=channel, contact_id=contact_id)
    for message in await messages.page(conn, org_id, theirs, None, LOOK_BACK):
        keyword = None if message.is_automatic else keywords.find(message.text)
        if keyword in (Keyword.STOP, Keyword.START):
            return message if keyword is Keyword.STOP else None
    return None


async def _owner(conn: Connection, actor: Actor, kind: AddressKind, value: str) -> UUID | None:
    return (await address_queries.owners(conn, actor.org_id, [(kind, value)])).get((kind, value))


def is_opaque(inbound: Inbound) -> bool:
    """Is the address a name that only WhatsApp can resolve (a hidden number, a business-scoped user)?"""
    return inbound.channel is Channel.WHATSAPP and not inbound.sender_address.startswith("+")


def name_of(inbound: Inbound) -> str | None:
    """What the person calls themselves, cut to what a contact's name may be."""
    printable = "".join(letter if letter.isprintable() else " " for letter in inbound.profile_name or "")
    return " ".join(printable.split())[: contact_model.LONGEST_NAME].strip() or None


# ---- what they want -------------------------------------------------------------------------------


async def _obey(
    conn: Connection, actor: Actor, keyword: Keyword, person: Person, inbound: Inbound, message_id: UUID
) -> None:
    match keyword:
        case Keyword.STOP:
            await _stop(conn, actor, person, inbound, message_id)
        case Keyword.START:
            await _start(conn, actor, person, inbound)
        case Keyword.HELP:
            pass  # told in the event; whoever answers, answers


async def _stop(conn: Connection, actor: Actor, person: Person, inbound: Inbound, message_id: UUID) -> None:
    """Nothing more on this channel, what waits included. An address that is suppressed for good for another reason
    stays so, and the withdrawal is recorded beside it."""
    found = await _in_force(conn, actor, inbound.channel, person.address)
    if found is not None and found.reason != "opt_out" and found.until is None:
        await contacts.record_consent(
            conn, actor, person.contact_id, inbound.channel, person.address, False, SOURCE, inbound.text
        )
    await withdrawal.suppress(
        conn, actor, inbound.channel, person.address, "opt_out", source=SOURCE, detail=inbound.text,
        message_id=message_id,
    )  # fmt: skip


async def _start(conn: Connection, actor: Actor, person: Person, inbound: Inbound) -> None:
    """Undo what an opt-out did, and nothing else: a bounce, a complaint or a person's decision stays."""
    found = await _in_force(conn, actor, inbound.channel, person.address)
    if found is None or found.reason != "opt_out":
        return
    await contacts.lift(conn, actor, inbound.channel, person.address)
    await contacts.record_consent(
        conn, actor, person.contact_id, inbound.channel, person.address, True, SOURCE, inbound.text
    )


async def _in_force(conn: Connection, actor: Actor, channel: Channel, address: str) -> Suppression | None:
    """What forbids the address now."""
    found = await consent_queries.find_suppression(conn, actor.org_id, channel, address)
    if found is None or found.lifted_at is not None:
        return None
    return None if found.until is not None and found.until <= clock.now() else found


async def _tell(
    conn: Connection, org_id: UUID, sender_id: UUID | None, written: Inbound, message: Received,
    keyword: Keyword | None,
) -> None:  # fmt: skip
    payload = {
        "message_id": str(message.message_id),
        "contact_id": str(message.contact_id),
        "sender_id": str(sender_id) if sender_id else None,
        "channel": written.channel,
        "address": written.sender_address,
        "kind": written.kind,
        "text": written.text[:LONGEST_EVENT_TEXT] if written.text else None,
        "answers": str(message.answers) if message.answers else None,
        "is_automatic": written.is_automatic,
        "keyword": keyword,
    }
    await events.emit(conn, org_id, "message_received", message.message_id, payload)
