"""The verbs of addresses: read them as they are given, store them, change them, and find whose one is.

An address belongs to one contact of its organization. Who wants one that is taken learns who has it; who finds a
contact by an address that nobody has (`resolve`) makes a new contact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
from msgspec import structs

from antiphon.contacts import address_queries, model, queries
from antiphon.contacts.model import Address, Contact, NewAddress, NewContact
from antiphon.core import clock, ids
from antiphon.core.channel import ADDRESS_KIND, AddressKind, Channel
from antiphon.core.db import Connection
from antiphon.core.errors import FieldError, Invalid, NotFound, Problem
from antiphon.events import service as events
from antiphon.organizations import audit
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor

# As they are given


def read(prefix: str, new: NewContact, country: str | None) -> list[Address]:
    """A new contact's addresses as they will be stored, each once. Raises Invalid naming every wrong one."""
    given: list[tuple[str, NewAddress]] = []
    if new.phone:
        given.append(("phone", NewAddress(kind=AddressKind.PHONE, value=new.phone)))
    if new.email:
        given.append(("email", NewAddress(kind=AddressKind.EMAIL, value=new.email)))
    given += [(f"addresses[{index}]", address) for index, address in enumerate(new.addresses)]
    wrong: list[FieldError] = []
    addresses: dict[tuple[str, str], Address] = {}
    primary = model.one_primary([address for _, address in given])
    for (name, address), is_primary in zip(given, primary, strict=True):
        try:
            stored = _read(address, is_primary, country)
        except Invalid as error:
            wrong += [FieldError(prefix + name, e.message, e.value) for e in error.errors]
        else:
            addresses.setdefault((stored.kind, stored.value), stored)
    if wrong:
        raise Invalid("some addresses are wrong; `errors` names each", wrong)
    return sorted(addresses.values(), key=lambda a: (a.kind, not a.is_primary, a.id))


def _read(new: NewAddress, is_primary: bool, country: str | None) -> Address:
    return Address(
        id=ids.new_id(),
        kind=new.kind,
        value=model.normalize(new.kind, new.value, country),
        is_primary=is_primary,
        label=model.clean("label", new.label),
    )


# Storing


async def refuse_taken(conn: Connection, actor: Actor, contacts: Mapping[str, Contact]) -> None:
    """Raise a 409 that names every address that another contact has, stored or in the same request."""
    first: dict[tuple[str, str], str] = {}
    wrong: list[FieldError] = []
    for prefix, contact in contacts.items():
        for address in contact.addresses:
            earlier = first.setdefault((address.kind, address.value), prefix)
            if earlier != prefix:
                wrong.append(
                    FieldError(f"{prefix}{address.kind}", f"is also {earlier}{address.kind}", address.value)
                )
    owners = await address_queries.owners(conn, actor.org_id, first)
    wrong += [
        FieldError(f"{first[pair]}{pair[0]}", f"belongs to contact {owner}", pair[1])
        for pair, owner in owners.items()
    ]
    if wrong:
        raise _taken(wrong)


def _taken(errors: Sequence[FieldError]) -> Problem:
    text = "; ".join(f"{error.value} {error.message}" for error in errors[:3])
    return Problem(
        409,
        "address_taken",
        "Not possible in the present state",
        f"an address belongs to one contact: {text}. Change that contact, or leave the address out",
        errors=errors,
    )


async def store(conn: Connection, actor: Actor, addresses: Mapping[UUID, Sequence[Address]]) -> None:
    """Store addresses by contact. Raises 409 `address_taken` if somebody took one in this very moment."""
    stored = await address_queries.add(conn, actor.org_id, addresses, clock.now())
    missing = [a for of_contact in addresses.values() for a in of_contact if a.id not in stored]
    if missing:
        raise _taken([FieldError(a.kind, "was taken in this moment", a.value) for a in missing])


# Changing


async def add_address(conn: Connection, actor: Actor, contact_id: UUID, new: NewAddress) -> Contact:
    """One more address. The first of its kind is primary, a later one when it says so. Raises 409 `address_taken`."""
    contact = await _lock(conn, actor, contact_id)
    is_primary = bool(new.is_primary) or contact.address(new.kind) is None
    address = _read(new, is_primary, await _country(conn, actor, contact))
    if not any((mine.kind, mine.value) == (address.kind, address.value) for mine in contact.addresses):
        await refuse_taken(conn, actor, {"": structs.replace(contact, addresses=[address])})
        await store(conn, actor, {contact_id: [address]})
    if is_primary:
        await address_queries.set_primary(conn, actor.org_id, contact_id, address.kind, address.value)
    return await _changed(conn, actor, contact_id)


async def remove_address(conn: Connection, actor: Actor, contact_id: UUID, address_id: UUID) -> Contact:
    """Remove an address; if it was the primary one, the oldest that is left of its kind takes its place."""
    contact = await _lock(conn, actor, contact_id)
    gone = next((address for address in contact.addresses if address.id == address_id), None)
    if gone is None:
        raise NotFound("address", address_id)
    await _remove(conn, actor, contact, gone)
    return await _changed(conn, actor, contact_id)


async def replace_primary(
    conn: Connection, actor: Actor, contact: Contact, kind: AddressKind, text: str | None
) -> Contact:
    """The contact with another primary address of this kind, or without it; the old one is free."""
    old = next((a for a in contact.addresses if a.kind is kind and a.is_primary), None)
    if text is None or not text.strip():
        if old is not None:
            await _remove(conn, actor, contact, old)
    else:
        new = _read(NewAddress(kind=kind, value=text), True, await _country(conn, actor, contact))
        if old is not None and old.value != new.value:
            await address_queries.remove(conn, actor.org_id, [old.id], clock.now())
        if not any(mine.kind is kind and mine.value == new.value for mine in contact.addresses):
            await refuse_taken(conn, actor, {"": structs.replace(contact, addresses=[new])})
            await store(conn, actor, {contact.id: [new]})
        await address_queries.set_primary(conn, actor.org_id, contact.id, kind, new.value)
    return structs.replace(contact, addresses=(await queries.get(conn, actor.org_id, contact.id)).addresses)


