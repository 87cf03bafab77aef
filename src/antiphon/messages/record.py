"""Writing outcomes down: each closes its own attempt, always; only the current attempt moves the queue row.

Nearly every outcome is an acceptance of a message of which nothing else is known: one statement does those
(`ACCEPTED`), and tells which were not so. Those, and every other outcome, go the long way: lock the ledger rows,
advance them (pure), write. A second acceptance of one message is told as `doubled`: the one thing that no fence can
undo is at least never silent.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal, LiteralString
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.messages import ledger
from antiphon.messages.claim import Claimed
from antiphon.messages.lanes import Owned
from antiphon.messages.ledger import Locked, StatusChange
from antiphon.messages.model import PROVEN, RETRIES, Fact, Settlement, backoff
from antiphon.providers import registry
from antiphon.providers.contract import (
    NOT_BEGUN,
    Accepted,
    AccountFault,
    NotSent,
    Outcome,
    Rejected,
    Throttled,
    Unknown,
)


class TemplateFault(msgspec.Struct, frozen=True, kw_only=True, tag="template"):
    """Rendering failed: this message's failure, and nobody else's. Nothing was sent."""

    reason: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome of one attempt, and when it was known."""

    claimed: Claimed
    outcome: Outcome | TemplateFault
    at: datetime


class PollPlan(msgspec.Struct, frozen=True, kw_only=True):
    """When a message that was handed over is asked about, if nothing is heard of it."""

    first_after: timedelta
    limit: timedelta


def settlement(told: Told, *, doubt_after: timedelta, takes_key: bool = False) -> Settlement:
    """What an outcome means for its message. Pure but for the jitter.

    A provider that takes a key is simply asked again when it is not known what it did: the key makes it harmless.
    """
    outcome, at = told.outcome, told.at
    match outcome:
        case Accepted():
            return Settlement(after="gone", fact="sent")
        case TemplateFault():
            return Settlement(after="gone", fact="failed", reason="template")
        case Rejected():
            return Settlement(after="gone", fact="failed", reason="rejected")
        case Throttled(after=after):
            wait = at + (after or timedelta(seconds=30)) if outcome.scope == "contact" else None
            return Settlement(after="again", reason="throttled", due_at=wait)
        case AccountFault():
            return Settlement(after="again", reason="account")
        case NotSent(code=code) if code == NOT_BEGUN:
            return Settlement(after="again", reason="released")
        case NotSent(after=after) if told.claimed.retries < RETRIES:
            wait = max(backoff(told.claimed.retries), after or timedelta())
            return Settlement(after="again", reason="not_sent", due_at=at + wait, counts_retry=True)
        case NotSent():
            return Settlement(after="gone", fact="failed", reason="given_up")
        case Unknown() if takes_key and told.claimed.retries < RETRIES:
            wait = backoff(told.claimed.retries)
            return Settlement(after="again", reason="replayed", due_at=at + wait, counts_retry=True)
        case Unknown():
            return Settlement(after="doubt", fact="unknown", reason="unknown", due_at=at + doubt_after)


async def record(
    conn: Connection, lane: Owned, tolds: list[Told], *, poll: PollPlan | None, doubt_after: timedelta
) -> list[UUID]:
    """Write a batch of outcomes; returns the messages that were accepted twice, by two attempts."""
    tolds = sorted(tolds, key=lambda t: t.claimed.message_id.int)
    first_tries = [t for t in tolds if isinstance(t.outcome, Accepted) and t.claimed.attempt_no == 1]
    others = [t for t in tolds if t.claimed.attempt_no != 1 or not isinstance(t.outcome, Accepted)]
    if others and first_tries:  # two steps would lock in an order of their own, and meet receipts in a circle
        await db.execute(conn, LOCK_ALL, org_id=lane.org_id, ids=[t.claimed.message_id for t in tolds])
    strange = await record_accepted(conn, lane, first_tries, poll)
    if strange:
        others = sorted(
            others + [t for t in first_tries if t.claimed.message_id in strange],
            key=lambda t: t.claimed.message_id.int,
        )
    return await record_any(conn, lane, others, poll, doubt_after) if others else []


LOCK_ALL = """
    SELECT FROM messages m WHERE m.org_id = %(org_id)s AND m.id = ANY(%(ids)s::uuid[])
     ORDER BY m.id
       FOR NO KEY UPDATE
"""


