"""The stage of the fault tests: one organization, a sender that takes keys and one that does not, a simulator whose log
is the oracle, and workers that are real processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import Any, LiteralString

import msgspec
import psycopg

from antiphon.core.db import Database
from tests.faults.processes import Workers
from tests.messages.road import Road, build
from tests.simulator_process import Simulator

IN_FLIGHT = 16
"""Of each sender: what one crash may leave in doubt."""


class Scene(msgspec.Struct, frozen=True):
    """`keyed` is the road of the provider that takes a key, `blind` the one of a provider that takes none."""

    sim: Simulator
    workers: Workers
    keyed: Road
    blind: Road

    async def send(self, count: int, *, first: int = 0, **fields: Any) -> None:
        """So many messages on each road."""
        for road in (self.keyed, self.blind):
            await road.send(count, first=first, **fields)

    async def takes(self, seconds: float) -> None:
        """Let both providers take so long for each answer."""
        latency = {"latency": {"least": seconds, "mean": seconds, "most": seconds}}
        await self.sim.scenario({"keyed": latency, "wsapme": latency})

    async def called(self, provider: str, **filters: Any) -> list[dict[str, Any]]:
        """The sends that the simulator has received."""
        return await self.sim.log(provider=provider, operation="send", limit=100_000, **filters)

    async def received(self) -> int:
        """How many sends the simulator has received."""
        sends = (await self.sim.summary())["sends"]
        return sum(n for verdicts in sends.values() for n in verdicts.values())

    async def progress(self, count: int, *, more: bool = False, seconds: float = 20) -> None:
        """Wait until the simulator has received so many sends of both together (`more`: from now on)."""
        wanted = count + (await self.received() if more else 0)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if await self.received() >= wanted:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"fewer than {wanted} sends after {seconds} s: {await self.stands()}")

    async def accepted(self, provider: str, count: int, seconds: float = 20) -> None:
        """Wait until a provider has taken so many."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if (await self.sim.summary())["sends"].get(provider, {}).get("accepted", 0) >= count:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{provider} has not taken {count} after {seconds} s: {await self.stands()}")

    async def stands(self) -> dict[str, dict[str, int]]:
        """Statuses on both roads."""
        return {"keyed": await self.keyed.statuses(), "blind": await self.blind.statuses()}

    async def patience_ends(self) -> None:
        """The time in which a dead worker's calls may still be answered (a minute for some providers) is over.

        Only attempts of earlier owners are touched: nobody answers for these any more.
        """
        for road in (self.keyed, self.blind):
            with contextlib.suppress(psycopg.errors.DeadlockDetected):  # a worker was there first: next time
                await road.run(PATIENCE_ENDS)

    async def finished(self, count: int, *, doubts: int, seconds: float = 30) -> int:
        """Wait until nothing is scheduled: all keyed messages are sent, of the others at most `doubts` are unknown.

        Returns how many are. Then the oracle is asked: nothing lost, nothing doubled. With doubts, patience with the
        dead has an end; without, somebody lives who will tell.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if doubts:
                await self.patience_ends()
            keyed, blind = (await self.stands()).values()
            left = blind.get("unknown", 0)
            if keyed == {"sent": count} and blind.get("sent", 0) + left == count:
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(
                f"not finished after {seconds} s: {await self.stands()}\n{await self.queues()}"
            )
        assert left <= doubts, f"{left} in doubt, {doubts} are allowed"
        await self.judge(count, left)
        return left

    async def judge(self, count: int, doubts: int) -> None:
        """What the simulator received, beside what the ledgers say."""
        keyed = Counter(e["recipient"] for e in await self.called("keyed", verdict="accepted"))
        assert len(keyed) == count, "lost, though the ledger says sent"
        assert set(keyed.values()) == {1}, "doubled, though the provider takes a key"
        blind = Counter(e["recipient"] for e in await self.called("wsapme", verdict="accepted"))
        assert [who for who, times in blind.items() if times > 1] == [], "silently sent twice"
        sent = {to.lstrip("+") for (to,) in await self.blind.run(SENT)}
        assert sent <= {who.lstrip("+") for who in blind}, (
            "the ledger says sent, the provider knows nothing of it"
        )
        assert len(sent) == count - doubts
        await self.keyed.healthy()
        await self.blind.healthy()

    async def queues(self) -> list[Any]:
        """For a failure's text: what is left in the queues."""
        return [await road.run(LEFT) for road in (self.keyed, self.blind)]

    async def ends(self, *, within: float = 30) -> None:
        """Every worker ends when it is told to."""
        for worker in self.workers.all:
            if worker.is_running:
                worker.terminate()
                assert await worker.ended(within) == 0, worker.tail()


PATIENCE_ENDS: LiteralString = """
    WITH late AS (
        UPDATE attempts a SET give_up_at = now() - interval '1 second' FROM lanes l
         WHERE a.org_id = %(org_id)s AND l.org_id = %(org_id)s AND l.id = a.lane_id AND a.outcome IS NULL
           AND a.give_up_at > now() AND (a.epoch < l.epoch OR l.lease_until < now())
        RETURNING a.message_id, a.attempt_no
    )
    UPDATE outbox o SET due_at = now() - interval '1 second' FROM late
     WHERE o.org_id = %(org_id)s AND o.message_id = late.message_id AND o.attempt_no = late.attempt_no AND o.state = 1
"""

SENT: LiteralString = "SELECT address FROM messages WHERE org_id = %(org_id)s AND status = 'sent'"

LEFT: LiteralString = """
    SELECT o.state, o.wait_reason, count(*), min(o.due_at - now()), max(o.retries), max(o.crashes)
      FROM outbox o WHERE o.org_id = %(org_id)s GROUP BY o.state, o.wait_reason
"""


async def build_scene(
    database: Database, worker_database: Database, sim: Simulator, workers: Workers, **pace: Any
) -> Scene:
    """Both roads of one organization."""
    pace = {"rate": 1000, "in_flight": IN_FLIGHT, **pace}
    keyed = await build(
        database, worker_database, "keyed", {"base_url": f"{sim.url}/keyed", "signing_secret": "shhh"},
        "+4915100000", **pace,
    )  # fmt: skip
    blind = await build(
        database, worker_database, "wsapme", {"base_url": f"{sim.url}/v1", "token": "any"},
        "device-1", "whatsapp", daily_cap=None, **pace,
    )  # fmt: skip
    return Scene(sim, workers, keyed, blind)
