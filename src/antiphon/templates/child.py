"""The trial of a version, in a process of its own: `python -m antiphon.templates.child`, JSON in, JSON out.

The limits are set after everything is loaded, so they count what the template does and nothing else. The engine
aborts where memory ends; the process that asked sees that and refuses the template.
"""

from __future__ import annotations

import contextlib
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from antiphon.templates.grammar import MAX_OUTPUT
from antiphon.templates.model import Limits, TemplateVersion
from antiphon.templates.render import RenderError, compile_version, fill

MEMORY = 64 * 1024 * 1024  # bytes above what the process has before the template
SECONDS = 1  # of processor time


class Trial(Struct, frozen=True, kw_only=True):
    """What is to be tried."""

    version: TemplateVersion
    at: datetime
    samples: dict[str, Any]
    longest: dict[str, Any]


class Verdict(Struct, frozen=True):
    """Why the version is refused; None if it is not."""

    reason: str | None = None


def try_out(trial: Trial) -> Verdict:
    """Fill it twice: with its samples, within the channel's limits, and with the longest values, within none."""
    compiled = compile_version(trial.version)
    language, unbounded = trial.version.language, Limits(*[MAX_OUTPUT] * 4)
    try:
        fill(compiled, trial.samples, language, at=trial.at)
    except RenderError as error:
        return Verdict(f"with its sample values, {error.reason}")
    try:
        fill(compiled, trial.longest, language, at=trial.at, limits=unbounded)
    except RenderError as error:
        return Verdict(f"with the longest values allowed, {error.reason}")
    return Verdict()


def limit_this_process(memory: int = MEMORY, seconds: int = SECONDS) -> None:
    """From here on: so much more address space, so much more processor time. Where the system knows no such
    limits (Windows), there are none.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        end = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (end, end))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Read one trial, say one verdict."""
    trial = msgspec.json.decode(sys.stdin.buffer.read(), type=Trial)
    limit_this_process()
    verdict = try_out(trial)
    sys.stdout.buffer.write(msgspec.json.encode(verdict))


if __name__ == "__main__":
    main()