async def record_accepted(
    conn: Connection, lane: Owned, tolds: list[Told], poll: PollPlan | None
) -> set[UUID]:
    """First tries that were accepted; returns those of which something else was known already."""
    if not tolds:
        return set()
    rows = [
        {
            "message_id": t.claimed.message_id,
            "name": t.outcome.provider_message_id,
            "reason": t.outcome.detail,
            "detail": t.outcome.payload or None,
            "at": t.at,
        }
        for t in tolds
        if isinstance(t.outcome, Accepted)
    ]
    found = await db.tuples(
        conn, ACCEPTED,
        org_id=lane.org_id, account_id=lane.account_id, lane_id=lane.id, rows=db.json(rows),
        low=tolds[0].claimed.message_id, high=tolds[-1].claimed.message_id,
        poll_first=poll.first_after if poll else None, poll_limit=poll.limit if poll else None,
    )  # fmt: skip
    await ledger.tell(conn, lane.org_id, [_sent(row) for row in found if not row[1]])
    return {row[0] for row in found if row[1]}


def _sent(row: tuple[Any, ...]) -> StatusChange:
    message_id, _, campaign_id, contact_id, channel, at = row
    return StatusChange(
        id=message_id, campaign_id=campaign_id, contact_id=contact_id, channel=channel, old_status="scheduled",
        status="sent", at=at,
    )  # fmt: skip


ACCEPTED: LiteralString = """
WITH told AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS t (
        message_id uuid, name text, reason text, detail jsonb, at timestamptz)
), closed AS (
    UPDATE attempts a SET outcome = 'accepted', reason = t.reason, provider_message_id = t.name, finished_at = t.at
      FROM told t
     WHERE a.org_id = %(org_id)s AND a.message_id BETWEEN %(low)s AND %(high)s
       AND a.message_id = ANY (ARRAY(SELECT x.message_id FROM told x))
       AND a.message_id = t.message_id AND a.attempt_no = 1 AND a.outcome IS NULL
), named AS (
    INSERT INTO provider_ids (org_id, account_id, provider_message_id, message_id, attempt_no)
    SELECT %(org_id)s, %(account_id)s, name, message_id, 1 FROM told WHERE name IS NOT NULL
        ON CONFLICT DO NOTHING
), asked AS (
    INSERT INTO polls (org_id, message_id, lane_id, provider_message_id, due_at, stop_at)
    SELECT %(org_id)s, message_id, %(lane_id)s, name, at + %(poll_first)s::interval, at + %(poll_limit)s::interval
      FROM told WHERE name IS NOT NULL AND %(poll_first)s::interval IS NOT NULL
        ON CONFLICT DO NOTHING
), moved AS (
    UPDATE messages m
       SET status = 'sent', stage = 'sent', attempt_no = 1, provider_message_id = t.name,
           sent_at = greatest(t.at, m.created_at)
      FROM told t
     WHERE m.org_id = %(org_id)s AND m.id BETWEEN %(low)s AND %(high)s
       AND m.id = ANY (ARRAY(SELECT x.message_id FROM told x))
       AND m.id = t.message_id AND m.stage = 'scheduled' AND m.attempt_no = 0
       AND m.closed_at IS NULL AND m.replied_at IS NULL AND m.clicked_at IS NULL
    RETURNING m.id, m.campaign_id, m.contact_id, m.channel, m.day, t.at, t.detail
), gone AS (
    DELETE FROM outbox o
     WHERE o.org_id = %(org_id)s AND o.message_id = ANY (ARRAY(SELECT x.id FROM moved x)) AND o.attempt_no = 1
), lines AS (
    INSERT INTO message_events (org_id, message_id, key, kind, source, old_status, new_status, attempt_no, at, detail)
    SELECT %(org_id)s, id, 'sent:1', 'sent', 'dispatch', 'scheduled', 'sent', 1, at, detail FROM moved
        ON CONFLICT DO NOTHING
), counted AS (
    INSERT INTO funnel_deltas (org_id, campaign_id, sender_id, channel, day, stage, reason, n)
    SELECT %(org_id)s, coalesce(m.campaign_id, '00000000-0000-0000-0000-000000000000'), %(lane_id)s, m.channel, m.day,
           d.stage, '', sum(d.n)
      FROM moved m CROSS JOIN (VALUES ('scheduled', -1), ('sent', 1)) AS d (stage, n)
     GROUP BY m.campaign_id, m.channel, m.day, d.stage
        ON CONFLICT DO NOTHING
)
SELECT t.message_id, true, NULL::uuid, NULL::uuid, NULL, NULL::timestamptz
  FROM told t WHERE NOT EXISTS (SELECT FROM moved m WHERE m.id = t.message_id)
UNION ALL
SELECT m.id, false, m.campaign_id, m.contact_id, m.channel, m.at
  FROM moved m
 WHERE EXISTS (SELECT FROM event_subscriptions s
                WHERE s.org_id = %(org_id)s AND s.name = 'message_status_changed' AND s.valid_until > now())
"""


