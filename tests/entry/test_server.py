"""The server and its sockets: who dawdles is dropped, who was asked to stop finishes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from litestar.types import Receive, Scope, Send

from antiphon.entry import server
from antiphon.entry.server import Patience, ServerError

QUICK = Patience(head=0.3, silence=0.5)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the whole body, waits as long as the path says, answers how much it read."""
    if str(scope["type"]) == "lifespan":
        while True:
            message: Any = await receive()
            await send({"type": f"{message['type']}.complete"})  # type: ignore[misc]
            if message["type"] == "lifespan.shutdown":
                return
    size = 0
    while True:
        event: Any = await receive()
        size += len(event.get("body", b""))
        if not event.get("more_body"):
            break
    await asyncio.sleep(float(scope["path"].strip("/") or 0))
    text = str(size).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text, "more_body": False})


@asynccontextmanager
async def served(stop: asyncio.Event | None = None) -> AsyncIterator[tuple[int, asyncio.Task[None]]]:
    """The port, and the task that serves it."""
    stop = stop or asyncio.Event()
    sock = server.listen("127.0.0.1", 0)
    started = asyncio.Event()
    task = asyncio.create_task(server.serve(app, sock, stop, started=started, patience=QUICK))
    await asyncio.wait_for(started.wait(), 5)
    try:
        yield sock.getsockname()[1], task
    finally:
        stop.set()
        await asyncio.wait_for(task, 15)


async def talk(port: int, *pieces: bytes, pause: float = 0.0, wait: float = 5) -> bytes:
    """Send pieces with pauses between; all that comes back until the other side closes or `wait` is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        return await asyncio.wait_for(reader.read(), wait)
    except ConnectionError:
        return b""
    finally:
        writer.close()


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n"

DAWDLERS: dict[str, tuple[list[bytes], float]] = {
    "says nothing": ([], 0.0),
    "says one letter": ([b"G"], 0.0),
    "drips its head": ([bytes([letter]) for letter in HEAD], 0.05),
    "never ends its head": ([HEAD], 0.0),
    "never sends its body": ([HEAD + b"\r\n"], 0.0),
    "never ends its body": ([HEAD + b"\r\n12345"], 0.0),
}


@pytest.mark.parametrize("who", DAWDLERS)
async def test_drops_a_client_that(who: str) -> None:
    pieces, pause = DAWDLERS[who]
    async with served() as (port, _):
        assert await talk(port, *pieces, pause=pause, wait=3) == b""


async def test_a_slow_but_steady_body_is_read_to_its_end() -> None:
    async with served() as (port, _):
        answer = await talk(port, HEAD + b"\r\n", *([b"x"] * 10), pause=0.1)
        assert answer.endswith(b"\r\n\r\n10")


async def test_a_slow_answer_is_our_own_affair() -> None:
    async with served() as (port, _):
        answer = await talk(port, b"GET /1.2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")


async def test_a_connection_that_was_used_may_be_used_again_and_then_dawdle_no_more() -> None:
    async with served() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readexactly(1)
        writer.write(b"GET / HT")
        assert await asyncio.wait_for(reader.read(), 2) == b""
        writer.close()


async def test_two_lengths_for_one_body_are_refused() -> None:
    async with served() as (port, _):
        smuggled = HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await talk(port, smuggled)).startswith(b"HTTP/1.1 400")


async def test_whoever_is_being_served_when_we_stop_is_served_to_the_end() -> None:
    stop = asyncio.Event()
    async with served(stop) as (port, task):
        slow = asyncio.create_task(talk(port, b"GET /0.8 HTTP/1.1\r\nHost: x\r\n\r\n"))
        await asyncio.sleep(0.2)
        stop.set()
        assert (await slow).startswith(b"HTTP/1.1 200")
        await asyncio.wait_for(task, 3)
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_that_is_taken_says_which_setting_to_change() -> None:
    with server.listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port}.*ANTIPHON_PORT"):
            server.listen("127.0.0.1", port)
