"""All SQL of contacts and their addresses. Groups, consent and imports have files of their own beside this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from antiphon.contacts.model import Contact, search_text
from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.core.errors import NotFound

Row = dict[str, Any]


class Filter(Struct, frozen=True, kw_only=True):
    """Which contacts: `patterns` all match the search text, `kind` is an address that they have."""

    patterns: list[str] = []
    is_active: bool | None = None
    kind: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    is_deleted: bool = False


async def get(conn: Connection, org_id: UUID, contact_id: UUID) -> Contact:
    """A contact that is not deleted. Raises NotFound."""
    found = await get_many(conn, org_id, [contact_id])
    if not found:
        raise NotFound("contact", contact_id)
    return found[0]


async def get_many(
    conn: Connection, org_id: UUID, contact_ids: Sequence[UUID], *, is_deleted: bool = False
) -> list[Contact]:
    """Those of the contacts that exist, by id."""
    found = await db.rows(
        conn,
        Row,
        """
        SELECT c.id, c.first_name, c.last_name, c.company, c.language, c.timezone, c.country, c.preferred_channel,
               c.attributes, c.is_active, c.source, c.created_at, c.updated_at, c.deleted_at,
               coalesce((SELECT jsonb_agg(jsonb_build_object('id', a.id, 'kind', a.kind, 'value', a.value,
                                                             'is_primary', a.is_primary, 'label', a.label)
                                          ORDER BY a.kind, a.is_primary DESC, a.id)
                           FROM addresses a
                          WHERE a.org_id = c.org_id AND a.contact_id = c.id
                            AND a.deleted_at IS NOT DISTINCT FROM c.deleted_at), '[]') AS addresses
          FROM contacts c
         WHERE c.org_id = %(org_id)s AND c.id = ANY (%(ids)s::uuid[])
           AND (c.deleted_at IS NOT NULL) = %(is_deleted)s
         ORDER BY c.id
        """,
        org_id=org_id,
        ids=contact_ids,
        is_deleted=is_deleted,
    )
    return [_contact(row) for row in found]


def _contact(row: Row) -> Contact:
    return msgspec.convert(row, Contact)


async def lock(conn: Connection, org_id: UUID, contact_ids: Sequence[UUID]) -> list[Contact]:
    """Those of the contacts that exist, locked in id order, so that two who lock several never wait for each other."""
    await db.execute(
        conn,
        """
        SELECT FROM contacts
         WHERE org_id = %(org_id)s AND id = ANY (%(ids)s::uuid[])
         ORDER BY id FOR UPDATE
        """,
        org_id=org_id,
        ids=contact_ids,
    )
    return await get_many(conn, org_id, contact_ids)


async def list_ids(conn: Connection, org_id: UUID, wanted: Filter, before: UUID, limit: int) -> list[UUID]:
    """Ids of the matching contacts below `before`, the newest first."""
    found = await db.tuples(
        conn,
        """
        SELECT c.id FROM contacts c
         WHERE c.org_id = %(org_id)s AND c.id < %(before)s
           AND (c.deleted_at IS NOT NULL) = %(is_deleted)s
           AND c.search_text LIKE ALL (%(patterns)s::text[])
           AND (%(is_active)s::boolean IS NULL OR c.is_active = %(is_active)s)
           AND c.created_at >= coalesce(%(created_from)s::timestamptz, '-infinity')
           AND c.created_at < coalesce(%(created_to)s::timestamptz, 'infinity')
           AND (%(kind)s::text IS NULL
                OR EXISTS (SELECT FROM addresses a
                            WHERE a.org_id = %(org_id)s AND a.contact_id = c.id AND a.kind = %(kind)s
                              AND a.deleted_at IS NULL))
         ORDER BY c.id DESC
         LIMIT %(limit)s
        """,
        org_id=org_id,
        before=before,
        limit=limit,
        **msgspec.structs.asdict(wanted),
    )
    return [contact_id for (contact_id,) in found]


async def list_member_ids(
    conn: Connection, org_id: UUID, group_id: UUID, wanted: Filter, before: UUID, limit: int
) -> list[UUID]:
    """The same among the members of a group, starting from the members: a small group in a large organization."""
    found = await db.tuples(
        conn,
        """
        SELECT m.contact_id
          FROM group_members m
         CROSS JOIN LATERAL (
               SELECT FROM contacts c
                WHERE c.org_id = %(org_id)s AND c.id = m.contact_id
                  AND (c.deleted_at IS NOT NULL) = %(is_deleted)s
                  AND c.search_text LIKE ALL (%(patterns)s::text[])
                  AND (%(is_active)s::boolean IS NULL OR c.is_active = %(is_active)s)
                  AND c.created_at >= coalesce(%(created_from)s::timestamptz, '-infinity')
                  AND c.created_at < coalesce(%(created_to)s::timestamptz, 'infinity')
                  AND (%(kind)s::text IS NULL
                       OR EXISTS (SELECT FROM addresses a
                                   WHERE a.org_id = %(org_id)s AND a.contact_id = c.id AND a.kind = %(kind)s
                                     AND a.deleted_at IS NULL))
                OFFSET 0) AS matching
         WHERE m.org_id = %(org_id)s AND m.group_id = %(group_id)s AND m.contact_id < %(before)s
         ORDER BY m.contact_id DESC
         LIMIT %(limit)s
        """,
        org_id=org_id,
        group_id=group_id,
        before=before,
        limit=limit,
        **msgspec.structs.asdict(wanted),
    )
    return [contact_id for (contact_id,) in found]


async def add(conn: Connection, org_id: UUID, contacts: Sequence[Contact]) -> None:
    """Store new contacts, without their addresses."""
    await db.execute(
        conn,
        """
        INSERT INTO contacts (org_id, id, first_name, last_name, company, language, timezone, country,
                              preferred_channel, attributes, is_active, source, search_text, created_at, updated_at)
        SELECT %(org_id)s, x.id, x.first_name, x.last_name, x.company, x.language, x.timezone, x.country,
               x.preferred_channel, x.attributes, x.is_active, x.source, x.search_text, x.created_at, x.updated_at
          FROM jsonb_to_recordset(%(contacts)s) AS x (
               id uuid, first_name text, last_name text, company text, language text, timezone text, country text,
               preferred_channel text, attributes jsonb, is_active boolean, source text, search_text text,
               created_at timestamptz, updated_at timestamptz)
        ON CONFLICT DO NOTHING
        """,
        org_id=org_id,
        contacts=db.json([_searchable(contact) for contact in contacts]),
    )


def _searchable(contact: Contact) -> Mapping[str, Any]:
    text = search_text(
        (contact.first_name, contact.last_name, contact.company), (a.value for a in contact.addresses)
    )
    return msgspec.structs.asdict(contact) | {"search_text": text}


async def save(conn: Connection, org_id: UUID, contacts: Sequence[Contact]) -> None:
    """Store what contacts are now: everything but their addresses, deletion and source."""
    await db.execute(
        conn,
        """
        UPDATE contacts c
           SET first_name = x.first_name, last_name = x.last_name, company = x.company, language = x.language,
               timezone = x.timezone, country = x.country, preferred_channel = x.preferred_channel,
               attributes = x.attributes, is_active = x.is_active, search_text = x.search_text,
               updated_at = x.updated_at
          FROM jsonb_to_recordset(%(contacts)s) AS x (
               id uuid, first_name text, last_name text, company text, language text, timezone text, country text,
               preferred_channel text, attributes jsonb, is_active boolean, search_text text, updated_at timestamptz)
         WHERE c.org_id = %(org_id)s AND c.id = ANY (%(ids)s::uuid[]) AND c.id = x.id
        """,
        org_id=org_id,
        ids=[contact.id for contact in contacts],
        contacts=db.json([_searchable(contact) for contact in contacts]),
    )


async def reindex(conn: Connection, org_id: UUID, contact_ids: Sequence[UUID]) -> None:
    """Write anew what a search looks through, after names or addresses changed."""
    contacts = await get_many(conn, org_id, contact_ids)
    await db.execute(
        conn,
        """
        UPDATE contacts c SET search_text = x.search_text
          FROM unnest(%(ids)s::uuid[], %(texts)s::text[]) AS x (id, search_text)
         WHERE c.org_id = %(org_id)s AND c.id = ANY (%(ids)s::uuid[]) AND c.id = x.id
           AND c.search_text <> x.search_text
        """,
        org_id=org_id,
        ids=[contact.id for contact in contacts],
        texts=[_searchable(contact)["search_text"] for contact in contacts],
    )


async def set_deleted(conn: Connection, org_id: UUID, contact_ids: Sequence[UUID], at: datetime) -> None:
    """Delete softly: contacts, and their addresses with the same instant, by which a restore knows them."""
    await db.execute(
        conn,
        """
        WITH gone AS (
            UPDATE contacts SET deleted_at = %(at)s, updated_at = %(at)s
             WHERE org_id = %(org_id)s AND id = ANY (%(ids)s::uuid[]) AND deleted_at IS NULL
            RETURNING id
        )
        UPDATE addresses SET deleted_at = %(at)s
         WHERE org_id = %(org_id)s AND contact_id = ANY (ARRAY (SELECT id FROM gone)) AND deleted_at IS NULL
        """,
        org_id=org_id,
        ids=contact_ids,
        at=at,
    )


async def clear_deleted(
    conn: Connection, org_id: UUID, contact_id: UUID, deleted_at: datetime, now: datetime
) -> None:
    """Undo `set_deleted` of one contact. The caller has seen to it that its addresses are free."""
    await db.execute(
        conn,
        """
        WITH back AS (
            UPDATE contacts SET deleted_at = NULL, updated_at = %(now)s
             WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at = %(deleted_at)s
            RETURNING id
        )
        UPDATE addresses SET deleted_at = NULL
         WHERE org_id = %(org_id)s AND contact_id = ANY (ARRAY (SELECT id FROM back))
           AND deleted_at = %(deleted_at)s
        """,
        org_id=org_id,
        id=contact_id,
        deleted_at=deleted_at,
        now=now,
    )


async def remove_unused(conn: Connection, org_id: UUID, contact_ids: Sequence[UUID]) -> None:
    """Take back contacts that this transaction made and found no use for."""
    await db.execute(
        conn,
        "DELETE FROM contacts WHERE org_id = %(org_id)s AND id = ANY (%(ids)s::uuid[])",
        org_id=org_id,
        ids=contact_ids,
    )