async def record_any(
    conn: Connection, lane: Owned, tolds: list[Told], poll: PollPlan | None, doubt_after: timedelta
) -> list[UUID]:
    """Outcomes of every kind, the long way: ledger rows are locked before queue rows, as everywhere."""
    ids = [t.claimed.message_id for t in tolds]
    locked = await ledger.lock(conn, lane.org_id, ids)
    found = await db.tuples(conn, LOCK_QUEUE, org_id=lane.org_id, ids=ids)
    stands = {id_: Place(state, attempt_no) for id_, state, attempt_no in found}
    takes_key = registry.get(lane.provider).idempotency is not None
    outcomes = [(told, settlement(told, doubt_after=doubt_after, takes_key=takes_key)) for told in tolds]
    facts = [_fact(t, s, locked, stands.get(t.claimed.message_id)) for t, s in outcomes]
    moved = ledger.settle(locked, [fact for fact in facts if fact is not None])
    proven = {id_ for id_, held in locked.items() if held.row.status in PROVEN}
    proven |= {m.after.id for m in moved if m.after.status in PROVEN}
    steps = [_step(t, s, stands.get(t.claimed.message_id), proven) for t, s in outcomes]
    doubled = await db.tuples(
        conn, RECORD,
        org_id=lane.org_id, account_id=lane.account_id, lane_id=lane.id,
        attempts=db.json([_attempt(t) for t in tolds]),
        queue=db.json([step for step in steps if isinstance(step, dict)]),
        gone=[t.claimed.message_id for (t, _), step in zip(outcomes, steps, strict=True) if step == "gone"],
        poll_first=poll.first_after if poll else None,
        poll_limit=poll.limit if poll else None,
        low=ids[0], high=ids[-1],
        suspects=[t.claimed.message_id for t in tolds if _tried_before(locked, t)],
    )  # fmt: skip
    await ledger.write(conn, lane.org_id, moved)
    return [row[0] for row in doubled]


class Place(msgspec.Struct, frozen=True):
    """Where a message's queue row stands while this transaction holds it."""

    state: int
    attempt_no: int

    def is_of(self, told: Told) -> bool:
        """Is this outcome's attempt the current one, and on the wire, in doubt or held?"""
        return self.attempt_no == told.claimed.attempt_no and self.state > 0


LOCK_QUEUE = """
    SELECT message_id, state, attempt_no FROM outbox
     WHERE org_id = %(org_id)s AND message_id = ANY(%(ids)s)
     ORDER BY message_id
       FOR UPDATE
"""


def _tried_before(locked: dict[UUID, Locked], told: Told) -> bool:
    """Is there another attempt that may have been accepted too? Then the statement looks."""
    held = locked.get(told.claimed.message_id)
    return told.claimed.attempt_no > 1 or (
        held is not None and held.current_attempt != told.claimed.attempt_no
    )


def _fact(told: Told, settled: Settlement, locked: dict[UUID, Locked], place: Place | None) -> Fact | None:
    """What the ledger learns of an outcome. A doubt or its end is only about the current attempt; a hand-over or a
    refusal is a fact whenever it comes."""
    outcome, claimed = told.outcome, told.claimed
    is_current = place is not None and place.is_of(told)
    kind, reason = settled.fact, settled.reason
    if settled.after == "again":
        held = locked.get(claimed.message_id)
        if held is None or held.row.status != "unknown" or not is_current:
            return None
        kind, reason = "replayed" if isinstance(outcome, Unknown) else "not_sent", ""
    if kind == "unknown" and not is_current:
        return None
    return Fact(
        message_id=claimed.message_id,
        kind=kind,
        key=f"{kind}:{claimed.attempt_no}",
        at=told.at,
        source="dispatch",
        attempt_no=claimed.attempt_no,
        provider_message_id=outcome.provider_message_id if isinstance(outcome, Accepted) else None,
        reason=reason,
        code=None if isinstance(outcome, Accepted | TemplateFault) else outcome.code,
        detail=None if isinstance(outcome, Accepted) else outcome.reason,
        payload=None if isinstance(outcome, TemplateFault) else outcome.payload or None,
    )


