"""The simulator as a process: its first line, its end, what it remembers, what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.simulator_process import Simulator

PROGRAM = (sys.executable, "-m", "antiphon_simulator")
KEYED = {"to": "1", "text": "x", "reference": "r"}


async def start(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*PROGRAM, *arguments, stdout=pipe, stderr=pipe)


async def read_line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(await asyncio.wait_for(process.stdout.readline(), 20))


async def test_the_first_line_says_where_it_listens() -> None:
    process = await start("--smtp-port", "0")
    greeting = await read_line(process)
    assert greeting["pid"] == process.pid
    assert greeting["url"] == f"http://127.0.0.1:{greeting['port']}"
    assert greeting["smtp_port"] > 0
    assert greeting["fast_port"] is None
    process.send_signal(signal.SIGTERM)
    out, err = await asyncio.wait_for(process.communicate(), 5)
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_sigterm_ends_it_at_once_even_while_it_holds_an_answer(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with Simulator.start(tmp_path) as sim:
        await sim.fault(provider="keyed", answer="hang")
        held = asyncio.create_task(
            http.post(f"{sim.url}/keyed/messages", json=KEYED, headers={"Idempotency-Key": "k"})
        )
        async with asyncio.timeout(5):
            while not await sim.log():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert await sim.stop() == 0
        with pytest.raises(aiohttp.ClientError):
            await held


async def test_it_ends_when_its_parent_dies() -> None:
    script = (
        "import os, subprocess, sys, time\n"
        "command = [sys.executable, '-m', 'antiphon_simulator', '--with-parent', str(os.getpid())]\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    child = (await read_line(parent))["pid"]
    os.kill(child, 0)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(10):
        while is_alive(child):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_log_is_on_file_before_the_answer_and_a_torn_line_is_dropped(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    log = tmp_path / "seen.jsonl"
    async with Simulator.start(tmp_path, log=log) as sim:
        for key in ("a", "b"):
            async with http.post(f"{sim.url}/keyed/messages", json=KEYED, headers={"Idempotency-Key": key}):
                written = [json.loads(line) for line in log.read_text().splitlines()]
                assert written[-1]["key"] == key
        await sim.kill()
        with log.open("ab") as file:
            file.write(b'{"seq":3,"detail":"' + b"x" * 5_000)
        await sim.run()
        assert [entry["seq"] for entry in await sim.log()] == [1, 2]
        async with http.post(f"{sim.url}/keyed/messages", json=KEYED, headers={"Idempotency-Key": "c"}):
            pass
        assert [json.loads(line)["seq"] for line in log.read_text().splitlines()] == [1, 2, 3]


async def test_settings_come_from_a_file_and_a_bad_one_is_explained(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text(
        json.dumps({"scenario": {"seed": 9}, "accounts": [{"provider": "keyed", "name": "shop"}]})
    )
    async with Simulator.start(tmp_path, scenario=good) as sim:
        assert (await sim.control("GET", "/scenario"))["seed"] == 9
        assert (await sim.control("GET", "/accounts"))[0]["name"] == "shop"
    bad = tmp_path / "bad.json"
    bad.write_text('{"scenario": {"sed": 9}}')
    process = await start("--scenario", str(bad))
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert b"`sed`" in err
    assert b"Traceback" not in err


async def test_a_port_in_use_is_explained(sim: Simulator) -> None:
    process = await start("--port", str(sim.port))
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"Choose another port" in err
    assert b"Traceback" not in err


REFUSED = {
    "a field that is none": ("PATCH", "/scenario", {"wsapme": {"rat": 1}}, "rat"),
    "a share that is a text": ("PATCH", "/scenario", {"wsapme": {"read": "most"}}, "read"),
    "an account of no provider": (
        "PATCH",
        "/scenario",
        {"accounts": {"d1": {"rate": 1}}},
        "provider/account",
    ),
    "an account's field that is none": ("PATCH", "/scenario", {"accounts": {"wsapme/d1": {"rat": 1}}}, "rat"),
    "a fault of no kind": ("POST", "/faults", {"provider": "keyed", "answer": "explode"}, "explode"),
    "an inbound mail": ("POST", "/inbound", {"provider": "smtp", "from": "a@example.com"}, "smtp"),
    "a webhook to nowhere": ("POST", "/webhook", {"provider": "meta", "body": "{}"}, "url"),
    "a log filter that is none": ("GET", "/log?colour=red", None, "colour"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_the_control_api_names_what_is_wrong(
    case: str, sim: Simulator, http: aiohttp.ClientSession
) -> None:
    method, path, body, named = REFUSED[case]
    async with http.request(method, f"{sim.url}/_control{path}", json=body) as response:
        assert response.status == 400
        assert named in (await response.json())["error"]


async def test_what_has_no_route_is_logged_too(sim: Simulator, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{sim.url}/v1/sendMessage3", json={}) as response:
        assert response.status == 404
    [entry] = await sim.log()
    assert (entry["provider"], entry["detail"]) == ("none", "POST /v1/sendMessage3")


async def test_an_account_may_behave_differently(sim: Simulator, http: aiohttp.ClientSession) -> None:
    await sim.scenario({"accounts": {"wsapme/slow": {"rate": 1, "burst": 1}}})
    codes: list[int] = []
    for device in ("slow", "slow", "quick", "quick"):
        body = {"device": device, "to": "60123456789", "message": "x"}
        async with http.post(
            f"{sim.url}/v1/sendMessage2", json=body, headers={"x-wsapme-token": "t"}
        ) as response:
            codes.append(response.status)
    assert codes == [200, 429, 200, 200]
