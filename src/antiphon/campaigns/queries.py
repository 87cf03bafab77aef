"""All SQL of campaigns but the lists of their recipients' results (`results.py`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import msgspec
from msgspec import Struct

from antiphon.campaigns.model import Campaign, Kind, Status
from antiphon.core import db
from antiphon.core.channel import ADDRESS_KIND
from antiphon.core.db import Connection

COLUMNS: LiteralString = """
    SELECT c.id, c.kind, c.name, c.tag, c.follow_up_stage, c.category, c.priority, c.purpose, c.status, c.status_reason,
           c.channel, c.sender_id, c.template_id, c.template_version_id, c.audience, c.variables, c.rate,
           c.scheduled_for, c.latest_start, c.launched_at, c.completed_at, c.canceled_at, c.planned, c.is_expanded,
           c.source_campaign_id, c.source_stage, c.tags, c.expected_revenue, c.conversion_goal, c.created_by,
           c.created_at, c.updated_at
      FROM campaigns c
     WHERE c.org_id = %(org_id)s AND c.deleted_at IS NULL
"""


async def get(conn: Connection, org_id: UUID, campaign_id: UUID, kind: Kind | None = None) -> Campaign:
    """A campaign, of that kind if one is named. Raises NotFound."""
    return await db.one(conn, Campaign, GET, org_id=org_id, id=campaign_id, kind=kind)


GET: LiteralString = COLUMNS + " AND c.id = %(id)s AND (%(kind)s::text IS NULL OR c.kind = %(kind)s)"


async def lock(conn: Connection, org_id: UUID, campaign_id: UUID) -> Campaign:
    """A campaign that this transaction alone may change; waits for no page of its expansion. Raises NotFound."""
    return await db.one(conn, Campaign, LOCK, org_id=org_id, id=campaign_id)


LOCK: LiteralString = COLUMNS + " AND c.id = %(id)s FOR NO KEY UPDATE"


async def lock_against_expansion(conn: Connection, org_id: UUID, campaign_id: UUID) -> Campaign:
    """`lock` that also waits for the page being written, and holds back the next one. Raises NotFound."""
    return await db.one(conn, Campaign, LOCK_AGAINST_EXPANSION, org_id=org_id, id=campaign_id)


LOCK_AGAINST_EXPANSION: LiteralString = COLUMNS + " AND c.id = %(id)s FOR UPDATE"


async def hold(conn: Connection, org_id: UUID, campaign_id: UUID) -> Campaign:
    """A campaign that may be paused meanwhile, but not canceled. Raises NotFound."""
    return await db.one(conn, Campaign, HOLD, org_id=org_id, id=campaign_id)


HOLD: LiteralString = COLUMNS + " AND c.id = %(id)s FOR KEY SHARE"


async def lock_running(conn: Connection, org_id: UUID, campaign_ids: list[UUID]) -> list[Campaign]:
    """Those of these that are active or paused, locked in id order; as they are once the lock is held."""
    return await db.rows(conn, Campaign, LOCK_RUNNING, org_id=org_id, ids=campaign_ids)


LOCK_RUNNING: LiteralString = (
    COLUMNS
    + """
       AND c.id = ANY (%(ids)s::uuid[]) AND c.status IN ('active', 'paused')
     ORDER BY c.id
       FOR NO KEY UPDATE
"""
)


class Filter(Struct, frozen=True, kw_only=True):
    """What a list is narrowed to; None is everything. `since` is included, `until` is not; both mean the time of the
    launch, or the planned one, or when it was made."""

    kind: Kind | None = None
    status: Status | None = None
    tag: str | None = None
    stage: str | None = None
    channel: str | None = None
    sender_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


async def page(
    conn: Connection, org_id: UUID, wanted: Filter, before: UUID | None, limit: int
) -> list[Campaign]:
    """Campaigns below the key `before`, the newest first."""
    return await db.rows(
        conn, Campaign, LIST, org_id=org_id, before=before, limit=limit, **msgspec.structs.asdict(wanted)
    )


LIST: LiteralString = (
    COLUMNS
    + """
       AND (%(before)s::uuid IS NULL OR c.id < %(before)s)
       AND (%(kind)s::text IS NULL OR c.kind = %(kind)s)
       AND (%(status)s::text IS NULL OR c.status = %(status)s)
       AND (%(tag)s::text IS NULL OR c.tag = %(tag)s OR %(tag)s = ANY (c.tags))
       AND (%(stage)s::text IS NULL OR c.follow_up_stage = %(stage)s)
       AND (%(channel)s::text IS NULL OR c.channel = %(channel)s)
       AND (%(sender_id)s::uuid IS NULL OR c.sender_id = %(sender_id)s)
       AND (%(since)s::timestamptz IS NULL OR coalesce(c.launched_at, c.scheduled_for, c.created_at) >= %(since)s)
       AND (%(until)s::timestamptz IS NULL OR coalesce(c.launched_at, c.scheduled_for, c.created_at) < %(until)s)
     ORDER BY c.id DESC
     LIMIT %(limit)s
