"""What a verb works with: the database as the application's role, and the organization that it works for."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import msgspec

from antiphon.core import db, logging, migrate, roles
from antiphon.core.crypto import Vault
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Conflict, Problem
from antiphon.core.roles import DatabaseUrls
from antiphon.core.settings import Settings
from antiphon.core.waking import wakes
from antiphon.organizations.model import Actor

T = TypeVar("T")
P = ParamSpec("P")

WAIT = 10.0  # seconds for a connection
MOST_NAMED = 10


class Session(msgspec.Struct, frozen=True):
    """One verb's way into one organization."""

    database: Database
    actor: Actor
    settings: Settings
    vault: Vault

    async def do(
        self, fn: Callable[Concatenate[Connection, Actor, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`await fn(conn, actor, …)` in a transaction of its own."""
        async with self.database.transaction(self.actor.org_id) as conn:
            return await fn(conn, self.actor, *args, **kwargs)


def run(verb: Coroutine[Any, Any, T]) -> T:
    """Run a verb's work to its end; Ctrl-C breaks it off between two transactions or rolls the open one back."""
    level = "debug" if os.environ.get("ANTIPHON_LOG_LEVEL", "").lower() == "debug" else "warning"
    logging.setup(level)
    return asyncio.run(verb)


@contextlib.asynccontextmanager
async def opened(settings: Settings | None = None) -> AsyncIterator[tuple[Settings, DatabaseUrls]]:
    """The database that the environment names, its schema up to date. Raises MigrationError when it is not."""
    settings = settings or Settings.from_env()
    prepared = await asyncio.to_thread(roles.prepare, settings)
    try:
        await asyncio.to_thread(migrate.check, prepared.urls.owner or prepared.urls.app)
        yield settings, prepared.urls
    finally:
        await asyncio.to_thread(prepared.release)


@contextlib.asynccontextmanager
async def session(org: str | None) -> AsyncIterator[Session]:
    """An organization, by id or name; without one, that of ANTIPHON_ORGANIZATION, or the only one there is."""
    async with opened() as (settings, urls):
        org_id = await find_organization(urls.worker, org or settings.organization)
        async with entered(settings, urls, org_id) as found:
            yield found


@contextlib.asynccontextmanager
async def entered(settings: Settings, urls: DatabaseUrls, org_id: UUID) -> AsyncIterator[Session]:
    """A session in this organization; lanes that its transactions made due are told at its end."""
    from antiphon.entry.loops import deliver_through

    async with Database.connect(
        urls.app, size=4, pooler=settings.pooler, name="antiphon", wait=WAIT
    ) as database:
        try:
            yield Session(database, Actor.operator(org_id), settings, Vault.of(settings))
        finally:
            await wakes.flush(deliver_through(database))


async def find_organization(worker_url: str, wanted: str | None) -> UUID:
    """The organization that is meant. Raises NotFound, and Conflict when there are several and none was named."""
    async with (
        Database.connect(worker_url, size=1, name="antiphon", wait=WAIT) as database,
        database.across() as conn,
    ):
        known = await db.tuples(conn, ORGANIZATIONS)
    if wanted is not None:
        found = [id_ for id_, name in known if wanted.strip().casefold() in (str(id_), name.casefold())]
        if len(found) > 1:
            raise Conflict(
                "several",
                f"{len(found)} organizations are named {wanted!r}; name one by its id: {_ids(found)}",
            )
        if not found:
            raise _no_organization(f"there is no organization {wanted!r}; there are: {_names(known)}")
        return found[0]
    if not known:
        raise _no_organization(
            "there is no organization yet: make the first with `antiphon init 'My company'`"
        )
    if len(known) > 1:
        raise Conflict("several", f"there are several organizations ({_names(known)}): say which one with --org or "
                                  "ANTIPHON_ORGANIZATION")  # fmt: skip
    return known[0][0]


async def organizations(worker_url: str) -> list[tuple[UUID, str]]:
    """Every organization's id and name, the oldest first."""
    async with (
        Database.connect(worker_url, size=1, name="antiphon", wait=WAIT) as database,
        database.across() as conn,
    ):
        return [(id_, name) for id_, name in await db.tuples(conn, ORGANIZATIONS)]


ORGANIZATIONS = """
    -- any organization: the command line is told a name and must find whose it is
    SELECT id, name FROM organizations WHERE deleted_at IS NULL ORDER BY id
"""


def _no_organization(text: str) -> Problem:
    return Problem(404, "no_organization", "Not found", text)


def _names(known: list[tuple[UUID, str]]) -> str:
    shown = ", ".join(repr(name) for _, name in known[:MOST_NAMED])
    return shown + (f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else "") or "none"


def _ids(found: list[UUID]) -> str:
    return ", ".join(map(str, found[:MOST_NAMED]))
