"""Lanes and gates: who may send for a sender, how fast, and what waits.

A lane is one sender's queue. A worker owns it by (owner, epoch, lease_until); taking it over adds one to epoch. Waking
a lane never happens inside the writer's transaction: a row that every request updates would be locked until the flush.
The writer wakes after its commit, coalesced; the wake is a hint, and a sweep finds a lane whose writer died in between.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.channel import Purpose
from antiphon.core.db import Connection
from antiphon.core.ids import new_id
from antiphon.core.waking import wakes

TrafficClass = Literal["transactional", "bulk"]

PRIORITIES: dict[str, int] = {"low": 1, "normal": 2, "high": 3, "urgent": 4}

LEASE_SECONDS = 15.0


def traffic_of(purpose: Purpose) -> TrafficClass:
    """Marketing goes in the bulk class, the rest in the transactional one."""
    return "bulk" if purpose == Purpose.MARKETING else "transactional"


class LaneSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender says of its lane. `rate` is messages a second; of it a tenth is burst, so that any second holds."""

    org_id: UUID
    id: UUID
    account_id: UUID
    provider: str
    channel: str
    rate: float
    in_flight: int
    daily_cap: int | None = None


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What a group of messages waits behind."""

    org_id: UUID
    id: UUID
    lane_id: UUID
    is_open: bool


async def save_lane(conn: Connection, spec: LaneSpec) -> None:
    """Make the sender's lane, or give it the sender's new rate, cap and limit."""
    bucket = pace_of(spec.rate)
    await db.execute(conn, SAVE_LANE, **msgspec.structs.asdict(spec), fill=bucket[0], burst=bucket[1])


def pace_of(rate: float) -> tuple[float, float]:
    """Tokens a second and burst, so that no window of a second holds more than `rate` (at least one message)."""
    burst = max(1.0, rate * 0.1)
    return (rate if rate <= 1 else max(rate - burst, rate * 0.5)), burst


SAVE_LANE = """
    INSERT INTO lanes (org_id, id, account_id, provider, channel, rate, burst, tokens, in_flight, daily_cap)
    VALUES (%(org_id)s, %(id)s, %(account_id)s, %(provider)s, %(channel)s, %(fill)s, %(burst)s, %(burst)s,
            %(in_flight)s, %(daily_cap)s)
        ON CONFLICT (org_id, id) DO UPDATE
       SET rate = excluded.rate, burst = excluded.burst, in_flight = excluded.in_flight,
           daily_cap = excluded.daily_cap, next_due_at = now()
"""


async def pause_lane(conn: Connection, org_id: UUID, lane_id: UUID, reason: str) -> None:
    """Nothing leaves through this sender until `resume_lane`; its messages stay scheduled."""
    await db.execute(conn, PAUSE_LANE, org_id=org_id, id=lane_id, reason=reason)


PAUSE_LANE = "UPDATE lanes SET paused_reason = %(reason)s WHERE org_id = %(org_id)s AND id = %(id)s"


async def resume_lane(conn: Connection, org_id: UUID, lane_id: UUID) -> None:
    """Let the sender go on: the pause and any block are lifted, and what is due leaves."""
    await db.execute(conn, RESUME_LANE, org_id=org_id, id=lane_id)


RESUME_LANE = """
    UPDATE lanes SET paused_reason = NULL, blocked_until = NULL, block_reason = NULL, next_due_at = now()
     WHERE org_id = %(org_id)s AND id = %(id)s
"""


async def block_lane(conn: Connection, org_id: UUID, lane_id: UUID, until: datetime, reason: str) -> None:
    """The provider asked for silence: nothing is claimed before `until`, by any worker. Never shortened here."""
    await db.execute(conn, BLOCK_LANE, org_id=org_id, id=lane_id, until=until, reason=reason)


BLOCK_LANE = """
    UPDATE lanes SET blocked_until = %(until)s, block_reason = %(reason)s
     WHERE org_id = %(org_id)s AND id = %(id)s AND (blocked_until IS NULL OR blocked_until < %(until)s)
"""


def wake_after_commit(conn: Connection, org_id: UUID, lane_id: UUID, due_at: datetime) -> None:
    """Once this transaction has committed, tell the lane's next owner when to look. Coalesced, and only a hint."""
    wakes.after_commit(conn, org_id, lane_id, due_at)


