"""Telling the customer: webhooks signed as the provider signs them, delivered, repeated, retried, batched."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from msgspec import Struct

from antiphon_simulator.book import Book
from antiphon_simulator.settings import Account, ProviderName
from antiphon_simulator.wire import Event, Wire

TIMEOUT = 10.0  # seconds until a customer's endpoint counts as failed
ATTEMPTS_KEPT = 20_000


class Attempt(Struct, frozen=True):
    """One POST of a webhook. `status` 0: no answer came, `error` says why."""

    at: float
    provider: ProviderName
    account: str
    url: str
    number: int  # 1: the first try
    status: int
    error: str
    seconds: float
    headers: dict[str, str]
    body: str
    answer: str  # the beginning of what the endpoint said


@dataclass
class Waiting:
    """Events of one account that wait to share a webhook."""

    events: list[Event] = field(default_factory=list[Event])
    timer: asyncio.TimerHandle | None = None


@dataclass
class Deliveries:
    """Webhooks on their way. `attempts` remembers the newest; `counts` all."""

    book: Book
    session: aiohttp.ClientSession
    attempts: deque[Attempt] = field(default_factory=lambda: deque[Attempt](maxlen=ATTEMPTS_KEPT))
    counts: dict[str, int] = field(
        default_factory=lambda: {"attempts": 0, "delivered": 0, "given_up": 0, "untold": 0}
    )
    _waiting: dict[tuple[ProviderName, str], Waiting] = field(
        default_factory=dict[tuple[ProviderName, str], Waiting]
    )
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])

    @property
    def pending(self) -> int:
        """Events that wait and webhooks that are not through."""
        return len(self._tasks) + sum(len(waiting.events) for waiting in self._waiting.values())

    def tell(self, wire: Wire, account_name: str, event: Event, copies: int = 1) -> None:
        """Let the customer know; now, or with others of the same account in one webhook."""
        account = self.book.account(wire.name, account_name)
        if not account.url:
            self.counts["untold"] += 1
            return
        behavior = self.book.behavior(wire.name, account_name)
        if not wire.batches or behavior.batch <= 1:
            self._spawn(self._deliver(wire, account, account_name, [event], copies))
            return
        waiting = self._waiting.setdefault((wire.name, account_name), Waiting())
        waiting.events.extend([event] * copies)
        if len(waiting.events) >= behavior.batch:
            self._flush(wire, account_name)
        elif waiting.timer is None:
            loop = asyncio.get_running_loop()
            waiting.timer = loop.call_later(behavior.batch_wait, self._flush, wire, account_name)

    def _flush(self, wire: Wire, account_name: str) -> None:
        waiting = self._waiting.pop((wire.name, account_name), None)
        if waiting is None:
            return
        if waiting.timer:
            waiting.timer.cancel()
        account = self.book.account(wire.name, account_name)
        self._spawn(self._deliver(wire, account, account_name, waiting.events, 1))

    async def _deliver(
        self, wire: Wire, account: Account, name: str, events: list[Event], copies: int
    ) -> None:
        behavior = self.book.behavior(wire.name, name)
        body, content_type = wire.envelope(account, events)
        for copy in range(copies):
            if copy:
                await asyncio.sleep(0.05)
            for number in range(1, behavior.webhook_retries + 2):
                headers = {"Content-Type": content_type, **wire.signature(account, body)}
                attempt = await self.post(account, name, body, headers, number)
                if 200 <= attempt.status < 300:
                    self.counts["delivered"] += 1
                    break
                if number <= behavior.webhook_retries:
                    await asyncio.sleep(behavior.webhook_retry_delay * 2 ** (number - 1))
            else:
                self.counts["given_up"] += 1

    async def post(
        self, account: Account, name: str, body: bytes, headers: Mapping[str, str], number: int = 1
    ) -> Attempt:
        """One try, with exactly these bytes and headers."""
        started = time.time()
        status, error, answer = 0, "", ""
        try:
            async with self.session.post(
                account.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
                answer = (await response.content.read(500)).decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            error = f"{type(problem).__name__}: {problem}"
        attempt = Attempt(
            at=started,
            provider=account.provider,
            account=name,
            url=account.url,
            number=number,
            status=status,
            error=error,
            seconds=round(time.time() - started, 6),
            headers=dict(headers),
            body=body.decode(errors="replace"),
            answer=answer,
        )
        self.counts["attempts"] += 1
        self.attempts.append(attempt)
        return attempt

    async def shake_hands(self, account: Account, challenge: str) -> dict[str, Any]:
        """Meta's GET when a webhook is set up: what our endpoint answered, and whether Meta would be content."""
        query = {
            "hub.mode": "subscribe",
            "hub.verify_token": account.verify_token,
            "hub.challenge": challenge,
        }
        async with self.session.get(account.url, params=query, allow_redirects=False) as response:
            said = (await response.content.read(1000)).decode(errors="replace")
            return {
                "status": response.status,
                "body": said,
                "ok": response.status == 200 and said == challenge,
            }

    def forget(self) -> None:
        """Drop what is on its way and what was remembered."""
        for task in self._tasks:
            task.cancel()
        for waiting in self._waiting.values():
            if waiting.timer:
                waiting.timer.cancel()
        self._waiting.clear()
        self.attempts.clear()
        self.counts.update(dict.fromkeys(self.counts, 0))

    async def close(self) -> None:
        """End what is on its way."""
        tasks = list(self._tasks)
        self.forget()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.session.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def new_session() -> aiohttp.ClientSession:
    """A client for webhooks; it keeps no cookies and follows nothing."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=64),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "antiphon-simulator"},
    )
