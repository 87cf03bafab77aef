"""All of Antiphon in the test's own loop, with the simulator at the other end of real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from antiphon.core.db import Database
from antiphon.core.roles import DatabaseUrls
from antiphon.core.settings import Settings
from antiphon.entry import running, server, web, worker
from antiphon.entry.demo.scene import impatient
from tests import make
from tests.entry.live import SECRET, Client
from tests.simulator_process import Simulator

DEVICE = "60110000000"
TOKEN = "the account's token"
Json = dict[str, Any]


class Whole(msgspec.Struct, frozen=True):
    """A running server with a worker, one organization's client, and the provider."""

    client: Client
    simulator: Simulator

    async def post(self, path: str, body: Json, status: int = 201) -> Json:
        """Post below /api/v1; the answer must have the status."""
        answer = await self.client.post(f"/api/v1{path}", body)
        assert answer.status == status, f"{path}: {answer.status} {answer.content.decode()}"
        return answer.json

    async def get(self, path: str, **params: str) -> Json:
        """Get below /api/v1."""
        answer = await self.client.get(f"/api/v1{path}", params=params)
        assert answer.status == 200, f"{path}: {answer.status} {answer.content.decode()}"
        return answer.json

    async def sender(self, rate: float = 200) -> Json:
        """An account at WSAPME, introduced to the simulator, and a sender of it."""
        credentials = {"token": TOKEN, "base_url": f"{self.simulator.url}/v1"}
        made = await self.post(
            "/provider-accounts", {"provider": "wsapme", "name": "Shop", "credentials": credentials}
        )
        await self.simulator.account("wsapme", DEVICE, token=TOKEN, url=made["webhook"]["url"])
        sender = {
            "account_id": made["account"]["id"],
            "channel": "whatsapp",
            "address": DEVICE,
            "name": "Shop",
        }
        return await self.post("/senders", {**sender, "rate": rate, "in_flight": 16})

    async def guests(self, count: int, name: str = "Guests") -> tuple[str, list[Json]]:
        """A group, and contacts in it who agreed to be written to."""
        group = await self.post("/groups", {"name": name})
        people: list[Json] = []
        for n in range(count):
            person = {"name": f"Guest{n} Berg", "phone": f"+6011000{n:05d}", "groups": [group["id"]]}
            people.append(await self.post("/contacts", person))
            consent = {"channel": "whatsapp", "is_given": True, "wording": "the newsletter"}
            await self.post(f"/contacts/{people[-1]['id']}/consents", consent)
        return group["id"], people

    async def until(self, path: str, is_so: Callable[[Json], bool], seconds: float = 30) -> Json:
        """Ask until the answer is as wanted; returns it, or fails showing the last one."""
        found: Json = {}
        for _ in range(int(seconds * 10)):
            found = await self.get(path)
            if is_so(found):
                return found
            await asyncio.sleep(0.1)
        raise AssertionError(f"{path} did not become as wanted in {seconds} s; it is {found}")

    async def blast(self, group_id: str, **fields: Any) -> Json:
        """A blast to a group, sent."""
        new = {
            "tag": "Raya",
            "follow_up_stage": "Initial",
            "sender": "Shop",
            "audience": {"groups": [group_id]},
            **fields,
        }
        blast = await self.post("/blasts", new)
        return await self.post(f"/blasts/{blast['id']}/send", {}, 200)


@contextlib.asynccontextmanager
async def running_whole(
    urls: DatabaseUrls, folder: Path, scenario: Json | None = None
) -> AsyncIterator[Whole]:
    """Server and worker as `antiphon up` runs them, on a database of the test's own."""
    sock = server.listen("127.0.0.1", 0)
    settings = Settings(
        secret_key=SECRET, private_hosts=True, public_url=running.local_url(sock), data_dir=folder
    )
    stop, started = asyncio.Event(), asyncio.Event()
    async with Simulator.start(folder) as simulator, server.services(settings, urls.app) as ready:
        if scenario:
            await simulator.scenario({"wsapme": scenario})
        parts = [
            asyncio.create_task(server.serve(web.application(ready), sock, stop, started=started)),
            asyncio.create_task(worker.run(settings, urls.worker, stop, impatient)),
        ]
        try:
            await started.wait()
            async with _signed_in(settings, urls) as client:
                yield Whole(client, simulator)
        finally:
            stop.set()
            await asyncio.gather(*parts)


@contextlib.asynccontextmanager
async def _signed_in(settings: Settings, urls: DatabaseUrls) -> AsyncIterator[Client]:
    import aiohttp

    async with Database.connect(urls.app, size=2) as database:
        organization = await make.organization(database, country="MY", timezone="Asia/Kuala_Lumpur")
        token = await make.token(database, organization.id)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield Client(settings.public_url, session, token)
