"""The verbs that run until they are stopped: everything in one process, the server, the worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from antiphon.entry.cli.shape import verb

if TYPE_CHECKING:
    from antiphon.core.settings import Settings
    from antiphon.entry.running import Site

Host = Annotated[str | None, typer.Option(help="Address to listen on (ANTIPHON_HOST).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (ANTIPHON_PORT).", min=0, max=65535)]


@verb("antiphon up --demo")
def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="With a demo organization and simulated providers.")
    ] = False,
    host: Host = None,
    port: Port = None,
) -> None:
    """Run everything in one process: database, server, worker."""
    from antiphon.entry import running

    settings = _settings(host, port)
    if demo:
        from antiphon.entry.demo import household

        _end(running.run(lambda stop: household.run(settings, stop)))
        return

    async def told(site: Site) -> None:
        from antiphon.entry.cli import session

        _tell_address(site)
        if not await session.organizations(site.urls.worker):
            typer.echo("There is no organization yet. In another terminal: antiphon init 'My company'")

    async def run(stop: asyncio.Event) -> int:
        await running.up(settings, stop, told)
        return 0

    _end(running.run(run))


@verb("antiphon serve --port 8400")
def serve(host: Host = None, port: Port = None) -> None:
    """Run the API server."""
    from antiphon.entry import running

    settings = _settings(host, port)

    async def told(site: Site) -> None:
        _tell_address(site)

    async def run(stop: asyncio.Event) -> int:
        await running.serve(settings, stop, told)
        return 0

    _end(running.run(run))


@verb("antiphon work")
def work() -> None:
    """Run the worker: it sends what is due and does the jobs."""
    from antiphon.entry import running

    settings = _settings(None, None)

    async def run(stop: asyncio.Event) -> int:
        await running.work(settings, stop)
        return 0

    _end(running.run(run))


def _settings(host: str | None, port: int | None) -> Settings:
    import msgspec

    from antiphon.core import logging
    from antiphon.core.settings import Settings

    settings = Settings.from_env()
    logging.setup(settings.log_level, settings.log_format)
    if host is not None:
        settings = msgspec.structs.replace(settings, host=host)
    if port is not None:
        settings = msgspec.structs.replace(settings, port=port)
    return settings


def _tell_address(site: Site) -> None:
    wanted = site.settings.port
    got = site.sock.getsockname()[1]
    if wanted and got != wanted:
        typer.echo(f"Port {wanted} is taken; this is the next free one.")
    typer.echo(f"Antiphon is at {site.url}, its API reference at {site.url}/docs.")


def _end(code: int) -> None:
    if code:
        raise typer.Exit(code)


@verb("antiphon demo")
def demo() -> None:
    """Play the day of a blast with simulated providers."""
    import os

    from antiphon.core import logging
    from antiphon.core.settings import Settings
    from antiphon.entry import running
    from antiphon.entry.demo import day

    settings = Settings.from_env()
    logging.setup(
        settings.log_level if os.environ.get("ANTIPHON_LOG_LEVEL") else "error", settings.log_format
    )
    _end(running.run(lambda stop: day.run(settings, stop)))
