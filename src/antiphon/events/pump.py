"""Gives events their numbers: dense per organization, one pump at a time, in the order in which they were written.

Only what has committed is seen, and only the pump numbers, so a reader that has read n has missed nothing up to n.
Like the dispatchers, the pump opens its own transactions.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from antiphon.core import failpoints, logging, metrics
from antiphon.core.db import Database
from antiphon.events import queries

log = logging.get(__name__)
NUMBERED = metrics.counter("events_numbered", "Events that became readable")

BATCH = 5000
_ORGANIZATIONS = 200


async def run(database: Database, stop: asyncio.Event, *, look_every: float = 0.05) -> None:
    """Number new events until `stop` is set. A database that is away is waited for."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            moved, pause = 0, look_every
            try:
                moved = await pump(database)
            except (psycopg.OperationalError, PoolTimeout) as error:
                log.warning("events_database_away", error=type(error).__name__)
                pause = 1.0
            if not moved:
                await asyncio.wait({stopping}, timeout=pause)
    finally:
        stopping.cancel()


async def pump(database: Database) -> int:
    """Number what waits, once around all organizations that wait; returns how many events became readable."""
    async with database.across() as conn:
        waiting = await queries.organizations_with_new(conn, _ORGANIZATIONS)
    return sum([await pump_organization(database, org_id) for org_id in waiting])


async def pump_organization(database: Database, org_id: UUID) -> int:
    """Number one batch of one organization's events; 0 while another pump does."""
    async with database.transaction(org_id) as conn:
        head = await queries.lock_head(conn, org_id)
        if head is None:
            await queries.make_head(conn, org_id)
            head = await queries.lock_head(conn, org_id)
        if head is None:
            return 0
        taken, stored = await queries.number_new(conn, org_id, head, BATCH)
        if taken != stored:
            raise RuntimeError(f"events: {taken} taken, {stored} stored after {head}; the head is wrong")
        if taken:
            await queries.move_head(conn, org_id, head + taken)
    await failpoints.reach("events_pumped")
    NUMBERED.inc(taken)
    return taken
