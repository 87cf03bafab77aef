"""The ledger's invariants, looked at from outside: what must hold after any crash, and what to do where it does not.

Each check is one statement (so it sees one instant) that returns what contradicts it, at most `MOST` of them. Nothing
is repaired here: a contradiction is a defect or a damaged database, and a person decides.
"""

from __future__ import annotations

from typing import LiteralString
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.db import Connection

MOST = 1_000
"""More of one kind are not counted."""
EXAMPLES = 5


class Finding(msgspec.Struct, frozen=True):
    """An invariant that does not hold: how often (at most `MOST`), a few cases, and what to do."""

    invariant: str
    count: int
    examples: list[str]
    remedy: str


class Check(msgspec.Struct, frozen=True):
    """One invariant: its statement returns a text for each contradiction."""

    invariant: str
    sql: LiteralString
    remedy: str


async def examine(conn: Connection, org_id: UUID) -> list[Finding]:
    """Every invariant of an organization's ledger that does not hold; an empty list is a healthy ledger."""
    findings: list[Finding] = []
    for check in CHECKS:
        found = [row[0] for row in await db.tuples(conn, check.sql, org_id=org_id, most=MOST)]
        if found:
            findings.append(Finding(check.invariant, len(found), found[:EXAMPLES], check.remedy))
    return findings


# `planned` belongs to a floor above; the doctor compares, it decides nothing.
PLANNED = """
    SELECT 'campaign ' || c.id || ': planned ' || c.planned || ', messages ' || m.n || ', keys ' || k.n
      FROM campaigns c
     CROSS JOIN LATERAL (SELECT count(*) AS n FROM messages x
                          WHERE x.org_id = %(org_id)s AND x.campaign_id = c.id AND x.direction = 'out') m
     CROSS JOIN LATERAL (SELECT count(*) AS n FROM message_keys x
                          WHERE x.org_id = %(org_id)s AND x.cause_id = c.id) k
     WHERE c.org_id = %(org_id)s AND (m.n <> k.n OR (c.is_expanded AND c.planned <> m.n))
     LIMIT %(most)s
"""

UNDER_WAY = """
    SELECT c.kind || ' ' || c.id || ': ' || c.status || ', but no job brings its audience into the ledger'
      FROM campaigns c
     WHERE c.org_id = %(org_id)s AND c.deleted_at IS NULL AND c.status IN ('scheduled', 'active') AND NOT c.is_expanded
       AND NOT EXISTS (SELECT FROM jobs j
                        WHERE j.org_id = %(org_id)s AND j.kind IN ('expand_audience', 'expand_upper_half')
                          AND j.status IN ('waiting', 'running') AND j.payload ->> 'campaign_id' = c.id::text)
     LIMIT %(most)s
"""

EVIDENCE = """
    SELECT m.id || ': ' || m.status || ', but no attempt was accepted and nobody told so'
      FROM messages m
     WHERE m.org_id = %(org_id)s AND m.direction = 'out' AND m.origin <> 'logged'
       AND m.status IN ('sent', 'delivered', 'read')
       AND NOT EXISTS (SELECT FROM attempts a WHERE a.org_id = %(org_id)s AND a.message_id = m.id
                          AND a.outcome = 'accepted')
       AND NOT EXISTS (SELECT FROM message_events e WHERE e.org_id = %(org_id)s AND e.message_id = m.id
                          AND e.source <> 'dispatch')
    UNION ALL
    SELECT a.message_id || ': attempt ' || a.attempt_no || ' was accepted, but the message says ' || m.status
      FROM attempts a JOIN messages m ON m.org_id = a.org_id AND m.id = a.message_id
     WHERE a.org_id = %(org_id)s AND a.outcome = 'accepted' AND m.sent_at IS NULL
     LIMIT %(most)s
"""

ONCE = """
    SELECT a.message_id || ': accepted ' || count(*) || ' times'
      FROM attempts a
     WHERE a.org_id = %(org_id)s AND a.outcome = 'accepted' AND a.attempt_no > 0
     GROUP BY a.message_id
    HAVING count(DISTINCT coalesce(a.provider_message_id, a.attempt_no::text)) > 1
       AND NOT EXISTS (SELECT FROM message_events e WHERE e.org_id = %(org_id)s AND e.message_id = a.message_id
                          AND e.kind IN ('doubled', 'resent'))
     LIMIT %(most)s
"""

