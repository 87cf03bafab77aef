"""One simulator for all these tests, fresh for each, and an endpoint that receives its webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.simulator_process import Simulator


@dataclass
class Received:
    """One webhook as it came."""

    body: bytes
    headers: dict[str, str]


@dataclass
class Endpoint:
    """Our side of a webhook: keeps what came and answers what it is told to, 200 in the end."""

    url: str = ""
    received: list[Received] = field(default_factory=list[Received])
    answers: list[int] = field(default_factory=list[int])
    token: str = ""

    async def post(self, request: web.Request) -> web.Response:
        self.received.append(Received(await request.read(), dict(request.headers)))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def get(self, request: web.Request) -> web.Response:
        if request.query.get("hub.verify_token") != self.token:
            return web.Response(status=403)
        return web.Response(text=request.query["hub.challenge"])

    async def until(self, count: int, seconds: float = 10.0) -> list[Received]:
        """Wait for so many webhooks."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.received


@pytest.fixture(scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    directory: Path = tmp_path_factory.mktemp("simulator")
    async with Simulator.start(directory) as simulator:
        yield simulator


@pytest.fixture
async def sim(running: Simulator) -> Simulator:
    await running.reset(settings=True)
    return running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    here = Endpoint()
    app = web.Application()
    app.add_routes([web.post("/hook", here.post), web.get("/hook", here.get)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    here.url = f"http://127.0.0.1:{port}/hook"
    yield here
    await runner.cleanup()