async def wake(conn: Connection, org_id: UUID, lane_ids: list[UUID], due_at: datetime) -> None:
    """Let the lanes be looked at no later than `due_at`."""
    await db.execute(conn, WAKE, org_id=org_id, lane_ids=lane_ids, due_at=due_at)


WAKE = """
    UPDATE lanes SET next_due_at = %(due_at)s
     WHERE org_id = %(org_id)s AND id = ANY(%(lane_ids)s) AND next_due_at > %(due_at)s
"""


# ---- gates ---------------------------------------------------------------------------------------


async def default_gate(conn: Connection, org_id: UUID, lane_id: UUID, traffic: TrafficClass) -> UUID:
    """The gate of what no campaign or sequence caused; made on first use."""
    found = await db.value(
        conn, FIND_GATE, org_id=org_id, lane_id=lane_id, cause="default", cause_id=org_id, traffic=traffic
    )
    if found is not None:
        return found
    return await add_gate(conn, org_id, lane_id, cause="default", cause_id=org_id, traffic=traffic)


FIND_GATE = """
    SELECT id FROM gates
     WHERE org_id = %(org_id)s AND lane_id = %(lane_id)s AND cause = %(cause)s AND cause_id = %(cause_id)s
       AND class = %(traffic)s
"""


async def add_gate(
    conn: Connection,
    org_id: UUID,
    lane_id: UUID,
    *,
    cause: Literal["default", "campaign", "sequence"],
    cause_id: UUID,
    traffic: TrafficClass,
    priority: str = "normal",
    rate: float | None = None,
) -> UUID:
    """The gate of a cause in a lane, made if there is none; `rate` is the cause's own pace, within the sender's."""
    return await db.value(
        conn, ADD_GATE, org_id=org_id, id=new_id(), lane_id=lane_id, cause=cause, cause_id=cause_id,
        traffic=traffic, priority=PRIORITIES[priority], rate=rate,
    )  # fmt: skip


ADD_GATE = """
    INSERT INTO gates (org_id, id, lane_id, cause, cause_id, class, priority, rate)
    VALUES (%(org_id)s, %(id)s, %(lane_id)s, %(cause)s, %(cause_id)s, %(traffic)s, %(priority)s, %(rate)s)
        ON CONFLICT (org_id, lane_id, cause, cause_id, class) DO UPDATE SET rate = excluded.rate
    RETURNING id
"""


async def close_gate(conn: Connection, org_id: UUID, cause: str, cause_id: UUID, reason: str) -> None:
    """After this commits nothing of the cause is claimed: the row lock orders it against every claim."""
    await db.execute(conn, CLOSE_GATE, org_id=org_id, cause=cause, cause_id=cause_id, reason=reason)


CLOSE_GATE = """
    UPDATE gates SET is_open = false, reason = %(reason)s
     WHERE org_id = %(org_id)s AND cause = %(cause)s AND cause_id = %(cause_id)s
"""


async def open_gate(conn: Connection, org_id: UUID, cause: str, cause_id: UUID, now: datetime) -> None:
    """Let the cause's messages go on, from where they stood."""
    for (lane_id,) in await db.tuples(conn, OPEN_GATE, org_id=org_id, cause=cause, cause_id=cause_id):
        wake_after_commit(conn, org_id, lane_id, now)


OPEN_GATE = """
    UPDATE gates SET is_open = true, reason = NULL
     WHERE org_id = %(org_id)s AND cause = %(cause)s AND cause_id = %(cause_id)s
    RETURNING lane_id
"""


# ---- owning a lane -------------------------------------------------------------------------------


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """A lane that this worker owns, as the take-over read it."""

    org_id: UUID
    id: UUID
    account_id: UUID
    provider: str
    channel: str
    epoch: int
    in_flight: int
    doubt_after: timedelta


async def lanes_to_own(conn: Connection, limit: int) -> list[tuple[UUID, UUID]]:
    """Organization and lane of what is due and nobody's. Chosen without a lock; `take` decides."""
    rows = await db.tuples(conn, LANES_TO_OWN, limit=limit)
    return [(org_id, lane_id) for org_id, lane_id in rows]


LANES_TO_OWN = """
    SELECT org_id, id FROM lanes  -- any organization: a worker looks for lanes that are due and have no owner
     WHERE next_due_at <= now() AND lease_until <= now()
     ORDER BY next_due_at LIMIT %(limit)s
"""


async def database_now(conn: Connection) -> datetime:
    """The only clock that decides."""
    return await db.value(conn, "SELECT now()")


