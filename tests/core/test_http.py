"""The HTTP client against a raw server that breaks in every way there is: sent, not sent, or maybe sent?"""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network

import pytest

from antiphon.core import failpoints
from antiphon.core.clock import boottime
from antiphon.core.db import in_transaction
from antiphon.core.http import BODY_LIMIT, Client
from antiphon.core.wire import MaybeSent, NotSent, Request, Response

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Handler = Callable[["Peer", Reader, Writer], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Peer:
    """A server that does with a connection what its handler says, and counts the complete requests it received."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/send?x=1"

    async def request(self, reader: Reader) -> None:
        """Read one whole request."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            ),
            0,
        )
        self.requests.append(head + await reader.readexactly(length))


@asynccontextmanager
async def peer(handler: Handler) -> AsyncIterator[Peer]:
    state = Peer()

    async def serve(reader: Reader, writer: Writer) -> None:
        state.connections += 1
        try:
            await handler(state, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()


def reset(writer: Writer) -> None:
    """RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def answer(state: Peer, reader: Reader, writer: Writer) -> None:
    while True:
        await state.request(reader)
        writer.write(OK)


async def reset_after_request(state: Peer, reader: Reader, writer: Writer) -> None:
    await state.request(reader)
    reset(writer)


async def fin_after_request(state: Peer, reader: Reader, writer: Writer) -> None:
    await state.request(reader)


async def stall_after_request(state: Peer, reader: Reader, writer: Writer) -> None:
    await state.request(reader)
    await asyncio.sleep(5)


def saying(*parts: bytes, then: Callable[[Writer], None] | None = None, pause: float = 0) -> Handler:
    """Read a request, say the parts, then end."""

    async def handler(state: Peer, reader: Reader, writer: Writer) -> None:
        await state.request(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        if then is not None:
            then(writer)

    return handler


def pouring(start: bytes, piece: bytes) -> Handler:
    """Read a request, then write without end."""

    async def handler(state: Peer, reader: Reader, writer: Writer) -> None:
        await state.request(reader)
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()

    return handler


async def drip(state: Peer, reader: Reader, writer: Writer) -> None:
    await state.request(reader)
    for byte in OK:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


BOMB = gzip.compress(b"\0" * 50_000_000)

MAYBE_SENT: dict[str, Handler] = {
    "a reset after the whole request": reset_after_request,
    "a FIN after the whole request": fin_after_request,
    "no answer at all": stall_after_request,
    "half a header, then FIN": saying(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "half a header, then silence": saying(b"HTTP/1.1 200 OK\r\ncontent-le", pause=5),
    "half a body, then FIN": saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"),
    "half a body, then a reset": saying(
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", pause=0.05, then=reset
    ),
    "half a body, then silence": saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", pause=5),
    "half a chunk, then FIN": saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal"),
    "one byte at a time, past the deadline": drip,
    "many header lines without end": pouring(b"HTTP/1.1 200 OK\r\n", b"x-filler: y\r\n"),
    "one header line without end": pouring(b"HTTP/1.1 200 OK\r\nx-filler: ", b"y" * 4096),
    "a body without end": pouring(b"HTTP/1.1 200 OK\r\n\r\n", b"y" * 65536),
    "a body longer than the limit": saying(
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (BODY_LIMIT + 1) + b"y" * (BODY_LIMIT + 1)
    ),
    "a gzip bomb": saying(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB
    ),
    "bytes that are not HTTP": saying(b"\x16\x03\x01\x00\xffgarbage\r\n\r\n"),
    "a status line of nonsense": saying(b"HTTP/1.1 wrong\r\n\r\n"),
    "two different lengths": saying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 9\r\n\r\n{}"),
    "early answers without end": pouring(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
}


@pytest.mark.parametrize("name", MAYBE_SENT)
async def test_what_fails_after_the_request_left_may_have_been_sent(name: str) -> None:
    async with peer(MAYBE_SENT[name]) as server, Client() as client:
        with pytest.raises(MaybeSent) as failure:
            await client.send(Request(url=server.url, body=b"{}", timeout=timedelta(seconds=0.6)))
        assert len(server.requests) == 1
        assert "127.0.0.1" not in failure.value.reason


async def test_a_refused_port_is_not_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    async with Client() as client:
        with pytest.raises(NotSent):
            await client.send(Request(url=f"http://127.0.0.1:{port}/", body=b"{}"))


async def test_a_name_that_does_not_resolve_is_not_sent() -> None:
    async with Client() as client:
        with pytest.raises(NotSent, match="does not resolve"):
            await client.send(Request(url="http://nowhere.invalid/", body=b"{}"))


async def test_a_peer_that_speaks_no_tls_is_not_sent() -> None:
    async with peer(answer) as server, Client() as client:
        with pytest.raises(NotSent):
            await client.send(Request(url=f"https://127.0.0.1:{server.port}/", body=b"{}"))
        assert server.requests == []


async def test_a_tls_handshake_that_hangs_is_not_sent() -> None:
    async def hang(state: Peer, reader: Reader, writer: Writer) -> None:
        await asyncio.sleep(2)

    async with peer(hang) as server, Client() as client:
        with pytest.raises(NotSent, match="no connection in time"):
            url = f"https://127.0.0.1:{server.port}/"
            await client.send(Request(url=url, body=b"{}", timeout=timedelta(seconds=0.3)))


async def test_a_request_that_the_peer_does_not_read_in_time_is_not_sent_and_never_completed() -> None:
    ended = asyncio.Event()

    async def read_late(state: Peer, reader: Reader, writer: Writer) -> None:
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        await asyncio.sleep(0.6)
        transport.resume_reading()
        try:
            await state.request(reader)
        finally:
            ended.set()

    async with peer(read_late) as server, Client() as client:
        with pytest.raises(NotSent, match="not left completely"):
            body = b"x" * 30_000_000
            await client.send(Request(url=server.url, body=body, timeout=timedelta(seconds=0.4)))
        async with asyncio.timeout(5):
            await ended.wait()
        assert server.requests == []


async def test_a_full_pool_is_not_sent() -> None:
    async with peer(stall_after_request) as server, Client(connections=1) as client:
        first = asyncio.create_task(client.send(Request(url=server.url, timeout=timedelta(seconds=1))))
        await asyncio.sleep(0.1)
        with pytest.raises(NotSent):
            await client.send(Request(url=server.url, timeout=timedelta(seconds=0.2)))
        with pytest.raises(MaybeSent):
            await first
        assert len(server.requests) == 1


async def test_the_answer_is_read_whole_and_the_connection_used_again() -> None:
    async with peer(answer) as server, Client() as client:
        for _ in range(5):
            response = await client.send(
                Request(url=server.url, headers={"authorization": "Bearer s"}, body=b'{"a":1}')
            )
            assert (response.status, response.body) == (200, b"{}")
            assert response.headers["content-type"] == "application/json"
        assert server.connections == 1
        head, _, body = server.requests[-1].partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"POST /send?x=1 HTTP/1.1",
            f"host: 127.0.0.1:{server.port}".encode(),
            b"authorization: Bearer s",
            b"content-length: 7",
        ]
        assert body == b'{"a":1}'


ANSWERS: dict[str, tuple[bytes, int, bytes]] = {
    "chunks": (
        b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        201,
        b"abc",
    ),
    "a body that ends with the connection": (b"HTTP/1.1 200 OK\r\n\r\nto the end", 200, b"to the end"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "early answers first": (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, 200, b"{}"),
    "a redirect, which is not followed": (
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        302,
        b"",
    ),
    "gzip that nobody asked for": (
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(gzip.compress(b"{}"))
        + gzip.compress(b"{}"),
        200,
        b"{}",
    ),
    "gzip that is none": (
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
        200,
        b"{}",
    ),
    "an error with a body": (b"HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nbad", 500, b"bad"),
    "a body as long as the limit": (
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % BODY_LIMIT + b"y" * BODY_LIMIT,
        200,
        b"y" * BODY_LIMIT,
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_every_way_of_answering_is_understood(name: str) -> None:
    raw, status, body = ANSWERS[name]
    async with peer(saying(raw)) as server, Client() as client:
        assert await _summary(client, Request(url=server.url, body=b"{}")) == (status, body)


async def _summary(client: Client, request: Request) -> tuple[int, bytes]:
    response: Response = await client.send(request)
    return response.status, response.body


async def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    async def one_answer(state: Peer, reader: Reader, writer: Writer) -> None:
        await state.request(reader)
        writer.write(OK)
        await writer.drain()

    async with peer(one_answer) as server, Client() as client:
        for _ in range(20):
            assert (await client.send(Request(url=server.url, body=b"{}"))).status == 200
            await asyncio.sleep(0.01)
        assert len(server.requests) == 20


@pytest.mark.parametrize("pause", [0.0, 0.02])
async def test_bytes_that_nobody_asked_for_are_never_taken_for_an_answer(pause: float) -> None:
    async def answer_twice(state: Peer, reader: Reader, writer: Writer) -> None:
        await state.request(reader)
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(pause)
        writer.write(b"HTTP/1.1 500 Stale\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(1)

    async with peer(answer_twice) as server, Client() as client:
        for _ in range(3):
            assert (await client.send(Request(url=server.url, body=b"{}"))).status == 200
            await asyncio.sleep(0.06)


async def test_a_canceled_request_closes_its_connection_at_once() -> None:
    closed = asyncio.Event()

    async def wait_for_end(state: Peer, reader: Reader, writer: Writer) -> None:
        await state.request(reader)
        await reader.read()
        closed.set()

    async with peer(wait_for_end) as server, Client() as client:
        task = asyncio.create_task(client.send(Request(url=server.url, body=b"{}")))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(1):
            await closed.wait()


async def test_canceled_requests_that_waited_for_a_connection_are_never_sent() -> None:
    async with peer(stall_after_request) as server, Client(connections=2) as client:
        tasks = [asyncio.create_task(client.send(Request(url=server.url, body=b"{}"))) for _ in range(50)]
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.1)
        assert len(server.requests) == 2


async def test_closing_the_client_leaves_what_was_under_way_in_doubt() -> None:
    async with peer(stall_after_request) as server:
        client = Client()
        task = asyncio.create_task(client.send(Request(url=server.url, body=b"{}")))
        await asyncio.sleep(0.1)
        await client.close()
        with pytest.raises(MaybeSent):
            await task
        with pytest.raises(NotSent):
            await client.send(Request(url=server.url, body=b"{}"))
        assert len(server.requests) == 1


async def test_nothing_is_repeated_on_a_connection_that_breaks() -> None:
    async def break_the_second(state: Peer, reader: Reader, writer: Writer) -> None:
        await state.request(reader)
        writer.write(OK)
        await state.request(reader)
        reset(writer)

    async with peer(break_the_second) as server, Client() as client:
        for method in ("POST", "GET"):
            await client.send(Request(url=server.url, body=b"{}"))
            with pytest.raises(MaybeSent):
                await client.send(Request(method=method, url=server.url))
        assert len(server.requests) == 4


async def test_no_call_leaves_while_a_transaction_is_open() -> None:
    async with peer(answer) as server, Client() as client:
        token = in_transaction.set(True)
        try:
            with pytest.raises(RuntimeError, match="no network call while a transaction is open"):
                await client.send(Request(url=server.url))
        finally:
            in_transaction.reset(token)
        assert server.connections == 0


async def test_after_the_wall_nothing_is_written_even_on_an_open_connection() -> None:
    async with peer(answer) as server, Client() as client:
        assert (await client.send(Request(url=server.url), not_after=boottime() + 60)).status == 200
        with pytest.raises(NotSent):
            await client.send(Request(url=server.url), not_after=boottime() - 0.001)
        await asyncio.sleep(0.05)
        assert len(server.requests) == 1


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\rb", "a\0b"])
async def test_a_header_field_cannot_begin_another(value: str) -> None:
    async with peer(answer) as server, Client() as client:
        with pytest.raises(NotSent):
            await client.send(Request(url=server.url, headers={"x": value}))
        assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nothing",
        "ftp://example.com/",
        "http://",
        "http://user:word@example.com/",
        "http://[::1",
        "file:///etc/passwd",
    ],
)
async def test_an_address_that_is_no_web_address_is_not_sent(url: str) -> None:
    async with Client() as client:
        with pytest.raises(NotSent):
            await client.send(Request(url=url))


async def test_proxy_variables_of_the_environment_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(answer) as proxy, peer(answer) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        async with Client() as client:
            assert (await client.send(Request(url=server.url))).status == 200
        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("name", "requests"), [("request_half_written", 0), ("request_written", 1), ("answer_read", 1)]
)
async def test_the_failpoints_stand_where_they_say(name: str, requests: int) -> None:
    async with peer(answer) as server, Client() as client:
        failpoints.arm(f"{name}=raise")
        try:
            with pytest.raises(failpoints.Reached):
                await client.send(Request(url=server.url, body=b"x" * 1000))
        finally:
            failpoints.arm("")
        await asyncio.sleep(0.05)
        assert (server.connections, len(server.requests)) == (1, requests)


async def test_with_a_failpoint_armed_for_later_the_request_is_still_whole() -> None:
    async with peer(answer) as server, Client() as client:
        failpoints.arm("request_half_written=raise@9")
        try:
            assert (await client.send(Request(url=server.url, body=b"x" * 1000))).status == 200
        finally:
            failpoints.arm("")
        assert server.requests[0].endswith(b"\r\n\r\n" + b"x" * 1000)


# ---- URLs that customers typed -----------------------------------------------------------------------


TYPED = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://localhost.:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://①②⑦.0.0.1:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[::]:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@example.com/",
    "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://127.0.0.1%00.example.com:{port}/",
    "http://127.0.0.1:{port}/\r\nx: y",
]


@pytest.mark.parametrize("typed", TYPED)
async def test_a_typed_url_reaches_nothing_on_this_machine(typed: str) -> None:
    async with peer(answer) as server, Client.guarded(ports=(server.port, 80)) as client:
        with pytest.raises(NotSent):
            url = typed.format(port=server.port)
            await client.send(Request(url=url, timeout=timedelta(seconds=2)))
        assert server.connections == 0


async def test_a_typed_url_reaches_what_the_operator_opened() -> None:
    async with peer(answer) as server:
        async with Client.guarded(ports=(server.port,), networks=(ip_network("127.0.0.0/8"),)) as client:
            assert (await client.send(Request(url=server.url))).status == 200
        async with Client.guarded(networks=(ip_network("127.0.0.0/8"),)) as client:
            with pytest.raises(NotSent, match="port"):
                await client.send(Request(url=server.url))


async def test_failures_to_connect_tell_nothing_about_what_listens() -> None:
    networks = (ip_network("127.0.0.0/8"),)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        free = closed.getsockname()[1]
    reasons: set[str] = set()
    async with Client.guarded(ports=(free, 80), networks=networks) as client:
        for url in (f"http://127.0.0.1:{free}/", "http://nowhere.invalid/"):
            with pytest.raises(NotSent) as failure:
                await client.send(Request(url=url))
            reasons.add(failure.value.reason)
    assert len(reasons) == 1
