"""Doubts that asking resolves: where the provider finds a message by our reference, or proves that it never saw it.

What is found was handed over. What is absent twice, a while apart, was not: it is due again, under the same key. Once
would not do: a request that is still on its way is absent too. All that comes while nothing of the message is known;
what asking does not resolve in the lane's `doubt_after`, the policy of its purpose does (`recovery`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.messages import ledger
from antiphon.messages.lanes import Owned
from antiphon.messages.model import RETRIES, Fact
from antiphon.providers.contract import Polling, PollRule, Receipt


def rule_of(polling: Polling) -> PollRule | None:
    """How a provider is asked about doubts; None where it cannot find a message by our reference."""
    if polling.by != "reference":
        return None
    return next((rule for rule in polling.rules if rule.status == "unknown"), None)


async def plan(conn: Connection, lane: Owned, rule: PollRule) -> None:
    """Plan the first question about each doubt of the lane that has none planned."""
    at = now()
    await db.execute(
        conn, PLAN, org_id=lane.org_id, lane_id=lane.id, first=at + rule.first_after, last=at + rule.limit
    )


# No name: it is asked about by our reference.
PLAN = """
    INSERT INTO polls (org_id, message_id, lane_id, provider_message_id, due_at, stop_at)
    SELECT %(org_id)s, o.message_id, o.lane_id, '', %(first)s, %(last)s
      FROM outbox o
     WHERE o.org_id = %(org_id)s AND o.lane_id = %(lane_id)s AND o.state = 2
       AND NOT EXISTS (SELECT FROM polls p WHERE p.org_id = %(org_id)s AND p.message_id = o.message_id)
        ON CONFLICT DO NOTHING
"""


async def still_open(conn: Connection, lane: Owned, message_ids: list[UUID]) -> dict[UUID, int]:
    """Which of these are doubtful yet, and by which attempt; the questions about the others are dropped."""
    if not message_ids:
        return {}
    return dict(await db.tuples(conn, OPEN, org_id=lane.org_id, ids=message_ids))


OPEN = """
    WITH doubtful AS MATERIALIZED (
        SELECT o.message_id, o.attempt_no FROM outbox o
         WHERE o.org_id = %(org_id)s AND o.message_id = ANY(%(ids)s) AND o.state = 2
    ), dropped AS (
        DELETE FROM polls p
         WHERE p.org_id = %(org_id)s AND p.message_id = ANY(%(ids)s) AND p.provider_message_id = ''
           AND NOT p.message_id = ANY (ARRAY(SELECT d.message_id FROM doubtful d))
    )
    SELECT message_id, attempt_no FROM doubtful
"""


def proven(receipts: Sequence[Receipt], doubtful: Mapping[UUID, int]) -> list[Receipt]:
    """What the provider told; a doubt that it has not handed on yet was handed over to it for all that."""
    asked = {str(message_id) for message_id in doubtful}
    return [
        msgspec.structs.replace(receipt, status="sent", dedupe_key=f"{receipt.dedupe_key}:found")
        if receipt.status == "sending" and receipt.reference in asked
        else receipt
        for receipt in receipts
    ]


async def learn_absent(
    conn: Connection,
    lane: Owned,
    doubtful: Mapping[UUID, int],
    absent: Sequence[str],
    at: datetime,
    apart: timedelta,
) -> None:
    """The provider, asked at `at`, never saw these. Told so twice, at least `apart`, the message is due again.

    At most as often as a message is tried again: after that, its purpose decides.
    """
    ids = sorted(message_id for message_id in doubtful if str(message_id) in set(absent))
    if not ids:
        return
    locked = await ledger.lock(conn, lane.org_id, ids)
    unproven = [id_ for id_ in ids if id_ in locked and locked[id_].row.status == "unknown"]
    again = await db.tuples(
        conn, DUE_AGAIN, org_id=lane.org_id, ids=unproven, attempts=[doubtful[id_] for id_ in unproven],
        before=at - apart, most=RETRIES,
    )  # fmt: skip
    due = {row[0] for row in again}
    facts = [_absent(id_, doubtful[id_], at, is_due=id_ in due) for id_ in unproven]
    await ledger.write(conn, lane.org_id, ledger.settle(locked, facts))


def _absent(message_id: UUID, attempt_no: int, at: datetime, *, is_due: bool) -> Fact:
    if is_due:
        return Fact(
            message_id=message_id, kind="not_sent", key=f"absent:{attempt_no}:again", at=at, source="polling",
            attempt_no=attempt_no, detail="the provider has said twice that it never saw it",
        )  # fmt: skip
    return Fact(
        message_id=message_id, kind="absent", key=f"absent:{attempt_no}", at=at, source="polling",
        attempt_no=attempt_no, detail="the provider says that it never saw it",
    )  # fmt: skip


DUE_AGAIN = """
    UPDATE outbox o SET state = 0, due_at = o.order_at, wait_reason = 'not_sent'
      FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS x (message_id, attempt_no)
     WHERE o.org_id = %(org_id)s AND o.message_id = ANY(%(ids)s::uuid[]) AND o.message_id = x.message_id
       AND o.attempt_no = x.attempt_no AND o.state = 2
       AND EXISTS (SELECT FROM message_events e
                    WHERE e.org_id = %(org_id)s AND e.message_id = x.message_id
                      AND e.key = 'absent:' || x.attempt_no AND e.at <= %(before)s)
       AND (SELECT count(*) FROM message_events e
             WHERE e.org_id = %(org_id)s AND e.message_id = x.message_id
               AND e.kind = 'not_sent' AND e.source = 'polling') < %(most)s
    RETURNING o.message_id
"""
