"""The claim: what leaves now, decided in one statement and committed before anything leaves the machine.

`look` locks the lane's row (so that a take-over and a claim cannot interleave) and says what is due behind each open
gate; `pace.share` divides the room; `CLAIM` takes it. Each condition that may forbid a send is one line of the
statement's CASE with one reason; a new condition is one more line. Closing a gate waits for a claim that shares the
gate's row and stops every later one.

A verdict is '' (send), a reason (skipped, for good), or 'order' (put off: an earlier message to the contact is on its
way). What may have been sent before is not skipped but in doubt, also when the provider has forgotten its key. What may
go gets an attempt row; nothing is called before this has committed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.messages import ledger
from antiphon.messages.lanes import Owned, pace_of
from antiphon.messages.model import Fact
from antiphon.messages.pace import Bucket, GateLoad, share, tokens_now

ORDER_WAIT = timedelta(seconds=2)
"""How long a message is put off that waits for an earlier one to the same contact."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as its owner sees it at the start of a claim. `now` is the database's clock, the only one that decides."""

    now: datetime
    bucket: Bucket
    blocked_until: datetime | None
    paused_reason: str | None
    day_left: int | None
    turn: int
    gates: list[GateLoad]


class Claimed(msgspec.Struct, frozen=True):
    """A message with a committed attempt: all that rendering and sending need.

    `claimed_at` is the instant that it is rendered for: of the first attempt under its key, so that a repetition has
    the same bytes.
    """

    message_id: UUID
    attempt_no: int
    key: str
    channel: str
    purpose: str
    address: str
    retries: int
    resends: int
    is_once: bool
    template_version_id: UUID | None
    language: str | None
    variables: dict[str, Any] | None
    reply_to_id: UUID | None
    subject: str | None
    text: str | None
    html: str | None
    claimed_at: datetime


async def claim(
    conn: Connection,
    lane: Owned,
    worker: UUID,
    *,
    room: int,
    call_timeout: timedelta,
    lease: float,
    replay: timedelta | None,
) -> tuple[View | None, list[Claimed]]:
    """Take at most `room` due messages of the lane; renews the lease. None: the lane is not ours any more."""
    view = await look(conn, lane, worker, room)
    if view is None or view.paused_reason or (view.blocked_until and view.blocked_until > view.now):
        return view, []
    quotas = share(_room(view, room), view.gates, view.now, view.turn)
    if not quotas:
        return view, []
    by_id = {gate.id: gate for gate in view.gates}
    rows = await db.tuples(
        conn, CLAIM,
        org_id=lane.org_id, lane_id=lane.id, epoch=lane.epoch, now=view.now,
        gates=list(quotas), quotas=list(quotas.values()), order_until=view.now + ORDER_WAIT,
        gate_tokens=[tokens_now(g.bucket, view.now) if g.bucket else None for g in map(by_id.__getitem__, quotas)],
        lease_until=view.now + timedelta(seconds=lease),
        give_up_at=view.now + timedelta(seconds=lease + 5) + call_timeout,
        replay_until=view.now + replay * 0.8 if replay else None,
        tokens=tokens_now(view.bucket, view.now),
    )  # fmt: skip
    doubts = [_doubt(row[0], row[1] - 1, row[-1], view.now) for row in rows if row[-1]]
    if doubts:
        await ledger.learn(conn, lane.org_id, doubts)
    return view, [Claimed(*row[:-1]) for row in rows if not row[-1]]


def _doubt(message_id: UUID, attempt_no: int, verdict: str, at: datetime) -> Fact:
    """What may not go, but may have gone before, is not skipped: nobody knows."""
    return Fact(
        message_id=message_id, kind="unknown", key=f"{verdict}:{attempt_no}", at=at, source="dispatch", reason=verdict,
        detail="it may have been sent before, and may not be sent again to find out",
    )  # fmt: skip


