"""Asking providers: within their limit, and about doubts too where they can be asked by our reference."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from antiphon.core.db import Database
from antiphon.messages import model
from antiphon.providers.contract import Polling, PollRule, Provider
from antiphon.providers.keyed import KEYED
from tests.messages.road import Road, build, dispatcher
from tests.simulator_process import Simulator

HOUR = timedelta(hours=1)


async def test_no_more_is_asked_in_a_minute_than_the_provider_takes(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await build(
        database, worker_database, "wsapme", {"base_url": f"{sim.url}/v1", "token": "any"}, "device-1", "whatsapp",
        rate=1000, in_flight=32, daily_cap=None,
    )  # fmt: skip
    await road.send(40)
    async with dispatcher(worker_database):
        await road.until_sent(40)
        await road.run("UPDATE polls SET due_at = now() WHERE org_id = %(org_id)s")
        await road.wake()
        await asyncio.sleep(4.2)
    asked = [entry["at"] for entry in await sim.log(provider="wsapme", operation="status")]
    assert 3 <= len(asked) <= 6
    assert min(b - a for a, b in itertools.pairwise(asked)) > 0.9


# ---- doubts


def quick(every: timedelta) -> Callable[[str], Provider[Any]]:
    """The provider that finds messages by our reference, asked sooner than usual."""
    rule = PollRule(status="unknown", first_after=timedelta(seconds=0.1), every=every, limit=HOUR)
    provider = replace(KEYED, polling=Polling(by="reference", batch=1, per_minute=600, rules=(rule,)))
    return lambda name: provider


async def doubtful(database: Database, worker_database: Database, sim: Simulator, **fault: Any) -> Road:
    """A message whose next try, if it fails in doubt, is its last."""
    credentials = {"base_url": f"{sim.url}/keyed", "signing_secret": "shhh"}
    road = await build(database, worker_database, "keyed", credentials, "+4915100000", rate=1000, in_flight=4)
    await sim.fault(provider="keyed", answer="status", status=500, count=1, **fault)
    await road.send(1)
    await road.run("UPDATE outbox SET retries = %(most)s WHERE org_id = %(org_id)s", most=model.RETRIES)
    return road


async def history(road: Road) -> list[str]:
    found = await road.run("SELECT kind FROM message_events WHERE org_id = %(org_id)s ORDER BY at, key")
    return [kind for (kind,) in found]


async def test_a_doubt_that_the_provider_finds_was_sent(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await doubtful(database, worker_database, sim, accept=True)
    async with dispatcher(worker_database, provider_of=quick(HOUR)):
        await road.until(sent=1, seconds=10)
    assert await history(road) == ["unknown", "sent"]
    assert len(await sim.log(provider="keyed", operation="send")) == 1
    assert await road.run("SELECT 1 FROM outbox WHERE org_id = %(org_id)s") == []
    await road.healthy()


async def test_a_doubt_that_is_absent_twice_is_sent_under_the_same_key(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await doubtful(database, worker_database, sim)
    every = timedelta(seconds=1)
    async with dispatcher(worker_database, provider_of=quick(every)):
        await road.until(sent=1, seconds=15)
    assert await history(road) == ["unknown", "absent", "not_sent", "sent"]
    [(first, again)] = await road.run(
        "SELECT min(at) FILTER (WHERE kind = 'absent'), min(at) FILTER (WHERE kind = 'not_sent')"
        "  FROM message_events WHERE org_id = %(org_id)s"
    )
    assert again - first >= every
    keys = await road.run("SELECT key FROM attempts WHERE org_id = %(org_id)s")
    assert (len(keys), len(set(keys))) == (2, 1)
    assert len(await sim.messages(provider="keyed")) == 1
    await road.healthy()


async def test_absent_once_is_no_proof(database: Database, worker_database: Database, sim: Simulator) -> None:
    road = await doubtful(database, worker_database, sim)
    async with dispatcher(worker_database, provider_of=quick(HOUR)):
        await road.soon(
            "SELECT 1 FROM message_events WHERE org_id = %(org_id)s AND kind = 'absent'", seconds=10
        )
        # though it is asked again, it is too soon
        await road.run("UPDATE polls SET due_at = now() WHERE org_id = %(org_id)s")
        await asyncio.sleep(1.5)
    assert await history(road) == ["unknown", "absent"]
    assert await road.run("SELECT state FROM outbox WHERE org_id = %(org_id)s") == [(2,)]
    assert len(await sim.log(provider="keyed", operation="send")) == 1
    await road.healthy()


async def test_what_is_absent_again_and_again_is_left_to_its_purpose(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await doubtful(database, worker_database, sim)
    await sim.fault(provider="keyed", answer="status", status=500, count=100)
    async with dispatcher(worker_database, provider_of=quick(timedelta(seconds=0.1))):
        await road.soon(
            "SELECT 1 FROM message_events WHERE org_id = %(org_id)s AND kind = 'not_sent' HAVING count(*) = %(most)s",
            most=model.RETRIES,
        )
        await asyncio.sleep(2)
    assert len(await sim.log(provider="keyed", operation="send")) == model.RETRIES + 1
    assert await road.run("SELECT state FROM outbox WHERE org_id = %(org_id)s") == [(2,)]
    await road.healthy()
