"""The simulator as a process, for every test that needs the other side of a wire.

async with Simulator.start(tmp_path, scenario="demo") as sim:
    await sim.account("wsapme", "device-1", url="http://127.0.0.1:9/hook")
    await sim.fault(provider="wsapme", answer="reset", count=1)
    ...
    assert (await sim.summary())["duplicates"]["recipient_text"] == []
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

Json = dict[str, Any]
READY_WITHIN = 20.0  # seconds


class Simulator:
    """A running simulator and its control API. All of `url`, `fast_url` and the ports stay the same over a restart."""

    def __init__(self, arguments: list[str], session: aiohttp.ClientSession) -> None:
        self._arguments = arguments
        self._session = session
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0
        self.smtp_port = 0
        self.fast_port = 0
        self.log_path: Path | None = None

    @property
    def url(self) -> str:
        """Where the HTTP providers and the control API are."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def fast_url(self) -> str:
        """Where the bare path of the benchmarks is."""
        return f"http://127.0.0.1:{self.fast_port}"

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None, "the simulator is not running"
        return self._process.pid

    @classmethod
    @asynccontextmanager
    async def start(
        cls, directory: Path, *arguments: str, **options: str | int | bool | Path
    ) -> AsyncIterator[Simulator]:
        """Start one that keeps log and settings in `directory`, and end it afterwards.

        Options are those of the command line: `scenario="demo"`, `log=path`, `fsync=True`.
        """
        words = list(arguments)
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            words += [flag] if value is True else [] if value is False else [flag, str(value)]
        session = aiohttp.ClientSession()
        simulator = cls(
            ["--state-dir", str(directory / "simulator"), "--with-parent", str(os.getpid()), *words], session
        )
        try:
            await simulator.run()
            yield simulator
        finally:
            await simulator.stop()
            await session.close()

    async def run(self) -> None:
        """Start the process; after `stop` or `kill`, on the same ports and with what it remembers."""
        ports = [
            "--port",
            str(self.port),
            "--smtp-port",
            str(self.smtp_port),
            "--fast-port",
            str(self.fast_port),
        ]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "antiphon_simulator",
            *ports,
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), READY_WITHIN)
        assert line, f"the simulator ended at once: {await self._process.wait()}"
        greeting: Json = json.loads(line)
        self.port, self.smtp_port, self.fast_port = (
            greeting["port"],
            greeting["smtp_port"] or 0,
            greeting["fast_port"] or 0,
        )
        self.log_path = Path(greeting["log"]) if greeting["log"] else None

    async def stop(self) -> int:
        """End it as a service manager would; its exit code."""
        return await self._end("terminate")

    async def kill(self) -> int:
        """End it as a crash would."""
        return await self._end("kill")

    async def _end(self, how: str) -> int:
        process = self._process
        if process is None:
            return 0
        self._process = None
        if process.returncode is None:
            getattr(process, how)()
        return await asyncio.wait_for(process.wait(), 10)

    async def control(self, method: str, path: str, body: Any = None, **query: str | int | float) -> Any:
        """Call `/_control{path}`; its JSON. What the simulator refuses is an AssertionError with its words."""
        url = f"{self.url}/_control{path}"
        params = {name: str(value) for name, value in query.items()}
        async with self._session.request(method, url, json=body, params=params) as response:
            text = await response.text()
            assert response.status < 300, f"{method} {url}: {response.status} {text}"
            if response.content_type == "application/x-ndjson":
                return [json.loads(line) for line in text.splitlines()]
            return json.loads(text) if response.content_type == "application/json" else text

    async def scenario(self, patch: Json) -> Json:
        """Lay these fields over the scenario; the whole of it."""
        return await self.control("PATCH", "/scenario", patch)

    async def account(self, provider: str, name: str = "*", **fields: Any) -> Json:
        """Set an account: token, webhook url, secret."""
        return await self.control("PUT", "/accounts", {"provider": provider, "name": name, **fields})

    async def template(self, name: str, **fields: Any) -> Json:
        """Let Meta approve a template."""
        return await self.control("PUT", "/templates", {"name": name, **fields})

    async def fault(self, **fields: Any) -> Json:
        """Put a fault in the way of the next requests that match."""
        return await self.control("POST", "/faults", fields)

    async def inbound(self, provider: str, sender: str, text: str, **fields: Any) -> Json:
        """Let a person write to an account now."""
        return await self.control(
            "POST", "/inbound", {"provider": provider, "from": sender, "text": text, **fields}
        )

    async def log(self, **filters: str | int) -> list[Json]:
        """The oracle: entries in order, filtered by `after`, `limit` or any field."""
        return await self.control("GET", "/log", **filters)

    async def summary(self) -> Json:
        """Counts, duplicates, the truth about statuses."""
        return await self.control("GET", "/summary")

    async def messages(self, **filters: str) -> list[Json]:
        """Every accepted message as it truly stands."""
        return await self.control("GET", "/messages", **filters)

    async def webhooks(self) -> list[Json]:
        """Every POST of a webhook, with its body, headers and the answer that it got."""
        return await self.control("GET", "/webhooks")

    async def settled(self, seconds: float = 20.0) -> None:
        """Wait until nothing is to come any more: no status, no reply, no webhook on its way."""
        left = await self.control("GET", "/pending", wait=seconds)
        assert not any(left.values()), f"still to come after {seconds} s: {left}"

    async def reset(self, settings: bool = False) -> None:
        """Forget log, messages, webhooks and faults; `settings`: accounts, templates and scenario too."""
        await self.control("POST", "/reset", {"settings": settings})
