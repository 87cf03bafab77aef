"""Server, worker and load generator as processes of their own, as they run in production.

`python -m benchmarks.processes DATABASE_URL` is the server: the whole application, and beside it the bare route that
the API is measured against. The worker is the command line's own `antiphon work`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from litestar import post

from antiphon.core import heap, logging
from antiphon.core.settings import Settings
from antiphon.entry import server, web
from antiphon.organizations.access import Services, public
from benchmarks.stage import FOLDER, KEY, Stage

IN_FLIGHT = 256
"""Messages on the wire of one worker: the same in the speed and in the crash measurements."""

COMMAND = [sys.executable, "-c", "from antiphon.entry.cli import main; main()"]


def environment(**settings: str) -> dict[str, str]:
    """Of a process of ours: nothing of the caller's settings, only these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    return kept | {f"ANTIPHON_{name}": value for name, value in settings.items()}


@contextlib.asynccontextmanager
async def serving(stage: Stage) -> AsyncIterator[int]:
    """A server process; its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.processes", stage.urls.app, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


async def start_worker(stage: Stage) -> Process:
    """A worker process; whoever starts it ends it."""
    settings = {
        "APP_DATABASE_URL": stage.urls.app, "WORKER_DATABASE_URL": stage.urls.worker, "SECRET_KEY": KEY,
        "DATA_DIR": str(FOLDER), "PRIVATE_HOSTS": "yes", "IN_FLIGHT": str(IN_FLIGHT), "LOG_LEVEL": "warning",
    }  # fmt: skip
    return await asyncio.create_subprocess_exec(*COMMAND, "work", env=environment(**settings))


@contextlib.asynccontextmanager
async def working(stage: Stage) -> AsyncIterator[Process]:
    """A worker process, drained at the end."""
    process = await start_worker(stage)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def load(
    port: int, connections: int, rate: float, requests: list[bytes], wanted: str
) -> dict[str, Any]:
    """Send the requests from a process of its own; what came of them, all of which must be the status `wanted`."""
    path = FOLDER / f"requests-{port}"
    path.write_bytes(msgspec.msgpack.encode(requests))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.load",
        str(port),
        str(connections),
        str(rate),
        str(path),
        stdout=PIPE,
    )
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(await process.stdout.read() or b"{}")
    assert found.get("statuses") == {wanted: len(requests)}, found.get("statuses")
    return found


def request(path: str, token: str, body: object, **headers: str) -> bytes:
    """A POST with a JSON body, as bytes on the wire."""
    content = msgspec.json.encode(body)
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def until(
    is_so: Callable[[], Awaitable[object]], *, seconds: float, what: str, every: float = 0.05
) -> None:
    """Ask again and again; raises TimeoutError naming `what` did not happen in time."""
    ends = time.monotonic() + seconds
    while not await is_so():
        if time.monotonic() > ends:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        await asyncio.sleep(every)


# ---- the server's process --------------------------------------------------------------------------

BARE_TABLE = """
    CREATE TABLE bare_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content jsonb);
    GRANT ALL ON bare_rows TO antiphon_app;
"""


def bare_route(services: Services) -> Any:
    """The least that a write can be on this server: read JSON, insert one row, answer."""

    @post("/bare", **public())
    async def bare(data: dict[str, Any]) -> dict[str, int]:
        async with services.database.pool.connection() as conn:
            cursor = await conn.execute(
                "INSERT INTO bare_rows (content) VALUES (%s::jsonb) RETURNING id",
                (msgspec.json.encode(data).decode(),),
            )
            row = await cursor.fetchone()
        return {"id": row[0] if row else 0}

    return bare


async def serve(url: str) -> None:
    """Serve until SIGTERM; prints the port."""
    logging.setup("warning", "console")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sock = server.listen("127.0.0.1", 0)
    settings = Settings(secret_key=KEY, data_dir=Path(), private_hosts=True)
    async with server.services(settings, url) as services:
        app = web.application(services, [bare_route(services)])
        heap.settle()
        print(sock.getsockname()[1], flush=True)
        await server.serve(app, sock, stop)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
