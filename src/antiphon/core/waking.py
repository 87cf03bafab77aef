"""Wakes: hints that are given once the writer's transaction has committed, gathered over a few milliseconds.

A process that writes work calls `wakes.after_commit`; `wakes.run` (one task a process) hands what was gathered to the
function that it was started with, in transactions of its own. A hint that is lost costs time, never a message.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import psycopg

from antiphon.core.db import Connection

Deliver = Callable[[UUID, dict[UUID, datetime]], Awaitable[None]]


class Wakes:
    """What waits to be told, by organization and lane, with the earliest time."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, dict[UUID, datetime]] = {}
        self._some = asyncio.Event()

    def after_commit(self, conn: Connection, org_id: UUID, lane_id: UUID, due_at: datetime) -> None:
        """Tell this lane's owner after the commit; several hints of one transaction become one."""

        async def tell() -> None:
            self.add(org_id, lane_id, due_at)

        conn.after_commit[("wake", lane_id, due_at)] = tell

    def add(self, org_id: UUID, lane_id: UUID, due_at: datetime) -> None:
        """Tell this lane's owner with the next delivery."""
        lanes = self._waiting.setdefault(org_id, {})
        lanes[lane_id] = min(lanes.get(lane_id, due_at), due_at)
        self._some.set()

    async def flush(self, deliver: Deliver) -> None:
        """Deliver all that waits, now."""
        waiting, self._waiting = self._waiting, {}
        self._some.clear()
        for org_id, lanes in waiting.items():
            with contextlib.suppress(psycopg.Error):  # a hint: the sweep finds the lane
                await deliver(org_id, lanes)

    async def run(self, deliver: Deliver, stop: asyncio.Event, *, every: float = 0.01) -> None:
        """Deliver what was gathered every 10 ms until `stop` is set; the last is delivered before it returns."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                some = asyncio.ensure_future(self._some.wait())
                await asyncio.wait({some, stopping}, return_when=asyncio.FIRST_COMPLETED)
                some.cancel()
                await self.flush(deliver)
                await asyncio.sleep(every)
            await self.flush(deliver)
        finally:
            stopping.cancel()


wakes = Wakes()
"""The process's own. It holds hints only, so sharing it carries no state that matters."""
