"""The verbs of contacts, and the feature's face: groups, consent and suppressions are named here too.

`suppress` records that an address must not be used, but the messages that already wait for it lie a floor above:
`messages.withdrawal.suppress` calls it and settles those in the same transaction. Whoever can, calls that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, structs

from antiphon.contacts import address_service, group_queries, model, queries
from antiphon.contacts.address_service import add_address, remove_address, resolve, resolve_many
from antiphon.contacts.consent import (
    get_suppression,
    lift,
    list_consents,
    list_suppressions,
    record_consent,
    suppress,
)
from antiphon.contacts.groups import (
    GroupChanges,
    NewGroup,
    add_members,
    create_group,
    delete_group,
    find_group,
    get_group,
    list_groups,
    remove_members,
    update_group,
)
from antiphon.contacts.model import Contact, ContactChanges, NewContact
from antiphon.core import clock, ids
from antiphon.core.channel import ADDRESS_KIND, AddressKind, parse_channel
from antiphon.core.db import Connection
from antiphon.core.errors import FieldError, Invalid, NotFound, TooLarge
from antiphon.core.paging import Page, check_limit, cut, decode_cursor
from antiphon.events import service as events
from antiphon.organizations import audit
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor

__all__ = [
    "GroupChanges", "NewGroup", "add_address", "add_members", "create_group", "delete_group", "find_group",
    "get_group", "get_suppression", "lift", "list_consents", "list_groups", "list_suppressions",
    "record_consent", "remove_address", "remove_members", "resolve", "resolve_many", "suppress", "update_group",
]  # fmt: skip

LAST = UUID(int=(1 << 128) - 1)


# Reading


async def get(conn: Connection, actor: Actor, contact_id: UUID) -> Contact:
    """A contact that is not deleted. Raises NotFound."""
    return await queries.get(conn, actor.org_id, contact_id)


class Wanted(Struct, frozen=True, kw_only=True):
    """Which contacts a list shows. `q` is looked for in names, company and addresses: every word of it, anywhere."""

    q: str | None = None
    group: UUID | None = None
    active: bool | None = None
    channel: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    deleted: bool = False


async def list_contacts(
    conn: Connection, actor: Actor, wanted: Wanted, limit: int | None = None, cursor: str | None = None
) -> Page[Contact]:
    """Contacts, the newest first. Raises NotFound for a group that does not exist."""
    count = check_limit(limit)
    (before,) = decode_cursor(cursor, UUID) if cursor else (LAST,)
    matching = queries.Filter(
        patterns=model.search_patterns(wanted.q),
        is_active=wanted.active,
        kind=ADDRESS_KIND[parse_channel(wanted.channel)] if wanted.channel else None,
        created_from=wanted.created_from,
        created_to=wanted.created_to,
        is_deleted=wanted.deleted,
    )
    if wanted.group is None:
        found = await queries.list_ids(conn, actor.org_id, matching, before, count + 1)
    else:
        await group_queries.get(conn, actor.org_id, wanted.group)
        found = await queries.list_member_ids(conn, actor.org_id, wanted.group, matching, before, count + 1)
    page = cut(found, count, lambda contact_id: (contact_id,))
    contacts = await queries.get_many(conn, actor.org_id, page.items, is_deleted=wanted.deleted)
    return Page(contacts[::-1], page.next)


# Creating


async def create(conn: Connection, actor: Actor, new: NewContact, *, source: str = "api") -> Contact:
    """A new contact. Raises Invalid naming every wrong field, 409 `address_taken` naming who has the address."""
    return (await _create(conn, actor, {"": new}, source))[0]


async def create_many(
    conn: Connection, actor: Actor, news: Sequence[NewContact], *, source: str = "api"
) -> list[Contact]:
    """Up to 1,000 contacts, all or none; what is wrong is named as `contacts[3].phone`."""
    check_size(news)
    return await _create(conn, actor, {f"contacts[{i}].": new for i, new in enumerate(news)}, source)


def check_size(items: Sequence[object]) -> None:
    """At most 1,000 at once. Raises TooLarge."""
    if len(items) > model.MOST_AT_ONCE:
        raise TooLarge(f"{len(items)} at once; at most {model.MOST_AT_ONCE} go in one request")


async def _create(
    conn: Connection, actor: Actor, news: Mapping[str, NewContact], source: str
) -> list[Contact]:
    country = await _country(conn, actor, news.values())
    contacts, wrong = list[Contact](), list[FieldError]()
    for prefix, new in news.items():
        try:
            contacts.append(_checked(prefix, new, source, country))
        except Invalid as error:
            wrong += error.errors
    if wrong:
        raise Invalid("nothing was stored, some fields are wrong; `errors` names each", wrong)
    await address_service.refuse_taken(conn, actor, dict(zip(news, contacts, strict=True)))
    await queries.add(conn, actor.org_id, contacts)
    await address_service.store(conn, actor, {contact.id: contact.addresses for contact in contacts})
    await _join_groups(conn, actor, news, contacts)
    for contact in contacts:
        await audit.record(conn, actor, "contact.created", contact.id, source=source)
        await events.emit(conn, actor.org_id, "contact_created", contact.id, msgspec.to_builtins(contact))
    return contacts


async def _country(conn: Connection, actor: Actor, news: Any) -> str | None:
    """The organization's country, if any of these needs one to read a number."""
    needed = any(
        not text.strip().startswith("+")
        for new in news
        for text in (new.phone or "+", *(a.value for a in new.addresses if a.kind is AddressKind.PHONE))
    )
    return (await organizations.get(conn, actor.org_id)).country if needed else None


