"""A breaker: a provider that fails most calls is left alone for a while, and probed with one call at a time. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from antiphon.messages.record import TemplateFault
from antiphon.providers.contract import NOT_BEGUN, NotSent, Outcome, Unknown

FEWEST = 20
"""Calls that must have been made before their failures count."""
WINDOW = 40
QUIET = 30.0
"""Seconds between probes."""


@dataclass
class Breaker:
    """Opens when at least half of the last calls (20 to 40) brought no answer; the first answer closes it."""

    last: deque[bool] = field(default_factory=lambda: deque[bool](maxlen=WINDOW))
    opened_at: float | None = None
    probe_at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Is the provider left alone?"""
        return self.opened_at is not None

    def note(self, outcome: Outcome | TemplateFault, at: float) -> None:
        """Count a call: no answer is bad, every answer (a refusal too) is good. What never began is neither."""
        if isinstance(outcome, TemplateFault) or (isinstance(outcome, NotSent) and outcome.code == NOT_BEGUN):
            return
        failed = isinstance(outcome, NotSent | Unknown)
        self.last.append(failed)
        if self.is_open and not failed:
            self.opened_at = None
            self.last.clear()
        elif not self.is_open and len(self.last) >= FEWEST and sum(self.last) * 2 >= len(self.last):
            self.opened_at, self.probe_at = at, at + QUIET

    def room(self, free: int, at: float) -> int:
        """How many calls may begin now: all that are free, or one probe every 30 s while open."""
        if not self.is_open:
            return free
        if at < self.probe_at:
            return 0
        self.probe_at = at + QUIET
        return min(1, free)
