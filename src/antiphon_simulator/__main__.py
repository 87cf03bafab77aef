"""Start the simulator: `python -m antiphon_simulator --help`.

The first line on standard output is JSON that says where it listens; nothing else is ever printed there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from antiphon_simulator import certificates, control, exchange, fast, smtp, world
from antiphon_simulator.settings import Settings

BODY_MOST = 5_000_000  # bytes of a request


def main() -> int:
    """Serve until SIGTERM or SIGINT, or until the parent dies if so asked."""
    options = _options()
    try:
        settings = world.load_settings(options.scenario) if options.scenario else None
    except (OSError, msgspec.DecodeError) as problem:
        print(
            f"--scenario {options.scenario}: {problem}. Give `demo` or a JSON file of settings.",
            file=sys.stderr,
        )
        return 2
    with asyncio.Runner() as runner:
        try:
            runner.run(_serve(options, settings))
        except OSError as problem:
            print(f"Cannot start: {problem}. Choose another port (0: any) or another file.", file=sys.stderr)
            return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m antiphon_simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="HTTP providers and control (0: any free port)")
    parser.add_argument("--smtp-port", type=int, help="mail server (0: any; left out: no mail server)")
    parser.add_argument("--fast-port", type=int, help="bare path for benchmarks (0: any; left out: none)")
    parser.add_argument("--scenario", metavar="demo|FILE", help="settings to start with, as JSON")
    parser.add_argument("--log", type=Path, metavar="FILE", help="the log of everything received (JSONL)")
    parser.add_argument(
        "--fsync", action="store_true", help="have each line of the log on the disk, not just flushed"
    )
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="keep settings and log here, over a restart"
    )
    parser.add_argument(
        "--with-parent",
        type=int,
        nargs="?",
        const=os.getppid(),
        metavar="PID",
        help="end when the process that started it ends (PID: its id, if it might end before this one has begun)",
    )
    return parser.parse_args()


async def _serve(options: argparse.Namespace, settings: Settings | None) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_quiet)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        life = await world.make(options.log, options.state_dir, settings, options.fsync)
        stack.push_async_callback(life.close)
        ports = await _listen(options, life, stack)
        print(msgspec.json.encode(_greeting(options, life, ports)).decode(), flush=True)
        if options.with_parent is not None:
            watch = loop.create_task(_watch_parent(options.with_parent, ended))
            stack.callback(watch.cancel)
        await ended.wait()


async def _listen(
    options: argparse.Namespace, life: world.World, stack: AsyncExitStack
) -> dict[str, int | None]:
    """Open the sockets; the port of each server, None where there is none."""
    loop = asyncio.get_running_loop()
    authority = certificates.new_authority()
    runner = web.AppRunner(_app(life, authority.pem), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, options.host, options.port, backlog=1024)
    await site.start()
    ports: dict[str, int | None] = {"port": runner.addresses[0][1], "smtp_port": None, "fast_port": None}
    book = life.book
    if options.smtp_port is not None:
        server = await loop.create_server(
            lambda: smtp.protocol(life, lambda: authority.context(book.scenario.smtp_server.certificate)),
            options.host,
            options.smtp_port,
        )
        stack.callback(server.close)
        ports["smtp_port"] = server.sockets[0].getsockname()[1]
    if options.fast_port is not None:
        server = await loop.create_server(
            lambda: fast.FastProtocol(life.fast, book), options.host, options.fast_port, backlog=1024
        )
        stack.callback(server.close)
        ports["fast_port"] = server.sockets[0].getsockname()[1]
    return ports


def _app(life: world.World, pem: bytes) -> web.Application:
    app = web.Application(client_max_size=BODY_MOST)
    app.add_routes(control.routes(life, life.book.settings(), pem))
    app.add_routes(exchange.routes(life))
    app.router.add_route("*", "/{rest:.*}", lambda request: exchange.strays(request, life))
    return app


def _greeting(options: argparse.Namespace, life: world.World, ports: dict[str, int | None]) -> dict[str, Any]:
    def url(port: int | None) -> str | None:
        return f"http://{options.host}:{port}" if port else None

    return {
        "simulator": 1,
        "pid": os.getpid(),
        **ports,
        "url": url(ports["port"]),
        "fast_url": url(ports["fast_port"]),
        "log": str(life.oracle.path) if life.oracle.path else None,
    }


async def _watch_parent(parent: int, ended: asyncio.Event) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110  # nobody tells us
        await asyncio.sleep(0.3)
    ended.set()


def _quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A caller that breaks off is no news here; anything else is said in full."""
    if not isinstance(context.get("exception"), ConnectionError):
        loop.default_exception_handler(context)


if __name__ == "__main__":
    sys.exit(main())
