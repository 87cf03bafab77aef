"""Plain-SQL migrations, forward only: NNNN_name.sql, one transaction a file, one runner at a time.

A file that starts with `-- no-transaction` (CREATE INDEX CONCURRENTLY …) has its statements separated by lines `-- ;;`
and must be harmless to run again.
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import sql

FOLDER = Path(__file__).parent.parent / "migrations"
_LOCK = 0x616E7469_70686F6E
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_SEPARATOR = re.compile(r"^--\s*;;\s*$", re.MULTILINE)
_TRIES = 5


class MigrationError(RuntimeError):
    """The schema and this program do not fit; the text says which file, and what to do."""


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    version: int
    name: str
    text: str

    @property
    def label(self) -> str:
        return f"{self.version:04d}_{self.name}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.replace("\r\n", "\n").encode()).hexdigest()

    @property
    def is_transactional(self) -> bool:
        return not self.text.lstrip().startswith("-- no-transaction")


def load(folder: Path = FOLDER) -> list[Migration]:
    """The files in order. Raises MigrationError unless they are numbered 0001, 0002, … without a gap."""
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named like 0001_first_step.sql")
        found.append(Migration(int(match[1]), match[2], path.read_text("utf-8")))
    for expected, migration in enumerate(found, 1):
        if migration.version != expected:
            raise MigrationError(
                f"{migration.label}: number {expected:04d} is expected here, without gaps or doubles"
            )
    return found


def plan(url: str, folder: Path = FOLDER) -> list[Migration]:
    """What `apply` would run, oldest first. Raises MigrationError when files and database contradict each other."""
    with _connect(url) as conn:
        exists = conn.execute("SELECT to_regclass('schema_versions')").fetchone()
        return _pending(load(folder), _applied(conn) if exists and exists[0] else {})


def check(url: str, folder: Path = FOLDER) -> None:
    """Raises MigrationError unless the database is exactly as far as this program."""
    if pending := plan(url, folder):
        labels = ", ".join(migration.label for migration in pending)
        raise MigrationError(f"the database lacks {labels}: run `antiphon migrate`")


def apply(url: str, folder: Path = FOLDER, *, wait: float = 60, lock_timeout: str = "5s") -> list[str]:
    """Run what is missing and say what was run. A second runner waits for the first, then finds nothing to do.

    A file that cannot get its table locks within `lock_timeout` is tried again, so that it never blocks the service
    behind itself for long.
    """
    migrations = load(folder)
    with _connect(url) as conn:
        _take_turn(conn, wait)
        conn.execute(
            "CREATE TABLE IF NOT EXISTS schema_versions (version int PRIMARY KEY, name text NOT NULL,"
            " digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        pending = _pending(migrations, _applied(conn))
        for migration in pending:
            if migration.is_transactional:
                _run_in_transaction(conn, migration, lock_timeout)
            else:
                _run_statements(conn, migration)
        return [migration.label for migration in pending]


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, prepare_threshold=None, application_name="antiphon migrate")


def _take_turn(conn: psycopg.Connection[Any], wait: float) -> None:
    """The lock is the connection's: the server frees it when we die."""
    end = time.monotonic() + wait
    while not conn.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()[0]:  # pyright: ignore[reportOptionalSubscript]
        if time.monotonic() > end:
            raise MigrationError(
                f"another migration has been running for {wait:g} s: wait for it, then try again"
            )
        time.sleep(0.2)


def _applied(conn: psycopg.Connection[Any]) -> dict[int, str]:
    return dict(conn.execute("SELECT version, digest FROM schema_versions").fetchall())


def _pending(migrations: list[Migration], applied: dict[int, str]) -> list[Migration]:
    if unknown := sorted(set(applied) - {migration.version for migration in migrations}):
        raise MigrationError(
            f"the database is ahead of this program: it has {unknown[-1]:04d}; install a newer Antiphon"
        )
    for migration in migrations:
        if migration.version in applied and applied[migration.version] != migration.digest:
            raise MigrationError(
                f"{migration.label} was edited after it was applied: restore the file, put the change into a new one"
            )
        if migration.version not in applied and migration.version < max(applied, default=0):
            raise MigrationError(f"{migration.label} is older than what is applied: give it the next number")
    return [migration for migration in migrations if migration.version not in applied]


def _run_in_transaction(conn: psycopg.Connection[Any], migration: Migration, lock_timeout: str) -> None:
    for attempt in range(_TRIES):
        try:
            with conn.transaction():
                conn.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(lock_timeout))
                conn.execute(migration.text.encode())  # a file of ours, many statements in one
                _record(conn, migration)
            return
        except psycopg.errors.LockNotAvailable:
            if attempt + 1 == _TRIES:
                raise MigrationError(
                    f"{migration.label} could not lock its tables in {_TRIES} tries: something holds them; try later"
                ) from None
            time.sleep(2**attempt)


def _run_statements(conn: psycopg.Connection[Any], migration: Migration) -> None:
    for statement in filter(str.strip, _SEPARATOR.split(migration.text)):
        conn.execute(statement.encode())
    broken = conn.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid").fetchall()
    if broken:
        names = ", ".join(name for (name,) in broken)
        raise MigrationError(f"{migration.label} left invalid indexes: drop {names}, then run it again")
    _record(conn, migration)


def _record(conn: psycopg.Connection[Any], migration: Migration) -> None:
    conn.execute(
        "INSERT INTO schema_versions (version, name, digest) VALUES (%s, %s, %s)",
        (migration.version, migration.name, migration.digest),
    )