"""
)


async def add(conn: Connection, org_id: UUID, campaign: Campaign) -> None:
    """Store a new campaign."""
    await db.execute(conn, ADD, org_id=org_id, **_columns(campaign))


ADD = """
    INSERT INTO campaigns (org_id, id, kind, name, tag, follow_up_stage, category, priority, purpose, status,
                           status_reason, channel, sender_id, template_id, template_version_id, audience, variables,
                           rate, scheduled_for, latest_start, source_campaign_id, source_stage, tags, expected_revenue,
                           conversion_goal, created_by, created_at, updated_at)
    VALUES (%(org_id)s, %(id)s, %(kind)s, %(name)s, %(tag)s, %(follow_up_stage)s, %(category)s, %(priority)s,
            %(purpose)s, %(status)s, %(status_reason)s, %(channel)s, %(sender_id)s, %(template_id)s,
            %(template_version_id)s, %(audience)s, %(variables)s, %(rate)s, %(scheduled_for)s, %(latest_start)s,
            %(source_campaign_id)s, %(source_stage)s, %(tags)s, %(expected_revenue)s, %(conversion_goal)s,
            %(created_by)s, %(created_at)s, %(updated_at)s)
"""


async def save(conn: Connection, org_id: UUID, campaign: Campaign) -> None:
    """Store what a draft says, and where it stands."""
    await db.execute(conn, SAVE, org_id=org_id, **_columns(campaign))


SAVE = """
    UPDATE campaigns
       SET name = %(name)s, tag = %(tag)s, follow_up_stage = %(follow_up_stage)s, category = %(category)s,
           priority = %(priority)s, purpose = %(purpose)s, channel = %(channel)s, sender_id = %(sender_id)s,
           template_id = %(template_id)s, template_version_id = %(template_version_id)s, audience = %(audience)s,
           variables = %(variables)s, rate = %(rate)s, tags = %(tags)s, expected_revenue = %(expected_revenue)s,
           conversion_goal = %(conversion_goal)s, updated_at = %(updated_at)s
     WHERE org_id = %(org_id)s AND id = %(id)s
"""


async def save_status(conn: Connection, org_id: UUID, campaign: Campaign) -> None:
    """Store where a campaign stands."""
    await db.execute(conn, SAVE_STATUS, org_id=org_id, **_columns(campaign))


SAVE_STATUS = """
    UPDATE campaigns
       SET status = %(status)s, status_reason = %(status_reason)s, scheduled_for = %(scheduled_for)s,
           latest_start = %(latest_start)s, launched_at = %(launched_at)s, completed_at = %(completed_at)s,
           canceled_at = %(canceled_at)s, planned = %(planned)s, updated_at = %(updated_at)s
     WHERE org_id = %(org_id)s AND id = %(id)s
"""


def _columns(campaign: Campaign) -> dict[str, Any]:
    columns = msgspec.structs.asdict(campaign)
    columns["audience"] = db.json(campaign.audience)
    columns["variables"] = db.json(campaign.variables)
    return columns


async def delete(conn: Connection, org_id: UUID, campaign_id: UUID) -> None:
    """Put a campaign out of sight; its messages stay."""
    await db.execute(conn, DELETE, org_id=org_id, id=campaign_id)


DELETE = "UPDATE campaigns SET deleted_at = now() WHERE org_id = %(org_id)s AND id = %(id)s"


async def note_parts(conn: Connection, org_id: UUID, campaign_id: UUID, parts: int) -> None:
    """How many jobs bring the audience into the ledger."""
    await db.execute(conn, NOTE_PARTS, org_id=org_id, id=campaign_id, parts=parts)


NOTE_PARTS = "UPDATE campaigns SET parts_left = %(parts)s WHERE org_id = %(org_id)s AND id = %(id)s"


async def end_part(conn: Connection, org_id: UUID, campaign_id: UUID) -> int:
    """One of these jobs has ended; returns how many go on."""
    return await db.value(conn, END_PART, org_id=org_id, id=campaign_id)


END_PART = """
    UPDATE campaigns SET parts_left = parts_left - 1
     WHERE org_id = %(org_id)s AND id = %(id)s
    RETURNING parts_left