def _room(view: View, room: int) -> int:
    room = min(room, int(tokens_now(view.bucket, view.now)))
    return room if view.day_left is None else min(room, view.day_left)


async def look(conn: Connection, lane: Owned, worker: UUID, room: int) -> View | None:
    """Lock the lane and see what is due; None when it is not ours any more."""
    found = await db.tuples(
        conn, LOOK, org_id=lane.org_id, lane_id=lane.id, worker=worker, epoch=lane.epoch, room=room
    )
    if not found:
        return None
    now, rate, burst, tokens, tokens_at, blocked, paused, cap, day_count = found[0][:9]
    gates = [
        GateLoad(
            id=gate, traffic=traffic, priority=priority, due=due,
            bucket=Bucket(g_tokens, g_at, *pace_of(g_rate)) if g_rate else None,
        )
        for gate, traffic, priority, g_rate, g_tokens, g_at, due in (row[9:] for row in found)
        if gate is not None and due
    ]  # fmt: skip
    return View(
        now=now, bucket=Bucket(tokens, tokens_at, rate, burst), blocked_until=blocked, paused_reason=paused,
        day_left=None if cap is None else max(0, cap - day_count), turn=day_count, gates=gates,
    )  # fmt: skip


LOOK = """
    WITH lane AS MATERIALIZED (
        SELECT l.* FROM lanes l
         WHERE l.org_id = %(org_id)s AND l.id = %(lane_id)s AND l.owner = %(worker)s AND l.epoch = %(epoch)s
           AND l.lease_until > now()
           FOR NO KEY UPDATE
    )
    SELECT now(), lane.rate, lane.burst, lane.tokens, lane.tokens_at, lane.blocked_until, lane.paused_reason,
           lane.daily_cap, CASE WHEN lane.day = (now() AT TIME ZONE 'UTC')::date THEN lane.day_count ELSE 0 END,
           g.id, g.class, g.priority, g.rate, g.tokens, g.tokens_at, due.n
      FROM lane LEFT JOIN gates g
        ON g.org_id = %(org_id)s AND g.lane_id = lane.id AND g.is_open
       AND (g.valid_until IS NULL OR g.valid_until > now())
      LEFT JOIN LATERAL (
           SELECT count(*)::int AS n FROM (
               SELECT FROM outbox o
                WHERE o.org_id = %(org_id)s AND o.lane_id = %(lane_id)s AND o.gate_id = g.id
                  AND o.state = 0 AND o.due_at <= now()
                LIMIT %(room)s) counted) due ON true
"""

