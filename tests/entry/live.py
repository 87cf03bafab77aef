"""The real server on a real socket, in the test's own event loop, and a client that speaks to it."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from antiphon.core.crypto import Vault
from antiphon.core.db import Database
from antiphon.core.settings import Settings
from antiphon.entry import server, web
from antiphon.organizations.access import Services

SECRET = "a secret key for tests only, 32 letters or more"


class Answer(msgspec.Struct, frozen=True):
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.content)

    @property
    def code(self) -> str | None:
        """The problem's code, if it is a problem."""
        is_problem = self.headers.get("content-type", "").startswith("application/problem+json")
        return self.json["code"] if is_problem else None


class Client:
    """Requests to one server with one key: `await client.get("/api/v1/organization")`."""

    def __init__(self, url: str, session: aiohttp.ClientSession, token: str | None = None) -> None:
        self.url = url
        self.session = session
        self.token = token

    def signed_in(self, token: str | None) -> Client:
        """The same server with another key, or with none."""
        return Client(self.url, self.session, token)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send it and read the whole answer."""
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if json is not None:
            data = msgspec.json.encode(json)
            sent.setdefault("Content-Type", "application/json")
        sent_body = None if data is None else io.BytesIO(data)
        async with self.session.request(
            method, self.url + path, data=sent_body, headers=sent, params=params, allow_redirects=False
        ) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, found, await response.read())

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.request("GET", path, **more)

    async def post(self, path: str, json: object = None, **more: Any) -> Answer:
        return await self.request("POST", path, json=json, **more)

    async def patch(self, path: str, json: object = None, **more: Any) -> Answer:
        return await self.request("PATCH", path, json=json, **more)

    async def put(self, path: str, json: object = None, **more: Any) -> Answer:
        return await self.request("PUT", path, json=json, **more)

    async def delete(self, path: str, **more: Any) -> Answer:
        return await self.request("DELETE", path, **more)


def services(database: Database, **settings: Any) -> Services:
    """What requests use, with a vault that needs no file."""
    return Services(database, Settings(secret_key=SECRET, **settings), Vault([SECRET]))


@contextlib.asynccontextmanager
async def serving(ready: Services, more: Sequence[Any] = ()) -> AsyncIterator[Client]:
    """The application with `more` routes, served; a client without a key."""
    app = web.application(ready, more)
    sock = server.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    stop, started = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(server.serve(app, sock, stop, started=started))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            yield Client(url, session)
    finally:
        stop.set()
        await task
