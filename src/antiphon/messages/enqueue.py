"""Writing messages to the ledger and the queue: one statement a page, whatever its size.

Two sources feed the same statement: rows of the caller (`enqueue`), and the audience page that `contacts.audience`
staged in this transaction (`enqueue_page`). A message with a cause (campaign, step) and a subject (contact) is made
once, whatever is repeated: `message_keys` decides, in the same statement.

What can be known now is said now: a recipient without an address, or not active, is in the ledger as `skipped`, with
the reason.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.channel import Channel, Purpose, needs_consent
from antiphon.core.db import Connection
from antiphon.messages import lanes


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be. `lane_id` is the sender's id; `reason` is given when it is already known that it may not go."""

    id: UUID
    channel: Channel
    purpose: Purpose
    origin: str
    caused_by: str
    lane_id: UUID
    gate_id: UUID
    contact_id: UUID
    address: str
    due_at: datetime
    template_version_id: UUID | None = None
    language: str | None = None
    variables: dict[str, Any] | None = None
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    media: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None
    campaign_id: UUID | None = None
    reply_to_id: UUID | None = None
    cause_id: UUID | None = None
    subject_id: UUID | None = None
    is_once: bool = False
    expires_at: datetime | None = None
    reason: str = ""
    needs_consent: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What all messages of an audience page have in common."""

    org_id: UUID
    channel: Channel
    purpose: Purpose
    origin: str
    caused_by: str
    lane_id: UUID
    gate_id: UUID
    campaign_id: UUID
    due_at: datetime
    template_version_id: UUID | None
    expires_at: datetime | None = None
    is_once: bool = False


class Enqueued(msgspec.Struct, frozen=True):
    """How many messages a page made, and how many of these are skipped already."""

    made: int
    skipped: int


async def enqueue(conn: Connection, org_id: UUID, messages: list[NewMessage]) -> list[UUID]:
    """Write messages; returns the ids that are new (the others were made before, by the same cause and subject)."""
    if not messages:
        return []
    made = await db.tuples(conn, ENQUEUE_ROWS, org_id=org_id, messages=db.json(messages))
    for lane_id in {m.lane_id for m in messages}:
        lanes.wake_after_commit(
            conn, org_id, lane_id, min(m.due_at for m in messages if m.lane_id == lane_id)
        )
    return [row[0] for row in made]


async def enqueue_page(conn: Connection, plan: Plan) -> Enqueued:
    """Write one message for each row of the staged audience page that has none yet from this campaign."""
    [(made, skipped)] = await db.tuples(
        conn,
        ENQUEUE_PAGE,
        **msgspec.structs.asdict(plan),
        needs_consent=needs_consent(plan.purpose, plan.channel),
    )
    lanes.wake_after_commit(conn, plan.org_id, plan.lane_id, plan.due_at)
    return Enqueued(made, skipped)


ROWS: LiteralString = """
WITH staged_rows AS MATERIALIZED (
    SELECT r.*
      FROM jsonb_to_recordset(%(messages)s) AS r (
           id uuid, channel text, purpose text, origin text, caused_by text, lane_id uuid, gate_id uuid,
           contact_id uuid, address text, due_at timestamptz, template_version_id uuid, language text,
           variables jsonb, subject text, text text, html text, media jsonb, metadata jsonb, campaign_id uuid,
           reply_to_id uuid, cause_id uuid, subject_id uuid, is_once boolean, expires_at timestamptz, reason text,
           needs_consent boolean)
)"""

PAGE: LiteralString = """
WITH staged_rows AS MATERIALIZED (
    SELECT uuid7() AS id, %(channel)s::text AS channel, %(purpose)s::text AS purpose, %(origin)s::text AS origin,
           %(caused_by)s::text AS caused_by, %(lane_id)s::uuid AS lane_id, %(gate_id)s::uuid AS gate_id,
           p.contact_id, p.address, %(due_at)s::timestamptz AS due_at,
           CASE WHEN p.text IS NULL THEN coalesce(p.template_version_id, %(template_version_id)s::uuid) END
               AS template_version_id,
           p.language, p.variables, NULL::text AS subject, p.text, NULL::text AS html, NULL::jsonb AS media,
           NULL::jsonb AS metadata, %(campaign_id)s::uuid AS campaign_id, NULL::uuid AS reply_to_id,
           %(campaign_id)s::uuid AS cause_id, p.contact_id AS subject_id, %(is_once)s::boolean AS is_once,
           %(expires_at)s::timestamptz AS expires_at,
           CASE WHEN NOT p.is_active THEN 'inactive' WHEN p.address = '' THEN 'no_address' ELSE '' END AS reason,
           %(needs_consent)s::boolean AS needs_consent
      FROM audience_page p
)"""

WRITE: LiteralString = """, keyed AS (
    INSERT INTO message_keys (org_id, cause_id, subject_id, message_id)
    SELECT %(org_id)s, cause_id, subject_id, id FROM staged_rows WHERE cause_id IS NOT NULL
        ON CONFLICT DO NOTHING
    RETURNING message_id
), fresh AS MATERIALIZED (
    SELECT s.* FROM staged_rows s
     WHERE s.cause_id IS NULL OR EXISTS (SELECT FROM keyed k WHERE k.message_id = s.id)
), ledger AS (
    INSERT INTO messages (org_id, id, direction, channel, purpose, origin, caused_by, status, stage, reason,
                          sender_id, contact_id, address, template_version_id, language, variables, campaign_id,
                          reply_to_id, is_once, day, scheduled_for, expires_at, skipped_at)
    SELECT %(org_id)s, id, 'out', channel, purpose, origin, caused_by,
           CASE WHEN reason = '' THEN 'scheduled' ELSE 'skipped' END,
           CASE WHEN reason = '' THEN 'scheduled' ELSE 'skipped' END, reason,
           lane_id, contact_id, address, template_version_id, language, variables, campaign_id,
           reply_to_id, is_once, (now() AT TIME ZONE 'UTC')::date, due_at, expires_at,
           CASE WHEN reason <> '' THEN now() END
      FROM fresh
        ON CONFLICT DO NOTHING
), said AS (
    INSERT INTO message_contents (org_id, message_id, subject, text, html, media, metadata)
    SELECT %(org_id)s, id, subject, text, html, media, metadata
      FROM fresh
     WHERE text IS NOT NULL OR subject IS NOT NULL OR html IS NOT NULL OR media IS NOT NULL OR metadata IS NOT NULL
        ON CONFLICT DO NOTHING
), queued AS (
    INSERT INTO outbox (org_id, message_id, lane_id, gate_id, due_at, order_at, contact_id, channel, address,
                        purpose, needs_consent, is_once, expires_at)
    SELECT %(org_id)s, id, lane_id, gate_id, due_at, due_at, contact_id, channel, address,
           purpose, needs_consent, is_once, expires_at
      FROM fresh
     WHERE reason = ''
        ON CONFLICT DO NOTHING
), counted AS (
    INSERT INTO funnel_deltas (org_id, campaign_id, sender_id, channel, day, stage, reason, n)
    SELECT %(org_id)s, coalesce(campaign_id, '00000000-0000-0000-0000-000000000000'), lane_id, channel,
           (now() AT TIME ZONE 'UTC')::date, CASE WHEN reason = '' THEN 'scheduled' ELSE 'skipped' END, reason, count(*)
      FROM fresh
     GROUP BY campaign_id, lane_id, channel, reason
        ON CONFLICT DO NOTHING
)"""

ENQUEUE_ROWS: LiteralString = ROWS + WRITE + " SELECT id FROM fresh"
ENQUEUE_PAGE: LiteralString = (
    PAGE + WRITE + " SELECT count(*), count(*) FILTER (WHERE reason <> '') FROM fresh"
)
