"""Routes of groups and their members."""

from __future__ import annotations

from uuid import UUID

from litestar import Router, delete, get, patch, post
from msgspec import Struct

from antiphon.contacts import service
from antiphon.contacts.groups import GroupChanges, MembersChanged, NewGroup
from antiphon.contacts.model import Contact, Group
from antiphon.core.paging import Page
from antiphon.organizations.access import Permission, StrictBody, Unit, requires


@get("/", **requires(Permission.GROUPS_READ))
async def list_groups(
    unit: Unit,
    limit: int | None = None,
    cursor: str | None = None,
    q: str | None = None,
    active: bool | None = None,
) -> Page[Group]:
    """Groups by name."""
    return await unit.read(service.list_groups, q, active, limit, cursor)


@post("/", **requires(Permission.GROUPS_WRITE), dto=StrictBody[NewGroup], return_dto=None)
async def create_group(unit: Unit, data: NewGroup) -> Group:
    """Make a group."""
    return await unit.write(service.create_group, data)


@get("/{group_id:uuid}", **requires(Permission.GROUPS_READ))
async def get_group(unit: Unit, group_id: UUID) -> Group:
    """One group, with its number of members."""
    return await unit.read(service.get_group, group_id)


@patch("/{group_id:uuid}", **requires(Permission.GROUPS_WRITE), dto=StrictBody[GroupChanges], return_dto=None)
async def update_group(unit: Unit, group_id: UUID, data: GroupChanges) -> Group:
    """Change a group. An inactive one refuses to be sent to."""
    return await unit.write(service.update_group, group_id, data)


@delete("/{group_id:uuid}", **requires(Permission.GROUPS_WRITE))
async def delete_group(unit: Unit, group_id: UUID) -> None:
    """Delete a group softly; its contacts stay, its name is free."""
    await unit.write(service.delete_group, group_id)


@get("/{group_id:uuid}/members", **requires(Permission.GROUPS_READ))
async def list_members(
    unit: Unit, group_id: UUID, limit: int | None = None, cursor: str | None = None, q: str | None = None
) -> Page[Contact]:
    """The contacts in a group, the newest first."""
    wanted = service.Wanted(q=q, group=group_id)
    return await unit.read(service.list_contacts, wanted, limit, cursor)


class Members(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1,000 contacts, by id."""

    contacts: list[UUID]


@post(
    "/{group_id:uuid}/members",
    **requires(Permission.GROUPS_WRITE),
    dto=StrictBody[Members],
    return_dto=None,
    status_code=200,
)
async def add_members(unit: Unit, group_id: UUID, data: Members) -> MembersChanged:
    """Put contacts into a group, all or none. Who is in it already stays, and is not counted."""
    return await unit.write(service.add_members, group_id, data.contacts)


@post(
    "/{group_id:uuid}/members/remove",
    **requires(Permission.GROUPS_WRITE),
    dto=StrictBody[Members],
    return_dto=None,
    status_code=200,
)
async def remove_members(unit: Unit, group_id: UUID, data: Members) -> MembersChanged:
    """Take contacts out of a group."""
    return await unit.write(service.remove_members, group_id, data.contacts)


router = Router(
    "/groups",
    route_handlers=[
        list_groups,
        create_group,
        get_group,
        update_group,
        delete_group,
        list_members,
        add_members,
        remove_members,
    ],
    tags=["Groups"],
)