async def take(
    conn: Connection, org_id: UUID, lane_id: UUID, worker: UUID, lease: float = LEASE_SECONDS
) -> Owned | None:
    """Own the lane for a lease, or None when another worker was faster."""
    return await db.find(conn, Owned, TAKE, org_id=org_id, id=lane_id, worker=worker, lease=lease)


TAKE = """
    UPDATE lanes SET owner = %(worker)s, epoch = epoch + 1, lease_until = now() + make_interval(secs => %(lease)s)
     WHERE org_id = %(org_id)s AND id = %(id)s AND lease_until <= now()
    RETURNING org_id, id, account_id, provider, channel, epoch, in_flight, doubt_after
"""


async def renew(conn: Connection, lane: Owned, worker: UUID, lease: float = LEASE_SECONDS) -> Owned | None:
    """Another lease for the owner, and the lane as its sender now wants it; None when the lane has moved."""
    return await db.find(
        conn, Owned, RENEW, org_id=lane.org_id, id=lane.id, worker=worker, epoch=lane.epoch, lease=lease
    )


RENEW = """
    UPDATE lanes SET lease_until = now() + make_interval(secs => %(lease)s)
     WHERE org_id = %(org_id)s AND id = %(id)s AND owner = %(worker)s AND epoch = %(epoch)s AND lease_until > now()
    RETURNING org_id, id, account_id, provider, channel, epoch, in_flight, doubt_after
"""


async def fall_asleep(conn: Connection, lane: Owned, worker: UUID) -> None:
    """First statement of giving an idle lane back: nobody need look. `look_again` must follow in a new snapshot."""
    await db.execute(conn, FALL_ASLEEP, org_id=lane.org_id, id=lane.id, worker=worker, epoch=lane.epoch)


FALL_ASLEEP = """
    UPDATE lanes SET next_due_at = 'infinity', lease_until = now()
     WHERE org_id = %(org_id)s AND id = %(id)s AND owner = %(worker)s AND epoch = %(epoch)s
"""


async def look_again(conn: Connection, org_id: UUID, lane_id: UUID) -> None:
    """Second statement, and the sweep: look when the lane's earliest unfinished row asks for it.

    What is due already is due now: a lane that was given back stands behind those that waited for a worker.
    """
    await db.execute(conn, LOOK_AGAIN, org_id=org_id, id=lane_id)


LOOK_AGAIN = """
    UPDATE lanes SET next_due_at = greatest(soonest.at, now())
      FROM (SELECT least(
                (SELECT greatest(min(first.due_at), l.blocked_until,
                                 CASE WHEN l.day_count >= l.daily_cap
                                      THEN (l.day + 1)::timestamp AT TIME ZONE 'UTC' END)
                   FROM lanes l JOIN gates g ON g.org_id = l.org_id AND g.lane_id = l.id CROSS JOIN LATERAL (
                     SELECT o.due_at FROM outbox o
                      WHERE o.org_id = %(org_id)s AND o.lane_id = %(id)s AND o.gate_id = g.id AND o.state = 0
                      ORDER BY o.due_at LIMIT 1) first
                  WHERE l.org_id = %(org_id)s AND l.id = %(id)s AND l.paused_reason IS NULL AND g.is_open
                    AND (g.valid_until IS NULL OR g.valid_until > now())
                  GROUP BY l.blocked_until, l.day, l.day_count, l.daily_cap),
                (SELECT o.due_at FROM outbox o
                  WHERE o.org_id = %(org_id)s AND o.lane_id = %(id)s AND o.state IN (1, 2)
                  ORDER BY o.due_at LIMIT 1),
                (SELECT p.due_at FROM lanes l JOIN polls p ON p.org_id = l.org_id AND p.lane_id = l.id
                  WHERE l.org_id = %(org_id)s AND l.id = %(id)s AND l.paused_reason IS NULL
                  ORDER BY p.due_at LIMIT 1)) AS at) soonest
     WHERE lanes.org_id = %(org_id)s AND lanes.id = %(id)s AND lanes.next_due_at > soonest.at
"""


async def all_lanes(conn: Connection) -> list[tuple[UUID, UUID]]:
    """Every lane that sleeps, for the sweep."""
    rows = await db.tuples(conn, ALL_LANES)
    return [(org_id, lane_id) for org_id, lane_id in rows]


ALL_LANES = """
    SELECT org_id, id FROM lanes  -- any organization: the sweep looks for lanes whose waker died after its commit
     WHERE next_due_at > now() AND lease_until <= now()
"""