"""


async def note_expanded(conn: Connection, org_id: UUID, campaign_id: UUID) -> None:
    """The whole audience is in the ledger."""
    await db.execute(conn, NOTE_EXPANDED, org_id=org_id, id=campaign_id)


NOTE_EXPANDED = "UPDATE campaigns SET is_expanded = true WHERE org_id = %(org_id)s AND id = %(id)s"


async def note_planned(conn: Connection, org_id: UUID, campaign_id: UUID, planned: int) -> None:
    """How many messages there are."""
    await db.execute(conn, NOTE_PLANNED, org_id=org_id, id=campaign_id, planned=planned)


NOTE_PLANNED = "UPDATE campaigns SET planned = %(planned)s WHERE org_id = %(org_id)s AND id = %(id)s"


# ---- before the launch ---------------------------------------------------------------------------


async def judge_audience(
    conn: Connection, org_id: UUID, campaign: Campaign, needs_consent: bool
) -> dict[str, int]:
    """How many people there are for each verdict that enqueue and claim would give now; '' is who may be sent to."""
    found = await db.tuples(
        conn,
        JUDGE_AUDIENCE,
        org_id=org_id,
        campaign_id=campaign.id,
        groups=campaign.audience.groups,
        contacts=campaign.audience.contacts,
        exclude_groups=campaign.audience.exclude_groups,
        exclude_contacts=campaign.audience.exclude_contacts,
        kind=ADDRESS_KIND[campaign.channel],
        channel=campaign.channel,
        is_marketing=campaign.purpose == "marketing",
        needs_consent=needs_consent,
    )
    return {row[0]: row[1] for row in found}


JUDGE_AUDIENCE = """
    WITH everybody AS (
        SELECT m.contact_id FROM group_members m
         WHERE m.org_id = %(org_id)s AND m.group_id = ANY (%(groups)s::uuid[])
         UNION
        SELECT named.id FROM unnest(%(contacts)s::uuid[]) AS named (id)
         UNION
        SELECT r.contact_id FROM campaign_recipients r
         WHERE r.org_id = %(org_id)s AND r.campaign_id = %(campaign_id)s
    ), people AS MATERIALIZED (
        SELECT c.id, c.is_active,
               (SELECT a.value FROM addresses a
                 WHERE a.org_id = %(org_id)s AND a.contact_id = c.id AND a.kind = %(kind)s AND a.deleted_at IS NULL
                 ORDER BY a.is_primary DESC, a.id LIMIT 1) AS address
          FROM everybody e
          JOIN contacts c ON c.org_id = %(org_id)s AND c.id = e.contact_id AND c.deleted_at IS NULL
         WHERE c.id <> ALL (%(exclude_contacts)s::uuid[])
           AND NOT EXISTS (SELECT FROM group_members x
                            WHERE x.org_id = %(org_id)s AND x.contact_id = c.id
                              AND x.group_id = ANY (%(exclude_groups)s::uuid[]))
    )
    SELECT CASE WHEN NOT p.is_active THEN 'inactive'
                WHEN p.address IS NULL THEN 'no_address'
                WHEN s.address IS NOT NULL THEN 'suppressed'
                WHEN %(is_marketing)s::boolean AND NOT coalesce(t.is_given, NOT %(needs_consent)s::boolean)
                THEN 'no_consent'
                ELSE '' END AS verdict, count(*)
      FROM people p
      LEFT JOIN suppressions s ON s.org_id = %(org_id)s AND s.channel = %(channel)s AND s.address = p.address
       AND s.lifted_at IS NULL AND (s.until IS NULL OR s.until > now())
      LEFT JOIN consent_states t ON t.org_id = %(org_id)s AND t.channel = %(channel)s AND t.address = p.address
     GROUP BY 1
"""


async def find_message(
    conn: Connection, org_id: UUID, campaign: Campaign, *, contact_id: UUID | None, address: str | None
) -> UUID | None:
    """A recipient's message of this campaign."""
    return await db.value(
        conn, FIND_MESSAGE, org_id=org_id, campaign_id=campaign.id, contact_id=contact_id, address=address,
        kind=ADDRESS_KIND[campaign.channel],
    )  # fmt: skip


FIND_MESSAGE = """
    SELECT k.message_id FROM message_keys k
     WHERE k.org_id = %(org_id)s AND k.cause_id = %(campaign_id)s
       AND k.subject_id = ANY (ARRAY(
           SELECT %(contact_id)s::uuid WHERE %(contact_id)s::uuid IS NOT NULL
            UNION ALL
           SELECT a.contact_id FROM addresses a
            WHERE a.org_id = %(org_id)s AND a.kind = %(kind)s AND a.value = %(address)s AND a.deleted_at IS NULL))
     LIMIT 1
"""
