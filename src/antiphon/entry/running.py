"""How a process runs: its loop and signals, its database, and the server, the worker or both inside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Literal

import msgspec
import psycopg

from antiphon.core import heap, logging, migrate, roles
from antiphon.core.roles import DatabaseUrls, Prepared
from antiphon.core.settings import Settings
from antiphon.core.waking import wakes
from antiphon.entry import loops, server, web, worker
from antiphon.entry.server import ServerError
from antiphon.entry.worker import ProviderOf
from antiphon.providers import registry

log = logging.get(__name__)

TELL_EVERY = 5.0  # seconds, that the database is still waited for
PORTS_TRIED = 20
Schema = Literal["apply", "check"]


class Site(msgspec.Struct, frozen=True):
    """Where a running server is."""

    settings: Settings
    urls: DatabaseUrls
    sock: socket.socket

    @property
    def url(self) -> str:
        """Its address for callers on this machine."""
        return local_url(self.sock)


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    """Run `main(stop)` in a new event loop. SIGTERM and Ctrl-C set `stop`; a second one does not wait."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_with_signals(main))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _with_signals(main: Callable[[asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    task = asyncio.create_task(main(stop))

    def stop_now() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_now)
    try:
        return await task
    except asyncio.CancelledError:
        return 130
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def prepared(settings: Settings, stop: asyncio.Event, schema: Schema) -> AsyncIterator[Prepared | None]:
    """The database with its roles and this program's schema; None when `stop` was set while it was away.

    Raises RoleError, EmbeddedError, MigrationError, which say what to do.
    """
    found = await _reached(stop, lambda: roles.prepare(settings))
    if found is None:
        yield None
        return
    try:
        url = found.urls.owner or found.urls.app
        step = migrate.apply if schema == "apply" and found.urls.owner else migrate.check
        is_ready = await _reached(stop, lambda: step(url) or True)
        yield found if is_ready else None
    finally:
        await asyncio.to_thread(found.release)


async def _reached(stop: asyncio.Event, step: Callable[[], Any]) -> Any:
    """What `step` returns, tried again while the database is away; None when `stop` is set first."""
    told = 0.0
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        try:
            return await asyncio.to_thread(step)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None and not error.sqlstate.startswith(("57", "08", "53")):
                raise
            if clock() - told > TELL_EVERY:
                told = clock()
                log.warning("database_away", error=logging.scrub(str(error).strip()))
        await loops.sleep(stop, 0.5)
    return None


# ---- the three ways


async def serve(settings: Settings, stop: asyncio.Event, told: Callable[[Site], Awaitable[None]]) -> None:
    """The API until `stop` is set; `told` is called when it takes requests."""
    async with prepared(settings, stop, "check") as found:
        if found is not None:
            sock = server.listen(settings.host, settings.port)
            site = Site(_reached_at(settings, sock), found.urls, sock)
            await _together(stop, serve_site(site, stop, told, wake=True))


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """The worker until `stop` is set."""
    async with prepared(settings, stop, "check") as found:
        if found is not None:
            log.info("worker_started", lease_seconds=settings.lease_seconds)
            await _together(stop, worker.run(settings, found.urls.worker, stop))


async def up(
    settings: Settings,
    stop: asyncio.Event,
    told: Callable[[Site], Awaitable[None]],
    provider_of: ProviderOf = registry.get,
) -> None:
    """Database, migrations, API and worker in one process until `stop` is set; `told` is called when all is ready."""
    async with prepared(settings, stop, "apply") as found:
        if found is not None:
            sock = listen_nearby(settings.host, settings.port)
            site = Site(_reached_at(settings, sock), found.urls, sock)
            await _together(
                stop,
                serve_site(site, stop, told, wake=False),
                worker.run(site.settings, found.urls.worker, stop, provider_of),
            )


async def serve_site(
    site: Site, stop: asyncio.Event, told: Callable[[Site], Awaitable[None]], *, wake: bool
) -> None:
    """The API at a site. `wake`: no worker in this process hands on what its requests make due."""
    async with server.services(site.settings, site.urls.app) as ready:
        started = asyncio.Event()
        telling = asyncio.create_task(_tell(started, told, site))
        telling.add_done_callback(lambda _: stop.set() if started.is_set() and _failed(telling) else None)
        waking = asyncio.create_task(wakes.run(loops.deliver_through(ready.database), stop)) if wake else None
        app = web.application(ready)
        heap.settle()
        try:
            await server.serve(
                app, site.sock, stop, started=started,
                trusted_proxies=site.settings.trusted_proxies,
            )  # fmt: skip
        finally:
            telling.cancel()
            if waking is not None:
                await waking
        with contextlib.suppress(asyncio.CancelledError):
            await telling


async def _tell(started: asyncio.Event, told: Callable[[Site], Awaitable[None]], site: Site) -> None:
    await started.wait()
    await told(site)


def _failed(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is not None


async def _together(stop: asyncio.Event, *parts: Coroutine[Any, Any, None]) -> None:
    """All parts until `stop` is set; when one ends or fails, the others are stopped too."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        task.result()


# ---- addresses


def listen_nearby(host: str, port: int) -> socket.socket:
    """A listening socket on the port, or on the next free one above it. Raises ServerError when twenty are taken."""
    for tried in range(port, port + PORTS_TRIED if port else 1):
        try:
            return server.listen(host, tried)
        except ServerError:
            if tried == port + PORTS_TRIED - 1 or not _is_taken(host, tried):
                raise
    raise AssertionError("unreachable")


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def local_url(sock: socket.socket) -> str:
    """The address of a listening socket for callers on this machine."""
    name: tuple[str, int] = sock.getsockname()[:2]
    host, port = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name[0], name[0]), name[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reached_at(settings: Settings, sock: socket.socket) -> Settings:
    """The settings with the address that we really have, where no public one was given."""
    if os.environ.get("ANTIPHON_PUBLIC_URL"):
        return settings
    return msgspec.structs.replace(settings, public_url=local_url(sock))
