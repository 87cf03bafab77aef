"""kill -9 at every named point of the road and at random times: 0 lost, 0 doubled where the provider takes a key, and
elsewhere every doubtful message is `unknown`: at most what was in flight, none silently sent twice."""

from __future__ import annotations

import asyncio
import random
import signal

import pytest

from antiphon.core.db import Database
from tests.faults.processes import Workers
from tests.faults.scene import IN_FLIGHT, Scene, build_scene
from tests.simulator_process import Simulator

COUNT = 100

POINTS = {
    "claim_committed": "claimed and nothing rendered",
    "rendered": "rendered and nothing written",
    "request_half_written": "half of a request written",
    "request_written": "a request written",
    "answer_read": "the answer read and not recorded",
    "record_sent": "the record sent and not committed",
    "record_committed": "the record committed",
}


@pytest.mark.parametrize("point", POINTS, ids=POINTS.values())
async def test_killed_with(scene: Scene, point: str) -> None:
    await scene.send(COUNT)
    nth = 4 if point.startswith(("claim", "record")) else 40
    worker = await scene.workers.start(f"{point}=kill@{nth}")
    assert await worker.ended() == -signal.SIGKILL
    await scene.workers.start()
    await scene.finished(COUNT, doubts=IN_FLIGHT)
    await scene.ends()


async def test_killed_while_the_provider_has_taken_them_and_withholds_its_answers(scene: Scene) -> None:
    for provider in ("keyed", "wsapme"):
        await scene.sim.fault(provider=provider, answer="hang", skip=30, count=IN_FLIGHT)
    await scene.send(COUNT)
    worker = await scene.workers.start()
    for provider in ("keyed", "wsapme"):
        await scene.accepted(provider, 30 + IN_FLIGHT)
    worker.kill()
    await worker.ended()
    await scene.workers.start()
    assert await scene.finished(COUNT, doubts=IN_FLIGHT) == IN_FLIGHT, (
        "each of them is in doubt, and no other"
    )
    replayed = await scene.called("keyed", verdict="replayed")
    assert len(replayed) >= IN_FLIGHT, "and under their keys they were asked again"
    await scene.ends()


async def test_killed_eight_times_at_random(
    database: Database, worker_database: Database, sim: Simulator, workers: Workers
) -> None:
    chance, count, kills = random.Random(4711), 400, 8
    scene = await build_scene(database, worker_database, sim, workers, rate=50)
    await scene.takes(0.25)
    await scene.send(count)
    for _ in range(kills):
        worker = await workers.start()
        await scene.progress(10, more=True)
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        worker.kill()
        await worker.ended()
    await workers.start()
    left = await scene.finished(count, doubts=kills * IN_FLIGHT, seconds=60)
    print(f"{left} of {count} in doubt after {kills} kills with {IN_FLIGHT} in flight")
    assert left > 0, "no kill has hit a call: this proves nothing"
    await scene.ends()
