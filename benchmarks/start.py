"""`antiphon up` on a prepared machine: how soon it is ready, and how much memory it takes when nothing happens.

Prepared means that it ran before: its database exists and has the schema. Ready is the first 200 of `/health/ready`,
counted from the start of the command, PostgreSQL's own start included. The ceilings are PostgreSQL alone (from its
start to its first answer), and a Python that has only loaded the libraries that we use.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

import psutil

from antiphon.core import embedded
from benchmarks.processes import COMMAND, environment, until
from benchmarks.stage import FOLDER, Figure, Stage

IDLE_FOR = 10.0  # seconds before its memory is looked at
LIBRARIES = "litestar, uvicorn, uvloop, httptools, msgspec, psycopg, psycopg_pool, aiohttp, aiosmtplib, minijinja, " \
            "phonenumbers, babel, cryptography, structlog, prometheus_client"  # fmt: skip


async def measure(stage: Stage, quick: bool) -> list[Figure]:
    """Medians; the stage's own database is left alone."""
    del stage
    folder = FOLDER.with_name(FOLDER.name + "-up")
    shutil.rmtree(folder, ignore_errors=True)
    bare: list[float] = []
    ready: list[float] = []
    memory: list[float] = []
    try:
        await _up(folder, idle_for=1.0)  # prepares the machine
        for _ in range(1 if quick else 5):
            bare.append(await asyncio.to_thread(_postgres, folder))
            seconds, megabytes = await _up(folder, idle_for=IDLE_FOR)
            ready.append(seconds)
            memory.append(megabytes)
        libraries = await asyncio.to_thread(_libraries)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    took, least = statistics.median(ready), statistics.median(bare)
    most = max(memory)
    return [
        Figure(
            what="antiphon up on a prepared machine, until it is ready", asked="≤ 5 s", measured=f"{took:.1f} s",
            ceiling=f"{least:.1f} s PostgreSQL alone", ratio=f"{took / least:.1f} times",
        ),
        Figure(
            what=f"the same, idle for {IDLE_FOR:.0f} s, without PostgreSQL", asked="≤ 200 MB",
            measured=f"{most:.0f} MB", ceiling=f"{libraries:.0f} MB the libraries alone",
            ratio=f"{most / libraries:.1f} times",
        ),
    ]  # fmt: skip


async def _up(folder: Path, *, idle_for: float) -> tuple[float, float]:
    """Seconds until it is ready, and MB of it and its processes after a while; it is ended then."""
    port = _free_port()
    settings = environment(DATA_DIR=str(folder), PORT=str(port), LOG_LEVEL="warning")
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*COMMAND, "up", env=settings, stdout=DEVNULL)
    try:
        await until(lambda: _is_ready(port, process), seconds=60, what="readiness", every=0.02)
        seconds = time.perf_counter() - started
        await asyncio.sleep(idle_for)
        return seconds, _megabytes(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def _is_ready(port: int, process: Process) -> bool:
    assert process.returncode is None, f"it ended with {process.returncode}"
    return await asyncio.to_thread(_asked, port)


def _asked(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.HTTPError):
        return False


def _megabytes(pid: int) -> float:
    """Of a process and its children; PostgreSQL is nobody's child here."""
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 2**20


def _postgres(folder: Path) -> float:
    started = time.perf_counter()
    server = embedded.start(folder)
    seconds = time.perf_counter() - started
    server.release()
    return seconds


def _libraries() -> float:
    code = f"import os, {LIBRARIES}, psutil; print(psutil.Process(os.getpid()).memory_info().rss)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(told.stdout) / 2**20


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
