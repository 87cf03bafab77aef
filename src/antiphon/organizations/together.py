"""Small writes that share a transaction: requests of one key for the same thing, as far as they wait at the same time.

A request by itself costs its round trips and its commit; a tenth of that when it shares them (measured for single
messages: 1.05 ms of server and 1.05 ms of PostgreSQL alone, see benchmarks/README.md). Nobody waits for company: the
first request begins at once, and who comes meanwhile goes with the next one. With the dispatchers and the receipts'
group commit this is where a request is not one transaction, so it keeps three promises:

* an answer is given only after the commit that holds its effect;
* a request that needs anything unusual (`None` from the function), or a transaction that fails, costs no neighbour:
  each of them is then told to go alone, in a transaction of its own, and gets its own answer or error;
* the key is checked in the shared transaction as it would be alone: only requests of one key share.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from antiphon.core import db, logging
from antiphon.core.db import Connection
from antiphon.core.errors import Problem
from antiphon.organizations.model import Actor

log = logging.get(__name__)

MOST_AT_ONCE = 64  # requests of one transaction
COMMITTERS = 2  # transactions of one key at a time

Begin = Callable[[], AbstractAsyncContextManager[Connection]]
Each = Callable[[Connection, Actor, list[Any]], Awaitable[list[Any]]]
"""`await each(conn, actor, items)`: the result for each item, None for one that must go alone and has left nothing."""


@dataclass(slots=True)
class _Waiting:
    """A request whose item waits for its commit."""

    begin: Begin
    item: Any
    ended: asyncio.Future[Any]

    def end(self, result: Any) -> None:
        if not self.ended.done():
            self.ended.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


@dataclass(slots=True)
class _Queue:
    waiting: deque[_Waiting] = field(default_factory=deque[_Waiting])
    committers: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])


class Together:
    """What waits in this process, by function and key."""

    def __init__(self) -> None:
        self._queues: dict[tuple[Each, UUID, str], _Queue] = {}

    async def write(self, each: Each, actor: Actor, begin: Begin, item: Any) -> Any:
        """The item's result once it is committed, or None: do it alone. `begin` opens the request's transaction."""
        name = (each, actor.org_id, actor.label)
        queue = self._queues.setdefault(name, _Queue())
        loop = asyncio.get_running_loop()
        waiting = _Waiting(begin, item, loop.create_future())
        queue.waiting.append(waiting)
        if len(queue.committers) < COMMITTERS:
            task = loop.create_task(self._commit_all(name, actor), name="together")
            queue.committers.add(task)
            task.add_done_callback(lambda task: self._ended(name, task))
        return await waiting.ended

    def _ended(self, name: tuple[Each, UUID, str], task: asyncio.Task[None]) -> None:
        queue = self._queues[name]
        queue.committers.discard(task)
        if not queue.waiting and not queue.committers:
            del self._queues[name]

    async def _commit_all(self, name: tuple[Each, UUID, str], actor: Actor) -> None:
        """One committer: batch after batch while any waits."""
        waiting = self._queues[name].waiting
        while waiting:
            batch = [
                one
                for _ in range(min(MOST_AT_ONCE, len(waiting)))
                if not (one := waiting.popleft()).ended.done()
            ]
            if batch:
                await _commit(name[0], actor, batch)


async def _commit(each: Each, actor: Actor, batch: list[_Waiting]) -> None:
    """One transaction for all of the batch; whatever happens, everyone in it is told."""
    try:
        async with batch[0].begin() as conn:
            results = await each(conn, actor, [one.item for one in batch])
    except Exception as error:
        for one in batch:
            if _is_everybodys(error):
                one.fail(error)
            else:
                one.end(None)
        if not _is_everybodys(error):
            log.warning("together_failed", count=len(batch), error=type(error).__name__)
        return
    except BaseException:
        for one in batch:
            one.ended.cancel()
        raise
    for one, result in zip(batch, results, strict=True):
        one.end(result)


def _is_everybodys(error: Exception) -> bool:
    """A key that has ended, or a database that is away or full: going alone would meet the same."""
    if isinstance(error, Problem):
        return True
    problem = db.problem_of(error)
    return problem is not None and problem.status == 503
