"""SIGTERM under load: what is under way ends, what has not begun is due again at once, and nothing is in doubt."""

from __future__ import annotations

import time

from antiphon.core.db import Database
from tests.faults.processes import Workers
from tests.faults.scene import Scene, build_scene
from tests.simulator_process import Simulator

COUNT = 200


async def test_told_to_end_under_load_it_ends_within_thirty_seconds_and_leaves_no_doubt(
    database: Database, worker_database: Database, sim: Simulator, workers: Workers
) -> None:
    scene = await build_scene(database, worker_database, sim, workers, rate=80)
    await scene.takes(0.3)
    await scene.send(COUNT)
    worker = await workers.start()
    await scene.progress(80)
    began = time.monotonic()
    worker.terminate()
    assert await worker.ended() == 0, worker.tail()
    took = time.monotonic() - began
    assert took < 30
    for road in (scene.keyed, scene.blind):
        stands = await road.statuses()
        assert set(stands) == {"scheduled", "sent"}
        assert (
            await road.run(
                "SELECT 1 FROM outbox WHERE org_id = %(org_id)s AND (state <> 0 OR due_at > now())"
            )
            == []
        )
        assert await road.run("SELECT 1 FROM lanes WHERE org_id = %(org_id)s AND next_due_at > now()") == []
        await road.healthy()
    await workers.start()
    await scene.finished(COUNT, doubts=0)
    await scene.ends()


async def test_told_to_end_while_a_provider_withholds_its_answers_it_does_not_wait_for_ever(
    scene: Scene,
) -> None:
    await scene.sim.fault(provider="wsapme", answer="hang", skip=20, count=3)
    await scene.send(50)
    worker = await scene.workers.start()
    await scene.keyed.until(sent=50)
    began = time.monotonic()
    worker.terminate()
    assert await worker.ended(40) == 0, worker.tail()
    assert time.monotonic() - began < 30
    assert await scene.blind.statuses() == {"sent": 47, "unknown": 3}
    await scene.judge(50, 3)
