"""A worker whose clock is an hour wrong: the database's clock decides, so nothing leaves early, no silence is broken,
no lease is stolen, and no time in the ledger is wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from antiphon.core.clock import now
from tests.faults.processes import LEASE
from tests.faults.scene import Scene

WRONG_CLOCK = Path(__file__).with_name("wrong_clock.py")
COUNT = 60


@pytest.mark.parametrize("hours", [1, -1], ids=["an hour fast", "an hour slow"])
async def test_a_worker_whose_clock_is(scene: Scene, hours: int) -> None:
    begun, due = now(), now() + timedelta(seconds=5)
    await scene.keyed.send(COUNT)
    await scene.blind.send(COUNT, scheduled_for=due)
    await scene.sim.fault(provider="keyed", answer="status", status=429, retry_after="2", count=1)
    worker = await scene.workers.start(entry=str(WRONG_CLOCK), ANTIPHON_TEST_CLOCK_HOURS=str(hours))
    await scene.workers.start()
    await scene.finished(COUNT, doubts=0)
    assert worker.is_running
    keyed, blind = await scene.called("keyed"), await scene.called("wsapme")
    assert min(e["at"] for e in blind) >= due.timestamp(), "nothing leaves before its time"
    refused = next(e["at"] for e in keyed if e["verdict"] == "throttled" or e["answer"])
    later = [e["at"] - refused for e in keyed if e["at"] > refused + 1]
    assert later and min(later) >= 1.9, "a silence that was asked for is kept"
    for road in (scene.keyed, scene.blind):
        times = await road.run(
            "SELECT min(sent_at), max(sent_at) FROM messages WHERE org_id = %(org_id)s AND status = 'sent'"
        )
        assert begun <= times[0][0] <= times[0][1] <= now(), "the ledger's times are true"
        [(epoch,)] = await road.run("SELECT epoch FROM lanes WHERE org_id = %(org_id)s")
        assert epoch <= 1 + (now() - begun) / timedelta(seconds=LEASE), "no lease was stolen"
    await scene.ends()
