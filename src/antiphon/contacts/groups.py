"""The verbs of groups: contacts put together by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from antiphon.contacts import group_queries, model
from antiphon.contacts.model import Group
from antiphon.core import clock, ids
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, FieldError, Invalid, TooLarge
from antiphon.core.paging import Page, check_limit, cut, decode_cursor
from antiphon.events import service as events
from antiphon.organizations import audit
from antiphon.organizations.model import Actor

_FIRST = UUID(int=0)


class NewGroup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group as it is given."""

    name: str
    description: str | None = None
    is_active: bool = True


class GroupChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may change; what is absent stays."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


class MembersChanged(Struct, frozen=True):
    """How many memberships a call added or removed; those that were so already do not count."""

    changed: int


async def get_group(conn: Connection, actor: Actor, group_id: UUID) -> Group:
    """A group with its number of members. Raises NotFound."""
    group = await group_queries.get(conn, actor.org_id, group_id)
    members = await group_queries.count_members(conn, actor.org_id, group_id)
    return structs.replace(group, members=members)


async def find_group(conn: Connection, actor: Actor, name: str) -> Group | None:
    """The group of this name, in any case and spelling of accents; or None."""
    return await group_queries.find_by_name(conn, actor.org_id, model.fold(_name(name)))


async def list_groups(
    conn: Connection,
    actor: Actor,
    q: str | None = None,
    active: bool | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Page[Group]:
    """Groups by name. `q` is looked for in the name: every word of it, anywhere."""
    count = check_limit(limit)
    key, group_id = decode_cursor(cursor, str, UUID) if cursor else ("", _FIRST)
    patterns = model.search_patterns(q)
    found = await group_queries.list_groups(conn, actor.org_id, patterns, active, (key, group_id), count + 1)
    page = cut(found, count, lambda entry: (entry[1], entry[0].id))
    return Page([group for group, _ in page.items], page.next)


async def create_group(conn: Connection, actor: Actor, new: NewGroup) -> Group:
    """A new group. Raises Invalid, Conflict when a group has the name."""
    now = clock.now()
    group = Group(
        id=ids.new_id(),
        name=_name(new.name),
        description=model.clean("description", new.description, 2000),
        is_active=new.is_active,
        created_at=now,
        updated_at=now,
        deleted_at=None,
    )
    if not await group_queries.add(conn, actor.org_id, group, model.fold(group.name)):
        raise _name_taken(group.name)
    await audit.record(conn, actor, "group.created", group.id, name=group.name)
    await events.emit(conn, actor.org_id, "group_created", group.id, msgspec.to_builtins(group))
    return group


def _name(name: str) -> str:
    cleaned = model.clean("name", name)
    if cleaned is None:
        raise Invalid.field("name", "must have 1 to 200 characters", name[:80])
    return cleaned


def _name_taken(name: str) -> Conflict:
    return Conflict("name_taken", f"there is a group named {name!r}; use that one or choose another name")


async def update_group(conn: Connection, actor: Actor, group_id: UUID, changes: GroupChanges) -> Group:
    """Change a group. Raises NotFound, Invalid, Conflict when another group has the name."""
    before = await group_queries.lock(conn, actor.org_id, group_id)
    name = before.name if changes.name is UNSET else _name(changes.name)
    other = await group_queries.find_by_name(conn, actor.org_id, model.fold(name))
    if other is not None and other.id != group_id:
        raise _name_taken(name)
    description = before.description
    if changes.description is not UNSET:
        description = model.clean("description", changes.description, 2000)
    group = structs.replace(
        before,
        name=name,
        description=description,
        is_active=before.is_active if changes.is_active is UNSET else changes.is_active,
        updated_at=clock.now(),
    )
    await group_queries.save(conn, actor.org_id, group, model.fold(name))
    changed = [field for field in changes.__struct_fields__ if getattr(changes, field) is not UNSET]
    await _tell_updated(conn, actor, group, changed=changed)
    return group


async def delete_group(conn: Connection, actor: Actor, group_id: UUID) -> None:
    """Delete a group softly; its contacts stay, its name is free. Raises NotFound."""
    group = await group_queries.lock(conn, actor.org_id, group_id)
    now = clock.now()
    gone = structs.replace(group, deleted_at=now, updated_at=now)
    await group_queries.save(conn, actor.org_id, gone, model.fold(group.name))
    await audit.record(conn, actor, "group.deleted", group_id, name=group.name)
    await events.emit(conn, actor.org_id, "group_deleted", group_id, {"id": str(group_id)})


async def add_members(
    conn: Connection, actor: Actor, group_id: UUID, contact_ids: Sequence[UUID]
) -> MembersChanged:
    """Put up to 1,000 contacts into a group, all or none. Raises NotFound, Invalid naming each unknown contact."""
    group = await group_queries.get(conn, actor.org_id, group_id)
    _check_size(contact_ids)
    known = await group_queries.known_contacts(conn, actor.org_id, contact_ids)
    wrong = [
        FieldError(f"contacts[{index}]", "there is no such contact in this organization", str(contact_id))
        for index, contact_id in enumerate(contact_ids)
        if contact_id not in known
    ]
    if wrong:
        raise Invalid(f"{len(wrong)} of {len(contact_ids)} contacts do not exist; nobody was added", wrong)
    added = await group_queries.add_members(conn, actor.org_id, group_id, contact_ids, clock.now())
    if added:
        await _tell_updated(conn, actor, group, members_added=added)
    return MembersChanged(added)


async def remove_members(
    conn: Connection, actor: Actor, group_id: UUID, contact_ids: Sequence[UUID]
) -> MembersChanged:
    """Take up to 1,000 contacts out of a group; those that are not in it do not matter. Raises NotFound."""
    group = await group_queries.get(conn, actor.org_id, group_id)
    _check_size(contact_ids)
    removed = await group_queries.remove_members(conn, actor.org_id, group_id, contact_ids)
    if removed:
        await _tell_updated(conn, actor, group, members_removed=removed)
    return MembersChanged(removed)


def _check_size(contact_ids: Sequence[UUID]) -> None:
    if len(contact_ids) > model.MOST_AT_ONCE:
        raise TooLarge(f"{len(contact_ids)} at once; at most {model.MOST_AT_ONCE} go in one request")


async def _tell_updated(conn: Connection, actor: Actor, group: Group, **what: Any) -> None:
    await audit.record(conn, actor, "group.updated", group.id, **what)
    await events.emit(conn, actor.org_id, "group_updated", group.id, {**msgspec.to_builtins(group), **what})
