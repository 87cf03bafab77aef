"""A lane that falls asleep while something is enqueued is woken: no message is slept over, in any interleaving."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from antiphon.core import ids
from antiphon.core.channel import Purpose
from antiphon.core.clock import now
from antiphon.core.db import Database
from antiphon.core.waking import Wakes
from antiphon.core.waking import wakes as of_this_process
from antiphon.entry.loops import deliver_through
from antiphon.messages import lanes
from antiphon.messages.claim import claim
from antiphon.messages.enqueue import NewMessage, enqueue
from antiphon.messages.lane_run import REST
from tests.messages.road import Road, build, dispatcher
from tests.simulator_process import Simulator

HAMMERED = 2_000


@asynccontextmanager
async def waking(database: Database, wakes: Wakes = of_this_process) -> AsyncIterator[None]:
    """This process hands on what became due, as a server does."""
    stop = asyncio.Event()
    running = asyncio.create_task(wakes.run(deliver_through(database), stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def test_of_two_thousand_enqueued_while_their_lane_falls_asleep_again_and_again_each_is_claimed(
    database: Database, worker_database: Database
) -> None:
    """The lane is given back after every claim, which a real owner does after two idle seconds: so every enqueue meets
    a lane that is just falling asleep. There is no sweep here to find what was slept over."""
    credentials = {"base_url": "http://127.0.0.1:9", "signing_secret": "x"}
    road = await build(
        database, worker_database, "keyed", credentials, "+4915100000", rate=100_000, in_flight=64
    )
    [first] = await road.send(1)
    [(gate_id,)] = await road.run("SELECT id FROM gates WHERE org_id = %(org_id)s")
    people = await road.run(
        "INSERT INTO contacts (org_id, id) SELECT %(org_id)s, uuid7() FROM generate_series(1, %(count)s)"
        " ON CONFLICT DO NOTHING RETURNING id",
        count=HAMMERED,
    )
    chance, worker, claimed = random.Random(5), ids.new_id(), dict[UUID, float]()
    made = {first: time.monotonic()}

    async def sleepy_owner() -> None:
        while len(claimed) <= HAMMERED:
            async with worker_database.across() as conn:
                due = await lanes.lanes_to_own(conn, 1)
            if not due:
                await asyncio.sleep(0.001)
                continue
            async with worker_database.transaction(road.org_id) as conn:
                lane = await lanes.take(conn, road.org_id, road.sender.id, worker)
            assert lane is not None
            async with worker_database.transaction(road.org_id, hot=True) as conn:
                _, found = await claim(
                    conn, lane, worker, room=64, call_timeout=timedelta(seconds=5), lease=15, replay=None
                )
                await conn.execute("DELETE FROM outbox WHERE org_id = %s AND state = 1", (road.org_id,))
            claimed.update((c.message_id, time.monotonic()) for c in found)
            async with worker_database.transaction(road.org_id) as conn:
                await lanes.fall_asleep(conn, lane, worker)
            async with worker_database.transaction(road.org_id) as conn:
                await lanes.look_again(conn, road.org_id, road.sender.id)

    async def enqueuer(count: int) -> None:
        for _ in range(count):
            message = _message(road, gate_id, people.pop()[0])
            async with database.transaction(road.org_id) as conn:
                await enqueue(conn, road.org_id, [message])
            made[message.id] = time.monotonic()
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.002, 0.004)))

    async with waking(database):
        owner = asyncio.create_task(sleepy_owner())
        await asyncio.gather(*(enqueuer(HAMMERED // 2) for _ in range(2)))
        done, _ = await asyncio.wait({owner}, timeout=5 * 1)
        owner.cancel()
    assert done, f"{HAMMERED + 1 - len(claimed)} were slept over"
    slowest = max(claimed[id_] - made[id_] for id_ in made)
    assert slowest < 5 * 1, f"one waited {slowest:.1f} s"


def _message(road: Road, gate_id: UUID, contact_id: UUID) -> NewMessage:
    return NewMessage(
        id=ids.new_id(), channel=road.sender.channel, purpose=Purpose.TRANSACTIONAL, origin="api", caused_by="test",
        lane_id=road.sender.id, gate_id=gate_id, contact_id=contact_id, address=str(contact_id), due_at=now(), text="x",
    )  # fmt: skip


async def test_messages_that_come_just_when_an_idle_lane_is_given_back_leave_within_a_second(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    credentials = {"base_url": f"{sim.url}/keyed", "signing_secret": "x"}
    chance = random.Random(7)
    roads = [
        await build(database, worker_database, "keyed", credentials, "+4915100000", rate=1000)
        for _ in range(25)
    ]
    rounds, late = 4, list[float]()

    async def lane(road: Road) -> None:
        for n in range(rounds):
            await road.send(1, first=n)
            began = time.monotonic()
            await road.soon(
                "SELECT 1 WHERE (SELECT count(*) FROM outbox WHERE org_id = %(org_id)s) = 0", seconds=35
            )
            late.append(time.monotonic() - began)
            await asyncio.sleep(REST + chance.uniform(-0.2, 0.3))

    async with waking(database), dispatcher(worker_database):
        await asyncio.gather(*map(lane, roads))
    assert len(late) == rounds * len(roads)
    assert max(late) < 5 * 1, f"one waited {max(late):.1f} s"