NAMES = """
    SELECT p.provider_message_id || ' names ' || p.message_id || ', which was neither sent under it nor received'
      FROM provider_ids p
     WHERE p.org_id = %(org_id)s
       AND NOT EXISTS (SELECT FROM attempts a WHERE a.org_id = %(org_id)s AND a.message_id = p.message_id
                          AND a.attempt_no = p.attempt_no AND a.outcome = 'accepted')
       AND NOT EXISTS (SELECT FROM messages m WHERE m.org_id = %(org_id)s AND m.id = p.message_id
                          AND (m.direction = 'in' OR m.origin = 'logged'))
     LIMIT %(most)s
"""

STATUSES = """
    SELECT m.id || ': ' || m.status || '/' || m.stage || ', but its facts prove ' || proven.status || '/'
           || proven.stage
      FROM messages m
     CROSS JOIN LATERAL (
           SELECT CASE WHEN m.read_at IS NOT NULL THEN 'read' WHEN m.delivered_at IS NOT NULL THEN 'delivered'
                       WHEN m.bounced_at IS NOT NULL THEN 'bounced' WHEN m.failed_at IS NOT NULL THEN 'failed'
                       WHEN m.sent_at IS NOT NULL THEN 'sent' ELSE m.status END AS status) by_fact
     CROSS JOIN LATERAL (
           SELECT by_fact.status,
                  CASE WHEN by_fact.status NOT IN ('sent', 'delivered', 'read') THEN by_fact.status
                       WHEN m.closed_at IS NOT NULL THEN 'closed' WHEN m.replied_at IS NOT NULL THEN 'replied'
                       WHEN m.clicked_at IS NOT NULL THEN 'clicked' WHEN m.read_at IS NOT NULL THEN 'read'
                       WHEN m.delivered_at IS NOT NULL THEN 'delivered' WHEN m.sent_at IS NOT NULL THEN 'sent'
                       ELSE by_fact.status END AS stage) proven
     WHERE m.org_id = %(org_id)s AND m.direction = 'out' AND (m.status <> proven.status OR m.stage <> proven.stage)
    UNION ALL
    SELECT e.message_id || ': fell from ' || e.old_status || ' to ' || e.new_status || ' (' || e.key || ')'
      FROM message_events e
     WHERE e.org_id = %(org_id)s
       AND CASE e.old_status WHEN 'read' THEN e.new_status <> 'read'
                             WHEN 'delivered' THEN e.new_status NOT IN ('delivered', 'read')
                             WHEN 'bounced' THEN e.new_status NOT IN ('bounced', 'delivered', 'read')
                             WHEN 'sent' THEN e.new_status IN ('scheduled', 'unknown', 'skipped', 'canceled')
                             WHEN 'failed' THEN e.new_status IN ('unknown', 'skipped', 'canceled')
                                                OR (e.new_status = 'scheduled' AND e.kind <> 'resent')
                             ELSE false END
     LIMIT %(most)s
"""

FUNNEL = """
    WITH kept AS (
        SELECT campaign_id, sender_id, channel, day, stage, reason, sum(n) AS n
          FROM (SELECT campaign_id, sender_id, channel, day, stage, reason, n FROM funnel_counts
                 WHERE org_id = %(org_id)s
                UNION ALL
                SELECT campaign_id, sender_id, channel, day, stage, reason, n FROM funnel_deltas
                 WHERE org_id = %(org_id)s) both_of
         GROUP BY campaign_id, sender_id, channel, day, stage, reason
    ), recount AS (
        SELECT coalesce(campaign_id, '00000000-0000-0000-0000-000000000000') AS campaign_id,
               coalesce(sender_id, '00000000-0000-0000-0000-000000000000') AS sender_id,
               channel, day, stage, reason, count(*) AS n
          FROM messages WHERE org_id = %(org_id)s AND direction = 'out'
         GROUP BY 1, 2, 3, 4, 5, 6
    )
    SELECT 'campaign ' || campaign_id || ', sender ' || sender_id || ', ' || day || ', ' || stage || ' ' || reason
           || ': counted ' || coalesce(kept.n, 0) || ', there are ' || coalesce(recount.n, 0)
      FROM kept FULL JOIN recount USING (campaign_id, sender_id, channel, day, stage, reason)
     WHERE coalesce(kept.n, 0) <> coalesce(recount.n, 0)
     LIMIT %(most)s
"""

