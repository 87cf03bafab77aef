"""kill -9 at every named point of the road and at random times: 0 lost, 0 doubled where the provider takes a key, and
elsewhere every doubtful message is `unknown`: at most what was in flight, none silently sent twice."""

from __future__ import annotations

import signal

import pytest

from tests.faults.scene import IN_FLIGHT, Scene

COUNT = 150

POINTS = {
    "claim_committed": "claimed, nothing rendered",
    "rendered": "rendered, nothing written",
    "request_half_written": "half of a request written",
    "request_written": "a request written",
    "answer_read": "the answer read, not recorded",
    "record_sent": "the record sent, not committed",
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
