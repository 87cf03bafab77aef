"""Workers that stand still and go on: their lanes move meanwhile, and they call nobody whom another has called."""

from __future__ import annotations

import asyncio
from collections import Counter

from antiphon.core.db import Database
from antiphon.messages.lanes import pace_of
from tests.faults.processes import LEASE, Workers
from tests.faults.scene import IN_FLIGHT, Scene, build_scene
from tests.simulator_process import Simulator

COUNT = 200


async def moved(scene: Scene) -> None:
    """Both lanes have a second owner."""
    for road in (scene.keyed, scene.blind):
        await road.soon("SELECT 1 FROM lanes WHERE org_id = %(org_id)s AND epoch >= 2", seconds=5 * LEASE)


async def test_frozen_past_its_lease_and_thawed_while_calls_are_under_way(
    database: Database, worker_database: Database, sim: Simulator, workers: Workers
) -> None:
    scene = await build_scene(database, worker_database, sim, workers, rate=80)
    await scene.takes(0.3)
    await scene.send(COUNT)
    frozen = await workers.start()
    await scene.progress(60)
    frozen.freeze()
    await workers.start()
    await moved(scene)
    await scene.progress(40, more=True)
    frozen.thaw()
    left = await scene.finished(COUNT, doubts=0)
    assert left == 0, "the thawed worker tells what became of its calls, and nobody had called them doubtful"
    await _rate_held(scene, 80)
    await scene.ends()


async def test_thawed_after_its_calls_were_given_up_it_resolves_the_doubts(
    database: Database, worker_database: Database, sim: Simulator, workers: Workers
) -> None:
    scene = await build_scene(database, worker_database, sim, workers, rate=80)
    await scene.takes(0.3)
    await scene.send(COUNT)
    frozen = await workers.start()
    await scene.progress(60)
    frozen.freeze()
    await workers.start()
    await moved(scene)
    for _ in range(3):
        await scene.patience_ends()
        await asyncio.sleep(1)
    doubts = (await scene.blind.statuses()).get("unknown", 0)
    assert 0 < doubts <= IN_FLIGHT, "what it had on the wire is in doubt, and nothing else"
    frozen.thaw()
    await scene.finished(COUNT, doubts=0)
    await scene.ends()


async def test_an_event_loop_that_stands_still_loses_its_lanes_and_doubles_nothing(scene: Scene) -> None:
    """The same from inside: one turn of the loop takes longer than the lease, before the calls are begun."""
    await scene.send(COUNT)
    slow = await scene.workers.start(f"claim_committed=freeze:{3 * LEASE}@3")
    await scene.workers.start()
    await moved(scene)
    await scene.finished(COUNT, doubts=0)
    released = await scene.blind.run(
        "SELECT 1 FROM attempts WHERE org_id = %(org_id)s AND code = 'not_begun'"
    )
    released += await scene.keyed.run(
        "SELECT 1 FROM attempts WHERE org_id = %(org_id)s AND code = 'not_begun'"
    )
    assert released, "what it had claimed was never begun, and it said so when it went on"
    assert slow.is_running
    await scene.ends()


async def test_two_workers_share_the_senders_and_no_message_is_claimed_twice(
    database: Database, worker_database: Database, sim: Simulator, workers: Workers
) -> None:
    scenes = [await build_scene(database, worker_database, sim, workers, rate=200) for _ in range(2)]
    await workers.start()
    await workers.start()
    for scene in scenes:
        await scene.send(COUNT)
    for scene in scenes:
        await scene.keyed.until(sent=COUNT, seconds=30)
        await scene.blind.until(sent=COUNT, seconds=30)
        for road in (scene.keyed, scene.blind):
            attempts = await road.run(
                "SELECT count(*), count(DISTINCT message_id), count(*) FILTER (WHERE outcome <> 'accepted')"
                " FROM attempts WHERE org_id = %(org_id)s"
            )
            assert attempts == [(COUNT, COUNT, 0)]
            await road.healthy()
    owners = await asyncio.gather(
        *(
            road.run("SELECT owner FROM lanes WHERE org_id = %(org_id)s")
            for scene in scenes
            for road in (scene.keyed, scene.blind)
        )
    )
    print(f"lanes by worker: {sorted(Counter(str(rows[0][0]) for rows in owners).values())}")
    await scenes[0].ends()


async def _rate_held(scene: Scene, rate: float) -> None:
    """No second holds more than the rate, though the lane has moved. What a freeze held back comes out at once: at most
    what was in flight."""
    fill, burst = pace_of(rate)
    for provider in ("keyed", "wsapme"):
        times = [entry["at"] for entry in await scene.called(provider)]
        most = max(sum(1 for t in times if start <= t < start + 1) for start in times)
        assert most <= burst + fill * 1.2 + IN_FLIGHT, f"{most} in a second"
