"""The funnel's numbers: differences appended by every statement that moves messages, folded once a second, read as
counts + differences. So a funnel of a million costs a few rows, and is exact at every instant.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.messages.model import FUNNEL_STAGES, is_settled


class Count(msgspec.Struct, frozen=True):
    """How many messages stand at a stage, for a reason where the stage has one."""

    stage: str
    reason: str
    n: int


class Why(msgspec.Struct, frozen=True):
    """How many, for which reason."""

    reason: str
    count: int


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """A funnel stage: how many reached it (all who went further included), and how many are stuck at it."""

    stage: str
    reached: int
    share: float
    stuck: int


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a campaign's recipients. `share` is of recipients, from 0 to 1."""

    recipients: int
    scheduled: int
    stages: list[Rung]
    failed: int
    bounced: int
    skipped: int
    canceled: int
    unknown: int
    held: int
    settled: int
    reasons: dict[str, list[Why]]


def funnel_of(counts: list[Count]) -> Funnel:
    """A funnel from the counts of each stage. Pure."""
    at: dict[str, int] = {}
    reasons: dict[str, list[Why]] = {}
    for c in counts:
        at[c.stage] = at.get(c.stage, 0) + c.n
        if c.reason and c.n > 0:
            reasons.setdefault(c.stage, []).append(Why(c.reason, c.n))
    recipients = sum(at.values())
    reached = 0
    rungs: list[Rung] = []
    for stage in reversed(FUNNEL_STAGES):
        stuck = at.get(stage, 0)
        reached += stuck
        rungs.append(
            Rung(stage=stage, reached=reached, share=reached / recipients if recipients else 0.0, stuck=stuck)
        )
    held = sum(c.n for c in counts if c.stage == "unknown" and c.reason == "held")
    return Funnel(
        recipients=recipients, scheduled=at.get("scheduled", 0), stages=rungs[::-1], failed=at.get("failed", 0),
        bounced=at.get("bounced", 0), skipped=at.get("skipped", 0), canceled=at.get("canceled", 0),
        unknown=at.get("unknown", 0), held=held,
        settled=sum(c.n for c in counts if is_settled(c.stage, c.reason)),
        reasons={stage: sorted(whys, key=lambda w: -w.count) for stage, whys in reasons.items()},
    )  # fmt: skip


async def read(conn: Connection, org_id: UUID, campaign_id: UUID) -> list[Count]:
    """A campaign's counts at this instant: what is folded, and what is not yet."""
    found = await db.tuples(conn, READ, org_id=org_id, campaign_id=campaign_id)
    return [Count(*row) for row in found]


READ = """
    SELECT stage, reason, sum(n)::bigint
      FROM (SELECT stage, reason, n FROM funnel_counts WHERE org_id = %(org_id)s AND campaign_id = %(campaign_id)s
            UNION ALL
            SELECT stage, reason, n FROM funnel_deltas WHERE org_id = %(org_id)s AND campaign_id = %(campaign_id)s) n
     GROUP BY stage, reason
    HAVING sum(n) <> 0
     ORDER BY stage, reason
"""


async def organizations_to_fold(conn: Connection) -> list[UUID]:
    """Whose differences wait."""
    return [row[0] for row in await db.tuples(conn, TO_FOLD)]


TO_FOLD = """
    WITH RECURSIVE waiting AS (  -- any organization: the worker looks for counts that wait to be folded
        (SELECT org_id FROM funnel_deltas ORDER BY org_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.org_id FROM funnel_deltas d WHERE d.org_id > w.org_id ORDER BY d.org_id LIMIT 1)
          FROM waiting w WHERE w.org_id IS NOT NULL
    )
    SELECT org_id FROM waiting WHERE org_id IS NOT NULL
"""


async def fold(conn: Connection, org_id: UUID, most: int = 20_000) -> list[UUID]:
    """Add the waiting differences to the counts; returns the campaigns whose counts moved. Two folds at once are
    safe: each takes rows that the other does not."""
    return [row[0] for row in await db.tuples(conn, FOLD, org_id=org_id, most=most)]


FOLD = """
WITH taken AS (
    DELETE FROM funnel_deltas d
     WHERE d.org_id = %(org_id)s AND d.id IN (
           SELECT x.id FROM funnel_deltas x WHERE x.org_id = %(org_id)s ORDER BY x.id LIMIT %(most)s
              FOR UPDATE SKIP LOCKED)
    RETURNING d.campaign_id, d.sender_id, d.channel, d.day, d.stage, d.reason, d.n
), added AS (
    INSERT INTO funnel_counts AS c (org_id, campaign_id, sender_id, channel, day, stage, reason, n)
    SELECT %(org_id)s, campaign_id, sender_id, channel, day, stage, reason, sum(n)
      FROM taken
     GROUP BY campaign_id, sender_id, channel, day, stage, reason
     ORDER BY campaign_id, sender_id, channel, day, stage, reason
        ON CONFLICT (org_id, campaign_id, sender_id, channel, day, stage, reason) DO UPDATE SET n = c.n + excluded.n
)
SELECT DISTINCT campaign_id FROM taken WHERE campaign_id <> '00000000-0000-0000-0000-000000000000'
"""
