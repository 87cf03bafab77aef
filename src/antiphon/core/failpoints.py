"""Places where a test may kill, freeze or fail this process. Inert, and free, unless armed by ANTIPHON_FAILPOINTS."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import Literal, get_args

import msgspec

Name = Literal[
    "claim_committed",
    "rendered",
    "request_half_written",
    "request_written",
    "accepted_answer_withheld",
    "answer_read",
    "record_sent",
    "record_committed",
    "receipt_stored",
    "receipt_committed",
    "job_claimed",
    "job_committed",
    "expansion_page_committed",
    "import_page_committed",
    "events_pumped",
]
NAMES: tuple[str, ...] = get_args(Name)

_ENTRY = re.compile(
    r"(?P<name>[a-z_]+)=(?P<action>kill|freeze|raise)(?::(?P<seconds>\d+(?:\.\d+)?))?(?:@(?P<nth>\d+))?"
)


class BadFailpoint(ValueError):
    """A specification that cannot be followed."""


class Reached(Exception):
    """Raised by a failpoint whose action is `raise`."""


class _Armed(msgspec.Struct):
    action: str
    seconds: float
    nth: int
    seen: int = 0


_armed: dict[str, _Armed] = {}


def arm(specification: str) -> None:
    """Arm from text like `claim_committed=kill@3;rendered=freeze:5;answer_read=raise`; empty text disarms all.

    `@n` acts at the n-th time only (the first unless said), `kill` is SIGKILL to this process, `freeze:s` blocks the
    whole thread for s seconds, `raise` raises Reached. Raises BadFailpoint, naming what there is.
    """
    parsed = dict(map(_parse, filter(None, specification.split(";"))))
    _armed.clear()
    _armed.update(parsed)


def is_armed(name: Name) -> bool:
    """Whether this place will act: for code that must take another road to make the place real."""
    return name in _armed


def hit(name: Name) -> None:
    """Pass this place; act if it is armed and this is the time for it."""
    if _armed:
        _act(name)


async def reach(name: Name) -> None:
    """The same, for the readers of asynchronous code; a freeze blocks the whole event loop, as a real one does."""
    if _armed:
        _act(name)


def _act(name: str) -> None:
    armed = _armed.get(name)
    if armed is None:
        return
    armed.seen += 1
    if armed.seen != armed.nth:
        return
    match armed.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "freeze":
            time.sleep(armed.seconds)
        case _:
            raise Reached(f"failpoint {name}, time {armed.seen}")


def _parse(entry: str) -> tuple[str, _Armed]:
    found = _ENTRY.fullmatch(entry.strip())
    if found is None:
        raise BadFailpoint(
            f"{entry.strip()!r} is not a failpoint; write name=kill, name=freeze:5 or name=raise, each may end in @3"
        )
    if found["name"] not in NAMES:
        raise BadFailpoint(f"there is no failpoint {found['name']!r}; there are: {', '.join(NAMES)}")
    return found["name"], _Armed(found["action"], float(found["seconds"] or 5), int(found["nth"] or 1))
