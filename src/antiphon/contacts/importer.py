"""Runs an import from its position to its end: reads in another process, stores in batches, two of them at a time.

Like the dispatchers it opens its own transactions, one a batch, and the position moves in the same. Batches become
visible in the order of the file. The second batch waits until the first has locked the contacts that it changes, and
no address is in two batches (the reader sees to it), so the two never wait for each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import psycopg
from msgspec import Struct, structs

from antiphon.contacts import import_batch, import_records, imports
from antiphon.contacts.import_batch import Order, Raced
from antiphon.contacts.import_model import Batch, Import, ImportJob, ImportOptions, Plan, Stored
from antiphon.contacts.import_process import Reader, ReadingFailed, reading
from antiphon.core import failpoints
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Conflict
from antiphon.organizations.model import Actor

BATCH_ROWS = 10_000
_AT_ONCE = 2
_MOST_TRIES = 5
_PASSING = (Raced, psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)

Beside = Callable[[Connection, UUID], Awaitable[None]]
"""Called in each batch's transaction with the import's id, while `import_rows` says whom each line means."""


class Watch(Struct, frozen=True, kw_only=True):
    """How somebody follows an import: told after each batch (of so many lines), may stop it, may join what it reads."""

    told: Callable[[Import], None] = lambda _: None
    stop: asyncio.Event | None = None
    beside: Beside | None = None
    batch_rows: int = BATCH_ROWS


async def run(
    database: Database,
    actor: Actor,
    path: Path,
    options: ImportOptions,
    *,
    watch: Watch | None = None,
    resume: bool = False,
) -> Import:
    """Import a file to its end, or until `watch.stop` is set; it then is still `running`, and this goes on with it.

    An unfinished import of the same file with the same options is continued; `resume` demands that there is one.
    Raises Invalid for a file or options that cannot be used, Conflict if the file has changed or somebody else runs it.
    """
    async with database.transaction(actor.org_id, read_only=True) as conn:
        country = await imports.country_of(conn, actor)
    plan = await asyncio.to_thread(imports.plan_file, path, options, country)
    async with database.transaction(actor.org_id) as conn:
        stored = await imports.find_unfinished(conn, actor, plan, path.name, must_exist=resume)
        if stored is None:
            stored = await imports.begin(conn, actor, plan, path.name)
    return await carry_on(database, actor, stored, path, watch or Watch())


async def carry_on(database: Database, actor: Actor, stored: Stored, path: Path, watch: Watch) -> Import:
    """The same for an import that has begun."""
    tries = 0
    while True:
        try:
            is_done = await _Run(database, actor, stored, path, watch).to_the_end()
            break
        except _PASSING as error:
            async with database.transaction(actor.org_id, read_only=True) as conn:
                now = await import_records.get(conn, actor.org_id, stored.id)
            tries = tries + 1 if now.position == stored.position else 1
            if tries == _MOST_TRIES:
                raise Conflict(
                    "import_busy", "others change the same contacts all the time; run the import again later"
                ) from error
            stored = now
            await asyncio.sleep(0.1 * tries)
        except ReadingFailed as error:
            async with database.transaction(actor.org_id) as conn:
                return await imports.finish(conn, actor, stored.id, "failed", str(error))
    async with database.transaction(actor.org_id) as conn:
        if is_done:
            return await imports.finish(conn, actor, stored.id, "done")
        return await imports.get(conn, actor, stored.id)


class _Turn:
    """A batch's place in the order: what the next one waits for."""

    def __init__(self) -> None:
        self.is_locked = asyncio.Event()
        self.is_over = asyncio.Event()
        self.has_committed = False

    @classmethod
    def before_the_first(cls) -> _Turn:
        turn = cls()
        turn.end(has_committed=True)
        return turn

    def end(self, *, has_committed: bool) -> None:
        self.has_committed = has_committed
        self.is_locked.set()
        self.is_over.set()


class _NotMyTurn(Exception):
    """The batch before was not stored, so this one is not either."""


class _Run:
    """One reading of the file, from where the import is."""

    def __init__(self, database: Database, actor: Actor, stored: Stored, path: Path, watch: Watch) -> None:
        self.database = database
        self.actor = actor
        self.stored = stored  # as it is after the last commit
        self.plan: Plan = imports.plan_of(stored)
        self.watch = watch
        self.job = ImportJob(
            path=str(path),
            import_id=stored.id,
            plan=self.plan,
            after=stored.position,
            batch_rows=watch.batch_rows,
        )

    async def to_the_end(self) -> bool:
        """Store batch after batch; False if it was stopped."""
        async with reading(self.job) as reader:
            tasks: deque[asyncio.Task[None]] = deque()
            try:
                is_done = await self._store_all(reader, tasks)
                while tasks:
                    await tasks.popleft()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return is_done

    async def _store_all(self, reader: Reader, tasks: deque[asyncio.Task[None]]) -> bool:
        before = _Turn.before_the_first()
        stop = self.watch.stop
        while not (stop is not None and stop.is_set()):
            batch = await reader.next()
            if batch is None:
                return True
            mine = _Turn()
            tasks.append(asyncio.create_task(self._store_in_turn(batch, before, mine)))
            before = mine
            if len(tasks) == _AT_ONCE:
                await tasks.popleft()
        return False

    async def _store_in_turn(self, batch: Batch, before: _Turn, mine: _Turn) -> None:
        try:
            await self._store(batch, before, mine)
        except BaseException:
            mine.end(has_committed=False)
            raise
        mine.end(has_committed=True)
        await failpoints.reach("import_page_committed")
        self.watch.told(imports.shown(self.stored))

    async def _store(self, batch: Batch, before: _Turn, mine: _Turn) -> None:
        org_id = self.actor.org_id
        async with self.database.transaction(org_id) as conn:
            order = Order(before.is_locked.wait, mine.is_locked.set)
            outcome = await import_batch.store(conn, org_id, self.stored, self.plan, batch, order)
            if self.watch.beside is not None:
                await self.watch.beside(conn, self.stored.id)
            await before.is_over.wait()
            if not before.has_committed:
                raise _NotMyTurn
            await import_batch.advance(conn, org_id, self.stored, batch, outcome)
        self.stored = structs.replace(
            self.stored,
            position=batch.position,
            done_bytes=batch.done_bytes,
            rows_read=self.stored.rows_read + batch.rows_read,
            created=self.stored.created + outcome.created,
            updated=self.stored.updated + outcome.updated,
            unchanged=self.stored.unchanged + outcome.unchanged,
            rejected=self.stored.rejected + outcome.rejected,
        )
