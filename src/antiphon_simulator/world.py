"""All that a running simulator knows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from antiphon_simulator import demo, keyed, meta, wsapme
from antiphon_simulator.book import Book
from antiphon_simulator.lifecycle import Lifecycle
from antiphon_simulator.oracle import Oracle
from antiphon_simulator.settings import Behavior, ProviderName, Settings
from antiphon_simulator.webhooks import Deliveries, new_session
from antiphon_simulator.wire import Wire

WIRES: Mapping[ProviderName, Wire] = {"wsapme": wsapme.WIRE, "meta": meta.WIRE, "keyed": keyed.WIRE}


@dataclass
class Buckets:
    """Each account's rate: tokens that refill steadily up to a burst."""

    _tokens: dict[tuple[str, str], tuple[float, float]] = field(
        default_factory=dict[tuple[str, str], tuple[float, float]]
    )

    def take(self, provider: str, account: str, behavior: Behavior) -> bool:
        """Whether one more message is within the rate, which it then uses."""
        if behavior.rate <= 0:
            return True
        now = time.monotonic()
        most = behavior.burst or max(behavior.rate, 1.0)
        tokens, since = self._tokens.get((provider, account), (most, now))
        tokens = min(most, tokens + (now - since) * behavior.rate)
        within = tokens >= 1
        self._tokens[provider, account] = (tokens - 1 if within else tokens, now)
        return within

    def forget(self) -> None:
        """All buckets are full again."""
        self._tokens.clear()


@dataclass
class Counts:
    """What the fast path counts instead of logging."""

    requests: int = 0
    bad: int = 0
    by_path: dict[str, int] = field(default_factory=dict[str, int])


@dataclass
class World:
    """Settings, log, messages, webhooks. `settings_path` keeps the settings over a restart."""

    book: Book
    oracle: Oracle
    deliveries: Deliveries
    lifecycle: Lifecycle
    buckets: Buckets
    fast: Counts
    settings_path: Path | None = None

    def keep_settings(self) -> None:
        """Write the settings where a restarted simulator finds them, without the faults: those were met or not."""
        if self.settings_path:
            self.settings_path.parent.mkdir(parents=True, exist_ok=True)
            half = self.settings_path.with_suffix(".half")
            kept = msgspec.structs.replace(self.book.settings(), faults=())
            half.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
            half.replace(self.settings_path)

    async def close(self) -> None:
        """Stop time and end what is on its way; the log stays."""
        self.lifecycle.forget()
        await self.deliveries.close()
        self.oracle.close()


def load_settings(name: str) -> Settings:
    """The settings called `demo`, or those in a JSON file."""
    if name == "demo":
        return demo.settings()
    return msgspec.json.decode(Path(name).read_bytes(), type=Settings)


async def make(log: Path | None, state: Path | None, settings: Settings | None, fsync: bool = False) -> World:
    """A world at its beginning; or as it was when it stopped, if `state` remembers, whatever `settings` say."""
    settings_path = state / "settings.json" if state else None
    if settings_path and settings_path.exists():
        settings = msgspec.json.decode(settings_path.read_bytes(), type=Settings)
    book = Book()
    book.load(settings or Settings())
    oracle = Oracle(path=log or (state / "log.jsonl" if state else None), fsync=fsync)
    oracle.open()
    deliveries = Deliveries(book, new_session())
    lifecycle = Lifecycle(book, WIRES, deliveries)
    lifecycle.restore(oracle.entries)
    return World(book, oracle, deliveries, lifecycle, Buckets(), Counts(), settings_path)
