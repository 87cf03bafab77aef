"""The dispatcher: finds lanes that are due and nobody's, takes them, and gives each to `lane_run.serve`.

With `lane_run` one of the two places here that open transactions. Lanes are chosen across organizations without a lock
and leased one at a time, so that any number of workers share them.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import structlog

from antiphon.core.clock import boottime
from antiphon.messages import lanes
from antiphon.messages.lane_run import IDLE, serve
from antiphon.messages.worker import AWAY, Worker, pause, wall_of

log = structlog.get_logger()

SHORTEST_TURN = 1.0
"""Seconds that a lane is served at least before it makes room for another."""


class Turn(NamedTuple):
    """A lane that this worker serves, since when, and how it is asked to give the lane back."""

    task: asyncio.Task[None]
    enough: asyncio.Event
    since: float


async def run(worker: Worker, stop: asyncio.Event) -> None:
    """Own and serve lanes until `stop` is set; returns when every call under way is recorded or given up."""
    owned: dict[UUID, Turn] = {}
    while not stop.is_set():
        found = False
        try:
            found = await _take_some(worker, owned)
        except AWAY as error:
            log.warning("dispatch.database_away", error=type(error).__name__)
            await pause(stop, 0.5)
        await pause(stop, IDLE if found or owned else 0.1)
        for lane_id in [id_ for id_, turn in owned.items() if turn.task.done()]:
            if (error := owned.pop(lane_id).task.exception()) is not None:
                log.error("dispatch.lane_failed", lane=str(lane_id), exc_info=error)
    for turn in owned.values():
        turn.enough.set()
    if owned:
        await asyncio.wait([turn.task for turn in owned.values()])


async def _take_some(worker: Worker, owned: dict[UUID, Turn]) -> bool:
    """Take lanes that are due. With as many as this worker may serve, the longest served makes room for one."""
    async with worker.database.across() as conn:
        due = await lanes.lanes_to_own(conn, max(1, worker.most_lanes - len(owned)))
    others = [(org_id, lane_id) for org_id, lane_id in due if lane_id not in owned]
    if others and len(owned) >= worker.most_lanes:
        eldest = min(owned.values(), key=lambda turn: turn.since)
        if boottime() - eldest.since >= SHORTEST_TURN:
            eldest.enough.set()
        return True
    for org_id, lane_id in others:
        wall = wall_of(worker)
        async with worker.database.transaction(org_id) as conn:
            lane = await lanes.take(conn, org_id, lane_id, worker.id, worker.lease)
        if lane is not None:
            enough = asyncio.Event()
            task = asyncio.create_task(serve(worker, lane, wall, enough), name=f"lane {lane_id}")
            owned[lane_id] = Turn(task, enough, boottime())
    return bool(others)


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
