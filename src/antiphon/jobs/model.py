"""Durable background work, as values: what a job is, what a step says, when a failed one is tried again."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from antiphon.core.db import Connection

JobStatus = Literal["waiting", "running", "done", "failed", "canceled"]

MOST_FAILURES = 5
_FIRST_WAIT = timedelta(seconds=2)
_LONGEST_WAIT = timedelta(minutes=10)
LONGEST_ERROR = 2000


class Job(Struct, frozen=True, kw_only=True):
    """A job as it may be shown."""

    id: UUID
    kind: str
    key: str | None
    status: JobStatus
    progress: dict[str, Any]
    run_at: datetime
    failures: int
    last_error: str | None
    created_at: datetime
    finished_at: datetime | None


class Leased(Struct, frozen=True, kw_only=True):
    """A job that this runner may run until its lease ends."""

    org_id: UUID
    id: UUID
    kind: str
    payload: dict[str, Any]
    failures: int


class Run(Struct, frozen=True, kw_only=True):
    """What a step knows of its job: who it is, and what the last committed step left."""

    id: UUID
    org_id: UUID
    progress: dict[str, Any]


class Continue(Struct, frozen=True):
    """There is more to do: keep this progress and call again, at once or at a time."""

    progress: dict[str, Any]
    run_at: datetime | None = None


class Done(Struct, frozen=True):
    """Nothing is left to do. Progress given here is added to what was kept."""

    progress: dict[str, Any] = {}


Handler = Callable[[Connection, Any, Run], Awaitable[Continue | Done]]
GivenUp = Callable[[Connection, Leased, str], Awaitable[None]]
"""Told of a job that is given up, with its last error, in the transaction that gives it up."""


class Guarded(Struct, frozen=True):
    """A handler, and what is done when its job is given up: for jobs that something waits for."""

    handler: Handler
    given_up: GivenUp


Handlers = Mapping[type[Struct], Handler | Guarded]
"""Which function runs which job: `{ExpandAudience: expand_audience, …}`, written out in entry/wiring.py."""


def kind_of(job: type[Struct]) -> str:
    """The name that a job's rows carry: ExpandAudience is `expand_audience`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", job.__name__).lower()


def payload_of(job: Struct) -> dict[str, Any]:
    """A job's fields as its row keeps them."""
    return msgspec.to_builtins(job)


def wait_after(failures: int, chance: float | None = None) -> timedelta:
    """How long to wait after so many failures in a row: doubled each time, the upper half of it by chance (0 to 1)."""
    longest = min(_FIRST_WAIT * 2 ** (failures - 1), _LONGEST_WAIT)
    return longest * (0.5 + (random.random() if chance is None else chance) / 2)


def error_text(error: BaseException) -> str:
    """What to tell about a failed step."""
    return f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
