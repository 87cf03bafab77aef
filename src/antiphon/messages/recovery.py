"""What a dead owner left, and what becomes of doubts. Run once a second by the lane's present owner, for all epochs.

Only attempts whose `give_up_at` has passed are decided about: until then a slow call may still answer. Ledger rows are
locked before queue rows, as everywhere, and the ledger is asked first: what a receipt has proven in the meantime has
nothing left to do. A keyed provider is asked again with the same key and the same bytes, while the key lives and at
most twice; every other open attempt becomes a doubt, `unknown` in the ledger. A doubt is resolved by a late outcome or
a receipt at any time; when none came in the lane's `doubt_after`, the policy of the message's purpose decides: held, or
resent once.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.messages import ledger
from antiphon.messages.lanes import Owned
from antiphon.messages.model import CRASHES, PROVEN, Fact, unknown_policy

BATCH = 500


async def recover(conn: Connection, lane: Owned, worker: UUID) -> int:
    """Decide about attempts that nobody will answer for; returns how many. The lane's row must be ours."""
    late = await db.tuples(
        conn, LATE, org_id=lane.org_id, lane_id=lane.id, worker=worker, epoch=lane.epoch, batch=BATCH
    )
    if not late:
        return 0
    locked = await ledger.lock(conn, lane.org_id, (row[0] for row in late))
    proven = [id_ for id_, held in locked.items() if held.row.status in PROVEN]
    found = await db.tuples(
        conn, RECOVER, org_id=lane.org_id, ids=sorted(locked), proven=proven, crashes=CRASHES,
        doubt_after=lane.doubt_after,
    )  # fmt: skip
    facts = [_left_open(row) for row in found]
    await ledger.write(conn, lane.org_id, ledger.settle(locked, [fact for fact in facts if fact is not None]))
    return len(found)


def _left_open(row: tuple[UUID, int, str, datetime]) -> Fact | None:
    message_id, attempt_no, fate, now = row
    if fate == "proven":
        return None
    if fate == "replayed":
        return Fact(
            message_id=message_id, kind="replayed", key=f"replayed:{attempt_no}", at=now, source="dispatch"
        )
    return Fact(
        message_id=message_id, kind="unknown", key=f"unknown:{attempt_no}", at=now, source="dispatch",
        attempt_no=attempt_no, reason="worker_died",
        detail="the worker that sent it stopped before the provider's answer was stored",
    )  # fmt: skip


LATE = """
    SELECT o.message_id
      FROM lanes l JOIN outbox o ON o.org_id = %(org_id)s AND o.lane_id = l.id AND o.state = 1 AND o.due_at < now()
     WHERE l.org_id = %(org_id)s AND l.id = %(lane_id)s AND l.owner = %(worker)s AND l.epoch = %(epoch)s
       AND l.lease_until > now()
     ORDER BY o.due_at
     LIMIT %(batch)s
"""

# What is proven (a receipt came before its worker died) has nothing left to do.
RECOVER = """
WITH late AS MATERIALIZED (
    SELECT o.message_id, o.attempt_no,
           CASE WHEN o.message_id = ANY(%(proven)s::uuid[]) THEN 'proven'
                WHEN a.replay_until > now() AND o.crashes < %(crashes)s THEN 'replayed' ELSE 'unknown' END AS fate
      FROM outbox o
      JOIN attempts a ON a.org_id = %(org_id)s AND a.message_id = o.message_id AND a.attempt_no = o.attempt_no
     WHERE o.org_id = %(org_id)s AND o.message_id = ANY(%(ids)s::uuid[]) AND o.state = 1
       AND a.outcome IS NULL AND a.give_up_at < now()
     ORDER BY o.message_id
       FOR UPDATE OF o
), gone AS (
    DELETE FROM outbox o
     WHERE o.org_id = %(org_id)s
       AND o.message_id = ANY (ARRAY(SELECT late.message_id FROM late WHERE late.fate = 'proven'))
), moved AS (
    UPDATE outbox o
       SET state = CASE late.fate WHEN 'replayed' THEN 0 ELSE 2 END, crashes = o.crashes + 1, wait_reason = late.fate,
           due_at = CASE late.fate WHEN 'replayed' THEN o.order_at ELSE o.due_at + %(doubt_after)s::interval END
      FROM late
     WHERE o.org_id = %(org_id)s AND o.message_id = late.message_id AND late.fate <> 'proven'
)
SELECT message_id, attempt_no, fate, now() FROM late
"""


async def release(conn: Connection, lane: Owned, begun: set[tuple[UUID, int]]) -> int:
    """Let go what a claim took whose answer was lost: this owner's open attempts of which it never began a call.

    Only the owner itself may ask, naming every attempt that it has begun and not recorded. `lanes.renew` before it
    waits for a claim that may still be committing.
    """
    known = sorted(begun)
    return await db.execute(
        conn, RELEASE, org_id=lane.org_id, lane_id=lane.id, epoch=lane.epoch,
        ids=[message_id for message_id, _ in known], numbers=[number for _, number in known],
    )  # fmt: skip


