"""Answers onto the wire: whole ones, and the many ways in which one can go wrong."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

import msgspec
from aiohttp import web

from antiphon_simulator.settings import Fault
from antiphon_simulator.wire import Answer

BOMB = 200_000_000  # bytes of zeros
ENDLESS = 120.0  # seconds after which an endless answer ends
CHUNK = b"x" * 65_536


def whole(answer: Answer) -> web.Response:
    """A correct answer."""
    headers = {"Content-Type": answer.content_type, **answer.headers}
    return web.Response(status=answer.status, body=answer.body, headers=headers)


async def broken(request: web.Request, fault: Fault, answer: Answer) -> web.StreamResponse:
    """The answer, gone wrong as the fault says."""
    plain = _plain(fault, answer)
    if plain is not None:
        return whole(plain)
    transport = request.transport
    if transport is None:
        return web.Response()
    assert isinstance(transport, asyncio.Transport)
    line = raw(answer)
    match fault.answer:
        case "reset":
            _reset(transport)
        case "half" | "half_hang":
            transport.write(line[: -max(len(answer.body) // 2, 1)])
        case "informational":
            transport.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" + line)
        case "garbage":
            transport.write(b"\x16\x03\x01\x00\xffThis is not HTTP at all\r\n\r\n\x00\xff")
        case "drip":
            await _drip(transport, line, fault.seconds)
        case "wrong_length":
            transport.write(raw(answer, length=len(answer.body) + 1000))
        case "endless_headers":
            transport.write(b"HTTP/1.1 200 OK\r\n")
            await _pour(transport, lambda n: b"X-Filler-%d: " % n + b"y" * 900 + b"\r\n")
        case "endless_body":
            transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
            await _pour(transport, lambda n: CHUNK)
        case _:  # "close" and "hang" say nothing
            pass
    if fault.answer in ("hang", "half_hang"):
        await _hold(transport, fault.seconds)
    transport.close()
    return web.Response()


def _plain(fault: Fault, answer: Answer) -> Answer | None:
    """The answers that go wrong by what they say."""
    match fault.answer:
        case "status":
            body = fault.body if fault.body is not None else f'{{"error":"{phrase(fault.status)}"}}'
            return Answer(status=fault.status, body=body.encode(), headers=retry_headers(fault))
        case "redirect":
            return Answer(status=307, body=b"", headers={"Location": fault.body or "/elsewhere"})
        case "not_json":
            return Answer(status=200, body=(fault.body or "<html><h1>It works!</h1></html>").encode())
        case "empty":
            return Answer(status=200, body=b"")
        case "no_content":
            return Answer(status=204, body=b"")
        case "gzip_bomb":
            return Answer(status=200, body=_bomb(), headers={"Content-Encoding": "gzip"})
        case "deep":
            return Answer(status=200, body=b"[" * 10_000 + b"]" * 10_000)
        case "nan":
            return Answer(status=200, body=b'{"success": true, "id": NaN, "messages": [{"id": Infinity}]}')
        case "error" | "reused_id":
            return answer
        case _:
            return None


def retry_headers(fault: Fault) -> dict[str, str]:
    """Retry-After as the fault words it; `date:30` is an HTTP date half a minute ahead."""
    text = fault.retry_after
    if text is None:
        return {}
    if text.startswith("date:"):
        when = datetime.now(UTC) + timedelta(seconds=float(text.removeprefix("date:")))
        text = format_datetime(when, usegmt=True)
    return {"Retry-After": text}


def phrase(status: int) -> str:
    """The words beside a status, also one that nobody defined."""
    return HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else "Odd"


def raw(answer: Answer, length: int | None = None) -> bytes:
    """The bytes of a whole answer."""
    size = len(answer.body) if length is None else length
    lines = [
        f"HTTP/1.1 {answer.status} {phrase(answer.status)}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {size}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body


def _reset(transport: asyncio.Transport) -> None:
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _hold(transport: asyncio.Transport, seconds: float) -> None:
    """Say nothing, until the time is over or the caller gave up."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end and not transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(min(0.05, max(end - loop.time(), 0)))


async def _drip(transport: asyncio.Transport, content: bytes, seconds: float) -> None:
    for index in range(len(content)):
        if transport.is_closing():
            return
        transport.write(content[index : index + 1])
        await asyncio.sleep(min(seconds, 5.0))


async def _pour(transport: asyncio.Transport, piece: Callable[[int], bytes]) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + ENDLESS
    number = 0
    while loop.time() < end and not transport.is_closing():
        transport.write(piece(number))
        number += 1
        await asyncio.sleep(0.01 if transport.get_write_buffer_size() > 1_000_000 else 0)


@functools.cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1_000_000)
    return b"".join([packer.compress(zeros) for _ in range(BOMB // len(zeros))]) + packer.flush()


def json_answer(value: object, status: int = 200) -> web.Response:
    """A JSON answer of the control API."""
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
