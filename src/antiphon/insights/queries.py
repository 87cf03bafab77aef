"""What the ledger's counts say of several campaigns together."""

from __future__ import annotations

from uuid import UUID

import msgspec

from antiphon.campaigns.queries import Filter
from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.messages.funnel import Count


async def count_campaigns(conn: Connection, org_id: UUID, wanted: Filter) -> int:
    """How many campaigns the filter means."""
    return await db.value(conn, COUNT_CAMPAIGNS, org_id=org_id, **msgspec.structs.asdict(wanted))


COUNT_CAMPAIGNS = """
    SELECT count(*) FROM campaigns c
     WHERE c.org_id = %(org_id)s AND c.deleted_at IS NULL
       AND (%(kind)s::text IS NULL OR c.kind = %(kind)s)
       AND (%(status)s::text IS NULL OR c.status = %(status)s)
       AND (%(tag)s::text IS NULL OR c.tag = %(tag)s OR %(tag)s = ANY (c.tags))
       AND (%(stage)s::text IS NULL OR c.follow_up_stage = %(stage)s)
       AND (%(channel)s::text IS NULL OR c.channel = %(channel)s)
       AND (%(sender_id)s::uuid IS NULL OR c.sender_id = %(sender_id)s)
       AND (%(since)s::timestamptz IS NULL OR coalesce(c.launched_at, c.scheduled_for, c.created_at) >= %(since)s)
       AND (%(until)s::timestamptz IS NULL OR coalesce(c.launched_at, c.scheduled_for, c.created_at) < %(until)s)
"""


async def counts(conn: Connection, org_id: UUID, wanted: Filter) -> list[Count]:
    """How many messages of these campaigns stand at each stage, for each reason: folded counts and what is not yet."""
    found = await db.tuples(conn, COUNTS, org_id=org_id, **msgspec.structs.asdict(wanted))
    return [Count(*row) for row in found]


COUNTS = """
    WITH meant AS MATERIALIZED (
        SELECT c.id FROM campaigns c
         WHERE c.org_id = %(org_id)s AND c.deleted_at IS NULL
           AND (%(kind)s::text IS NULL OR c.kind = %(kind)s)
           AND (%(status)s::text IS NULL OR c.status = %(status)s)
           AND (%(tag)s::text IS NULL OR c.tag = %(tag)s OR %(tag)s = ANY (c.tags))
           AND (%(stage)s::text IS NULL OR c.follow_up_stage = %(stage)s)
           AND (%(channel)s::text IS NULL OR c.channel = %(channel)s)
           AND (%(sender_id)s::uuid IS NULL OR c.sender_id = %(sender_id)s)
           AND (%(since)s::timestamptz IS NULL OR coalesce(c.launched_at, c.scheduled_for, c.created_at) >= %(since)s)
           AND (%(until)s::timestamptz IS NULL OR coalesce(c.launched_at, c.scheduled_for, c.created_at) < %(until)s)
    )
    SELECT n.stage, n.reason, sum(n.n)::bigint
      FROM (SELECT f.stage, f.reason, f.n FROM meant
              JOIN funnel_counts f ON f.org_id = %(org_id)s AND f.campaign_id = meant.id
             UNION ALL
            SELECT d.stage, d.reason, d.n FROM meant
              JOIN funnel_deltas d ON d.org_id = %(org_id)s AND d.campaign_id = meant.id) n
     GROUP BY n.stage, n.reason
    HAVING sum(n.n) <> 0
     ORDER BY n.stage, n.reason
"""
