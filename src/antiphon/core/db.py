"""PostgreSQL, one organization per statement.

`Database` is a pool that logs in as one role. A transaction names its organization once, in the same round trip that
begins it, and row-level security holds every statement inside to it. `one`, `find`, `rows`, `value` and `execute` run
one literal statement with named parameters; nobody below the edge commits.

    async with database.transaction(org_id) as conn:
        contact = await db.one(conn, Contact, "SELECT … WHERE org_id = %(org_id)s AND id = %(id)s", org_id=…, id=…)
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, LiteralString, TypeVar, cast
from uuid import UUID

import msgspec
import psycopg
from psycopg import pq
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from psycopg_pool.base import AttemptWithBackoff

from antiphon.core import clock
from antiphon.core.errors import Conflict, Invalid, NotFound, Problem, Unavailable

T = TypeVar("T")

in_transaction: ContextVar[bool] = ContextVar("in_transaction", default=False)
"""True in a task that has a transaction open; `core.http` refuses to call out then."""

First = tuple[LiteralString, Mapping[str, Any]]
"""A literal statement and its named parameters."""

AttemptWithBackoff.DELAY_BACKOFF = 1.0
"""A lost connection is tried for again every second: with doubled pauses an hour's outage would last another."""

TRUSTED_FOR = 1.0  # seconds; a check costs a round trip, a tenth of a small request

set_json_loads(msgspec.json.decode)
set_json_dumps(msgspec.json.encode)


HOT = "; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; SET LOCAL jit = off"


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection that also remembers what to do once its transaction has committed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.after_commit: dict[object, Callable[[], Awaitable[None]]] = {}
        self.first_row: tuple[Any, ...] | None = None
        self.reused: psycopg.AsyncCursor[tuple[Any, ...]] | None = None
        self.used_at = 0.0


class Database:
    """A pool of connections that log in as one role."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self.pool = pool

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, url: str, *, size: int = 8, pooler: bool = False, name: str = "antiphon", wait: float = 30
    ) -> AsyncIterator[Database]:
        """Open the pool; `pooler` turns prepared statements off, for a pooler in transaction mode.

        `wait` is how many seconds a caller waits for a free connection before it gets 503.
        """
        pool = AsyncConnectionPool(
            url,
            connection_class=Connection,
            min_size=min(2, size),
            max_size=size,
            timeout=wait,
            open=False,
            check=_check,
            kwargs={
                "autocommit": True,
                "row_factory": tuple_row,
                "prepare_threshold": None if pooler else 2,
                "application_name": name,
            },
        )
        await pool.open(wait=False)
        try:
            yield cls(pool)
        finally:
            await pool.close()

    @contextlib.asynccontextmanager
    async def transaction(
        self,
        org_id: UUID,
        *,
        read_only: bool = False,
        hot: bool = False,
        first: First | None = None,
    ) -> AsyncIterator[Connection]:
        """One transaction of one organization: commits at the end, rolls back on any exception.

        `first` is a statement that travels with the one that begins; its row is `conn.first_row`. What was put into
        `conn.after_commit` runs after the commit; it is a hint, so its failure is not the caller's.
        """
        begin = f"BEGIN{' READ ONLY' if read_only else ''}; SET LOCAL app.org_id = '{UUID(int=org_id.int)}'"
        if hot:
            begin += HOT
        async with self._transaction(begin, first) as conn:
            yield conn

    @contextlib.asynccontextmanager
    async def across(self) -> AsyncIterator[Connection]:
        """A transaction that names no organization: for the few statements marked `-- any organization: <why>`."""
        async with self._transaction("BEGIN") as conn:
            yield conn

    @contextlib.asynccontextmanager
    async def _transaction(self, begin: str, first: First | None = None) -> AsyncIterator[Connection]:
        conn = await self._begun(cast(LiteralString, begin), first)
        token = in_transaction.set(True)
        try:
            try:
                yield conn
            except BaseException:
                await _roll_back(conn)
                raise
            await conn.execute("COMMIT", prepare=False)
            conn.used_at = clock.boottime()
            callbacks = list(conn.after_commit.values())
        finally:
            in_transaction.reset(token)
            conn.after_commit.clear()
            await self.pool.putconn(conn)
        for callback in callbacks:
            await callback()

    async def _begun(self, begin: LiteralString, first: First | None) -> Connection:
        """A connection on which a transaction has begun. One that died since it was last used is replaced unnoticed."""
        while True:
            conn = await self.pool.getconn()
            was_trusted = conn.used_at > 0
            try:
                await _begin(conn, begin, first)
                return conn
            except BaseException as error:
                is_lost = isinstance(error, psycopg.OperationalError) and conn.closed
                conn.used_at = 0.0
                await _roll_back(conn)
                await self.pool.putconn(conn)
                if not (is_lost and was_trusted):
                    raise


async def _begin(conn: Connection, begin: LiteralString, first: First | None) -> None:
    """Begin; with `first`, in the same round trip: its values are quoted here, which a message of several needs."""
    if first is None:
        await conn.execute(begin, prepare=False)
        return
    sql, params = first
    cursor = psycopg.AsyncClientCursor(conn)
    await cursor.execute(begin + ";" + sql, params)
    while cursor.nextset():
        pass
    conn.first_row = await cursor.fetchone()


async def _check(conn: Connection) -> None:
    """Before a connection is given out: one that answered a moment ago is not asked again whether it lives."""
    if clock.boottime() - conn.used_at > TRUSTED_FOR:
        conn.used_at = 0.0
        await AsyncConnectionPool.check_connection(conn)


async def _roll_back(conn: Connection) -> None:
    """Leave the connection clean; one that cannot be is closed, and the pool makes another."""
    if conn.closed:
        return
    try:
        if conn.info.transaction_status != pq.TransactionStatus.IDLE:
            await conn.execute("ROLLBACK", prepare=False)
    except psycopg.Error:
        await conn.close()


@contextlib.asynccontextmanager
async def organization(conn: Connection, org_id: UUID) -> AsyncIterator[None]:
    """Set the organization anew inside a transaction that serves several, behind a savepoint of its own.

    For `receiving`'s group commit only: a failing statement rolls back this organization's part, not its neighbours'.
    """
    await conn.execute(
        cast(LiteralString, f"SAVEPOINT part; SET LOCAL app.org_id = '{UUID(int=org_id.int)}'"), prepare=False
    )
    try:
        yield
    except BaseException:
        if not conn.closed:
            await conn.execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part", prepare=False)
        raise
    await conn.execute("RELEASE SAVEPOINT part", prepare=False)


async def _run(
    conn: Connection, sql: LiteralString, params: Mapping[str, Any]
) -> psycopg.AsyncCursor[tuple[Any, ...]]:
    """Run a statement on the connection's own cursor: making one each time costs a seventh of a small statement.

    Whoever calls reads the result before it awaits anything else.
    """
    cursor = conn.reused
    if cursor is None:
        cursor = conn.reused = conn.cursor()
    return await cursor.execute(sql, params)


async def rows(conn: Connection, cls: type[T], sql: LiteralString, /, **params: Any) -> list[T]:
    """All rows, each as `cls(**columns)`, in the statement's order."""
    cursor = await _run(conn, sql, params)
    result = cursor.pgresult
    assert result is not None
    names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
    return [cls(**dict(zip(names, row, strict=True))) for row in await cursor.fetchall()]


