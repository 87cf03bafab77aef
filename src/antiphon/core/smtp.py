"""Mail to a server, step by step, over connections that are kept: so that we know whether the final dot left.

aiosmtplib opens the connection, speaks TLS and signs in; MAIL, RCPT, DATA and the content are sent here one by one,
because its own `data` raises the same error before the dot and after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, TypeVar

import aiosmtplib

from antiphon.core import failpoints
from antiphon.core.clock import boottime
from antiphon.core.db import in_transaction
from antiphon.core.wire import MailEnvelope, MailReply, MaybeSent, NotBegun, NotSent, TlsMode

T = TypeVar("T")

MAILS_PER_CONNECTION = 100
IDLE_LIMIT = 25.0  # seconds; servers hang up after 30 s at the earliest, most after minutes
DEADLINE = 60.0
CONNECT_LIMIT = 15.0
STEP_LIMIT = 30.0
GUARDED_PORTS = frozenset({25, 465, 587, 2525})
_DOT = re.compile(rb"^\.", re.MULTILINE)


class _Key(NamedTuple):
    host: str
    port: int
    tls: TlsMode
    username: str | None
    password: str | None


class _Line:
    """A connection that has said hello and signed in, and how much it has carried."""

    __slots__ = ("client", "idle_since", "mails")

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self.client = client
        self.mails = 0
        self.idle_since = 0.0


class MailClient:
    """Pools of connections, one per server and user. Make it inside a running event loop; close it there."""

    def __init__(
        self,
        *,
        connections: int = 20,
        hello_name: str | None = None,
        check_address: Callable[[str], bool] | None = None,
    ) -> None:
        """`connections` is per server and user. `check_address` judges where a host that a customer typed may lead."""
        self._loop = asyncio.get_running_loop()
        self._connections = connections
        self._hello_name = hello_name
        self._check_address = check_address
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[_Key, deque[_Line]] = {}
        self._slots: dict[_Key, asyncio.Semaphore] = {}

    async def __aenter__(self) -> MailClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye on every idle connection; at most five seconds for all."""
        lines = [line for pool in self._idle.values() for line in pool]
        self._idle.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.gather(*(line.client.quit() for line in lines), return_exceptions=True)
        for line in lines:
            line.client.close()

    async def send(self, envelope: MailEnvelope, *, not_after: float | None = None) -> MailReply:
        """One mail: the server's last reply, or NotSent, or MaybeSent when the dot left and no reply came.

        With `not_after` (a reading of `clock.boottime`), no content is written later than that: NotSent.
        """
        if in_transaction.get():
            raise RuntimeError("no network call while a transaction is open: commit first, then call out")
        key = _Key(envelope.host, envelope.port, envelope.tls, envelope.username, envelope.password)
        seconds = DEADLINE if envelope.timeout is None else envelope.timeout.total_seconds()
        dialogue = _Dialogue()
        try:
            async with asyncio.timeout(seconds), self._slot(key):
                opened = await self._line(key)
                if isinstance(opened, MailReply):
                    return opened
                dialogue.line = opened
                reply = await dialogue.run(envelope, not_after)
                self._put_back(key, opened)
                dialogue.line = None
                return reply
        except TimeoutError:
            raise dialogue.failure("no reply in time") from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise dialogue.failure(_reason(error)) from None
        finally:
            dialogue.end()

    def _slot(self, key: _Key) -> asyncio.Semaphore:
        return self._slots.setdefault(key, asyncio.Semaphore(self._connections))

    async def _line(self, key: _Key) -> _Line | MailReply:
        """A connection ready for MAIL; or the reply with which the server turned us away."""
        pool = self._idle.get(key)
        while pool:
            line = pool.pop()
            if self._loop.time() - line.idle_since < IDLE_LIMIT and await _is_alive(line.client):
                return line
            line.client.close()
        return await self._open(key)

    async def _open(self, key: _Key) -> _Line | MailReply:
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        client = aiosmtplib.SMTP(
            hostname=key.host,
            port=None if self._check_address else key.port,
            use_tls=key.tls == "tls",
            start_tls=key.tls == "starttls",
            username=key.username,
            password=key.password,
            tls_context=None if key.tls == "none" else self._tls,
            local_hostname=self._hello_name,
            timeout=STEP_LIMIT,
            sock=await self._vetted_socket(key) if self._check_address else None,
        )
        try:
            await client.connect(timeout=CONNECT_LIMIT)
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
        except aiosmtplib.SMTPAuthenticationError as error:
            return MailReply("login", error.code, error.message)
        except aiosmtplib.SMTPResponseException as error:
            return MailReply("connect", error.code, error.message)
        return _Line(client)

    async def _vetted_socket(self, key: _Key) -> socket.socket:
        """A socket connected to an address that was judged, not to a name that might answer differently next time."""
        assert self._check_address is not None
        if key.port not in GUARDED_PORTS:
            raise OSError(f"port {key.port} is not open for mail; use one of {sorted(GUARDED_PORTS)}")
        found = await self._loop.getaddrinfo(key.host, key.port, type=socket.SOCK_STREAM)
        if not found or not all(self._check_address(str(each[4][0])) for each in found):
            raise OSError("the mail server's address cannot be reached, or is not allowed")
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                await self._loop.sock_connect(made, address)
        except BaseException:
            made.close()
            raise
        return made

    def _put_back(self, key: _Key, line: _Line) -> None:
        line.mails += 1
        if line.mails >= MAILS_PER_CONNECTION or not line.client.is_connected:
            line.client.close()
            return
        line.idle_since = self._loop.time()
        self._idle.setdefault(key, deque()).append(line)