LINKS = """
    SELECT 'message ' || m.id || ' names the contact ' || m.contact_id
      FROM messages m
     WHERE m.org_id = %(org_id)s AND m.contact_id IS NOT NULL
       AND NOT EXISTS (SELECT FROM contacts c WHERE c.org_id = %(org_id)s AND c.id = m.contact_id)
    UNION ALL
    SELECT 'message ' || m.id || ' names the sender ' || m.sender_id
      FROM messages m
     WHERE m.org_id = %(org_id)s AND m.sender_id IS NOT NULL
       AND NOT EXISTS (SELECT FROM lanes l WHERE l.org_id = %(org_id)s AND l.id = m.sender_id)
    UNION ALL
    SELECT 'message ' || m.id || ' names the template version ' || m.template_version_id
      FROM messages m
     WHERE m.org_id = %(org_id)s AND m.template_version_id IS NOT NULL
       AND NOT EXISTS (SELECT FROM template_versions v WHERE v.org_id = %(org_id)s AND v.id = m.template_version_id)
    UNION ALL
    SELECT 'the queue row of ' || o.message_id || ' names the gate ' || o.gate_id
      FROM outbox o
     WHERE o.org_id = %(org_id)s AND o.state < 3
       AND NOT EXISTS (SELECT FROM gates g WHERE g.org_id = %(org_id)s AND g.id = o.gate_id AND g.lane_id = o.lane_id)
    UNION ALL
    SELECT 'attempt ' || a.attempt_no || ' names the message ' || a.message_id
      FROM attempts a
     WHERE a.org_id = %(org_id)s
       AND NOT EXISTS (SELECT FROM messages m WHERE m.org_id = %(org_id)s AND m.id = a.message_id)
    UNION ALL
    SELECT 'the key of ' || k.cause_id || ' and ' || k.subject_id || ' names the message ' || k.message_id
      FROM message_keys k
     WHERE k.org_id = %(org_id)s
       AND NOT EXISTS (SELECT FROM messages m WHERE m.org_id = %(org_id)s AND m.id = k.message_id)
     LIMIT %(most)s
"""

# The claim's time is the beginning of its transaction, the opt-out's too: five seconds cover both.
FORBIDDEN = """
    SELECT a.message_id || ': attempt ' || a.attempt_no || ' at ' || a.claimed_at || ', but ' || s.address
           || ' was suppressed (' || s.reason || ') at ' || s.at
      FROM suppressions s
      JOIN messages m ON m.org_id = s.org_id AND m.channel = s.channel AND m.address = s.address
      JOIN attempts a ON a.org_id = m.org_id AND a.message_id = m.id
     WHERE s.org_id = %(org_id)s AND s.lifted_at IS NULL AND m.direction = 'out'
       AND a.claimed_at > s.at + interval '5 seconds' AND (s.until IS NULL OR a.claimed_at < s.until)
     LIMIT %(most)s
"""

QUEUE = """
    SELECT m.id || ': ' || m.status || ', but it is not in the queue'
      FROM messages m
     WHERE m.org_id = %(org_id)s AND m.direction = 'out' AND m.status IN ('scheduled', 'unknown')
       AND NOT EXISTS (SELECT FROM outbox o WHERE o.org_id = %(org_id)s AND o.message_id = m.id)
    UNION ALL
    SELECT o.message_id || ': in the queue with state ' || o.state || ', but the message '
           || coalesce('is ' || m.status || ' ' || m.reason, 'does not exist')
      FROM outbox o LEFT JOIN messages m ON m.org_id = %(org_id)s AND m.id = o.message_id
     WHERE o.org_id = %(org_id)s
       AND CASE o.state WHEN 0 THEN m.status IS DISTINCT FROM 'scheduled'
                        WHEN 1 THEN m.id IS NULL OR (m.status <> 'scheduled' AND o.due_at < now() - interval '1 minute')
                        WHEN 2 THEN m.status IS DISTINCT FROM 'unknown'
                        ELSE m.status IS DISTINCT FROM 'unknown' OR m.reason IS DISTINCT FROM 'held' END
    UNION ALL
    SELECT o.message_id || ': open in the queue, but its attempt ' || o.attempt_no || ' is '
           || coalesce(a.outcome, 'not there')
      FROM outbox o LEFT JOIN attempts a ON a.org_id = %(org_id)s AND a.message_id = o.message_id
                                        AND a.attempt_no = o.attempt_no
     WHERE o.org_id = %(org_id)s AND o.state = 1 AND (a.message_id IS NULL OR a.outcome IS NOT NULL)
     LIMIT %(most)s
"""

