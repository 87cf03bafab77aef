"""Lanes share a worker."""

from __future__ import annotations

from typing import Any

from antiphon.core.db import Database
from tests.messages.road import Road, build, dispatcher
from tests.simulator_process import Simulator


async def keyed(database: Database, worker_database: Database, sim: Simulator, **pace: Any) -> Road:
    credentials = {"base_url": f"{sim.url}/keyed", "signing_secret": "shhh"}
    return await build(database, worker_database, "keyed", credentials, "+4915100000", **pace)


async def test_a_worker_that_serves_as_many_lanes_as_it_may_makes_room_for_the_next(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    slow = await keyed(database, worker_database, sim, rate=2, in_flight=4)
    other = await keyed(database, worker_database, sim, rate=2, in_flight=4)
    await slow.send(60)
    async with dispatcher(worker_database, most_lanes=1):
        await slow.until_sent(2)
        await other.send(1)
        await other.until(sent=1, seconds=10)
    assert (await slow.statuses())["scheduled"] > 0, "the slow blast was still under way"
