"""Giving up what waits behind a cause's gates, a page at a time: what a canceled campaign leaves in the queue."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.messages import ledger
from antiphon.messages.model import Fact


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages of a cause have no end yet, by where they stand in the queue."""

    waiting: int
    open: int
    in_doubt: int


async def cancel_page(
    conn: Connection, org_id: UUID, cause: Literal["campaign", "sequence"], cause_id: UUID, limit: int
) -> int:
    """Settle up to `limit` messages that wait behind the cause's gates as canceled; returns how many there were.

    Close the gates first. A message whose call is under way ends as the call ends.
    """
    taken = await db.tuples(
        conn, TAKE_BEHIND_GATES, org_id=org_id, cause=cause, cause_id=cause_id, limit=limit
    )
    at = now()
    facts = [
        Fact(
            message_id=id_, kind="canceled", key="canceled", at=at, source="dispatch",
            reason=f"{cause}_canceled",
        )
        for (id_,) in taken
    ]  # fmt: skip
    await ledger.learn(conn, org_id, facts)
    return len(facts)


TAKE_BEHIND_GATES = """
    DELETE FROM outbox
     WHERE org_id = %(org_id)s AND message_id = ANY (ARRAY(
           SELECT o.message_id
             FROM gates g CROSS JOIN LATERAL (
                  SELECT x.message_id FROM outbox x
                   WHERE x.org_id = %(org_id)s AND x.lane_id = g.lane_id AND x.gate_id = g.id AND x.state = 0
                   ORDER BY x.due_at
                   LIMIT %(limit)s
                     FOR UPDATE SKIP LOCKED) o
            WHERE g.org_id = %(org_id)s AND g.cause = %(cause)s AND g.cause_id = %(cause_id)s))
    RETURNING message_id
"""


async def unfinished(
    conn: Connection, org_id: UUID, cause: Literal["campaign", "sequence"], cause_id: UUID
) -> Unfinished:
    """What is left behind the cause's gates: what waits, is on the wire, or is doubtful and not yet decided."""
    return await db.one(conn, Unfinished, UNFINISHED, org_id=org_id, cause=cause, cause_id=cause_id)


UNFINISHED = """
    SELECT coalesce(sum(n.waiting), 0)::bigint AS waiting, coalesce(sum(n.open), 0)::bigint AS open,
           coalesce(sum(n.in_doubt), 0)::bigint AS in_doubt
      FROM gates g CROSS JOIN LATERAL (
           SELECT (SELECT count(*) FROM outbox w WHERE w.org_id = %(org_id)s AND w.lane_id = g.lane_id
                      AND w.gate_id = g.id AND w.state = 0) AS waiting,
                  count(*) FILTER (WHERE o.state = 1) AS open, count(*) FILTER (WHERE o.state = 2) AS in_doubt
             FROM outbox o
            WHERE o.org_id = %(org_id)s AND o.lane_id = g.lane_id AND o.gate_id = g.id AND o.state IN (1, 2)) n
     WHERE g.org_id = %(org_id)s AND g.cause = %(cause)s AND g.cause_id = %(cause_id)s
"""


async def drop_gates(
    conn: Connection, org_id: UUID, cause: Literal["campaign", "sequence"], cause_id: UUID
) -> None:
    """Forget the gates of a cause that has ended and of which nothing waits or is held: every open gate of a lane is
    looked at by each claim."""
    await db.execute(conn, DROP_GATES, org_id=org_id, cause=cause, cause_id=cause_id)


DROP_GATES = """
    DELETE FROM gates g
     WHERE g.org_id = %(org_id)s AND g.cause = %(cause)s AND g.cause_id = %(cause_id)s
       AND NOT EXISTS (SELECT FROM outbox o WHERE o.org_id = %(org_id)s AND o.lane_id = g.lane_id
                          AND o.gate_id = g.id AND o.state = 0)
"""
