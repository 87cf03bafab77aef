"""Outcomes written down: the short way of plain acceptances ends in the same rows as the long way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from antiphon.core import db, ids
from antiphon.core.clock import now
from antiphon.core.db import Database
from antiphon.messages import record as recording
from antiphon.messages.claim import Claimed, claim
from antiphon.messages.lanes import Owned, take
from antiphon.messages.record import PollPlan, Told
from antiphon.providers.contract import Accepted
from tests.messages.road import Road, build

WORKER = ids.new_id()
POLL = PollPlan(first_after=timedelta(seconds=20), limit=timedelta(hours=1))


async def _claimed(
    database: Database, worker_database: Database, count: int
) -> tuple[Road, Owned, list[Claimed]]:
    credentials = {"base_url": "http://127.0.0.1:9", "signing_secret": "shhh"}
    road = await build(
        database, worker_database, "keyed", credentials, "+4915100000", rate=1000, in_flight=32
    )
    await road.send(count)
    async with worker_database.transaction(road.org_id) as conn:
        lane = await take(conn, road.org_id, road.sender.id, WORKER)
        assert lane is not None
        _, claimed = await claim(
            conn, lane, WORKER, room=count, call_timeout=timedelta(seconds=5), lease=15, replay=None
        )
    assert len(claimed) == count
    return road, lane, claimed


async def _rows(database: Database, org_id: UUID, message_id: UUID) -> dict[str, Any]:
    """Everything that recording writes about one message, without what names the message."""
    statements = {
        "message": "SELECT status, stage, reason, code, detail, attempt_no, provider_message_id, sent_at, failed_at"
        " FROM messages WHERE org_id = %(o)s AND id = %(m)s",
        "attempt": "SELECT attempt_no, outcome, code, reason, provider_message_id, finished_at"
        " FROM attempts WHERE org_id = %(o)s AND message_id = %(m)s",
        "events": "SELECT key, kind, source, old_status, new_status, coalesce(reason, ''), code, attempt_no,"
        " provider_at, at, detail FROM message_events WHERE org_id = %(o)s AND message_id = %(m)s",
        "outbox": "SELECT state FROM outbox WHERE org_id = %(o)s AND message_id = %(m)s",
        "polls": "SELECT due_at, stop_at FROM polls WHERE org_id = %(o)s AND message_id = %(m)s",
        "names": "SELECT attempt_no, part FROM provider_ids WHERE org_id = %(o)s AND message_id = %(m)s",
    }
    async with database.transaction(org_id) as conn:
        found: dict[str, Any] = {}
        for name, statement in statements.items():
            cursor = await conn.execute(statement.encode(), {"o": org_id, "m": message_id})
            found[name] = await cursor.fetchall()
    return found


async def test_both_ways_of_recording_an_acceptance_end_in_the_same_rows(
    database: Database, worker_database: Database
) -> None:
    road, lane, claimed = await _claimed(database, worker_database, 2)
    at = now()
    told = [
        Told(claimed=c, outcome=Accepted(provider_message_id=f"p-{i}", payload={"a": 1}, detail="ok"), at=at)
        for i, c in enumerate(claimed)
    ]
    async with worker_database.transaction(road.org_id) as conn:
        assert await recording.record_accepted(conn, lane, told[:1], POLL) == set()
        assert await recording.record_any(conn, lane, told[1:], POLL, timedelta(minutes=15)) == []
    short, long = [await _rows(database, road.org_id, c.message_id) for c in claimed]
    for rows in (short, long):
        rows["message"] = [
            tuple(v if v not in ("p-0", "p-1") else "p" for v in row) for row in rows["message"]
        ]
        rows["attempt"] = [
            tuple(v if v not in ("p-0", "p-1") else "p" for v in row) for row in rows["attempt"]
        ]
    assert short == long
    assert short["message"][0][0] == "sent"
    assert short["outbox"] == []
    async with database.transaction(road.org_id) as conn:
        counts = await db.tuples(
            conn,
            "SELECT stage, sum(n)::int FROM funnel_deltas WHERE org_id = %(org_id)s GROUP BY stage HAVING sum(n) <> 0",
            org_id=road.org_id,
        )
    assert counts == [("sent", 2)]


async def test_an_acceptance_of_a_message_that_was_heard_of_already_goes_the_long_way(
    database: Database, worker_database: Database
) -> None:
    road, lane, [claimed] = await _claimed(database, worker_database, 1)
    async with worker_database.transaction(road.org_id) as conn:
        await conn.execute(
            "UPDATE messages SET status = 'delivered', stage = 'delivered', delivered_at = now() WHERE org_id = %s",
            (road.org_id,),
        )
    told = Told(claimed=claimed, outcome=Accepted(provider_message_id="p"), at=now())
    async with worker_database.transaction(road.org_id) as conn:
        assert await recording.record(conn, lane, [told], poll=None, doubt_after=timedelta(minutes=15)) == []
    rows = await _rows(database, road.org_id, claimed.message_id)
    assert rows["message"][0][0] == "delivered"
    assert rows["message"][0][7] is not None, "the hand-over is kept as a fact"
    assert rows["outbox"] == []
