"""What the worker does for receiving: statuses that came early find their message, old webhooks go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

import psycopg
from psycopg_pool import PoolTimeout

from antiphon.core import clock, ids, logging
from antiphon.core.db import Database
from antiphon.messages import receipts
from antiphon.receiving import queries

log = logging.get(__name__)

LOOK_EVERY = 1.0  # seconds, at receipts that came before their message's hand-over
FORGET_EVERY = 3600.0  # seconds
KEPT = timedelta(days=30)
AT_ONCE = 1_000  # webhooks forgotten in one transaction

AWAY = (psycopg.OperationalError, PoolTimeout)


async def run(database: Database, stop: asyncio.Event) -> None:
    """Both loops, with the worker's role, until `stop` is set."""
    await asyncio.gather(
        _repeat(apply_parked, database, stop, LOOK_EVERY), _repeat(forget_old, database, stop, FORGET_EVERY)
    )


async def _repeat(
    step: Callable[[Database], Awaitable[int]], database: Database, stop: asyncio.Event, every: float
) -> None:
    while not stop.is_set():
        try:
            await step(database)
        except AWAY as error:
            log.warning("upkeep_database_away", step=step.__name__, error=type(error).__name__)
        except Exception as error:
            log.error("upkeep_failed", step=step.__name__, exc_info=error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every)


async def apply_parked(database: Database) -> int:
    """One look: apply the parked receipts whose message is known by now; returns how many."""
    async with database.across() as conn:
        waiting = await receipts.organizations_with_parked(conn)
    applied = 0
    for org_id in waiting:
        async with database.transaction(org_id) as conn:
            applied += await receipts.apply_parked(conn, org_id)
    return applied


async def forget_old(database: Database) -> int:
    """One round: delete the webhooks that are older than 30 days, in small transactions; returns how many."""
    oldest_kept = ids.uuid7_at(int((clock.now() - KEPT).timestamp() * 1000))
    async with database.across() as conn:
        organizations = await queries.organizations(conn)
    gone = 0
    for org_id in organizations:
        deleted = AT_ONCE
        while deleted == AT_ONCE:
            async with database.transaction(org_id) as conn:
                deleted = await queries.forget(conn, org_id, oldest_kept, AT_ONCE)
            gone += deleted
    return gone
