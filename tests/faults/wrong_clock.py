"""`antiphon work` on a machine whose wall clock is wrong.

A wall clock cannot be wrong for one process only. The product reads it at one place, `core.clock.now` (a law of the
house), so that place answers as such a machine would; every module imports it after this.
"""

import os
import sys
from datetime import timedelta

from antiphon.core import clock

_true = clock.now
_wrong = timedelta(hours=float(os.environ.pop("ANTIPHON_TEST_CLOCK_HOURS")))
clock.now = lambda: _true() + _wrong

from antiphon.entry.cli import main  # noqa: E402 - after the clock is wrong

sys.argv[1:] = ["work"]
main()
