"""The HTTP server inside our own loop: uvicorn, told to be patient with nobody and to leave signals to us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from typing import Any, cast

import uvicorn
from litestar.types import ASGIApp
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from antiphon.core import logging, roles
from antiphon.core.crypto import Vault
from antiphon.core.db import Database
from antiphon.core.settings import Settings
from antiphon.organizations.access import Services

log = logging.get(__name__)

GRACE = 10  # seconds that requests have to end after we were asked to stop
BACKLOG = 2048


class ServerError(RuntimeError):
    """The server cannot start; the text says what to do."""


class Patience(Struct, frozen=True):
    """How long, in seconds, a client may take."""

    head: float = 10.0  # for a whole request head
    silence: float = 30.0  # without a byte of a body that is not finished


USUAL = Patience()


class TimedHttp(HttpToolsProtocol):
    """Drops connections that do not finish their request: uvicorn itself would wait for ever."""

    patience = USUAL

    _timer: asyncio.TimerHandle | None = None
    _is_in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A connection that says nothing is dropped too."""
        super().connection_made(transport)
        self._arm(self.patience.head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing left to time."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Every byte of a body buys more time."""
        super().data_received(data)
        if self._is_in_body:
            self._disarm()
            self._arm(self.patience.silence)

    def on_message_begin(self) -> None:
        """The next request on a connection that was kept open."""
        super().on_message_begin()
        self._arm(self.patience.head)

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._disarm()
        self._is_in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole; how long we take is our own affair."""
        self._disarm()
        self._is_in_body = False
        super().on_message_complete()

    def _arm(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        transport = cast("asyncio.Transport | None", self.transport)
        if transport is None or transport.is_closing():
            return
        if self._is_in_body and self.flow.read_paused:  # it is we who do not read
            self._arm(self.patience.silence)
            return
        transport.abort()


class Embedded(uvicorn.Server):
    """uvicorn without its signal handlers, which raise the signal again when it ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The process owns the signals."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ServerError saying what to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ServerError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; "
            "stop what uses it, or set ANTIPHON_HOST and ANTIPHON_PORT"
        ) from None


async def serve(
    app: ASGIApp,
    sock: socket.socket,
    stop: asyncio.Event,
    *,
    started: asyncio.Event | None = None,
    trusted_proxies: tuple[str, ...] = (),
    patience: Patience = USUAL,
) -> None:
    """Serve until `stop` is set; then take no new requests and give those that run ten seconds."""
    server = Embedded(
        uvicorn.Config(
            cast("Any", app),
            http=cast("Any", type("TimedHttp", (TimedHttp,), {"patience": patience})),
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            timeout_graceful_shutdown=GRACE,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[sock]), name="http server")
    stopping = asyncio.create_task(stop.wait())
    try:
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        if started is not None and not serving.done():
            started.set()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        sock.close()


@contextlib.asynccontextmanager
async def services(settings: Settings, url: str) -> AsyncIterator[Services]:
    """What requests use, on a database where we sign in as antiphon_app. Raises RoleError for anybody privileged."""
    async with Database.connect(
        url, size=settings.app_pool_size, pooler=settings.pooler, name="antiphon serve", wait=5
    ) as database:
        async with database.across() as conn:
            await roles.refuse_privileged(conn)
        yield Services(database, settings, Vault.of(settings))
