"""The bare path: right answers, in order, whatever way the bytes arrive."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest

from tests.simulator_process import Simulator

REQUEST = b"POST /fast/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


async def exchange(sim: Simulator, pieces: list[bytes], answers: int) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.fast_port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.005)
    got: list[bytes] = []
    async with asyncio.timeout(5):
        for _ in range(answers):
            head = await reader.readuntil(b"\r\n\r\n")
            got.append(
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            )
    writer.close()
    return got


@pytest.mark.parametrize("size", [1, 7, 1000], ids=["byte by byte", "in scraps", "at once"])
async def test_pipelined_requests_are_answered_in_order(size: int, sim: Simulator) -> None:
    stream = REQUEST * 3
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    got = await exchange(sim, pieces, 3)
    assert [json.loads(one)["id"] for one in got] == ["f1", "f2", "f3"]
    assert (await sim.summary())["fast"] == {"requests": 3, "bad": 0, "by_path": {"/fast/messages": 3}}


async def test_each_path_answers_in_its_providers_shape(sim: Simulator, http: aiohttp.ClientSession) -> None:
    shapes: dict[str, list[str | int]] = {
        "/v1/sendMessage2": ["data", "key", "id"],
        "/v23.0/55/messages": ["messages", 0, "id"],
        "/keyed/messages": ["id"],
        "/fast/messages": ["id"],
    }
    ids: set[str] = set()
    for path, way in shapes.items():
        async with http.post(sim.fast_url + path, json={"x": 1}) as response:
            value = await response.json()
        for step in way:
            value = value[step]
        ids.add(value)
    assert len(ids) == 4
    async with http.get(sim.fast_url + "/") as response:
        assert (await response.json())["requests"] == 4


async def test_a_body_without_length_is_refused(sim: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.fast_port)
    writer.write(b"POST /fast/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 411")
    writer.close()


async def test_it_waits_as_long_as_set(sim: Simulator) -> None:
    await sim.scenario({"fast": {"latency": 0.2}})
    started = time.monotonic()
    await exchange(sim, [REQUEST], 1)
    assert 0.19 < time.monotonic() - started < 2
