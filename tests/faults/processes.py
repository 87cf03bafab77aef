"""Real worker processes (`antiphon work`) that a test may kill, freeze and end.

async with Workers(urls, tmp_path) as workers:
    one = await workers.start(failpoints="rendered=kill@20")
    assert await one.ended() == -SIGKILL
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from types import TracebackType

import psutil

from antiphon.core.roles import DatabaseUrls

SECRET = "a secret for tests that is long enough to be one"
LEASE = 1.5


class WorkerProcess:
    """One `antiphon work`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self.log = log

    @property
    def is_running(self) -> bool:
        """Has it not ended?"""
        return self._process.returncode is None

    def kill(self) -> None:
        """As a crash or the kernel would: it gets no chance to do anything."""
        self._process.kill()

    def terminate(self) -> None:
        """As a service manager would."""
        self._process.terminate()

    def freeze(self) -> None:
        """It stands still, with all its sockets open, as a machine that swaps or is suspended."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on as if no time had passed."""
        self._process.send_signal(signal.SIGCONT)

    async def ended(self, seconds: float = 30) -> int:
        """Its exit code, negative for the signal that ended it."""
        try:
            return await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            raise AssertionError(f"it has not ended after {seconds} s:\n{self.tail()}") from None

    def said(self, word: str) -> int:
        """How often its log has this word."""
        return self.log.read_text(errors="replace").count(word)

    def tail(self, lines: int = 15) -> str:
        """The last that it said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @property
    def cpu_seconds(self) -> float:
        """How long it has computed."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system


class Workers:
    """The workers of one test; all are gone at its end."""

    def __init__(self, urls: DatabaseUrls, folder: Path) -> None:
        self._urls = urls
        self._folder = folder
        self.all: list[WorkerProcess] = []

    async def __aenter__(self) -> Workers:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.all:
            if worker.is_running:
                worker.kill()
                await worker.ended()

    async def start(
        self, failpoints: str = "", *, lease: float = LEASE, entry: str = "", **environment: str
    ) -> WorkerProcess:
        """A worker that is at work, or has already met its failpoint."""
        log = self._folder / f"worker-{len(self.all)}.log"
        known = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
        command = [entry] if entry else [str(Path(sys.executable).with_name("antiphon")), "work"]
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *([sys.executable, *command] if entry else command),
                stdout=output,
                stderr=output,
                env={
                    **known,
                    "ANTIPHON_APP_DATABASE_URL": self._urls.app,
                    "ANTIPHON_WORKER_DATABASE_URL": self._urls.worker,
                    "ANTIPHON_SECRET_KEY": SECRET,
                    "ANTIPHON_DATA_DIR": str(self._folder / "data"),
                    "ANTIPHON_PRIVATE_HOSTS": "yes",
                    "ANTIPHON_LEASE_SECONDS": str(lease),
                    "ANTIPHON_FAILPOINTS": failpoints,
                    "ANTIPHON_LOG_FORMAT": "json",
                    **environment,
                },
            )
        worker = WorkerProcess(process, log)
        self.all.append(worker)
        for _ in range(400):
            if worker.said("worker_started") or not worker.is_running:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError(f"the worker does not start:\n{worker.tail()}")
        return worker
