"""The bare path: as little as a provider can do, for benchmarks. It counts and checks nothing.

`POST /fast/messages` is answered `{"id": "f1", "status": "accepted"}`. So that real adapters can be measured too, the
paths of the other providers get an answer of their shape: `/v1/sendMessage2`, `/keyed/messages`, and anything else
Meta's. `GET` on any path is answered with the counts. Bodies need a Content-Length.
"""

from __future__ import annotations

import asyncio

import msgspec

from antiphon_simulator.book import Book
from antiphon_simulator.world import Counts

SHAPES: dict[bytes, tuple[bytes, bytes]] = {
    b"/fast/messages": (b'{"id":"f', b'","status":"accepted"}'),
    b"/keyed/messages": (b'{"id":"f', b'","status":"accepted","reference":""}'),
    b"/v1/sendMessage2": (
        b'{"success":true,"message":"Sent Successfully","data":{"key":{"remoteJid":"0@s.whatsapp.net","fromMe":true,'
        b'"id":"FAST',
        b'"},"message":{"conversation":""},"messageTimestamp":"1767225600","status":"PENDING"}}',
    ),
}
META = (
    b'{"messaging_product":"whatsapp","contacts":[{"input":"0","wa_id":"0"}],"messages":[{"id":"wamid.f',
    b'"}]}',
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
BAD = b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FastProtocol(asyncio.Protocol):
    """One connection: requests one after the other, pipelined ones too."""

    def __init__(self, counts: Counts, book: Book) -> None:
        self.counts = counts
        self.book = book
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self.transport = None

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in the buffer."""
        buffer = self.buffer + data if self.buffer else data
        start, answered = 0, bytearray()
        while True:
            end = buffer.find(b"\r\n\r\n", start)
            if end < 0:
                break
            length = _length(buffer, start, end)
            if length < 0:
                self._refuse()
                return
            stop = end + 4 + length
            if len(buffer) < stop:
                break
            answered += self._answer(buffer, start)
            start = stop
        self.buffer = buffer[start:] if start else buffer
        if answered:
            self._send(bytes(answered))

    def _answer(self, buffer: bytes, start: int) -> bytes:
        line_end = buffer.find(b"\r\n", start)
        method, _, rest = buffer[start:line_end].partition(b" ")
        if method != b"POST":
            body = msgspec.json.encode(
                {"requests": self.counts.requests, "bad": self.counts.bad, "by_path": self.counts.by_path}
            )
            return HEAD % (len(body), body)
        path = rest.partition(b" ")[0]
        counts = self.counts
        counts.requests += 1
        name = path.decode("latin-1")
        counts.by_path[name] = counts.by_path.get(name, 0) + 1
        before, after = SHAPES.get(path, META)
        body = b"%b%d%b" % (before, counts.requests, after)
        return HEAD % (len(body), body)

    def _send(self, answered: bytes) -> None:
        latency = self.book.scenario.fast.latency
        if latency > 0:
            asyncio.get_running_loop().call_later(latency, self._write, answered)
            return
        self._write(answered)

    def _write(self, answered: bytes) -> None:
        if self.transport is not None:
            self.transport.write(answered)

    def _refuse(self) -> None:
        self.counts.bad += 1
        if self.transport is not None:
            self.transport.write(BAD)
            self.transport.close()


def _length(buffer: bytes, start: int, end: int) -> int:
    """The Content-Length of the head between `start` and `end`; -1: none although the method has a body."""
    head = buffer[start:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return -1 if head.startswith(b"post") else 0
    stop = head.find(b"\r\n", at + 2)
    value = head[at + 17 : stop if stop >= 0 else None].strip()
    return int(value) if value.isdigit() else -1
