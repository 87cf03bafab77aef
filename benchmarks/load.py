"""A load generator of its own process: posts prepared requests over kept connections, and says how long each took.

`python -m benchmarks.load PORT CONNECTIONS RATE FILE` sends every request of the file (a msgpack array of bytes) once.
RATE 0: each connection sends the next as soon as it has its answer. Else so many a second, in turn over the
connections; a request's time counts from when it was due. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import uvloop


class Connection(asyncio.Protocol):
    """One kept connection: one request at a time, the others wait their turn."""

    def __init__(self, answered: asyncio.Event, statuses: Counter[int], seconds: list[float]) -> None:
        self.waiting: deque[tuple[bytes, float]] = deque()
        self._answered = answered
        self._statuses = statuses
        self._seconds = seconds
        self._started = 0.0
        self._buffer = b""
        self.source: Iterator[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        self.is_open = True
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes; what was sent counts as unanswered."""
        self.is_open = False
        self._answered.set()

    def send(self, request: bytes, due: float) -> None:
        """Send it now, or after those that wait."""
        self.waiting.append((request, due))
        if not self._started:
            self._next()

    def _next(self) -> None:
        if not self.waiting and self.source is not None and (request := next(self.source, None)) is not None:
            self.waiting.append((request, time.perf_counter()))
        if not self.waiting:
            self._started = 0.0
            return
        request, self._started = self.waiting.popleft()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """An answer, perhaps in pieces."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = b""
        self._seconds.append(time.perf_counter() - self._started)
        self._statuses[int(head[9:12])] += 1
        self._answered.set()
        self._next()


async def run(port: int, count: int, rate: float, requests: list[bytes]) -> dict[str, object]:
    """Send them all; what came of it."""
    loop = asyncio.get_running_loop()
    answered, statuses, seconds = asyncio.Event(), Counter[int](), list[float]()
    connections: list[Connection] = []
    for _ in range(count):
        _, protocol = await loop.create_connection(
            lambda: Connection(answered, statuses, seconds), "127.0.0.1", port
        )
        connections.append(protocol)
    started = time.perf_counter()
    if rate:
        for number, request in enumerate(requests):
            due = started + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            connections[number % count].send(request, due)
    else:
        source = iter(requests)
        for connection in connections:
            connection.source = source
            connection.send(next(source), time.perf_counter())
    while len(seconds) < len(requests):
        answered.clear()
        await answered.wait()
        if not all(connection.is_open for connection in connections):
            raise ConnectionError(f"the server closed connections after {len(seconds)} answers")
        await asyncio.sleep(0.002)
    took = time.perf_counter() - started
    seconds.sort()
    return {
        "seconds": took,
        "rate": len(requests) / took,
        "p50": seconds[len(seconds) // 2],
        "p99": seconds[int(len(seconds) * 0.99)],
        "worst": seconds[-1],
        "statuses": statuses,
    }


if __name__ == "__main__":
    prepared = msgspec.msgpack.decode(Path(sys.argv[4]).read_bytes(), type=list[bytes])
    print(json.dumps(uvloop.run(run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), prepared))))
