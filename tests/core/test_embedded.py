"""The embedded server: shared, stopped by the last, and never fooled by what a crash left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from antiphon.core import embedded

SETTINGS = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "20"}


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with everything in its name that breaks a careless command line."""
    root = (
        Path("/tmp") if os.geteuid() == 0 else tmp_path_factory.mktemp("embedded")
    )  # the server's user must reach it
    path = root / f"antiphon {os.getpid()} \"quoted\" 'ümlaut' $HOME"
    yield path
    if path.exists():
        subprocess.run(["rm", "-rf", path], check=True)


def postmaster(folder: Path) -> psutil.Process:
    [file] = (folder / "postgres").glob("*/postmaster.pid")
    return psutil.Process(int(file.read_text().splitlines()[0]))


def is_running(folder: Path) -> bool:
    return bool(list((folder / "postgres").glob("*/postmaster.pid")))


def test_it_starts_answers_and_stops_when_released(folder: Path) -> None:
    server = embedded.start(folder, SETTINGS)
    with psycopg.connect(server.url) as conn:
        major, encoding = conn.execute(
            "SELECT current_setting('server_version_num')::int / 10000, pg_client_encoding()"
        ).fetchone() or (0, "")
        assert (major >= 15, encoding) == (True, "UTF8")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url.replace("postgres:", "postgres:wrong"))
    server.release()
    server.release()
    assert not is_running(folder)


def test_it_stays_while_anybody_uses_it_and_stops_after_the_last(folder: Path) -> None:
    first, second = embedded.start(folder, SETTINGS), embedded.start(folder, SETTINGS)
    assert first.url == second.url
    first.release()
    psycopg.connect(second.url).close()
    second.release()
    assert not is_running(folder)


def test_an_owner_that_was_killed_does_not_keep_it_running_for_ever(folder: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from antiphon.core import embedded\n"
        "server = embedded.start(Path(sys.argv[1])); print('up', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, folder], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    with owner.stdout as output:
        assert output.readline() == "up\n"
        owner.kill()
        owner.wait()
    assert is_running(folder)
    embedded.start(folder, SETTINGS).release()
    assert not is_running(folder)


def test_after_kill_9_of_the_server_the_committed_rows_are_there(folder: Path) -> None:
    server = embedded.start(folder, SETTINGS | {"fsync": "on"})
    with psycopg.connect(server.url) as conn:
        conn.execute("CREATE TABLE kept AS SELECT generate_series(1, 100000) AS n")
    process = postmaster(folder)
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)
    again = embedded.start(folder, SETTINGS)
    assert again.url == server.url
    with psycopg.connect(again.url) as conn:
        assert conn.execute("SELECT count(*) FROM kept").fetchone() == (100000,)
    server.release()
    again.release()
    assert not is_running(folder)


def test_a_postmaster_killed_alone_is_replaced_though_its_children_linger(folder: Path) -> None:
    server = embedded.start(folder, SETTINGS)
    with psycopg.connect(server.url, autocommit=True) as busy:
        busy.execute("SELECT 1")
        postmaster(folder).kill()
        again = embedded.start(folder, SETTINGS)
        psycopg.connect(again.url).close()
    server.release()
    again.release()
    assert not is_running(folder)


def test_a_foreign_process_with_the_number_of_the_dead_server_is_left_alone(folder: Path) -> None:
    embedded.start(folder, SETTINGS).release()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        [data] = [path for path in (folder / "postgres").iterdir() if path.name.isdigit()]
        (data / "postmaster.pid").write_text(
            f"{stranger.pid}\n{data}\n{int(time.time())}\n5432\n\n127.0.0.1\n\nready\n"
        )
        server = embedded.start(folder, SETTINGS)
        psycopg.connect(server.url).close()
        server.release()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_server_that_cannot_start_says_what_its_log_says(folder: Path) -> None:
    with pytest.raises(embedded.EmbeddedError, match="no_such_setting"):
        embedded.start(folder, {"no_such_setting": "1"})


def test_data_of_another_major_is_refused_with_the_way_out(folder: Path) -> None:
    (folder / "postgres" / "14").mkdir(parents=True)
    with pytest.raises(embedded.EmbeddedError, match="PostgreSQL 14"):
        embedded.start(folder)