def _attempt(told: Told) -> dict[str, Any]:
    outcome = told.outcome
    return {
        "message_id": told.claimed.message_id,
        "attempt_no": told.claimed.attempt_no,
        "outcome": outcome.__struct_config__.tag,
        "code": None if isinstance(outcome, Accepted | TemplateFault) else outcome.code,
        "reason": outcome.detail if isinstance(outcome, Accepted) else outcome.reason,
        "provider_message_id": outcome.provider_message_id if isinstance(outcome, Accepted) else None,
        "at": told.at,
    }


def _step(
    told: Told, settled: Settlement, place: Place | None, proven: set[UUID]
) -> Literal["gone"] | dict[str, Any] | None:
    """What becomes of the queue row: it goes, it moves, or (None) it is not this outcome's to move."""
    claimed = told.claimed
    if place is None or (place.state == 1 and not place.is_of(told)):
        return None  # another attempt is on the wire: its own outcome decides
    if claimed.message_id in proven:
        return "gone"
    if not place.is_of(told) or (settled.after == "doubt" and place.state != 1):
        return None
    if settled.after == "gone":
        return "gone"
    return {
        "message_id": claimed.message_id,
        "state": 0 if settled.after == "again" else 2,
        "due_at": settled.due_at,
        "reason": settled.reason,
        "retries": claimed.retries + settled.counts_retry,
    }


RECORD = """
WITH told AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(attempts)s) AS a (
        message_id uuid, attempt_no int, outcome text, code text, reason text, provider_message_id text, at timestamptz)
), closed AS (
    UPDATE attempts a
       SET outcome = t.outcome, code = t.code, reason = t.reason, provider_message_id = t.provider_message_id,
           finished_at = t.at
      FROM told t
     WHERE a.org_id = %(org_id)s AND a.message_id BETWEEN %(low)s AND %(high)s
       AND a.message_id = ANY (ARRAY(SELECT x.message_id FROM told x))
       AND a.message_id = t.message_id AND a.attempt_no = t.attempt_no AND a.outcome IS NULL
), named AS (
    INSERT INTO provider_ids (org_id, account_id, provider_message_id, message_id, attempt_no)
    SELECT %(org_id)s, %(account_id)s, provider_message_id, message_id, attempt_no
      FROM told WHERE provider_message_id IS NOT NULL
        ON CONFLICT DO NOTHING
), asked AS (
    INSERT INTO polls (org_id, message_id, lane_id, provider_message_id, due_at, stop_at)
    SELECT %(org_id)s, message_id, %(lane_id)s, provider_message_id, at + %(poll_first)s::interval,
           at + %(poll_limit)s::interval
      FROM told WHERE provider_message_id IS NOT NULL AND %(poll_first)s::interval IS NOT NULL
        ON CONFLICT DO NOTHING
), gone AS (
    DELETE FROM outbox o WHERE o.org_id = %(org_id)s AND o.message_id = ANY(%(gone)s::uuid[])
), queue AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(queue)s) AS q (
        message_id uuid, state smallint, due_at timestamptz, reason text, retries smallint)
), kept AS (
    UPDATE outbox o
       SET state = q.state, due_at = coalesce(q.due_at, o.order_at), wait_reason = q.reason, retries = q.retries
      FROM queue q
     WHERE o.org_id = %(org_id)s AND o.message_id = ANY (ARRAY(SELECT x.message_id FROM queue x))
       AND o.message_id = q.message_id
), twice AS (
    INSERT INTO message_events (org_id, message_id, key, kind, source, attempt_no)
    SELECT %(org_id)s, t.message_id, 'doubled:' || t.attempt_no, 'doubled', 'dispatch', t.attempt_no
      FROM told t
     WHERE t.outcome = 'accepted' AND t.message_id = ANY(%(suspects)s::uuid[])
       AND EXISTS (SELECT FROM attempts a
                    WHERE a.org_id = %(org_id)s AND a.message_id BETWEEN %(low)s AND %(high)s
                      AND a.message_id = t.message_id AND a.attempt_no <> t.attempt_no
                      AND a.outcome = 'accepted' AND a.provider_message_id IS DISTINCT FROM t.provider_message_id)
        ON CONFLICT DO NOTHING
    RETURNING message_id
)
SELECT message_id FROM twice
"""
