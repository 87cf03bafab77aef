"""Garbage collection for a long-lived process that makes many short-lived objects.

The collector's full passes walk every object there is, and a process with all its modules loaded has some hundred
thousand that never go away. Measured on the dispatcher, 20,000 messages: 140 µs of Python a message with Python's
thresholds, 96 µs with these.
"""

from __future__ import annotations

import gc


def settle() -> None:
    """Call once, when everything is imported and opened: what is there now is never walked again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
