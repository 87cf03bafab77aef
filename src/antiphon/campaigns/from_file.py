"""People of a file that is being imported, on a campaign's own list, each with what their line says."""

from __future__ import annotations

from uuid import UUID

from antiphon.core import db
from antiphon.core.db import Connection


async def add_lines(conn: Connection, org_id: UUID, campaign_id: UUID) -> int:
    """Put everybody on the list whom a batch of an import has stored in this transaction; returns how many are new.

    Their line's other columns are their variables, and its column `text` is the whole text for them.
    """
    return await db.execute(conn, ADD_LINES, org_id=org_id, campaign_id=campaign_id)


ADD_LINES = """
    INSERT INTO campaign_recipients (org_id, campaign_id, contact_id, variables, text)
    SELECT %(org_id)s, %(campaign_id)s, coalesce(r.contact_id, r.new_id), coalesce(r.extra, '{}'), r.own_text
      FROM import_rows r
     ORDER BY r.line
        ON CONFLICT DO NOTHING
"""
