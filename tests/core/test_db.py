"""The one way to the database: what a transaction does when it begins, ends, fails, and when its connection is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest

from antiphon.core import db, ids
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Conflict, Unavailable
from antiphon.core.roles import DatabaseUrls
from tests import make


@pytest.fixture
async def org(database: Database) -> UUID:
    return (await make.organization(database)).id


@pytest.fixture
async def single(db_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A pool of one connection, so that a leak shows at once."""
    async with Database.connect(db_urls.app, size=1, wait=2) as database:
        yield database


async def names(database: Database, org: UUID) -> list[str]:
    async with database.transaction(org, read_only=True) as conn:
        return [
            name
            for (name,) in await db.tuples(conn, "SELECT name FROM organizations WHERE id = %(id)s", id=org)
        ]


async def rename(conn: Connection, org: UUID, name: str) -> None:
    await db.execute(conn, "UPDATE organizations SET name = %(name)s WHERE id = %(id)s", name=name, id=org)


async def test_commits_at_the_end_and_rolls_back_on_any_exception(single: Database, org: UUID) -> None:
    async with single.transaction(org) as conn:
        await rename(conn, org, "first")
    for error in (ValueError("no"), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            async with single.transaction(org) as conn:
                await rename(conn, org, "second")
                raise error
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with single.transaction(org) as conn:
            await rename(conn, org, "third")
            await db.execute(conn, "SELECT 1 FROM nothing_like_this")
    assert await names(single, org) == ["first"]


async def test_a_transaction_sees_one_organization(single: Database, database: Database, org: UUID) -> None:
    other = (await make.organization(database)).id
    async with single.transaction(org) as conn:
        seen = await db.tuples(
            conn, "SELECT id FROM organizations -- any organization: to see that there is one"
        )
    assert seen == [(org,)]
    async with single.across() as conn:
        assert await db.tuples(conn, "SELECT id FROM organizations -- any organization: to see none") == []
    assert await names(single, other) == ["Lakeside Hotels"]


async def test_read_only_refuses_to_write(single: Database, org: UUID) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        async with single.transaction(org, read_only=True) as conn:
            await rename(conn, org, "x")


async def test_a_first_statement_travels_with_the_beginning(single: Database, org: UUID) -> None:
    sql = "SELECT name, %(text)s, current_setting('app.org_id') FROM organizations WHERE id = %(id)s"
    tricky = "'; DROP TABLE organizations; -- \\\\ %s"
    async with single.transaction(org, first=(sql, {"id": org, "text": tricky})) as conn:
        assert conn.first_row == ("Lakeside Hotels", tricky, str(org))
    async with single.transaction(org, first=(sql, {"id": ids.new_id(), "text": ""})) as conn:
        assert conn.first_row is None


async def test_a_first_statement_that_fails_leaves_the_connection_clean(single: Database, org: UUID) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        async with single.transaction(org, first=("SELECT 1 / %(n)s", {"n": 0})):
            pass
    assert await names(single, org) == ["Lakeside Hotels"]


async def test_a_hint_is_given_after_the_commit_and_only_then(single: Database, org: UUID) -> None:
    told: list[list[str]] = []

    async def tell() -> None:
        told.append(await names(single, org))

    async with single.transaction(org) as conn:
        conn.after_commit["x"] = tell
        conn.after_commit["x"] = tell
        await rename(conn, org, "committed")
    assert told == [["committed"]]
    with pytest.raises(ValueError, match="no"):
        async with single.transaction(org) as conn:
            conn.after_commit["x"] = tell
            raise ValueError("no")
    async with single.transaction(org):
        pass
    assert told == [["committed"]]


async def test_a_connection_that_died_a_moment_ago_is_replaced_unnoticed(
    single: Database, org: UUID, db_urls: DatabaseUrls
) -> None:
    for _ in range(3):
        async with single.transaction(org) as conn:
            pid = await db.value(conn, "SELECT pg_backend_pid()")
        async with await Connection.connect(db_urls.app, autocommit=True) as other:
            await other.execute("SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})
        await asyncio.sleep(0.05)
        assert await names(single, org) == ["Lakeside Hotels"]


async def test_a_connection_that_dies_inside_is_the_callers_affair(single: Database, org: UUID) -> None:
    with pytest.raises(psycopg.OperationalError) as caught:
        async with single.transaction(org) as conn:
            await rename(conn, org, "lost")
            await db.execute(conn, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert isinstance(db.problem_of(caught.value), Unavailable)
    assert await names(single, org) == ["Lakeside Hotels"]


async def test_what_the_database_refuses_has_a_meaning(single: Database, org: UUID) -> None:
    for _ in range(2):
        try:
            async with single.transaction(org) as conn:
                await db.execute(conn, "INSERT INTO event_heads (org_id) VALUES (%(org_id)s)", org_id=org)
        except psycopg.Error as error:
            problem = db.problem_of(error)
            assert isinstance(problem, Conflict)
            assert problem.code == "already_exists"
            return
    raise AssertionError("the second row was stored")
