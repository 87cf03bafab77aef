"""The dispatcher: finds lanes that are due and nobody's, takes them, and gives each to `lane_run.serve`.

With `lane_run` one of the two places here that open transactions. Lanes are chosen across organizations without a lock
and leased one at a time, so that any number of workers share them.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import structlog

from antiphon.messages import lanes
from antiphon.messages.lane_run import AWAY, IDLE, Worker, pause, serve, wall_of

log = structlog.get_logger()


async def run(worker: Worker, stop: asyncio.Event) -> None:
    """Own and serve lanes until `stop` is set; returns when every call under way is recorded or given up."""
    owned: dict[UUID, asyncio.Task[None]] = {}
    while not stop.is_set():
        found = False
        try:
            found = await _take_some(worker, owned, stop)
        except AWAY as error:
            log.warning("dispatch.database_away", error=type(error).__name__)
            await pause(stop, 0.5)
        await pause(stop, IDLE if found or owned else 0.1)
        for lane_id in [id_ for id_, task in owned.items() if task.done()]:
            task = owned.pop(lane_id)
            if (error := task.exception()) is not None:
                log.error("dispatch.lane_failed", lane=str(lane_id), exc_info=error)
    if owned:
        await asyncio.wait(owned.values())


async def _take_some(worker: Worker, owned: dict[UUID, asyncio.Task[None]], stop: asyncio.Event) -> bool:
    if len(owned) >= worker.most_lanes:
        return False
    async with worker.database.across() as conn:
        due = await lanes.lanes_to_own(conn, worker.most_lanes - len(owned))
    for org_id, lane_id in due:
        if lane_id in owned:
            continue
        wall = wall_of(worker)
        async with worker.database.transaction(org_id) as conn:
            lane = await lanes.take(conn, org_id, lane_id, worker.id, worker.lease)
        if lane is not None:
            owned[lane_id] = asyncio.create_task(serve(worker, lane, wall, stop), name=f"lane {lane_id}")
    return bool(due)


async def sweep(worker: Worker, stop: asyncio.Event, *, every: timedelta = timedelta(seconds=30)) -> None:
    """Find lanes whose writer died between its commit and the wake."""
    while not stop.is_set():
        try:
            async with worker.database.across() as conn:
                sleeping = await lanes.all_lanes(conn)
            for org_id, lane_id in sleeping:
                async with worker.database.transaction(org_id) as conn:
                    await lanes.look_again(conn, org_id, lane_id)
        except AWAY as error:
            log.warning("dispatch.sweep_waits", error=type(error).__name__)
        await pause(stop, every.total_seconds())
