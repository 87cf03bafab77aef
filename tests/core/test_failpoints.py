"""Failpoints: inert unless armed, and then exactly as told."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from antiphon.core import failpoints
from antiphon.core.failpoints import BadFailpoint, Reached


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


async def test_nothing_happens_unless_armed() -> None:
    failpoints.hit("rendered")
    await failpoints.reach("rendered")


async def test_it_acts_at_the_time_it_was_told_and_only_then() -> None:
    failpoints.arm("rendered=raise@3; claim_committed=raise")
    failpoints.hit("rendered")
    await failpoints.reach("rendered")
    with pytest.raises(Reached, match="rendered"):
        await failpoints.reach("rendered")
    await failpoints.reach("rendered")
    with pytest.raises(Reached):
        failpoints.hit("claim_committed")


async def test_freeze_blocks_the_whole_loop() -> None:
    failpoints.arm("rendered=freeze:0.2")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    begun = time.monotonic()
    await failpoints.reach("rendered")
    assert time.monotonic() - begun >= 0.2
    assert ticks == 1
    ticker.cancel()


def test_kill_is_a_real_kill() -> None:
    program = (
        "from antiphon.core import failpoints as f; f.arm('record_sent=kill@2'); f.hit('record_sent');"
        " print('once', flush=True); f.hit('record_sent'); print('twice', flush=True)"
    )
    died = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, env=dict(os.environ)
    )
    assert (died.returncode, died.stdout) == (-9, "once\n")


@pytest.mark.parametrize(
    ("specification", "says"),
    [
        ("no_such_place=kill", "claim_committed"),
        ("rendered", "name=kill"),
        ("rendered=explode", "name=kill"),
        ("rendered=kill@x", "name=kill"),
    ],
)
def test_a_specification_that_cannot_be_followed_is_refused(specification: str, says: str) -> None:
    with pytest.raises(BadFailpoint, match=says):
        failpoints.arm(specification)
