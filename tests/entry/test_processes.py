"""What runs until it is told to stop: starts, says where it is, waits for what is away, ends in time."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from antiphon.core.roles import DatabaseUrls
from antiphon.core.settings import Settings
from antiphon.entry import loops, worker
from antiphon.entry.loops import Loop, Working
from tests.entry.cli.commands import SECRET, Machine

ENDS_WITHIN = 30.0  # seconds, the promise


@pytest.fixture
def machine(db_urls: DatabaseUrls, tmp_path: Path) -> Machine:
    return Machine.of(db_urls, tmp_path)


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """The first line of its output that has the words."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    assert process.stderr is not None
    raise AssertionError(f"it ended without saying {words!r}:\n{process.stderr.read()}")


def end(process: subprocess.Popen[str]) -> float:
    """Ask it to end as a service manager does; how many seconds it took. It must have ended well."""
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=ENDS_WITHIN + 10)
    assert process.returncode == 0, out + err
    assert "Traceback" not in err
    return time.monotonic() - started


def test_up_serves_and_works_and_ends_in_time(machine: Machine) -> None:
    with machine.started("up", "--port", "0") as process:
        url = line_with(process, "Antiphon is at").split()[3].rstrip(",")
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as answer:
            assert b'"status":"ok"' in answer.read()
        assert end(process) < ENDS_WITHIN


def test_up_takes_the_next_free_port_and_says_so(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with machine.started("up", "--port", str(port)) as process:
            assert f"Port {port} is taken" in line_with(process, "is taken")
            end(process)


def test_serve_does_not_move_to_another_port_by_itself(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = machine.run("serve", "--port", str(taken.getsockname()[1]))
    assert done.code == 1
    assert "Cannot listen on 127.0.0.1" in done.err


def test_a_worker_waits_for_a_database_that_is_away_and_ends_when_asked(machine: Machine) -> None:
    away = "postgresql://somebody:nothing@127.0.0.1:9/antiphon"
    urls = {name: away for name in machine.environ if name.endswith("DATABASE_URL")}
    with Machine({**machine.environ, **urls}).started("work") as process:
        assert process.stderr is not None
        assert "database_away" in process.stderr.readline()
        assert end(process) < 5


@pytest.mark.parametrize("verb", ["serve", "work"])
def test_nobody_privileged_may_serve_or_work(verb: str, machine: Machine, db_urls: DatabaseUrls) -> None:
    owner = {"ANTIPHON_APP_DATABASE_URL": db_urls.owner, "ANTIPHON_WORKER_DATABASE_URL": db_urls.owner,
             "ANTIPHON_DATABASE_URL": ""}  # fmt: skip
    done = machine.run(verb, environ={**owner, "ANTIPHON_PORT": "0"})
    assert done.code == 1
    assert "owns the tables" in done.err
    assert "ANTIPHON_APP_DATABASE_URL" in done.err


@pytest.mark.slow
def test_the_three_things_to_try_work_as_they_are_printed(machine: Machine) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with machine.started("up", "--demo", "--port", "0") as process:
        assert process.stdout is not None
        printed = list(itertools.takewhile(lambda line: "Ctrl-C ends it" not in line, process.stdout))
        commands = "".join(printed).replace("\\\n", " ").splitlines()
        asked = [line for line in commands if line.startswith("curl ")]
        assert len(asked) == 4, "".join(printed)
        message, blast, funnel, replies = (_answer(command) for command in asked)
        assert len(message["ids"]) == 1
        assert blast["status"] == "active"
        assert {"recipients", "stages", "reasons"} <= set(funnel)
        assert set(replies) == {"items", "next"}
        for _ in range(150):
            funnel = _answer(asked[2])
            if funnel["recipients"] == 500 and funnel["stages"][0]["reached"]:
                break
            time.sleep(0.2)
        assert funnel["recipients"] == 500
        assert funnel["stages"][0]["reached"] > 0
        assert end(process) < ENDS_WITHIN


def _answer(command: str) -> dict[str, Any]:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout)


async def test_a_loop_that_fails_is_begun_again_until_it_is_stopped(
    db_urls: DatabaseUrls, tmp_path: Path
) -> None:
    stop, third, begun = asyncio.Event(), asyncio.Event(), 0

    async def run(_: Working, stop: asyncio.Event) -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise RuntimeError("a defect in a loop")
        third.set()
        await stop.wait()

    settings = Settings(secret_key=SECRET, data_dir=tmp_path)
    async with worker.working(settings, db_urls.worker) as working:
        keeping = asyncio.create_task(loops.keep(Loop("failing", run), working, stop))
        await asyncio.wait_for(third.wait(), 20)
        stop.set()
        await asyncio.wait_for(keeping, 5)
    assert begun == 3
