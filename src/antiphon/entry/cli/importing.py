"""Contacts from a file at the machine: a progress bar, Ctrl-C between two batches, gone on with later."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from antiphon.campaigns import from_file
from antiphon.contacts import groups, importer, imports
from antiphon.contacts.groups import NewGroup
from antiphon.contacts.import_model import Import, ImportOptions, Plan
from antiphon.contacts.importer import Watch
from antiphon.contacts.imports import RefusedLine
from antiphon.core.db import Connection
from antiphon.core.errors import Problem
from antiphon.entry.cli.session import Session

SHOWN = 10  # refused lines


class File(msgspec.Struct, frozen=True, kw_only=True):
    """How a file of people is to be read, where that is more than its name."""

    consent: str | None = None
    country: str | None = None
    mapping: dict[str, str] = {}


async def group_of_file(found: Session, path: Path, file: File) -> UUID:
    """The group of exactly this file's people: made by its first import, filled further by the next one.

    It is named after the file and its content, so the same command again neither doubles nor mixes anybody.
    """
    digest = hashlib.sha256(_existing(path).read_bytes()).hexdigest()[:8]
    options = ImportOptions(
        map=file.mapping, country=file.country, consent=file.consent, extra="attributes",
        group=await named_group(found, f"{path.name[:180]} ({digest})"),
    )  # fmt: skip
    done = await run(found, path, options)
    if done.status != "done":
        raise _stopped("the same command goes on where it stopped")
    assert done.group_id is not None
    return done.group_id


async def has_texts(found: Session, path: Path, file: File) -> bool:
    """Whether each line brings its own text. Raises Invalid for a file that is no table of people."""
    return "text" in (await _plan(found, path, file)).fields


async def _plan(found: Session, path: Path, file: File) -> Plan:
    options = ImportOptions(map=file.mapping, country=file.country, consent=file.consent, extra="recipients")
    country = await found.do(imports.country_of)
    return await asyncio.to_thread(imports.plan_file, _existing(path), options, country)


async def list_of_file(found: Session, path: Path, file: File, campaign_id: UUID) -> None:
    """Put a file's people on a campaign's own list, each with the text of their line.

    An import that stopped half-way was for another draft's list, so it is not gone on with.
    """
    plan = await _plan(found, path, file)
    async with found.database.transaction(found.actor.org_id) as conn:
        unfinished = await imports.find_unfinished(conn, found.actor, plan, path.name)
        if unfinished is not None:
            await imports.cancel(conn, found.actor, unfinished.id)

    async def beside(conn: Connection, _: UUID) -> None:
        await from_file.add_lines(conn, found.actor.org_id, campaign_id)

    done = await run(found, path, plan.options, beside=beside)
    if done.status != "done":
        await found.do(imports.cancel, done.id)
        raise _stopped("the same command begins the file anew; nobody is doubled")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(2, "there is no such file", str(path))
    return path


def _stopped(remedy: str) -> Problem:
    return Problem(409, "import_stopped", "Stopped", f"the import was stopped, so nothing is sent; {remedy}")


async def named_group(found: Session, name: str) -> UUID:
    """The group of this name, made if there is none."""
    group = await found.do(groups.find_group, name)
    return group.id if group else (await found.do(groups.create_group, NewGroup(name=name))).id


async def import_quietly(
    found: Session, path: Path, *, group: str, consent: str | None, mapping: dict[str, str]
) -> Import:
    """The whole file into a group, without a word. Raises Problem when it cannot be read to its end."""
    options = ImportOptions(
        map=mapping, consent=consent, extra="attributes", group=await named_group(found, group)
    )
    done = await importer.run(found.database, found.actor, path, options)
    if done.failure:
        raise Problem(422, "import_failed", "The file cannot be read", done.failure)
    return done


async def refused(found: Session, import_id: UUID, limit: int = SHOWN) -> list[RefusedLine]:
    """The first lines that were refused."""
    return (await found.do(imports.list_errors, import_id, limit)).items


async def run(
    found: Session,
    path: Path,
    options: ImportOptions,
    *,
    resume: bool = False,
    beside: importer.Beside | None = None,
) -> Import:
    """Import with a progress bar, and say what came of it. Ctrl-C stops after the batch that is being stored."""
    _existing(path)
    with _stopping() as stop, _bar(path) as told:
        watch = Watch(told=told, stop=stop, beside=beside)
        done = await importer.run(found.database, found.actor, path, options, watch=watch, resume=resume)
    await _tell(found, done)
    return done


@contextlib.contextmanager
def _stopping() -> Iterator[asyncio.Event]:
    """An event that the first Ctrl-C sets; the second one breaks off as ever."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def asked() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, asked)
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@contextlib.contextmanager
def _bar(path: Path) -> Iterator[Callable[[Import], None]]:
    """A bar with bytes and rows on standard error; nothing where nobody sees it."""
    screen = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(),
               TextColumn("{task.fields[rows]:,} rows"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task(path.name[:24], total=path.stat().st_size, rows=0)

        def told(now: Import) -> None:
            progress.update(task, completed=now.done_bytes, total=now.total_bytes, rows=now.rows_read)

        yield told


async def _tell(found: Session, done: Import) -> None:
    typer.echo(summary(done))
    for warning in done.warnings:
        typer.echo(f"Note: {warning}.")
    if done.failure:
        raise Problem(422, "import_failed", "The file cannot be read", done.failure)
    if done.rejected:
        for error in await refused(found, done.id):
            typer.echo(f"  line {error.line}: {error.reason}")
        if done.rejected > SHOWN:
            typer.echo(f"  and {done.rejected - SHOWN:,} more")
    if done.status == "running":
        typer.echo("Stopped. The same command goes on where it stopped.")


def summary(done: Import) -> str:
    """What came of it in one sentence."""
    known = f", {done.unchanged:,} known already" if done.unchanged else ""
    changed = f", {done.updated:,} filled further" if done.updated else ""
    verb = "would be new" if done.is_dry_run else "new"
    return (
        f"{done.file_name}: {done.rows_read:,} rows read, {done.created:,} {verb}{changed}{known}, "
        f"{done.rejected:,} refused."
    )
