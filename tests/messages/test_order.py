"""Who goes first: messages to one contact leave in order, and only what may still leave holds others back."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from antiphon.core import ids
from antiphon.core.db import Database
from antiphon.messages import lanes, service
from antiphon.messages.claim import Claimed, claim
from antiphon.messages.lanes import Owned, take
from tests.messages.road import Road, build

WORKER = ids.new_id()


@pytest.fixture
async def road(database: Database, worker_database: Database) -> Road:
    credentials = {"base_url": "http://127.0.0.1:9", "signing_secret": "shhh"}
    return await build(
        database, worker_database, "keyed", credentials, "+4915100000", rate=1000, in_flight=32
    )


async def own(road: Road) -> Owned:
    async with road.worker_database.transaction(road.org_id) as conn:
        lane = await take(conn, road.org_id, road.sender.id, WORKER)
    assert lane is not None
    return lane


async def take_due(road: Road, lane: Owned) -> list[UUID]:
    """What a claim takes now."""
    async with road.worker_database.transaction(road.org_id, hot=True) as conn:
        _, claimed = await claim(
            conn, lane, WORKER, room=32, call_timeout=timedelta(seconds=5), lease=15, replay=None
        )
    return [c.message_id for c in claimed]


async def put_off_is_over(road: Road, message_id: UUID) -> None:
    await road.run(
        "UPDATE outbox SET due_at = now() WHERE org_id = %(org_id)s AND message_id = %(id)s", id=message_id
    )


async def test_the_third_does_not_overtake_the_second_while_both_are_put_off(road: Road) -> None:
    first, second, third = [(await road.send(1, text=f"message {n}"))[0] for n in range(3)]
    lane = await own(road)
    assert await take_due(road, lane) == [first]
    assert await take_due(road, lane) == []
    await road.run("DELETE FROM outbox WHERE org_id = %(org_id)s AND message_id = %(id)s", id=first)
    await put_off_is_over(road, third)
    assert await take_due(road, lane) == [], "the second is put off for its order: the third waits for it"
    await put_off_is_over(road, second)
    assert await take_due(road, lane) == [second]


async def test_what_waits_behind_a_closed_gate_holds_nobody_back(road: Road) -> None:
    [tried] = await road.send(1, text="of a campaign")
    lane = await own(road)
    assert await take_due(road, lane) == [tried]
    campaign = ids.new_id()
    async with road.database.transaction(road.org_id) as conn:
        gate = await lanes.add_gate(
            conn, road.org_id, road.sender.id, cause="campaign", cause_id=campaign, traffic="bulk"
        )
        await lanes.close_gate(conn, road.org_id, "campaign", campaign, "paused")
    await road.run(
        "UPDATE outbox SET state = 0, gate_id = %(gate)s, due_at = now() WHERE org_id = %(org_id)s", gate=gate
    )
    [reset] = await road.send(1, text="your new password")
    assert await take_due(road, lane) == [reset]


async def test_a_held_message_of_a_canceled_campaign_leaves_when_a_person_resends_it(road: Road) -> None:
    [message_id] = await road.send(1)
    campaign = ids.new_id()
    async with road.database.transaction(road.org_id) as conn:
        gate = await lanes.add_gate(
            conn, road.org_id, road.sender.id, cause="campaign", cause_id=campaign, traffic="bulk"
        )
        await lanes.close_gate(conn, road.org_id, "campaign", campaign, "canceled")
    await road.run(
        "UPDATE outbox SET state = 3, attempt_no = 1, gate_id = %(gate)s WHERE org_id = %(org_id)s", gate=gate
    )
    await road.run("UPDATE messages SET status = 'unknown', stage = 'unknown' WHERE org_id = %(org_id)s")
    async with road.database.transaction(road.org_id) as conn:
        await service.resend(conn, road.actor, message_id)
    assert await take_due(road, await own(road)) == [message_id]


async def test_the_order_is_looked_up_by_index_however_long_the_queue(road: Road) -> None:
    await road.send(300)
    plan = await road.run(
        "EXPLAIN SELECT FROM outbox e WHERE e.org_id = %(org_id)s AND e.contact_id = %(contact)s"
        " AND e.lane_id = %(lane_id)s AND (e.state IN (1, 2) OR e.attempt_no > 0 OR e.wait_reason = 'order')"
        " AND e.state < 2",
        contact=ids.new_id(),
    )
    assert any("outbox_busy" in line for (line,) in plan), plan
    lane = await own(road)
    claimed: list[Claimed] | list[UUID] = await take_due(road, lane)
    assert len(claimed) == 32