CLAIM = """
WITH open_gates AS MATERIALIZED (
    SELECT g.id, q.n
      FROM unnest(%(gates)s::uuid[], %(quotas)s::int[]) AS q (gate_id, n)
      JOIN gates g ON g.org_id = %(org_id)s AND g.id = q.gate_id AND g.is_open
       FOR SHARE OF g
), due AS MATERIALIZED (
    SELECT o.*
      FROM open_gates CROSS JOIN LATERAL (
           SELECT x.message_id, x.attempt_no, x.first_try, x.order_at, x.contact_id, x.channel, x.address, x.purpose,
                  x.needs_consent, x.is_once, x.expires_at, x.retries, x.resends, x.gate_id
             FROM outbox x
            WHERE x.org_id = %(org_id)s AND x.lane_id = %(lane_id)s AND x.gate_id = open_gates.id
              AND x.state = 0 AND x.due_at <= %(now)s
            ORDER BY x.due_at
            LIMIT open_gates.n
              FOR UPDATE SKIP LOCKED) o
), judged AS MATERIALIZED (
    SELECT d.*, CASE
           WHEN d.expires_at <= %(now)s THEN 'expired'
           WHEN NOT coalesce((SELECT c.is_active AND c.deleted_at IS NULL FROM contacts c
                               WHERE c.org_id = %(org_id)s AND c.id = d.contact_id), false) THEN 'inactive'
           WHEN EXISTS (SELECT FROM suppressions s
                         WHERE s.org_id = %(org_id)s AND s.channel = d.channel AND s.address = d.address
                           AND s.lifted_at IS NULL AND (s.until IS NULL OR s.until > %(now)s)) THEN 'suppressed'
           WHEN d.purpose = 'marketing' AND NOT coalesce(
                (SELECT s.is_given FROM consent_states s
                  WHERE s.org_id = %(org_id)s AND s.channel = d.channel AND s.address = d.address),
                NOT d.needs_consent) THEN 'no_consent'
           WHEN row_number() OVER (PARTITION BY d.contact_id ORDER BY d.order_at, d.message_id) > 1
                OR EXISTS (SELECT FROM outbox e
                            WHERE e.org_id = %(org_id)s AND e.contact_id = d.contact_id AND e.lane_id = %(lane_id)s
                              AND (e.state IN (1, 2) OR e.attempt_no > 0 OR e.wait_reason = 'order') AND e.state < 2
                              AND (e.order_at, e.message_id) < (d.order_at, d.message_id)
                              AND (e.state = 1 OR EXISTS (SELECT FROM gates g
                                                           WHERE g.org_id = %(org_id)s AND g.id = e.gate_id
                                                             AND g.is_open))) THEN 'order'
           WHEN d.attempt_no >= d.first_try
                AND EXISTS (SELECT FROM attempts a
                             WHERE a.org_id = %(org_id)s AND a.message_id = d.message_id AND a.attempt_no >= d.first_try
                               AND (a.outcome IS NULL OR a.outcome = 'unknown') AND a.replay_until <= %(now)s)
                THEN 'key_expired'
           ELSE '' END AS verdict,
           d.attempt_no > 0 AND EXISTS (
               SELECT FROM attempts a
                WHERE a.org_id = %(org_id)s AND a.message_id = d.message_id
                  AND (a.outcome IS NULL OR a.outcome = 'unknown')) AS is_doubtful
      FROM due d
), opened AS (
    UPDATE outbox o SET state = 1, attempt_no = o.attempt_no + 1, due_at = %(give_up_at)s, wait_reason = NULL
     WHERE o.org_id = %(org_id)s
       AND o.message_id = ANY (ARRAY(SELECT j.message_id FROM judged j WHERE j.verdict = ''))
), put_off AS (
    UPDATE outbox o SET due_at = %(order_until)s, wait_reason = 'order'
     WHERE o.org_id = %(org_id)s
       AND o.message_id = ANY (ARRAY(SELECT j.message_id FROM judged j WHERE j.verdict = 'order'))
), intents AS (
    INSERT INTO attempts (org_id, message_id, attempt_no, lane_id, epoch, key, claimed_at, give_up_at, replay_until)
    SELECT %(org_id)s, j.message_id, j.attempt_no + 1, %(lane_id)s, %(epoch)s, j.message_id || ':' || j.first_try,
           %(now)s, %(give_up_at)s,
           CASE WHEN j.first_try <= j.attempt_no THEN (
                SELECT a.replay_until FROM attempts a
                 WHERE a.org_id = %(org_id)s AND a.message_id = j.message_id AND a.attempt_no = j.first_try)
                ELSE %(replay_until)s::timestamptz END
      FROM judged j WHERE j.verdict = ''
        ON CONFLICT DO NOTHING
), doubted AS (
    UPDATE outbox o SET state = 2, due_at = %(now)s, wait_reason = 'unknown', resends = o.resends + 1
     WHERE o.org_id = %(org_id)s
       AND o.message_id = ANY (ARRAY(SELECT j.message_id FROM judged j
                                      WHERE j.is_doubtful AND j.verdict NOT IN ('', 'order')))
), refused AS (
    DELETE FROM outbox o
     WHERE o.org_id = %(org_id)s
       AND o.message_id = ANY (ARRAY(SELECT j.message_id FROM judged j
                                      WHERE NOT j.is_doubtful AND j.verdict NOT IN ('', 'order')))
), skipped AS (
    UPDATE messages m SET status = 'skipped', stage = 'skipped', reason = j.verdict, skipped_at = %(now)s
      FROM judged j
     WHERE m.org_id = %(org_id)s AND m.id = j.message_id AND NOT j.is_doubtful AND j.verdict NOT IN ('', 'order')
       AND m.status = 'scheduled'
    RETURNING m.id, m.campaign_id, m.channel, m.day, m.reason
), told AS (
    INSERT INTO message_events (org_id, message_id, key, kind, source, old_status, new_status, reason)
    SELECT %(org_id)s, id, 'skipped', 'skipped', 'dispatch', 'scheduled', 'skipped', reason FROM skipped
        ON CONFLICT DO NOTHING
), counted AS (
    INSERT INTO funnel_deltas (org_id, campaign_id, sender_id, channel, day, stage, reason, n)
    SELECT %(org_id)s, coalesce(s.campaign_id, '00000000-0000-0000-0000-000000000000'), %(lane_id)s, s.channel, s.day,
           d.stage, CASE d.stage WHEN 'skipped' THEN s.reason ELSE '' END, sum(d.n)
      FROM skipped s CROSS JOIN (VALUES ('scheduled', -1), ('skipped', 1)) AS d (stage, n)
     GROUP BY s.campaign_id, s.channel, s.day, d.stage, CASE d.stage WHEN 'skipped' THEN s.reason ELSE '' END
        ON CONFLICT DO NOTHING
), spent AS (
    UPDATE gates g
       SET tokens_at = %(now)s, tokens = full_to.tokens - used.n
      FROM (SELECT gate_id, count(*) AS n FROM judged WHERE verdict = '' GROUP BY gate_id) used
      JOIN unnest(%(gates)s::uuid[], %(gate_tokens)s::float8[]) AS full_to (gate_id, tokens) USING (gate_id)
     WHERE g.org_id = %(org_id)s AND g.id = used.gate_id AND full_to.tokens IS NOT NULL
), paid AS (
    UPDATE lanes l SET tokens = %(tokens)s - used.n, tokens_at = %(now)s, lease_until = %(lease_until)s,
                       day = today.day, day_count = used.n + CASE WHEN l.day = today.day THEN l.day_count ELSE 0 END
      FROM (SELECT count(*)::int AS n FROM judged WHERE verdict = '') used,
           (SELECT (%(now)s::timestamptz AT TIME ZONE 'UTC')::date AS day) today
     WHERE l.org_id = %(org_id)s AND l.id = %(lane_id)s
)
SELECT j.message_id, j.attempt_no + 1, j.message_id || ':' || j.first_try, j.channel, j.purpose, j.address, j.retries,
       j.resends, j.is_once, m.template_version_id, m.language, m.variables, m.reply_to_id, c.subject, c.text, c.html,
       coalesce((SELECT a.claimed_at FROM attempts a
                  WHERE j.attempt_no >= j.first_try AND a.org_id = %(org_id)s AND a.message_id = j.message_id
                    AND a.attempt_no = j.first_try), %(now)s), j.verdict
  FROM judged j
 CROSS JOIN LATERAL (SELECT x.template_version_id, x.language, x.variables, x.reply_to_id FROM messages x
                      WHERE x.org_id = %(org_id)s AND x.id = j.message_id OFFSET 0) m
  LEFT JOIN LATERAL (SELECT y.subject, y.text, y.html FROM message_contents y
                      WHERE y.org_id = %(org_id)s AND y.message_id = j.message_id
                        AND m.template_version_id IS NULL OFFSET 0) c ON true
 WHERE j.verdict = '' OR (j.is_doubtful AND j.verdict <> 'order')
 ORDER BY j.order_at, j.message_id
"""
