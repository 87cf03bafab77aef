"""The database killed, cut off and starved in mid-blast: no process exits, nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from antiphon.core.db import Database
from tests import make
from tests.entry import live
from tests.entry.live import Answer, Client
from tests.faults.own_server import OwnServer, own_server
from tests.faults.processes import Workers
from tests.faults.scene import Scene, build_scene
from tests.simulator_process import Simulator

COUNT = 200
RATE = 50


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with own_server() as server:
        yield server


@pytest.fixture
async def database(server: OwnServer) -> AsyncIterator[Database]:
    async with Database.connect(server.urls.app, size=4, wait=15) as database:
        yield database


@pytest.fixture
async def workers(server: OwnServer, tmp_path: Path) -> AsyncIterator[Workers]:
    async with Workers(server.urls, tmp_path) as workers:
        yield workers


@pytest.fixture
async def scene(database: Database, sim: Simulator, workers: Workers) -> Scene:
    return await build_scene(database, database, sim, workers, rate=RATE)


async def test_killed_twice_in_mid_blast_it_comes_back_and_the_blast_goes_on(
    server: OwnServer, scene: Scene
) -> None:
    await scene.takes(0.1)
    await asyncio.gather(scene.workers.start(), scene.workers.start())
    await scene.send(COUNT)
    for _ in range(2):
        await scene.progress(60, more=True)
        server.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(server.start)
        began = time.monotonic()
        await scene.progress(1, more=True)
        print(f"going on {time.monotonic() - began:.1f} s after the database is back")
        assert time.monotonic() - began < 5 * 10
    await scene.finished(COUNT, doubts=0, seconds=60)
    assert all(worker.is_running for worker in scene.workers.all), "no process exits"
    await scene.ends()


async def test_connections_cut_again_and_again(server: OwnServer, scene: Scene) -> None:
    worker = await scene.workers.start()
    await scene.send(COUNT)
    cut = 0
    for _ in range(16):
        await asyncio.sleep(0.25)
        cut += await asyncio.to_thread(server.cut_connections)
    assert cut > 16
    assert worker.is_running
    await scene.finished(COUNT, doubts=0, seconds=60)
    await scene.ends()


async def test_without_a_free_connection_it_waits_and_goes_on_when_there_is_one(
    server: OwnServer, scene: Scene
) -> None:
    worker = await scene.workers.start()
    await scene.send(COUNT)
    await scene.progress(60)
    server.allow_connections("antiphon_worker", 0)
    try:
        assert server.cut_connections() > 0
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            psycopg.connect(server.urls.worker)
        await asyncio.sleep(0.5)
        before = await scene.received()
        await asyncio.sleep(3)
        assert await scene.received() == before, "without a database nothing leaves"
        assert worker.is_running
    finally:
        server.allow_connections("antiphon_worker", -1)
    began = time.monotonic()
    await scene.progress(1, more=True)
    print(f"going on {time.monotonic() - began:.1f} s after there is a connection again")
    assert time.monotonic() - began < 5 * 10
    await scene.finished(COUNT, doubts=0, seconds=60)
    await scene.ends()


async def test_the_api_says_that_it_is_away_and_takes_everything_once_when_it_is_back(
    server: OwnServer, scene: Scene
) -> None:
    road = scene.keyed
    token = await make.token(road.database, road.org_id)
    async with (
        Database.connect(server.urls.app, size=4, wait=1) as impatient,
        live.serving(live.services(impatient)) as anonymous,
    ):
        client = anonymous.signed_in(token)
        assert (await _post(client, road.sender.id.hex, 0)).status == 201
        server.kill()
        away = await _post(client, road.sender.id.hex, 1)
        assert (away.status, away.code) == (503, "database_away")
        assert int(away.headers["retry-after"]) > 0
        assert "try again" in away.json["detail"].lower()
        health = await client.get("/health/ready")
        assert health.status == 503
        assert (await client.get("/health/live")).status == 200, "the process itself is well"
        posting = [asyncio.create_task(_until_taken(client, road.sender.id.hex, n)) for n in range(1, 20)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*posting)
    assert await road.statuses() == {"scheduled": 20}, "each once, however often it was asked"
    await road.healthy()


async def _post(client: Client, sender: str, n: int) -> Answer:
    body = {"sender": sender, "to": f"+49151{20_000_000 + n}", "text": f"number {n}"}
    return await client.post("/api/v1/messages", body, headers={"Idempotency-Key": f"number {n}"})


async def _until_taken(client: Client, sender: str, n: int) -> None:
    """As a well-behaved caller: the same request under the same key until it is taken."""
    for _ in range(100):
        answer = await _post(client, sender, n)
        if answer.status == 201:
            return
        assert answer.status in (409, 503), answer.content
        await asyncio.sleep(0.2)
    raise AssertionError(f"number {n} was never taken")
