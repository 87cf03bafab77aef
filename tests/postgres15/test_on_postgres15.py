"""The oldest PostgreSQL we promise: every test that asks for the database runs again on Debian's 15."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

BINARIES = os.environ.get("ANTIPHON_TEST_PG15_BIN", "/usr/lib/postgresql/15/bin")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def postgres15() -> Iterator[str]:
    """The superuser's door to a fresh PostgreSQL 15 that is gone afterwards."""
    binaries = Path(BINARIES)
    if not (binaries / "initdb").exists():
        pytest.skip(f"no PostgreSQL 15 in {binaries}: install postgresql-15, or set ANTIPHON_TEST_PG15_BIN")
    user = _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="antiphon-postgres15-"))
    if user:
        shutil.chown(folder, user)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [binaries / program, "-D", folder / "data", *arguments], user=user, cwd="/", check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    password = folder / "password"
    password.write_text("for-tests-only\n")
    if user:
        shutil.chown(password, user)
    run(
        "initdb",
        "-U",
        "postgres",
        "--auth=scram-sha-256",
        f"--pwfile={password}",
        "--encoding=UTF8",
        "--locale=C",
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=300"
    run("pg_ctl", "-w", "-l", str(folder / "server.log"), "-o", options, "start")
    try:
        yield f"postgresql://postgres:for-tests-only@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.mark.timeout(1500)
@pytest.mark.skipif(
    "ANTIPHON_TEST_DATABASE_URL" in os.environ, reason="this run is on a given server already"
)
def test_all_that_asks_for_the_database_passes_on_postgres_15(postgres15: str) -> None:
    environment = {**os.environ, "ANTIPHON_TEST_DATABASE_URL": postgres15}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "database and not slow", "-p", "no:cacheprovider", "tests"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed
    assert int(passed[1]) > 100, "hardly anything ran: " + run.stdout[-500:]


def _unprivileged_user() -> str | None:
    """PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "antiphon", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("no user to run PostgreSQL 15 as: root may not")
