"""The two clocks: the wall's, for what people read, and the machine's, for how long something took."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> datetime:
    """This moment, aware, in UTC."""
    return datetime.now(UTC)


def boottime() -> float:
    """Seconds since the machine started, suspended time included: a lease cannot sleep through its end.

    Where the system has no such clock (macOS), the monotonic one, which may stop while the machine is suspended.
    """
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)
