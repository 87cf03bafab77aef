"""Routes of contacts: the people themselves and their addresses. What they agreed to is in `suppressions_api.py`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from litestar import Router, delete, get, patch, post
from msgspec import Struct

from antiphon.contacts import groups_api, imports_api, service
from antiphon.contacts.model import Contact, ContactChanges, NewAddress, NewContact
from antiphon.core.db import Connection
from antiphon.core.paging import Page
from antiphon.organizations.access import Permission, StrictBody, Unit, moment, requires
from antiphon.organizations.model import Actor


@get("/", **requires(Permission.CONTACTS_READ))
async def list_contacts(
    unit: Unit,
    limit: int | None = None,
    cursor: str | None = None,
    q: str | None = None,
    group: UUID | None = None,
    active: bool | None = None,
    channel: str | None = None,
    created_from: datetime | int | None = None,
    created_to: datetime | int | None = None,
    deleted: bool = False,
) -> Page[Contact]:
    """Contacts, the newest first. `q` looks in names, company and addresses: every word, anywhere, without accents.

    `channel` keeps those who have an address for it, `deleted` shows those that can be restored.
    """
    wanted = service.Wanted(
        q=q, group=group, active=active, channel=channel, deleted=deleted,
        created_from=None if created_from is None else moment(created_from, "created_from"),
        created_to=None if created_to is None else moment(created_to, "created_to"),
    )  # fmt: skip
    return await unit.read(service.list_contacts, wanted, limit, cursor)


@post("/", **requires(Permission.CONTACTS_WRITE), dto=StrictBody[NewContact], return_dto=None)
async def create_contact(unit: Unit, data: NewContact) -> Contact:
    """Make a contact. Phone numbers are stored as E.164, email addresses in lower case."""
    return await unit.write(service.create, data)


@get("/{contact_id:uuid}", **requires(Permission.CONTACTS_READ))
async def get_contact(unit: Unit, contact_id: UUID) -> Contact:
    """One contact."""
    return await unit.read(service.get, contact_id)


@patch(
    "/{contact_id:uuid}",
    **requires(Permission.CONTACTS_WRITE),
    dto=StrictBody[ContactChanges],
    return_dto=None,
)
async def update_contact(unit: Unit, contact_id: UUID, data: ContactChanges) -> Contact:
    """Change what is given; what is absent stays, null empties. `phone` and `email` replace the primary address."""
    return await unit.write(service.update, contact_id, data)


@delete("/{contact_id:uuid}", **requires(Permission.CONTACTS_WRITE))
async def delete_contact(unit: Unit, contact_id: UUID) -> None:
    """Delete a contact softly; its addresses are free at once. `restore` undoes it."""
    await unit.write(service.delete, contact_id)


@post("/{contact_id:uuid}/restore", **requires(Permission.CONTACTS_WRITE), status_code=200)
async def restore_contact(unit: Unit, contact_id: UUID) -> Contact:
    """Undo a deletion, unless somebody has one of the addresses by now."""
    return await unit.write(service.restore, contact_id)


# Many at once


class ContactList(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1,000 contacts to make."""

    contacts: list[NewContact]


class Contacts(Struct, frozen=True):
    """The contacts as they are now, in the order asked for."""

    contacts: list[Contact]


@post("/bulk", **requires(Permission.CONTACTS_WRITE), dto=StrictBody[ContactList], return_dto=None)
async def create_contacts(unit: Unit, data: ContactList) -> Contacts:
    """Make up to 1,000 contacts, all or none; what is wrong is named as `contacts[3].phone`."""
    return await unit.write(_create_many, data.contacts)


async def _create_many(conn: Connection, actor: Actor, contacts: Sequence[NewContact]) -> Contacts:
    return Contacts(await service.create_many(conn, actor, contacts))


class SameChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change for up to 1,000 contacts."""

    ids: list[UUID]
    changes: ContactChanges


@patch("/bulk", **requires(Permission.CONTACTS_WRITE), dto=StrictBody[SameChange], return_dto=None)
async def update_contacts(unit: Unit, data: SameChange) -> Contacts:
    """Change up to 1,000 contacts alike, all or none."""
    return await unit.write(_update_many, data)


async def _update_many(conn: Connection, actor: Actor, data: SameChange) -> Contacts:
    return Contacts(await service.update_many(conn, actor, data.ids, data.changes))


class ContactIds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1,000 contacts."""

    ids: list[UUID]


class Deleted(Struct, frozen=True):
    """How many were deleted."""

    deleted: int


@post(
    "/bulk/delete",
    **requires(Permission.CONTACTS_WRITE),
    dto=StrictBody[ContactIds],
    return_dto=None,
    status_code=200,
)
async def delete_contacts(unit: Unit, data: ContactIds) -> Deleted:
    """Delete up to 1,000 contacts softly, all or none."""
    return await unit.write(_delete_many, data.ids)


async def _delete_many(conn: Connection, actor: Actor, contact_ids: Sequence[UUID]) -> Deleted:
    return Deleted(await service.delete_many(conn, actor, contact_ids))


# Addresses


@post(
    "/{contact_id:uuid}/addresses",
    **requires(Permission.CONTACTS_WRITE),
    dto=StrictBody[NewAddress],
    return_dto=None,
)
async def add_address(unit: Unit, contact_id: UUID, data: NewAddress) -> Contact:
    """Add an address. The first of its kind is the primary one, a later one when it says so."""
    return await unit.write(service.add_address, contact_id, data)


@delete(
    "/{contact_id:uuid}/addresses/{address_id:uuid}", **requires(Permission.CONTACTS_WRITE), status_code=200
)
async def remove_address(unit: Unit, contact_id: UUID, address_id: UUID) -> Contact:
    """Remove an address, which frees it for somebody else."""
    return await unit.write(service.remove_address, contact_id, address_id)


router = Router(
    "/contacts",
    route_handlers=[
        list_contacts,
        create_contact,
        get_contact,
        update_contact,
        delete_contact,
        restore_contact,
        create_contacts,
        update_contacts,
        delete_contacts,
        add_address,
        remove_address,
        *imports_api.handlers,
    ],
    tags=["Contacts"],
)
routers = (groups_api.router,)