async def _lock(conn: Connection, actor: Actor, contact_id: UUID) -> Contact:
    found = await queries.lock(conn, actor.org_id, [contact_id])
    if not found:
        raise NotFound("contact", contact_id)
    return found[0]


async def _country(conn: Connection, actor: Actor, contact: Contact) -> str | None:
    return contact.country or (await organizations.get(conn, actor.org_id)).country


async def _remove(conn: Connection, actor: Actor, contact: Contact, gone: Address) -> None:
    await address_queries.remove(conn, actor.org_id, [gone.id], clock.now())
    left = [a for a in contact.addresses if a.kind is gone.kind and a.id != gone.id]
    if gone.is_primary and left:
        oldest = min(left, key=lambda address: address.id)
        await address_queries.set_primary(conn, actor.org_id, contact.id, oldest.kind, oldest.value)


async def _changed(conn: Connection, actor: Actor, contact_id: UUID) -> Contact:
    found = await queries.get(conn, actor.org_id, contact_id)
    contact = structs.replace(found, updated_at=clock.now())
    await queries.save(conn, actor.org_id, [contact])
    await tell_updated(conn, actor, contact, ["addresses"])
    return contact


async def tell_updated(conn: Connection, actor: Actor, contact: Contact, changed: Sequence[str]) -> None:
    """Audit and event of a changed contact."""
    await audit.record(conn, actor, "contact.updated", contact.id, changed=changed)
    await events.emit(
        conn,
        actor.org_id,
        "contact_updated",
        contact.id,
        {**msgspec.to_builtins(contact), "changed": list(changed)},
    )


# Finding


async def resolve(
    conn: Connection, actor: Actor, channel: Channel, address: str, *, name: str | None = None
) -> Contact:
    """The contact with this address on this channel, made now if nobody has it. `name` is for a new one.

    Raises Invalid for an address that cannot be one. Two who resolve the same new address get the same contact.
    """
    contact_id, _ = (await resolve_many(conn, actor, channel, [address], name=name))[0]
    return await queries.get(conn, actor.org_id, contact_id)


async def resolve_many(
    conn: Connection, actor: Actor, channel: Channel, addresses: Sequence[str], *, name: str | None = None
) -> list[tuple[UUID, str]]:
    """For each address its contact and its stored spelling, in the same order; missing contacts are made.

    Raises Invalid naming every wrong one as `addresses[3]`.
    """
    kind = ADDRESS_KIND[channel]
    values = await normalized(conn, actor, kind, addresses)
    owners = await address_queries.owners(conn, actor.org_id, {(kind, value) for value in values})
    missing = sorted({value for value in values if (kind, value) not in owners})
    if missing:
        owners |= await _make(conn, actor, channel, missing, name)
    return [(owners[kind, value], value) for value in values]


async def normalized(
    conn: Connection, actor: Actor, kind: AddressKind, addresses: Sequence[str]
) -> list[str]:
    """The stored spelling of each; national numbers are the organization's country's.

    Raises Invalid naming every wrong one as `addresses[3]`.
    """
    needs_country = kind is AddressKind.PHONE and not all(a.lstrip().startswith("+") for a in addresses)
    country = (await organizations.get(conn, actor.org_id)).country if needs_country else None
    values: list[str] = []
    wrong: list[FieldError] = []
    for index, address in enumerate(addresses):
        try:
            values.append(model.normalize(kind, address, country))
        except Invalid as error:
            wrong += [FieldError(f"addresses[{index}]", e.message, e.value) for e in error.errors]
    if wrong:
        raise Invalid("; ".join(error.message for error in wrong[:3]), wrong)
    return values


async def _make(
    conn: Connection, actor: Actor, channel: Channel, values: Sequence[str], name: str | None
) -> dict[tuple[str, str], UUID]:
    """New contacts for addresses that nobody has; those taken in this moment come back with their owner."""
    kind = ADDRESS_KIND[channel]
    first, last = model.split_name(model.clean("name", name) or "")
    made = [_new(channel, value, first, last) for value in values]
    await queries.add(conn, actor.org_id, made)
    stored = await address_queries.add(conn, actor.org_id, {c.id: c.addresses for c in made}, clock.now())
    ours = [contact for contact in made if contact.addresses[0].id in stored]
    await queries.remove_unused(conn, actor.org_id, [c.id for c in made if c not in ours])
    for contact in ours:
        await audit.record(conn, actor, "contact.created", contact.id, source=contact.source)
        await events.emit(conn, actor.org_id, "contact_created", contact.id, msgspec.to_builtins(contact))
    owners = {(str(kind), contact.addresses[0].value): contact.id for contact in ours}
    theirs = [(str(kind), value) for value in values if (kind, value) not in owners]
    return owners | await address_queries.owners(conn, actor.org_id, theirs) if theirs else owners


def _new(channel: Channel, value: str, first: str | None, last: str | None) -> Contact:
    now = clock.now()
    return Contact(
        id=ids.new_id(),
        first_name=first,
        last_name=last,
        company=None,
        language=None,
        timezone=None,
        country=None,
        preferred_channel=None,
        attributes={},
        is_active=True,
        source=str(channel),
        addresses=[Address(id=ids.new_id(), kind=ADDRESS_KIND[channel], value=value)],
        created_at=now,
        updated_at=now,
        deleted_at=None,
    )
