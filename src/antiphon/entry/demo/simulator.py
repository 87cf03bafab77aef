"""The simulator as a process beside us, and the calls that set its scene. It is never imported."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

READY_WITHIN = 20.0  # seconds
ENDS_WITHIN = 5.0  # seconds


class SimulatorError(RuntimeError):
    """The simulator does not run as it should; the text says what it said."""


class Simulator:
    """A running simulator: `url` is where the providers are."""

    def __init__(self, url: str, smtp_port: int, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.smtp_port = smtp_port
        self._session = session

    async def account(self, provider: str, name: str, **fields: Any) -> None:
        """Set an account: its token, and where its webhooks go."""
        await self._call("PUT", "/accounts", {"provider": provider, "name": name, **fields})

    async def summary(self) -> dict[str, Any]:
        """What it was asked, and what is true of its messages now."""
        return await self._call("GET", "/summary")

    async def is_quiet(self) -> bool:
        """Whether nothing is to come any more: no status, no reply, no webhook."""
        return not any((await self._call("GET", "/pending")).values())

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, f"{self.url}/_control{path}", json=body) as response:
            text = await response.read()
            if response.status >= 300:
                raise SimulatorError(f"the simulator refused {path}: {text.decode(errors='replace')[:300]}")
            return msgspec.json.decode(text)


@contextlib.asynccontextmanager
async def started(state_dir: Path | None = None) -> AsyncIterator[Simulator]:
    """Run one with the demo's scenario; it ends with the block, or when this process dies. Raises SimulatorError."""
    words = ["--port", "0", "--smtp-port", "0", "--scenario", "demo", "--with-parent"]
    if state_dir is not None:
        words += ["--state-dir", str(state_dir)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon_simulator", *words,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        greeting = await _greeting(process)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            yield Simulator(greeting["url"], greeting["smtp_port"], session)
    finally:
        await _end(process)


async def _greeting(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), READY_WITHIN)
    except TimeoutError:
        raise SimulatorError(
            f"the simulator said nothing for {READY_WITHIN:g} s; is the machine very busy?"
        ) from None
    if not line:
        raise SimulatorError(
            f"the simulator ended at once, with code {await process.wait()}; see what it wrote above"
        )
    return msgspec.json.decode(line)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), ENDS_WITHIN)
    except TimeoutError:
        process.kill()
        await process.wait()
