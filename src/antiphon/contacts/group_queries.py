"""All SQL of groups and their members."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from antiphon.contacts.model import Group
from antiphon.core import db
from antiphon.core.db import Connection


async def get(conn: Connection, org_id: UUID, group_id: UUID) -> Group:
    """A group that is not deleted. Raises NotFound."""
    return await db.one(
        conn,
        Group,
        """
        SELECT id, name, description, is_active, created_at, updated_at, deleted_at
          FROM groups
         WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
        """,
        org_id=org_id,
        id=group_id,
    )


async def lock(conn: Connection, org_id: UUID, group_id: UUID) -> Group:
    """The same, for update."""
    return await db.one(
        conn,
        Group,
        """
        SELECT id, name, description, is_active, created_at, updated_at, deleted_at
          FROM groups
         WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
           FOR UPDATE
        """,
        org_id=org_id,
        id=group_id,
    )


async def find_by_name(conn: Connection, org_id: UUID, name_key: str) -> Group | None:
    """The group of this name, however it is written."""
    return await db.find(
        conn,
        Group,
        """
        SELECT id, name, description, is_active, created_at, updated_at, deleted_at
          FROM groups
         WHERE org_id = %(org_id)s AND name_key = %(name_key)s AND deleted_at IS NULL
        """,
        org_id=org_id,
        name_key=name_key,
    )


async def list_groups(
    conn: Connection,
    org_id: UUID,
    patterns: Sequence[str],
    is_active: bool | None,
    after: tuple[str, UUID],
    limit: int,
) -> list[tuple[Group, str]]:
    """Groups by name, each with the key that the list is ordered by."""
    name_key, group_id = after
    found = await db.tuples(
        conn,
        """
        SELECT name_key, id, name, description, is_active, created_at, updated_at
          FROM groups
         WHERE org_id = %(org_id)s AND deleted_at IS NULL
           AND name_key LIKE ALL (%(patterns)s::text[])
           AND (%(is_active)s::boolean IS NULL OR is_active = %(is_active)s)
           AND (name_key, id) > (%(after_key)s, %(after_id)s)
         ORDER BY name_key, id
         LIMIT %(limit)s
        """,
        org_id=org_id,
        patterns=patterns,
        is_active=is_active,
        after_key=name_key,
        after_id=group_id,
        limit=limit,
    )
    return [
        (
            Group(
                id=row[1],
                name=row[2],
                description=row[3],
                is_active=row[4],
                created_at=row[5],
                updated_at=row[6],
                deleted_at=None,
            ),
            row[0],
        )
        for row in found
    ]


async def add(conn: Connection, org_id: UUID, group: Group, name_key: str) -> bool:
    """Store a new group; False if a group has its name."""
    added = await db.execute(
        conn,
        """
        INSERT INTO groups (org_id, id, name, name_key, description, is_active, created_at, updated_at)
        VALUES (%(org_id)s, %(id)s, %(name)s, %(name_key)s, %(description)s, %(is_active)s, %(created_at)s,
                %(updated_at)s)
        ON CONFLICT DO NOTHING
        """,
        org_id=org_id,
        id=group.id,
        name=group.name,
        name_key=name_key,
        description=group.description,
        is_active=group.is_active,
        created_at=group.created_at,
        updated_at=group.updated_at,
    )
    return added == 1


async def save(conn: Connection, org_id: UUID, group: Group, name_key: str) -> None:
    """Store what a group is now, deletion included."""
    await db.execute(
        conn,
        """
        UPDATE groups
           SET name = %(name)s, name_key = %(name_key)s, description = %(description)s, is_active = %(is_active)s,
               updated_at = %(updated_at)s, deleted_at = %(deleted_at)s
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=group.id,
        name=group.name,
        name_key=name_key,
        description=group.description,
        is_active=group.is_active,
        updated_at=group.updated_at,
        deleted_at=group.deleted_at,
    )


async def count_members(conn: Connection, org_id: UUID, group_id: UUID) -> int:
    """How many contacts that are not deleted are in a group."""
    return await db.value(
        conn,
        """
        SELECT count(*)
          FROM group_members m
         CROSS JOIN LATERAL (
               SELECT FROM contacts c
                WHERE c.org_id = %(org_id)s AND c.id = m.contact_id AND c.deleted_at IS NULL OFFSET 0) AS living
         WHERE m.org_id = %(org_id)s AND m.group_id = %(group_id)s
        """,
        org_id=org_id,
        group_id=group_id,
    )


async def known_contacts(conn: Connection, org_id: UUID, contact_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the contacts that exist and are not deleted."""
    found = await db.tuples(
        conn,
        """
        SELECT id FROM contacts
         WHERE org_id = %(org_id)s AND id = ANY (%(ids)s::uuid[]) AND deleted_at IS NULL
        """,
        org_id=org_id,
        ids=contact_ids,
    )
    return {contact_id for (contact_id,) in found}


async def add_members(
    conn: Connection, org_id: UUID, group_id: UUID, contact_ids: Sequence[UUID], now: datetime
) -> int:
    """Put contacts into a group; returns how many were not in it."""
    return await db.execute(
        conn,
        """
        INSERT INTO group_members (org_id, group_id, contact_id, added_at)
        SELECT %(org_id)s, %(group_id)s, wanted.id, %(now)s
          FROM unnest(%(ids)s::uuid[]) AS wanted (id)
         ORDER BY wanted.id
        ON CONFLICT DO NOTHING
        """,
        org_id=org_id,
        group_id=group_id,
        ids=contact_ids,
        now=now,
    )


async def remove_members(conn: Connection, org_id: UUID, group_id: UUID, contact_ids: Sequence[UUID]) -> int:
    """Take contacts out of a group; returns how many were in it."""
    return await db.execute(
        conn,
        """
        DELETE FROM group_members
         WHERE org_id = %(org_id)s AND group_id = %(group_id)s AND contact_id = ANY (%(ids)s::uuid[])
        """,
        org_id=org_id,
        group_id=group_id,
        ids=contact_ids,
    )
