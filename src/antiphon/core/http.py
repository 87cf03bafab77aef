"""HTTP to the outside: one request, one answer, and the truth about what may have left this machine.

aiohttp's connector (pool, DNS, TLS) and its parser are used below `ClientSession`: half the work per request, no
retries of its own, and the write is ours, so that `NotSent` and `MaybeSent` are told apart by the write itself and not
by the class of an exception. Measured: 102 µs a request through a session with a trace, 85 without, 40 this way.

A request is *not sent* until its first byte is handed over, and again when the connection ends while bytes of it still
wait here: with Content-Length, a peer that lacks the last byte has no request.
"""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from antiphon.core import failpoints
from antiphon.core.clock import boottime
from antiphon.core.db import in_transaction
from antiphon.core.public_address import Network, is_public_address, url_problem
from antiphon.core.wire import MaybeSent, NotBegun, NotSent, Request, Response

BODY_LIMIT = 256 * 1024
DEADLINE_LIMIT = 60.0
CONNECT_LIMIT = 5.0
KEEPALIVE = 4.0  # below the 5 s after which common servers close an idle connection
_CONNECT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=CONNECT_LIMIT)
_HIDDEN = "the address cannot be reached, or is not allowed"


class _Target(NamedTuple):
    """Where a URL leads: what the connector wants to see of a request, and the first lines after the method."""

    origin: aiohttp.ClientRequest
    head: str