def _checked(prefix: str, new: NewContact, source: str, country: str | None) -> Contact:
    """The contact as it will be stored. Raises Invalid with every wrong field."""
    split = model.split_name(new.name or "")
    given = structs.replace(new, first_name=new.first_name or split[0], last_name=new.last_name or split[1])
    fields = model.check_all(
        prefix,
        [(name, lambda name=name: model.check_field(name, getattr(given, name))) for name in model.FIELDS]
        + [("attributes", lambda: model.check_attributes(new.attributes))],
    )
    now = clock.now()
    return Contact(
        id=ids.new_id(),
        is_active=new.is_active,
        source=source,
        addresses=address_service.read(prefix, new, fields["country"] or country),
        created_at=now,
        updated_at=now,
        deleted_at=None,
        **fields,
    )


async def _join_groups(
    conn: Connection, actor: Actor, news: Mapping[str, NewContact], contacts: Sequence[Contact]
) -> None:
    members: dict[UUID, list[UUID]] = {}
    for new, contact in zip(news.values(), contacts, strict=True):
        for group_id in new.groups:
            members.setdefault(group_id, []).append(contact.id)
    for group_id, contact_ids in members.items():
        await add_members(conn, actor, group_id, contact_ids)


# Changing


async def update(conn: Connection, actor: Actor, contact_id: UUID, changes: ContactChanges) -> Contact:
    """Change a contact. Raises NotFound, Invalid naming every wrong field, 409 `address_taken`."""
    found = await queries.lock(conn, actor.org_id, [contact_id])
    if not found:
        raise NotFound("contact", contact_id)
    changed = _changed(found[0], changes)
    for kind, text in ((AddressKind.PHONE, changes.phone), (AddressKind.EMAIL, changes.email)):
        if text is not UNSET:
            changed = await address_service.replace_primary(conn, actor, changed, kind, text)
    return (await _save(conn, actor, [changed], changes))[0]


async def update_many(
    conn: Connection, actor: Actor, contact_ids: Sequence[UUID], changes: ContactChanges
) -> list[Contact]:
    """The same change to up to 1,000 contacts, all or none. Addresses cannot be changed so."""
    check_size(contact_ids)
    if changes.phone is not UNSET or changes.email is not UNSET:
        raise Invalid("an address belongs to one contact: change phone and email one contact at a time")
    found = await _lock_all(conn, actor, contact_ids)
    return await _save(conn, actor, [_changed(contact, changes) for contact in found], changes)


async def _lock_all(conn: Connection, actor: Actor, contact_ids: Sequence[UUID]) -> list[Contact]:
    found = await queries.lock(conn, actor.org_id, contact_ids)
    refuse_unknown(contact_ids, {contact.id for contact in found})
    return found


def refuse_unknown(wanted: Sequence[UUID], known: set[UUID], name: str = "ids") -> None:
    """Raise Invalid that names each id that does not exist here."""
    wrong = [
        FieldError(f"{name}[{index}]", "there is no such contact in this organization", str(contact_id))
        for index, contact_id in enumerate(wanted)
        if contact_id not in known
    ]
    if wrong:
        raise Invalid(f"{len(wrong)} of {len(wanted)} contacts do not exist; nothing was changed", wrong)


def _changed(contact: Contact, changes: ContactChanges) -> Contact:
    given = [name for name in model.FIELDS if getattr(changes, name) is not UNSET]
    fields = model.check_all(
        "", [(name, lambda name=name: model.check_field(name, getattr(changes, name))) for name in given]
    )
    if changes.attributes is not UNSET:
        fields["attributes"] = model.check_attributes(contact.attributes | changes.attributes)
    if changes.is_active is not UNSET:
        fields["is_active"] = changes.is_active
    return structs.replace(contact, **fields, updated_at=clock.now())


async def _save(
    conn: Connection, actor: Actor, contacts: Sequence[Contact], changes: ContactChanges
) -> list[Contact]:
    await queries.save(conn, actor.org_id, contacts)
    names = [name for name in changes.__struct_fields__ if getattr(changes, name) is not UNSET]
    for contact in contacts:
        await address_service.tell_updated(conn, actor, contact, names)
    return list(contacts)


async def delete(conn: Connection, actor: Actor, contact_id: UUID) -> None:
    """Delete a contact softly: it is found no more, and its addresses are free. Raises NotFound."""
    if not await queries.lock(conn, actor.org_id, [contact_id]):
        raise NotFound("contact", contact_id)
    await delete_many(conn, actor, [contact_id])


async def delete_many(conn: Connection, actor: Actor, contact_ids: Sequence[UUID]) -> int:
    """Delete up to 1,000 contacts softly, all or none; returns how many."""
    check_size(contact_ids)
    found = await _lock_all(conn, actor, contact_ids)
    await queries.set_deleted(conn, actor.org_id, [contact.id for contact in found], clock.now())
    for contact in found:
        await audit.record(conn, actor, "contact.deleted", contact.id)
        await events.emit(conn, actor.org_id, "contact_deleted", contact.id, {"id": str(contact.id)})
    return len(found)


async def restore(conn: Connection, actor: Actor, contact_id: UUID) -> Contact:
    """Undo a deletion. Raises NotFound if there was none, 409 `address_taken` if somebody has an address by now."""
    found = await queries.get_many(conn, actor.org_id, [contact_id], is_deleted=True)
    if not found or found[0].deleted_at is None:
        raise NotFound("deleted contact", contact_id)
    await address_service.refuse_taken(conn, actor, {"": found[0]})
    await queries.clear_deleted(conn, actor.org_id, contact_id, found[0].deleted_at, clock.now())
    restored = await queries.get(conn, actor.org_id, contact_id)
    await address_service.tell_updated(conn, actor, restored, ["deleted_at"])
    return restored
