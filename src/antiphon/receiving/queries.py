"""All SQL of receiving: webhooks as they came."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.receiving.model import Kept


async def keep(conn: Connection, org_id: UUID, kept: Sequence[Kept], bodies: Sequence[bytes]) -> None:
    """Store webhooks as they came, with what became of them; the bodies in the rows' order."""
    await db.execute(
        conn,
        KEEP,
        org_id=org_id,
        bodies=bodies,
        rows=db.json(kept),
    )


# The bodies go as they are, the rest as one JSON text: arrays of texts would be quoted letter by letter.
KEEP = """
    INSERT INTO provider_events (org_id, id, account_id, headers, body, receipts, inbound, unreadable, unmatched,
                                 parked, note)
    SELECT %(org_id)s, k.id, k.account_id, k.headers, k.body, k.receipts, k.inbound, k.unreadable, k.unmatched,
           k.parked, k.note
      FROM ROWS FROM (
               jsonb_to_recordset(%(rows)s) AS (
                   id uuid, account_id uuid, headers jsonb, receipts int, inbound int, unreadable int, unmatched int,
                   parked int, note text),
               unnest(%(bodies)b::bytea[]))
           AS k (id, account_id, headers, receipts, inbound, unreadable, unmatched, parked, note, body)
        ON CONFLICT DO NOTHING
"""


async def organizations(conn: Connection) -> list[UUID]:
    """Everybody whose webhooks grow old."""
    return [row[0] for row in await db.tuples(conn, ORGANIZATIONS)]


ORGANIZATIONS = """
    SELECT id FROM organizations  -- any organization: what is kept for 30 days must end for all of them
"""


async def forget(conn: Connection, org_id: UUID, before: UUID, limit: int) -> int:
    """Delete up to `limit` webhooks that came before the id's instant; returns how many."""
    return await db.execute(conn, FORGET, org_id=org_id, before=before, limit=limit)


FORGET = """
    DELETE FROM provider_events e
     WHERE e.org_id = %(org_id)s AND e.id = ANY (ARRAY(
           SELECT o.id FROM provider_events o
            WHERE o.org_id = %(org_id)s AND o.id < %(before)s
            ORDER BY o.id LIMIT %(limit)s))
"""