class Client:
    """A pool of connections. Make it inside a running event loop; close it there, or use `async with`."""

    def __init__(
        self,
        *,
        connections: int = 512,
        resolver: AbstractResolver | None = None,
        check: Callable[[URL], str | None] | None = None,
        check_peer: Callable[[str], bool] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connector = aiohttp.TCPConnector(
            limit=connections,
            keepalive_timeout=KEEPALIVE,
            resolver=resolver,
            use_dns_cache=resolver is None,
            enable_cleanup_closed=False,
        )
        self._check = check
        self._check_peer = check_peer
        self._targets: dict[str, _Target] = {}

    @classmethod
    def guarded(
        cls,
        *,
        connections: int = 128,
        ports: Iterable[int] = (80, 443),
        networks: Iterable[Network] = (),
    ) -> Client:
        """A client for URLs that customers typed: public addresses and the given ports only.

        `networks` opens private ranges on purpose. Every way to fail to connect reads the same, so that answers tell
        nothing about what listens inside.
        """
        allowed, open_ports = tuple(networks), frozenset(ports)

        def is_allowed(address: str) -> bool:
            return is_public_address(address, allowed)

        return cls(
            connections=connections,
            resolver=_Vetting(is_allowed),
            check=lambda url: url_problem(url, open_ports, is_allowed),
            check_peer=is_allowed,
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; requests under way fail with MaybeSent or NotSent, as they stand."""
        await self._connector.close()

    async def send(self, request: Request, *, not_after: float | None = None) -> Response:
        """One request, no redirect, no retry. Raises NotSent or MaybeSent; RuntimeError inside a transaction.

        With `not_after` (a reading of `clock.boottime`), nothing is written later than that: NotSent.
        """
        if in_transaction.get():
            raise RuntimeError("no network call while a transaction is open: commit first, then call out")
        target = self._targets.get(request.url) or self._aim(request.url)
        head = _head(request, target.head)
        seconds = DEADLINE_LIMIT if request.timeout is None else request.timeout.total_seconds()
        call = _Call(self)
        try:
            async with asyncio.timeout(min(seconds, DEADLINE_LIMIT)):
                return await call.run(target, head, request.body, not_after)
        except TimeoutError:
            raise call.failure("no answer in time" if call.written else "no connection in time") from None
        except (aiohttp.ClientError, HttpProcessingError, OSError, _Unusable) as error:
            raise call.failure(_reason(error)) from None
        finally:
            call.end()

    async def connect(self, target: _Target) -> Connection:
        """A connection on which nothing is under way, from the pool or new. The caller releases or closes it."""
        for _ in range(5):
            connection = await self._connector.connect(target.origin, [], _CONNECT)
            protocol = connection.protocol
            if protocol is None or protocol.transport is None or protocol.should_close:
                # bytes that nobody asked for would be read as the answer to this request
                connection.close()
                continue
            if self._check_peer is not None:
                peer = protocol.transport.get_extra_info("peername")
                if not peer or not self._check_peer(peer[0]):
                    connection.close()
                    raise _Unusable("the connection leads to an address that is not allowed")
            return connection
        raise _Unusable("the peer sends before it was asked")

    @property
    def hides_reasons(self) -> bool:
        """Whether the reason of a failed connection must not be told."""
        return self._check_peer is not None

    def _aim(self, text: str) -> _Target:
        try:
            url = URL(text)
        except ValueError:
            raise NotSent("the address is not a URL") from None
        problem = self._check(url) if self._check is not None else None
        if url.scheme not in ("http", "https") or not url.raw_host:
            problem = "it needs http or https, and a host"
        elif url.user is not None or url.password is not None:
            problem = "user names and passwords do not belong into it"
        if problem is not None:
            raise NotSent(f"the address is not allowed: {problem}")
        port = "" if url.is_default_port() else f":{url.port}"
        head = f" {url.raw_path_qs} HTTP/1.1\r\nhost: {url.host_subcomponent}{port}\r\n"
        target = _Target(aiohttp.ClientRequest("POST", url.origin(), loop=self._loop), head)
        if len(self._targets) >= 2000:
            self._targets.clear()
        self._targets[text] = target
        return target


class _Unusable(Exception):
    """The connection or its answer cannot be used, for a reason of ours."""


class _Call:
    """One request under way: how far it got decides what its failure means."""

    __slots__ = ("client", "connection", "protocol", "written")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.connection: Connection | None = None
        self.protocol: ResponseHandler | None = None
        self.written = False

    async def run(self, target: _Target, head: bytes, body: bytes, not_after: float | None) -> Response:
        self.connection = connection = await self.client.connect(target)
        self.protocol = protocol = connection.protocol
        assert protocol is not None
        protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=BODY_LIMIT)
        transport = protocol.transport
        assert transport is not None
        data = head + body
        if not_after is not None and boottime() >= not_after:
            raise NotBegun("there was no time left to begin")
        self.written = True
        if failpoints.is_armed("request_half_written"):
            data = await _write_half(transport, data)
        transport.write(data)
        if failpoints.is_armed("request_written"):
            await _reach_when_flushed("request_written")
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, payload = await protocol.read()
        answer = await _read(payload)
        if "content-encoding" in message.headers:
            answer = _inflated(answer, message.headers["content-encoding"])
        if failpoints.is_armed("answer_read"):
            await failpoints.reach("answer_read")
        if not self._has_unsent_bytes():  # else the peer answered before it had all: this connection is spent
            connection.release()
            self.connection = None
        return Response(message.code, message.headers, answer)

    def _has_unsent_bytes(self) -> bool:
        protocol = self.protocol
        if protocol is None:
            return False
        transport = protocol.transport
        return protocol.writing_paused or (transport is not None and transport.get_write_buffer_size() > 0)

    def failure(self, reason: str) -> NotSent | MaybeSent:
        """What the failure of this call means, by how far the request got."""
        if not self.written:
            return NotSent(_HIDDEN if self.client.hides_reasons else reason)
        if self._has_unsent_bytes():
            return NotSent(f"{reason}; the request had not left completely")
        return MaybeSent(reason)

    def end(self) -> None:
        """What was not released is broken, timed out or canceled: it is never used again."""
        if self.connection is None:
            return
        if self.protocol is not None and self.protocol.transport is not None:
            self.protocol.transport.abort()
        self.connection.close()


class _Vetting(AbstractResolver):
    """Resolves, and refuses a name of which any address is not allowed; the connector connects to what it returns."""

    def __init__(self, is_allowed: Callable[[str], bool]) -> None:
        self._resolver = aiohttp.ThreadedResolver()
        self._is_allowed = is_allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not found or not all(self._is_allowed(each["host"]) for each in found):
            raise OSError("the name leads to an address that is not allowed")
        return found

    async def close(self) -> None:
        await self._resolver.close()


def _head(request: Request, target: str) -> bytes:
    """Request line and header fields. A line break in any of them would let it speak for us: NotSent."""
    lines = [request.method, target]
    lines += [f"{name}: {value}\r\n" for name, value in request.headers.items()]
    count = len(request.headers) + 3
    if request.method == "POST" or request.body:
        lines.append(f"content-length: {len(request.body)}\r\n")
        count += 1
    lines.append("\r\n")
    head = "".join(lines)
    if head.count("\n") != count or head.count("\r") != count or "\0" in head:
        raise NotSent("a header field contains a line break or a NUL")
    return head.encode("utf-8", "replace")


async def _read(payload: aiohttp.StreamReader) -> bytes:
    body = await payload.readany()
    while not payload.at_eof() and len(body) <= BODY_LIMIT:
        body += await payload.readany()
    if len(body) > BODY_LIMIT:
        raise _Unusable(f"answer too big: more than {BODY_LIMIT} bytes")
    return body


def _inflated(body: bytes, encoding: str) -> bytes:
    """We ask for no compression; a server that compresses all the same is understood, up to the same limit."""
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, BODY_LIMIT + 1)
    except zlib.error:
        return body
    if len(plain) > BODY_LIMIT:
        raise _Unusable(f"answer too big: more than {BODY_LIMIT} bytes when unpacked")
    return plain


async def _write_half(transport: asyncio.Transport, data: bytes) -> bytes:
    half = len(data) // 2
    transport.write(data[:half])
    await _reach_when_flushed("request_half_written")
    return data[half:]


async def _reach_when_flushed(name: failpoints.Name) -> None:
    await asyncio.sleep(0.05)  # the loop hands bytes to the kernel in its next turn, not in write()
    await failpoints.reach(name)


def _reason(error: Exception) -> str:
    """Words without an address: URLs carry tokens, and this is logged."""
    if isinstance(error, _Unusable):
        return str(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name does not resolve"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"no trusted TLS connection ({type(error).__name__})"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    words = getattr(cause, "strerror", None) or ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
