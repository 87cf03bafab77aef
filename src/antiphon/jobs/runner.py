"""Runs jobs: chosen across organizations without a lock, leased one at a time, one transaction a step.

A step and the job's progress commit together, so a crash loses at most a step that left nothing behind; when the lease
has run out, another runner continues after the last committed one. A step holds its job's row, so two runners are never
in the same one, however late a lease is noticed. Like the dispatchers, the runner opens its own transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import msgspec
import psycopg
from msgspec import Struct
from psycopg_pool import PoolTimeout

from antiphon.core import db, failpoints, ids, logging, metrics
from antiphon.core.db import Connection, Database
from antiphon.jobs import model, queries
from antiphon.jobs.model import Continue, Done, GivenUp, Guarded, Handler, Handlers, Leased, Run

log = logging.get(__name__)
STEPS = metrics.counter("job_steps", "Steps of background work, by how they ended", ("kind", "outcome"))

AWAY = (psycopg.OperationalError, PoolTimeout)
"""The database cannot be reached: no step's failure, and nowhere to write it down."""


class Pace(Struct, frozen=True, kw_only=True):
    """How a runner goes about it."""

    lease: timedelta = timedelta(seconds=15)
    look_every: float = 0.25  # seconds, when nothing is due
    at_once: int = 4  # jobs
    turn: float = 2.0  # seconds after which a job that has more to do lets others go first
    wait_after: Callable[[int], timedelta] = model.wait_after


async def work(database: Database, handlers: Handlers, stop: asyncio.Event, pace: Pace | None = None) -> None:
    """Run due jobs of the kinds in `handlers` until `stop` is set; steps that run then are finished first."""
    runner = _Runner(database, handlers, stop, pace or Pace())
    stopping = asyncio.ensure_future(stop.wait())
    running: dict[UUID, asyncio.Task[None]] = {}
    try:
        while not stop.is_set():
            free = runner.pace.at_once - len(running)
            started = await runner.start_due(running, free) if free else 0
            if not started:
                waiting = {stopping, *running.values()}
                await asyncio.wait(
                    waiting, timeout=runner.pace.look_every, return_when=asyncio.FIRST_COMPLETED
                )
            for job_id in [job_id for job_id, task in running.items() if task.done()]:
                running.pop(job_id).result()
    finally:
        stopping.cancel()
        await asyncio.gather(*running.values())


class _Runner:
    """One process's runner: its name in leases, and what it was given."""

    def __init__(self, database: Database, handlers: Handlers, stop: asyncio.Event, pace: Pace) -> None:
        self.database = database
        self.stop = stop
        self.pace = pace
        self.owner = ids.new_id()
        self.handlers: dict[str, tuple[type[Struct], Guarded | Handler]] = {
            model.kind_of(kind): (kind, handler) for kind, handler in handlers.items()
        }

    async def start_due(self, running: dict[UUID, asyncio.Task[None]], free: int) -> int:
        """Lease up to `free` due jobs and start them; returns how many."""
        started = 0
        try:
            async with self.database.across() as conn:
                found = await queries.due(conn, list(self.handlers), 2 * self.pace.at_once)
            for org_id, job_id in found:
                if started == free:
                    break
                if job_id not in running and (job := await self._lease(org_id, job_id)) is not None:
                    running[job_id] = asyncio.create_task(self._run(job), name=f"job {job.kind}")
                    started += 1
        except AWAY as error:
            log.warning("jobs_database_away", error=type(error).__name__)
            await asyncio.sleep(self.pace.look_every)
        return started

    async def _lease(self, org_id: UUID, job_id: UUID) -> Leased | None:
        async with self.database.transaction(org_id) as conn:
            job = await queries.lease(conn, org_id, job_id, self.owner, self.pace.lease)
        if job is not None:
            await failpoints.reach("job_claimed")
        return job

    async def _run(self, job: Leased) -> None:
        """Step after step until the job ends, waits, fails, is lost, or has had its turn."""
        try:
            await self._run_steps(job)
        except AWAY as error:
            log.warning("job_left_by_database", kind=job.kind, job_id=job.id, error=type(error).__name__)
        except Exception as error:
            log.warning("job_failed", kind=job.kind, job_id=job.id, failures=job.failures + 1, exc_info=error)
            with contextlib.suppress(*AWAY):
                await self._note_failure(job, error)

    async def _run_steps(self, job: Leased) -> None:
        kind, found = self.handlers[job.kind]
        handler = found.handler if isinstance(found, Guarded) else found
        payload = msgspec.convert(job.payload, kind)
        ends = time.monotonic() + self.pace.turn
        while await self._step(job, handler, payload, time.monotonic() > ends):
            job = msgspec.structs.replace(job, failures=0)
            if self.stop.is_set():
                async with self.database.transaction(job.org_id) as conn:
                    await queries.give_back(conn, job.org_id, job.id, self.owner)
                return

    async def _step(self, job: Leased, handler: Handler, payload: Struct, is_turn_over: bool) -> bool:
        """One step and its progress in one transaction; True when the next one follows at once."""
        async with self.database.transaction(job.org_id) as conn:
            await _bound(conn)
            progress = await queries.lock_mine(conn, job.org_id, job.id, self.owner)
            if progress is None:  # canceled, or taken over while we slept
                STEPS.labels(job.kind, "lost").inc()
                return False
            outcome = await handler(conn, payload, Run(id=job.id, org_id=job.org_id, progress=progress))
            follows = await self._save(conn, job, progress, outcome, is_turn_over)
        STEPS.labels(job.kind, "done" if isinstance(outcome, Done) else "continued").inc()
        await failpoints.reach("job_committed")
        return follows

    async def _save(
        self,
        conn: Connection,
        job: Leased,
        progress: dict[str, object],
        outcome: Continue | Done,
        is_turn_over: bool,
    ) -> bool:
        if isinstance(outcome, Done):
            await queries.finish(conn, job.org_id, job.id, progress | outcome.progress)
            return False
        if outcome.run_at is None and not is_turn_over:
            await queries.keep_going(conn, job.org_id, job.id, outcome.progress, self.pace.lease)
            return True
        await queries.put_back(conn, job.org_id, job.id, outcome.progress, outcome.run_at)
        return False

    async def _note_failure(self, job: Leased, error: Exception) -> None:
        text = model.error_text(error)
        if job.failures + 1 < model.MOST_FAILURES:
            STEPS.labels(job.kind, "failed").inc()
            async with self.database.transaction(job.org_id) as conn:
                wait = self.pace.wait_after(job.failures + 1)
                await queries.note_failure(conn, job, self.owner, text, wait)
            return
        STEPS.labels(job.kind, "given_up").inc()
        found = self.handlers[job.kind][1]
        try:
            await self._give_up(job, text, found.given_up if isinstance(found, Guarded) else None)
        except AWAY:
            raise
        except Exception as trouble:  # nobody could be told; that it has ended is written all the same
            log.error("job_given_up_unheard", kind=job.kind, job_id=job.id, exc_info=trouble)
            await self._give_up(job, text, None)

    async def _give_up(self, job: Leased, error: str, given_up: GivenUp | None) -> None:
        async with self.database.transaction(job.org_id) as conn:
            if await queries.give_up(conn, job, self.owner, error) and given_up is not None:
                await given_up(conn, job, error)


async def _bound(conn: Connection) -> None:
    """A runner that freezes inside a step loses its session, and with it the lock on the job's row."""
    await db.execute(conn, "SET LOCAL idle_in_transaction_session_timeout = '60s'")
