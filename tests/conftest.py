"""What every test may ask for: a real PostgreSQL, migrated; a connection that is rolled back; a database of its own.

The server is embedded, shared by all runs on the machine and stopped by the last of them; ANTIPHON_TEST_DATABASE_URL
(a superuser's, of a server for tests only) takes another. With ANTIPHON_TEST_ALL=1 a test left out is a failure.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import psutil
import psycopg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from psycopg import sql

from antiphon.core import embedded, ids, migrate, roles
from antiphon.core.db import Connection, Database
from antiphon.core.roles import DatabaseUrls

MUST_RUN_ALL = os.environ.get("ANTIPHON_TEST_ALL") == "1"
PREFIX = f"antiphon_test_{os.getpid()}"

hypothesis_settings.register_profile(
    "antiphon",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
hypothesis_settings.load_profile("antiphon")


class Server:
    """A PostgreSQL for tests, and the folder that remembers its roles' passwords."""

    def __init__(self, superuser_url: str, folder: Path) -> None:
        self.superuser_url = superuser_url
        self.folder = folder

    def create(self, name: str, template: str | None = None) -> DatabaseUrls:
        """A database with its roles: empty, or a copy of another one."""
        if template is not None:
            self.run(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                    sql.Identifier(name), sql.Identifier(template), sql.Identifier(roles.OWNER)
                )
            )
        return roles.ensure_embedded(self.superuser_url, self.folder, name)

    def drop(self, name: str) -> None:
        self.run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def drop_forgotten(self) -> None:
        """Databases of runs that were killed."""
        with psycopg.connect(self.superuser_url, autocommit=True) as conn:
            names = [name for (name,) in conn.execute("SELECT datname FROM pg_database")]
        for name in names:
            parts = name.split("_")
            if (
                name.startswith("antiphon_test_")
                and parts[2].isdigit()
                and not psutil.pid_exists(int(parts[2]))
            ):
                self.drop(name)

    def run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.superuser_url, autocommit=True) as conn:
            conn.execute(statement)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The server of this run."""
    if url := os.environ.get("ANTIPHON_TEST_DATABASE_URL"):
        folder = Path(tempfile.mkdtemp(prefix="antiphon-test-"))
        server = Server(url, folder)
        server.drop_forgotten()
        yield server
        shutil.rmtree(folder)
        return
    folder = Path(tempfile.gettempdir()) / f"antiphon-tests-{os.geteuid()}"
    settings = {
        "fsync": "off",
        "full_page_writes": "off",
        "max_connections": "400",
        "shared_buffers": "256MB",
    }
    try:
        shared = embedded.start(folder, settings)
    except (
        embedded.EmbeddedError
    ):  # without fsync, a machine that stopped at the wrong moment leaves nothing to keep
        shutil.rmtree(folder, ignore_errors=True)
        shared = embedded.start(folder, settings)
    server = Server(shared.url, folder)
    server.drop_forgotten()
    yield server
    shared.release()


@pytest.fixture(scope="session")
def template(postgres: Server) -> Iterator[str]:
    """The name of a migrated database that nobody writes to: others are copied from it."""
    name = f"{PREFIX}_template"
    migrate.apply(postgres.create(name).owner)
    yield name
    postgres.drop(name)


@pytest.fixture(scope="session")
def shared_urls(postgres: Server, template: str) -> Iterator[DatabaseUrls]:
    """A migrated database in which every test rolls back what it did."""
    name = f"{PREFIX}_shared"
    yield postgres.create(name, template)
    postgres.drop(name)


_copies = iter(range(1_000_000))


@pytest.fixture
def db_urls(postgres: Server, template: str) -> Iterator[DatabaseUrls]:
    """A migrated database of this test's own, for flows that commit."""
    name = f"{PREFIX}_{next(_copies)}"
    yield postgres.create(name, template)
    postgres.drop(name)


@pytest.fixture
def empty_url(postgres: Server) -> Iterator[str]:
    """The owner's door to a database of this test's own in which nothing is."""
    name = f"{PREFIX}_{next(_copies)}"
    yield postgres.create(name).owner
    postgres.drop(name)


@pytest.fixture
async def database(db_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """The server's pool (antiphon_app) on this test's own database."""
    async with Database.connect(db_urls.app, size=4) as database:
        yield database


@pytest.fixture
async def worker_database(db_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """The worker's pool (antiphon_worker) on the same database."""
    async with Database.connect(db_urls.worker, size=4) as database:
        yield database


@pytest.fixture
def org_id() -> UUID:
    """The organization that `conn` is set to; its row exists."""
    return ids.new_id()


@pytest.fixture
async def conn(shared_urls: DatabaseUrls, org_id: UUID) -> AsyncIterator[Connection]:
    """A connection as antiphon_app inside a transaction of `org_id`, rolled back at the end."""
    conn = await Connection.connect(shared_urls.app, autocommit=True, prepare_threshold=None)
    try:
        await conn.execute("BEGIN")
        await conn.execute(sql.SQL("SET LOCAL app.org_id = {}").format(str(org_id)))
        await conn.execute("INSERT INTO organizations (id, name) VALUES (%s, 'Test organization')", (org_id,))
        yield conn
        await conn.execute("ROLLBACK")
    finally:
        await conn.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for the server carries the mark `database`."""
    for item in items:
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker("database")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        terminalreporter.write_line("Left out: nothing.")
        return
    terminalreporter.section("left out" + (" (a failure here: ANTIPHON_TEST_ALL=1)" if MUST_RUN_ALL else ""))
    for report in skipped:
        why = str(report.longrepr).rpartition("Skipped: ")[2].rstrip("')\"")
        terminalreporter.write_line(f"{report.nodeid}: {why}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With ANTIPHON_TEST_ALL=1, a test left out fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        MUST_RUN_ALL
        and session.exitstatus == pytest.ExitCode.OK
        and reporter
        and reporter.stats.get("skipped")
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