# A wake is a hint and may be lost; the sweep comes every 30 seconds. What is overdue for longer is slept over.
LOOKED_AT = """
    SELECT 'sender ' || l.id || ': a message is due since ' || due.at || ', and '
           || CASE WHEN l.next_due_at > due.at AND l.next_due_at > now() THEN 'its lane sleeps until ' || l.next_due_at
                   ELSE 'no worker has looked' END
      FROM lanes l CROSS JOIN LATERAL (
           SELECT min(first.at) AS at FROM (
                SELECT (SELECT o.due_at FROM outbox o
                         WHERE o.org_id = %(org_id)s AND o.lane_id = l.id AND o.gate_id = g.id AND o.state = 0
                         ORDER BY o.due_at LIMIT 1) AS at
                  FROM gates g
                 WHERE g.org_id = %(org_id)s AND g.lane_id = l.id AND g.is_open AND l.paused_reason IS NULL
                   AND (g.valid_until IS NULL OR g.valid_until > now())
                UNION ALL
                SELECT (SELECT o.due_at FROM outbox o
                         WHERE o.org_id = %(org_id)s AND o.lane_id = l.id AND o.state IN (1, 2)
                         ORDER BY o.due_at LIMIT 1)) first) due
     WHERE l.org_id = %(org_id)s AND l.lease_until < now() - interval '1 minute'
       AND greatest(due.at, l.blocked_until) < now() - interval '1 minute'
       AND NOT coalesce(l.day_count >= l.daily_cap AND l.day = (now() AT TIME ZONE 'UTC')::date, false)
     LIMIT %(most)s
"""

MONTHS = """
    SELECT parts.name || ': ' || parts.id || ' is in no month''s partition'
      FROM (SELECT tableoid::regclass::text AS name, id FROM messages WHERE org_id = %(org_id)s
            UNION ALL
            SELECT tableoid::regclass::text, message_id FROM message_contents WHERE org_id = %(org_id)s
            UNION ALL
            SELECT tableoid::regclass::text, message_id FROM attempts WHERE org_id = %(org_id)s
            UNION ALL
            SELECT tableoid::regclass::text, message_id FROM message_events WHERE org_id = %(org_id)s) parts
     WHERE parts.name LIKE '%%\\_other'
     LIMIT %(most)s
"""

REPORT = "report this: it is a defect; `antiphon message explain ID` tells what is known of a message"

CHECKS: tuple[Check, ...] = (
    Check("I1 a campaign's plan, its messages and their keys are as many", PLANNED, REPORT),
    Check("I2 what is sent was accepted, and what was accepted is sent", EVIDENCE, REPORT),
    Check("I3 no message is accepted twice unless somebody was told", ONCE, REPORT),
    Check("I4 a provider's name belongs to an attempt or to a received message", NAMES, REPORT),
    Check("I5 a status is what the facts prove, and history never falls", STATUSES, REPORT),
    Check("I6 the funnel's counts equal a recount of the ledger", FUNNEL,
          "the ledger is right, the counts are not: report this, and trust lists more than funnels until then"),
    Check("I7 what is referred to exists in this organization", LINKS,
          "something was deleted by hand, or restored in part: restore it from the same backup"),
    Check("I8 nothing was claimed for an address after its suppression", FORBIDDEN, REPORT),
    Check("I9 the queue holds what is unfinished, and nothing else", QUEUE, REPORT),
    Check("I10 a lane with something due is looked at", LOOKED_AT,
          "start a worker (`antiphon work`, or `antiphon up`); with one running for a minute, report this"),
    Check("I11 every row is in its month's partition", MONTHS,
          "a clock was months wrong, or no worker has run for months: start one, it makes the partitions"),
    Check("I12 the audience of what is scheduled or active comes into the ledger", UNDER_WAY,
          "pause it and resume it, or take it back and schedule it again; then report this"),
)  # fmt: skip
