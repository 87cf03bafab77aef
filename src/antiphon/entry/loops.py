"""What a worker does over and over: loops that run until told to stop, and rounds that come again every so often.

`wiring.py` lists them. None may end a worker: one that fails is logged and begun again, and a database that is away is
waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from uuid import UUID

import psycopg
from msgspec import Struct
from psycopg_pool import PoolTimeout

from antiphon.campaigns import settling
from antiphon.core import db, logging, metrics
from antiphon.core.db import Connection, Database
from antiphon.core.waking import Deliver, wakes
from antiphon.events import pump
from antiphon.jobs import runner
from antiphon.jobs.model import Handlers
from antiphon.messages import dispatch, funnel, lanes, receipts
from antiphon.messages.worker import Worker
from antiphon.receiving import upkeep

log = logging.get(__name__)
FAILURES = metrics.counter("worker_loop_failures", "Failures of a worker's loops", ("loop",))

MONTHS_AHEAD = 3
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between a failure and the next try
AWAY = (psycopg.OperationalError, PoolTimeout)


class Working(Struct, frozen=True):
    """What a worker's loops use."""

    database: Database
    dispatcher: Worker
    handlers: Handlers


class Loop(Struct, frozen=True):
    """Something that runs until `stop` is set."""

    name: str
    run: Callable[[Working, asyncio.Event], Awaitable[None]]


class Round(Struct, frozen=True):
    """Something that is done at once and then every so many seconds."""

    name: str
    every: float
    run: Callable[[Working], Awaitable[None]]


async def keep(loop: Loop, working: Working, stop: asyncio.Event) -> None:
    """Run a loop until `stop` is set, however often it fails."""
    pause = FIRST_PAUSE
    while not stop.is_set():
        try:
            await loop.run(working, stop)
            return
        except AWAY as error:
            log.warning("worker_database_away", loop=loop.name, error=type(error).__name__)
        except Exception:
            log.exception("worker_loop_failed", loop=loop.name)
        FAILURES.labels(loop.name).inc()
        await sleep(stop, pause)
        pause = min(LONGEST_PAUSE, pause * 2)


def repeated(round_: Round) -> Loop:
    """A round as a loop."""

    async def run(working: Working, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await round_.run(working)
            await sleep(stop, round_.every)

    return Loop(round_.name, run)


async def sleep(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but no longer than until `stop` is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


# ---- loops


async def send_messages(working: Working, stop: asyncio.Event) -> None:
    """The dispatcher: own lanes that are due, claim, send, record."""
    await dispatch.run(working.dispatcher, stop)


async def sweep_lanes(working: Working, stop: asyncio.Event) -> None:
    """Find lanes whose waker died between its commit and the wake."""
    await dispatch.sweep(working.dispatcher, stop)


async def run_jobs(working: Working, stop: asyncio.Event) -> None:
    """Durable background work."""
    await runner.work(working.database, working.handlers, stop)


async def number_events(working: Working, stop: asyncio.Event) -> None:
    """Give events their numbers."""
    await pump.run(working.database, stop)


async def wake_lanes(working: Working, stop: asyncio.Event) -> None:
    """Tell lanes that something became due."""
    await wakes.run(deliver_through(working.database), stop)


async def receive_late(working: Working, stop: asyncio.Event) -> None:
    """Receipts that came too early find their message; webhooks that were kept long enough go."""
    await upkeep.run(working.database, stop)


def deliver_through(database: Database) -> Deliver:
    """How this process tells lanes what became due."""

    async def deliver(org_id: UUID, due: dict[UUID, datetime]) -> None:
        by_time: dict[datetime, list[UUID]] = {}
        for lane_id, at in due.items():
            by_time.setdefault(at, []).append(lane_id)
        async with database.transaction(org_id) as conn:
            for at, lane_ids in sorted(by_time.items()):
                await lanes.wake(conn, org_id, lane_ids, at)

    return deliver


# ---- rounds


async def fold_funnels(working: Working) -> None:
    """Add up what moved, and complete the campaigns of which nothing is left to do."""

    async def fold(conn: Connection, org_id: UUID) -> None:
        await settling.complete_settled(conn, org_id, await funnel.fold(conn, org_id))

    async with working.database.across() as conn:
        waiting = await funnel.organizations_to_fold(conn)
    await _for_each(working.database, waiting, fold)


async def look_at_old_receipts(working: Working) -> None:
    """Receipts that have long waited for their message: apply what found it, drop what has waited too long."""

    async def apply(conn: Connection, org_id: UUID) -> None:
        while await receipts.apply_parked(conn, org_id, old=True) == receipts.AT_ONCE:
            pass

    async with working.database.across() as conn:
        waiting = await receipts.organizations_with_parked(conn, old=True)
    await _for_each(working.database, waiting, apply)


async def make_partitions(working: Working) -> None:
    """The ledger's tables for the months ahead."""
    async with working.database.across() as conn:
        made = await db.value(
            conn,
            """
            -- any organization: the ledger's months are everybody's
            SELECT ensure_partitions(%(ahead)s::int)
            """,
            ahead=MONTHS_AHEAD,
        )
    if made:
        log.info("partitions_made", count=made)


async def _for_each(
    database: Database, org_ids: Iterable[UUID], do: Callable[[Connection, UUID], Awaitable[None]]
) -> None:
    """One transaction for each organization; one that fails keeps no other from its turn."""
    for org_id in org_ids:
        try:
            async with database.transaction(org_id) as conn:
                await do(conn, org_id)
        except AWAY:
            raise
        except Exception:
            log.exception("worker_round_failed", org_id=str(org_id), round=do.__name__)
