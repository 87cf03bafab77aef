"""All SQL of addresses: whose they are, adding and removing them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from antiphon.contacts.model import Address
from antiphon.core import db
from antiphon.core.db import Connection

Pair = tuple[str, str]
"""Kind and value: what an address is unique by, within an organization."""


async def owners(conn: Connection, org_id: UUID, pairs: Iterable[Pair]) -> dict[Pair, UUID]:
    """Which contact has each of these addresses; those that nobody has are absent."""
    wanted = list(pairs)
    found = await db.tuples(
        conn,
        """
        SELECT a.kind, a.value, a.contact_id
          FROM unnest(%(kinds)s::text[], %(values)s::text[]) AS wanted (kind, value)
          JOIN addresses a ON a.org_id = %(org_id)s AND a.kind = wanted.kind AND a.value = wanted.value
                          AND a.deleted_at IS NULL
        """,
        org_id=org_id,
        kinds=[kind for kind, _ in wanted],
        values=[value for _, value in wanted],
    )
    return {(kind, value): contact_id for kind, value, contact_id in found}


async def add(
    conn: Connection, org_id: UUID, addresses: Mapping[UUID, Sequence[Address]], now: datetime
) -> set[UUID]:
    """Store addresses by contact; returns the ids of those stored: one that somebody has by now is left out."""
    rows = [(contact_id, address) for contact_id, of_contact in addresses.items() for address in of_contact]
    found = await db.tuples(
        conn,
        """
        INSERT INTO addresses (org_id, id, contact_id, kind, value, is_primary, label, created_at)
        SELECT %(org_id)s, x.id, x.contact_id, x.kind, x.value, x.is_primary, x.label, %(now)s
          FROM unnest(%(ids)s::uuid[], %(contact_ids)s::uuid[], %(kinds)s::text[], %(values)s::text[],
                      %(primary)s::boolean[], %(labels)s::text[])
               AS x (id, contact_id, kind, value, is_primary, label)
         ORDER BY x.kind, x.value
        ON CONFLICT DO NOTHING
        RETURNING id
        """,
        org_id=org_id,
        ids=[address.id for _, address in rows],
        contact_ids=[contact_id for contact_id, _ in rows],
        kinds=[str(address.kind) for _, address in rows],
        values=[address.value for _, address in rows],
        primary=[address.is_primary for _, address in rows],
        labels=[address.label for _, address in rows],
        now=now,
    )
    return {address_id for (address_id,) in found}


async def remove(conn: Connection, org_id: UUID, address_ids: Sequence[UUID], at: datetime) -> None:
    """Delete addresses softly, which frees their values."""
    await db.execute(
        conn,
        """
        UPDATE addresses SET deleted_at = %(at)s
         WHERE org_id = %(org_id)s AND id = ANY (%(ids)s::uuid[]) AND deleted_at IS NULL
        """,
        org_id=org_id,
        ids=address_ids,
        at=at,
    )


async def set_primary(conn: Connection, org_id: UUID, contact_id: UUID, kind: str, value: str) -> None:
    """Of the contact's addresses of this kind, make one primary and the others not."""
    await db.execute(
        conn,
        """
        UPDATE addresses SET is_primary = (value = %(value)s)
         WHERE org_id = %(org_id)s AND contact_id = %(contact_id)s AND kind = %(kind)s AND deleted_at IS NULL
        """,
        org_id=org_id,
        contact_id=contact_id,
        kind=kind,
        value=value,
    )