async def find(conn: Connection, cls: type[T], sql: LiteralString, /, **params: Any) -> T | None:
    """The one row, or None. More than one row is a defect of the statement and raises."""
    found = await rows(conn, cls, sql, **params)
    if len(found) > 1:
        raise RuntimeError(f"one {cls.__name__} expected, {len(found)} rows came")
    return found[0] if found else None


async def one(conn: Connection, cls: type[T], sql: LiteralString, /, **params: Any) -> T:
    """The one row; raises `NotFound`, which names the kind of thing and the id that was asked for."""
    found = await find(conn, cls, sql, **params)
    if found is None:
        raise NotFound(cls.__name__.lower(), params.get("id") or params.get("name"))
    return found


async def tuples(conn: Connection, sql: LiteralString, /, **params: Any) -> list[tuple[Any, ...]]:
    """All rows as bare tuples: for hot paths and for statements whose rows have no name."""
    return await (await _run(conn, sql, params)).fetchall()


async def value(conn: Connection, sql: LiteralString, /, **params: Any) -> Any:
    """The first column of the first row, or None when there is no row."""
    row = await (await _run(conn, sql, params)).fetchone()
    return row[0] if row else None


async def execute(conn: Connection, sql: LiteralString, /, **params: Any) -> int:
    """Run a statement for its effect; returns how many rows it touched."""
    return (await _run(conn, sql, params)).rowcount


def json(value: object) -> Jsonb:
    """A value (struct, dict, list) as a jsonb parameter."""
    return Jsonb(value)


def json_texts(values: Sequence[object]) -> list[str]:
    """Values as JSON texts, for a `%(x)s::text[]` parameter that the statement casts to jsonb per row."""
    encode = msgspec.json.encode
    return [encode(v).decode() for v in values]


def problem_of(error: BaseException) -> Problem | None:
    """What a database error means to the caller, or None when it is a defect of ours."""
    match error:
        case psycopg.errors.DiskFull():
            return Unavailable(
                "database_full", "the database's disk is full; nothing was stored. Free space, then try again"
            )
        case psycopg.errors.ProgramLimitExceeded():
            return Invalid(
                "a value is too long to be looked up by; nothing was stored",
                code="value_too_long",
            )
        case PoolTimeout() | psycopg.OperationalError() | psycopg.errors.QueryCanceled():
            return Unavailable(
                "database_away",
                "the database cannot be reached or is too busy; nothing was stored. Try again",
            )
        case psycopg.errors.UniqueViolation():
            return Conflict(
                "already_exists", f"this already exists ({error.diag.constraint_name}); nothing was changed"
            )
        case psycopg.errors.ForeignKeyViolation():
            return Conflict(
                "still_referenced",
                f"another record refers to this ({error.diag.constraint_name}); nothing was changed",
            )
        case _:
            return None