class _Dialogue:
    """One mail under way: how far it got decides what its failure means."""

    __slots__ = ("line", "written")

    def __init__(self) -> None:
        self.line: _Line | None = None
        self.written = False

    async def run(self, envelope: MailEnvelope, not_after: float | None) -> MailReply:
        assert self.line is not None
        client = self.line.client
        options, encoding = _extensions(client, envelope)
        if encoding is None:
            return MailReply("recipient", 550, "5.6.7 the server takes no addresses outside ASCII")
        sender = f"FROM:<{envelope.sender}>".encode(encoding)
        reply = await client.execute_command(b"MAIL", sender, *options)
        if reply.code != 250:
            return MailReply("sender", reply.code, reply.message)
        reply = await client.execute_command(b"RCPT", f"TO:<{envelope.recipient}>".encode(encoding))
        if reply.code not in (250, 251):
            return MailReply("recipient", reply.code, reply.message)
        reply = await client.execute_command(b"DATA")
        if reply.code != 354:
            return MailReply("content", reply.code, reply.message)
        if not_after is not None and boottime() >= not_after:
            raise NotBegun("there was no time left to begin")
        return await self._content(client, envelope.content)

    async def _content(self, client: aiosmtplib.SMTP, content: bytes) -> MailReply:
        protocol = client.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("connection lost")
        data = _DOT.sub(b"..", content if content.endswith(b"\r\n") else content + b"\r\n") + b".\r\n"
        if failpoints.is_armed("request_half_written"):
            data = await _write_half(protocol.write, data)
        self.written = True
        protocol.write(data)
        if failpoints.is_armed("request_written"):
            await asyncio.sleep(0.05)
            await failpoints.reach("request_written")
        reply = await protocol.read_response(timeout=None)  # the deadline of the whole mail bounds it
        if failpoints.is_armed("answer_read"):
            await failpoints.reach("answer_read")
        return MailReply("content", reply.code, reply.message)

    def failure(self, reason: str) -> NotSent | MaybeSent:
        """What the failure of this mail means: without the dot, a server has nothing."""
        return MaybeSent(reason) if self.written else NotSent(reason)

    def end(self) -> None:
        """A dialogue that was not finished is broken or canceled: its connection is never used again."""
        if self.line is None:
            return
        transport = self.line.client.transport
        if isinstance(transport, asyncio.Transport):
            transport.abort()
        self.line.client.close()


async def _is_alive(client: aiosmtplib.SMTP) -> bool:
    """RSET: the old dialogue is forgotten, and the connection proves that it still stands."""
    try:
        return client.is_connected and (await client.execute_command(b"RSET", timeout=5)).code == 250
    except (aiosmtplib.SMTPException, OSError):
        return False


def _extensions(client: aiosmtplib.SMTP, envelope: MailEnvelope) -> tuple[list[bytes], str | None]:
    """The options of MAIL, and how addresses are written; None if the server cannot take them."""
    if (envelope.sender + envelope.recipient).isascii():
        return [], "ascii"
    if client.supports_extension("smtputf8"):
        return [b"SMTPUTF8", b"BODY=8BITMIME"], "utf-8"
    return [], None


async def _write_half(write: Callable[[bytes], None], data: bytes) -> bytes:
    half = len(data) // 2
    write(data[:half])
    await asyncio.sleep(0.05)
    await failpoints.reach("request_half_written")
    return data[half:]


def _reason(error: Exception) -> str:
    """Words without names: a reason is logged, and shown to the organization."""
    if isinstance(error, aiosmtplib.SMTPConnectError) and isinstance(error.__cause__, ssl.SSLError):
        return f"no trusted TLS connection: {error.__cause__.reason}"
    if isinstance(error, ssl.SSLError):
        return f"no trusted TLS connection: {error.reason}"
    return f"{type(error).__name__}: {str(error)[:200]}"
