"""The group commit: requests that come at the same time share a transaction, and are answered once it has committed.

One of the three places that open transactions themselves (with the two dispatchers). A batch is what waited when a
committer was free; each organization's part stands behind a savepoint. A part that fails is tried again alone, each
webhook in a transaction of its own, at last piece by piece; so nobody pays for a neighbour. What waits is bounded in
number and bytes: beyond that, and while the database is away, the answer is 503, and the provider comes again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from antiphon.core import db, logging, metrics
from antiphon.core.db import Database
from antiphon.core.errors import Problem, Unavailable
from antiphon.receiving import storing
from antiphon.receiving.model import Delivery
from antiphon.receiving.storing import CROSSED, is_everybodys

log = logging.get(__name__)

COMMITS = metrics.histogram("webhook_commit", "How long the group commit of webhooks took")

COMMITTERS = (
    2  # one waits for the disk while the other works; more, or equal shares, make smaller batches for nothing
)
MOST_AT_ONCE = 128  # webhooks of one transaction
MOST_EVENTS_AT_ONCE = 2_000
GATHER = 0.001  # seconds that a committer lets the others catch up
MOST_WAITING = 4_096  # webhooks
MOST_BYTES = 64 * 1024 * 1024  # of bodies that wait or are being read
ANSWER_WITHIN = 20.0  # seconds; providers give up sooner or later, and come again
TRIES_ALONE = 3


@dataclass(slots=True)
class _Waiting:
    """A webhook whose request waits for its commit."""

    delivery: Delivery
    committed: asyncio.Future[None]

    def end_late(self) -> None:
        """Whoever asked has waited long enough."""
        self.end(Unavailable("database_slow", "not stored in time; send it again later"))

    def end(self, error: BaseException | None = None) -> None:
        """Answer, once."""
        if self.committed.done():
            return
        if error is None:
            self.committed.set_result(None)
        else:
            self.committed.set_exception(error)


class Intake:
    """What this process has taken in and not committed yet."""

    def __init__(
        self,
        database: Database,
        *,
        most_waiting: int = MOST_WAITING,
        most_bytes: int = MOST_BYTES,
        answer_within: float = ANSWER_WITHIN,
    ) -> None:
        self._database = database
        self._answer_within = answer_within
        self._most_waiting = most_waiting
        self._most_bytes = most_bytes
        self._waiting: deque[_Waiting] = deque()
        self._committers: set[asyncio.Task[None]] = set()
        self.bytes_held = 0

    def check_room(self, more: int = 0) -> None:
        """Raise Unavailable when there is no room for another webhook, or for so many bytes more."""
        if len(self._waiting) >= self._most_waiting or self.bytes_held + more > self._most_bytes:
            raise Unavailable(
                "too_much_waits",
                "more webhooks come in than can be stored; send it again later",
                retry_after=2,
            )

    async def keep(self, delivery: Delivery) -> None:
        """Return once the webhook and its effect are committed. Raises Unavailable; then nothing was stored, or it
        will be stored again without effect."""
        self.check_room()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(delivery, loop.create_future())
        self._waiting.append(waiting)
        if len(self._committers) < COMMITTERS:
            task = loop.create_task(self._commit_all(), name="webhook committer")
            self._committers.add(task)
            task.add_done_callback(self._committers.discard)
        late = loop.call_later(self._answer_within, waiting.end_late)
        try:
            await waiting.committed
        finally:
            late.cancel()

    async def _commit_all(self) -> None:
        """One committer: batch after batch while any waits."""
        while self._waiting:
            await asyncio.sleep(GATHER)
            if batch := self._next_batch():
                await self._commit(batch)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        events = 0
        while self._waiting and len(batch) < MOST_AT_ONCE and events < MOST_EVENTS_AT_ONCE:
            waiting = self._waiting.popleft()
            if not waiting.committed.done():  # else nobody waits for it any more
                batch.append(waiting)
                events += len(waiting.delivery.events)
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        parts: dict[UUID, list[_Waiting]] = {}
        for waiting in batch:
            parts.setdefault(waiting.delivery.door.org_id, []).append(waiting)
        try:
            with COMMITS.time():
                failed = await self._together(parts)
        except Exception as error:
            problem = db.problem_of(error)
            if problem is not None and is_everybodys(error):
                self._refuse(batch, problem, error)
                return
            failed = list(parts)
        for org_id in sorted(parts):
            if org_id not in failed:
                for waiting in parts[org_id]:
                    waiting.end()
        for org_id in failed:
            for waiting in parts[org_id]:
                await self._alone(waiting)

    def _refuse(self, batch: list[_Waiting], problem: Problem, error: Exception) -> None:
        """The database is away or full: what waits behind this batch would meet the same."""
        log.warning("webhooks_refused", code=problem.code, count=len(batch), error=type(error).__name__)
        others = list(self._waiting)
        self._waiting.clear()
        for waiting in (*batch, *others):
            waiting.end(problem)

    async def _together(self, parts: dict[UUID, list[_Waiting]]) -> list[UUID]:
        """All organizations' parts in one transaction; returns whose part failed and was taken back."""
        if len(parts) == 1:
            [(org_id, waiting)] = parts.items()
            async with self._database.transaction(org_id) as conn:
                await storing.store(conn, org_id, _deliveries(waiting))
            return []
        failed: list[UUID] = []
        async with self._database.across() as conn:
            for org_id in sorted(parts):  # one order everywhere, so that no two batches wait in a circle
                try:
                    async with db.organization(conn, org_id):
                        await storing.store(conn, org_id, _deliveries(parts[org_id]))
                except Exception as error:
                    if conn.closed or is_everybodys(error):
                        raise
                    failed.append(org_id)
                    log.warning("webhook_part_failed", org=str(org_id), error=type(error).__name__)
        return failed

    async def _alone(self, waiting: _Waiting) -> None:
        """One webhook in a transaction of its own; piece by piece if it cannot be stored whole."""
        org_id, is_piecewise = waiting.delivery.door.org_id, False
        for number in range(1, TRIES_ALONE + 1):
            try:
                async with self._database.transaction(org_id) as conn:
                    if is_piecewise:
                        await storing.store_piecewise(conn, org_id, waiting.delivery)
                    else:
                        await storing.store(conn, org_id, [waiting.delivery])
            except Exception as error:
                if number == TRIES_ALONE or is_everybodys(error):
                    waiting.end(db.problem_of(error) or error)
                    return
                is_piecewise = not isinstance(error, CROSSED)
            else:
                waiting.end()
                return


def _deliveries(waiting: Sequence[_Waiting]) -> list[Delivery]:
    return [each.delivery for each in waiting]