RELEASE = """
WITH lost AS MATERIALIZED (
    SELECT o.message_id, o.attempt_no
      FROM outbox o JOIN attempts a ON a.org_id = %(org_id)s AND a.message_id = o.message_id
                                   AND a.attempt_no = o.attempt_no
     WHERE o.org_id = %(org_id)s AND o.lane_id = %(lane_id)s AND o.state = 1 AND a.epoch = %(epoch)s
       AND a.outcome IS NULL
       AND NOT EXISTS (SELECT FROM unnest(%(ids)s::uuid[], %(numbers)s::int[]) AS b (message_id, attempt_no)
                        WHERE b.message_id = o.message_id AND b.attempt_no = o.attempt_no)
     ORDER BY o.message_id
       FOR UPDATE OF o
), closed AS (
    UPDATE attempts a
       SET outcome = 'not_sent', code = 'not_begun', reason = 'the claim''s answer was lost', finished_at = now()
      FROM lost
     WHERE a.org_id = %(org_id)s AND a.message_id = lost.message_id AND a.attempt_no = lost.attempt_no
)
UPDATE outbox o SET state = 0, due_at = o.order_at, wait_reason = 'released'
  FROM lost
 WHERE o.org_id = %(org_id)s AND o.message_id = lost.message_id
"""


async def resolve_doubts(conn: Connection, lane: Owned, worker: UUID) -> int:
    """Apply the policy to doubts whose time has come; returns how many."""
    due = await db.tuples(
        conn, DUE_DOUBTS, org_id=lane.org_id, lane_id=lane.id, worker=worker, epoch=lane.epoch, batch=BATCH
    )
    if not due:
        return 0
    locked = await ledger.lock(conn, lane.org_id, (row[0] for row in due))
    found = await db.tuples(conn, LOCK_DOUBTS, org_id=lane.org_id, ids=sorted(locked))
    facts: list[Fact] = []
    fates: dict[str, list[UUID]] = {"hold": [], "resend": [], "proven": []}
    for message_id, attempt_no, purpose, is_once, resends, now in found:
        if locked[message_id].row.status in PROVEN:
            fates["proven"].append(message_id)
            continue
        policy = unknown_policy(purpose, is_once=is_once, resends=resends)
        fates[policy].append(message_id)
        facts.append(_settled(message_id, attempt_no, policy, now))
    await db.execute(conn, RESOLVE, org_id=lane.org_id, **fates)
    await ledger.write(conn, lane.org_id, ledger.settle(locked, facts))
    return len(found)


def _settled(message_id: UUID, attempt_no: int, policy: str, now: datetime) -> Fact:
    if policy == "hold":
        return Fact(
            message_id=message_id, kind="held", key=f"held:{attempt_no}", at=now, source="dispatch",
            attempt_no=attempt_no, reason="held",
            detail="it may have been sent, and nothing tells; a person may resend it or leave it",
        )  # fmt: skip
    return Fact(
        message_id=message_id, kind="resent", key=f"resent:{attempt_no}", at=now, source="dispatch",
        attempt_no=attempt_no + 1,
        detail="nothing tells whether it was sent; by the policy of its purpose it is sent once more",
    )  # fmt: skip


DUE_DOUBTS = """
    SELECT o.message_id
      FROM lanes l JOIN outbox o ON o.org_id = %(org_id)s AND o.lane_id = l.id AND o.state = 2 AND o.due_at < now()
     WHERE l.org_id = %(org_id)s AND l.id = %(lane_id)s AND l.owner = %(worker)s AND l.epoch = %(epoch)s
       AND l.lease_until > now()
     ORDER BY o.due_at
     LIMIT %(batch)s
"""

LOCK_DOUBTS = """
    SELECT o.message_id, o.attempt_no, o.purpose, o.is_once, o.resends, now()
      FROM outbox o
     WHERE o.org_id = %(org_id)s AND o.message_id = ANY(%(ids)s::uuid[]) AND o.state = 2 AND o.due_at < now()
     ORDER BY o.message_id
       FOR UPDATE
"""

# The key stays: only a person's order makes a new one. A provider that takes keys cannot double it then.
RESOLVE = """
    WITH gone AS (
        DELETE FROM outbox o WHERE o.org_id = %(org_id)s AND o.message_id = ANY(%(proven)s::uuid[])
    )
    UPDATE outbox o
       SET state = CASE WHEN o.message_id = ANY(%(hold)s::uuid[]) THEN 3 ELSE 0 END,
           wait_reason = CASE WHEN o.message_id = ANY(%(hold)s::uuid[]) THEN 'held' ELSE 'resend' END,
           resends = o.resends + CASE WHEN o.message_id = ANY(%(hold)s::uuid[]) THEN 0 ELSE 1 END
     WHERE o.org_id = %(org_id)s AND (o.message_id = ANY(%(hold)s::uuid[]) OR o.message_id = ANY(%(resend)s::uuid[]))
"""
