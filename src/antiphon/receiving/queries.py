"""All SQL of receiving: webhooks as they came."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.receiving.model import Kept


async def keep(conn: Connection, org_id: UUID, kept: Sequence[Kept]) -> None:
    """Store webhooks as they came, with what became of them."""
    await db.execute(
        conn,
        KEEP,
        org_id=org_id,
        ids=[k.id for k in kept],
        accounts=[k.account_id for k in kept],
        headers=db.json_texts([k.headers for k in kept]),
        bodies=[k.body for k in kept],
        receipts=[k.receipts for k in kept],
        inbound=[k.inbound for k in kept],
        unreadable=[k.unreadable for k in kept],
        unmatched=[k.unmatched for k in kept],
        parked=[k.parked for k in kept],
        notes=[k.note for k in kept],
    )


KEEP = """
    INSERT INTO provider_events (org_id, id, account_id, headers, body, receipts, inbound, unreadable, unmatched,
                                 parked, note)
    SELECT %(org_id)s, k.id, k.account_id, k.headers::jsonb, k.body, k.receipts, k.inbound, k.unreadable, k.unmatched,
           k.parked, k.note
      FROM unnest(%(ids)s::uuid[], %(accounts)s::uuid[], %(headers)s::text[], %(bodies)s::bytea[], %(receipts)s::int[],
                  %(inbound)s::int[], %(unreadable)s::int[], %(unmatched)s::int[], %(parked)s::int[], %(notes)s::text[])
           AS k (id, account_id, headers, body, receipts, inbound, unreadable, unmatched, parked, note)
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
