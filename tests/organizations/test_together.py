"""Writes that share a transaction: who goes with whom, and that nobody pays for a neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import psycopg
import pytest

from antiphon.core.db import Connection, Database
from antiphon.core.errors import NotFound, Unauthorized
from antiphon.organizations import audit
from antiphon.organizations.model import Actor
from antiphon.organizations.together import COMMITTERS, MOST_AT_ONCE, Together
from tests import make


class Writes:
    """An organization whose writes append an audit entry, and which remembers who shared a transaction."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self.database = database
        self.actor = actor
        self.together = Together()
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def each(self, conn: Connection, actor: Actor, items: list[str]) -> list[str | None]:
        """Append what each item says; `broken` breaks the transaction, `away` is the database."""
        self.batches.append(items)
        await self.gate.wait()
        for item in items:
            if item == "broken":
                await conn.execute("SELECT 1 / 0")
            if item == "away":
                raise psycopg.OperationalError("the connection is lost")
            if item == "refused":
                raise Unauthorized("this key has ended")
            if item != "alone":
                await audit.record(conn, actor, item)
        return [None if item == "alone" else f"did {item}" for item in items]

    def begin(self) -> AbstractAsyncContextManager[Connection]:
        return self.database.transaction(self.actor.org_id)

    async def write(
        self, item: str, begin: Callable[[], AbstractAsyncContextManager[Connection]] | None = None
    ) -> object:
        return await self.together.write(self.each, self.actor, begin or self.begin, item)

    async def written(self) -> list[str]:
        """What is committed, of these writes."""
        async with self.begin() as conn:
            cursor = await conn.execute(
                "SELECT action FROM audit_log WHERE org_id = %s AND action <> 'organization.created' ORDER BY action",
                (self.actor.org_id,),
            )
            return [action for (action,) in await cursor.fetchall()]

    async def held(self, *firsts: str) -> list[asyncio.Task[object]]:
        """As many writes as there are committers, each in a transaction that does not end yet."""
        self.gate.clear()
        running: list[asyncio.Task[object]] = []
        for item in firsts:
            running.append(asyncio.create_task(self.write(item)))
            while len(self.batches) < len(running):  # noqa: ASYNC110 - what is waited for is a list's length
                await asyncio.sleep(0.005)
        return running


@pytest.fixture
async def writes(database: Database) -> AsyncIterator[Writes]:
    organization = await make.organization(database)
    yield Writes(database, Actor.operator(organization.id))


async def test_the_first_goes_at_once_and_who_comes_meanwhile_shares_the_next(writes: Writes) -> None:
    first = await writes.held(*[f"first {n}" for n in range(COMMITTERS)])
    later = [asyncio.create_task(writes.write(f"later {n}")) for n in range(5)]
    await asyncio.sleep(0.05)
    writes.gate.set()
    assert [await task for task in (*first, *later)] == [
        *(f"did first {n}" for n in range(COMMITTERS)),
        *(f"did later {n}" for n in range(5)),
    ]
    assert writes.batches == [
        *([f"first {n}"] for n in range(COMMITTERS)),
        [f"later {n}" for n in range(5)],
    ]


async def test_an_answer_comes_after_its_commit(writes: Writes) -> None:
    async def write(item: str) -> None:
        await writes.write(item)
        assert item in await writes.written()

    await asyncio.gather(*(write(f"item {n:03d}") for n in range(3 * MOST_AT_ONCE)))
    assert await writes.written() == [f"item {n:03d}" for n in range(3 * MOST_AT_ONCE)]
    assert max(map(len, writes.batches)) <= MOST_AT_ONCE


NEIGHBOURS: dict[str, tuple[str, list[object], list[str]]] = {
    "one that must go alone": ("alone", ["did a", None, "did b"], ["a", "b"]),
    "one that breaks the transaction": ("broken", [None, None, None], []),
}


@pytest.mark.parametrize("case", NEIGHBOURS)
async def test_a_neighbour_is_told_what_became_of_its_own_beside(writes: Writes, case: str) -> None:
    odd, answers, committed = NEIGHBOURS[case]
    first = await writes.held(*[f"z {n}" for n in range(COMMITTERS)])
    later = [asyncio.create_task(writes.write(item)) for item in ("a", odd, "b")]
    await asyncio.sleep(0.05)
    writes.gate.set()
    await asyncio.gather(*first)
    assert [await task for task in later] == answers
    assert await writes.written() == [*committed, *(f"z {n}" for n in range(COMMITTERS))]


@pytest.mark.parametrize(("item", "error"), [("away", psycopg.OperationalError), ("refused", Unauthorized)])
async def test_everybody_is_told_when_going_alone_would_meet_the_same(
    writes: Writes, item: str, error: type[Exception]
) -> None:
    first = await writes.held(*[f"z {n}" for n in range(COMMITTERS)])
    later = [asyncio.create_task(writes.write(item)) for item in ("a", item)]
    await asyncio.sleep(0.05)
    writes.gate.set()
    await asyncio.gather(*first)
    results = await asyncio.gather(*later, return_exceptions=True)
    assert [type(result) for result in results] == [error, error]


async def test_a_request_that_is_given_up_while_it_waits_is_not_done(writes: Writes) -> None:
    first = await writes.held(*[f"z {n}" for n in range(COMMITTERS)])
    given_up, other = (asyncio.create_task(writes.write(item)) for item in ("given up", "other"))
    await asyncio.sleep(0.05)
    given_up.cancel()
    await asyncio.sleep(0)
    writes.gate.set()
    await asyncio.gather(*first)
    assert await other == "did other"
    assert "given up" not in await writes.written()


async def test_other_keys_and_organizations_share_nothing(writes: Writes, database: Database) -> None:
    there = Writes(database, Actor.operator((await make.organization(database)).id))
    there.together = writes.together
    await asyncio.gather(*(who.write(f"{n}") for n in range(20) for who in (writes, there)))
    for who in (writes, there):
        assert sorted(await who.written()) == sorted(str(n) for n in range(20))


async def test_a_transaction_that_cannot_begin_fails_its_request(writes: Writes) -> None:
    def begin() -> AbstractAsyncContextManager[Connection]:
        raise NotFound("organization", "x")

    with pytest.raises(NotFound):
        await writes.write("a", begin)
    assert await writes.write("b") == "did b"
