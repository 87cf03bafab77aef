"""Migrations: each once, one runner at a time, and no silent difference between files and database."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from antiphon.core import migrate
from antiphon.core.migrate import MigrationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(
        tmp_path,
        "0001_things.sql",
        "CREATE TABLE things (id int PRIMARY KEY); INSERT INTO things VALUES (1);",
    )
    write(tmp_path, "0002_names.sql", "ALTER TABLE things ADD name text;")
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


def count(url: str, table: str = "things") -> int:
    with psycopg.connect(url) as conn:
        row = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
        assert row
        return row[0]


def test_it_plans_applies_and_then_has_nothing_to_do(empty_url: str, folder: Path) -> None:
    assert [m.label for m in migrate.plan(empty_url, folder)] == ["0001_things", "0002_names"]
    with pytest.raises(MigrationError, match="antiphon migrate"):
        migrate.check(empty_url, folder)
    assert migrate.apply(empty_url, folder) == ["0001_things", "0002_names"]
    assert migrate.apply(empty_url, folder) == []
    migrate.check(empty_url, folder)


def test_two_runners_at_once_apply_everything_once(empty_url: str, folder: Path) -> None:
    write(folder, "0003_slow.sql", "SELECT pg_sleep(0.3);")
    with ThreadPoolExecutor(3) as threads:
        done = [run.result() for run in [threads.submit(migrate.apply, empty_url, folder) for _ in range(3)]]
    assert sorted(map(len, done)) == [0, 0, 3]
    assert count(empty_url) == 1


def test_a_file_that_fails_leaves_nothing_of_itself(empty_url: str, folder: Path) -> None:
    write(folder, "0003_broken.sql", "INSERT INTO things VALUES (2); SELECT 1/0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate.apply(empty_url, folder)
    assert [m.label for m in migrate.plan(empty_url, folder)] == ["0003_broken"]
    assert count(empty_url) == 1


def test_killed_in_the_middle_it_leaves_no_lock_behind(empty_url: str, folder: Path) -> None:
    write(folder, "0003_slow.sql", "INSERT INTO things VALUES (2); SELECT pg_sleep(1.5);")
    program = (
        "import sys, pathlib; from antiphon.core import migrate\n"
        "migrate.apply(sys.argv[1], pathlib.Path(sys.argv[2]))"
    )
    runner = subprocess.Popen([sys.executable, "-c", program, empty_url, folder])
    with psycopg.connect(empty_url, autocommit=True) as conn:
        sleeping = (
            "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        )
        end = time.monotonic() + 20
        while conn.execute(sleeping).fetchone() is None:
            assert time.monotonic() < end
            time.sleep(0.02)
    runner.kill()
    runner.wait()
    assert migrate.apply(empty_url, folder, wait=30) == ["0003_slow"]
    assert count(empty_url) == 2


def test_a_locked_table_is_waited_for_in_short_tries(empty_url: str, folder: Path) -> None:
    migrate.apply(empty_url, folder)
    write(folder, "0003_more.sql", "ALTER TABLE things ADD more text;")
    with psycopg.connect(empty_url) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("LOCK TABLE things IN ACCESS SHARE MODE")
        applying = threads.submit(migrate.apply, empty_url, folder, lock_timeout="100ms")
        time.sleep(0.5)
        assert not applying.done()
        holder.rollback()
        assert applying.result(timeout=30) == ["0003_more"]


def test_a_file_without_a_transaction_runs_statement_by_statement(empty_url: str, folder: Path) -> None:
    write(
        folder,
        "0003_index.sql",
        "-- no-transaction\nDROP INDEX CONCURRENTLY IF EXISTS things_name;\n-- ;;\n"
        "CREATE INDEX CONCURRENTLY things_name ON things (name);",
    )
    assert migrate.apply(empty_url, folder)[-1] == "0003_index"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("0001_things.sql", "SELECT 1;", "0001_things was edited"),
        ("0002_names.sql", None, "ahead of this program"),
        ("0004_gap.sql", "SELECT 1;", "number 0003 is expected"),
        ("0002_double.sql", "SELECT 1;", "is expected here"),
        ("3_name.sql", "SELECT 1;", "is not named like"),
    ],
    ids=["edited", "removed", "gap", "double", "misnamed"],
)
def test_a_contradiction_is_refused(
    empty_url: str, folder: Path, name: str, text: str | None, says: str
) -> None:
    migrate.apply(empty_url, folder)
    if text is None:
        (folder / name).unlink()
    else:
        write(folder, name, text)
    with pytest.raises(MigrationError, match=says):
        migrate.apply(empty_url, folder)
    assert count(empty_url) == 1


def test_windows_line_ends_are_not_an_edit(empty_url: str, folder: Path) -> None:
    migrate.apply(empty_url, folder)
    path = folder / "0002_names.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    migrate.check(empty_url, folder)


def test_our_own_migrations_apply_to_an_empty_database(empty_url: str) -> None:
    assert migrate.apply(empty_url) == [m.label for m in migrate.load()]
