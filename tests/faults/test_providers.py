"""A provider that fails in every way at once, with a real worker: no message is lost and none doubled."""

from __future__ import annotations

import asyncio

from tests.faults.scene import Scene

COUNT = 200

FAULTS = (
    {"answer": "status", "status": 429, "retry_after": "1"},
    {"answer": "status", "status": 500},
    {"answer": "status", "status": 500, "accept": True},
    {"answer": "reset"},
    {"answer": "half"},
    {"answer": "garbage"},
    {"answer": "not_json"},
    {"answer": "close"},
)


async def test_a_provider_that_fails_in_every_way(scene: Scene) -> None:
    for n, fault in enumerate(FAULTS):
        for provider in ("keyed", "wsapme"):
            await scene.sim.fault(provider=provider, skip=10 + 12 * n, count=2, **fault)
    await scene.send(COUNT)
    await scene.workers.start()
    for _ in range(120):  # a retry waits up to half a minute; nothing here needs to
        await scene.keyed.due_now()
        await scene.blind.due_now()
        if (await scene.keyed.statuses()) == {"sent": COUNT}:
            break
        await asyncio.sleep(0.25)
    left = await scene.finished(COUNT, doubts=2 * len(FAULTS))
    assert left >= 6, "what a provider without keys did not answer is in doubt"
    print(f"{left} in doubt after {2 * len(FAULTS)} faults without a key")
    await scene.ends()
