"""What a dispatcher is made of: the worker, and a lane while this worker owns it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
from psycopg_pool import PoolTimeout

from antiphon.core.clock import boottime
from antiphon.core.crypto import Vault
from antiphon.core.db import Database
from antiphon.core.http import Client
from antiphon.core.smtp import MailClient
from antiphon.messages import rendering
from antiphon.messages.breaker import Breaker
from antiphon.messages.lanes import LEASE_SECONDS, Owned
from antiphon.messages.record import Told
from antiphon.providers import registry
from antiphon.providers.contract import Account, Provider
from antiphon.senders.model import Sender

AWAY = (psycopg.OperationalError, PoolTimeout)
"""The database cannot be reached: what was to be done is done later."""


@dataclass(frozen=True)
class Worker:
    """What a dispatcher needs; one a process."""

    id: UUID
    database: Database
    http: Client
    mail: MailClient
    vault: Vault
    public_url: str = ""
    lease: float = LEASE_SECONDS
    most_lanes: int = 256
    provider_of: Callable[[str], Provider[Any]] = registry.get


Try = tuple[UUID, int]
"""A message and the number of its attempt."""


class Clock(NamedTuple):
    """The database's clock as this worker knows it: a reading, and this machine's boot-time clock then."""

    at: datetime
    boot: float

    def now(self) -> datetime:
        """The database's time, however wrong this machine's is."""
        return self.at + timedelta(seconds=boottime() - self.boot)


@dataclass
class LaneRun:
    """A lane while this worker owns it."""

    lane: Owned
    sender: Sender
    account: Account[Any]
    provider: Provider[Any]
    zone: ZoneInfo
    wall: float
    clock: Clock
    calls: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    told: list[Told] = field(default_factory=list[Told])
    under_way: set[Try] = field(default_factory=set[Try])
    unrecorded: set[Try] = field(default_factory=set[Try])
    some_told: asyncio.Event = field(default_factory=asyncio.Event)
    some_free: asyncio.Event = field(default_factory=asyncio.Event)
    breaker: Breaker = field(default_factory=Breaker)
    versions: rendering.Versions = field(default_factory=rendering.Versions)
    is_lost: bool = False
    is_unsure: bool = False  # a claim's answer was lost: it may have taken what was never begun
    is_reported: bool = True  # an earlier owner may have opened the incident
    asked_at: float = 0.0

    @property
    def free(self) -> int:
        """Slots for new calls: the limit, less what is claimed and not recorded yet."""
        return self.lane.in_flight - len(self.under_way)


def wall_of(worker: Worker) -> float:
    """Until when calls may begin that a claim or renewal sent now will allow."""
    return boottime() + worker.lease - min(1.0, worker.lease / 2)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
