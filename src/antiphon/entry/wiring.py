"""Who runs what. Tables only: to see what a worker does, read them."""

from __future__ import annotations

from antiphon.campaigns.jobs import (
    CancelRemaining,
    ExpandAudience,
    ExpandUpperHalf,
    cancel_remaining,
    expand_audience,
    expand_upper_half,
)
from antiphon.entry import loops
from antiphon.entry.loops import Loop, Round, repeated
from antiphon.jobs.model import Handlers
from antiphon.organizations.jobs import TidyUp, tidy_up

HANDLERS: Handlers = {
    TidyUp: tidy_up,
    ExpandAudience: expand_audience,
    ExpandUpperHalf: expand_upper_half,
    CancelRemaining: cancel_remaining,
}

ROUNDS: tuple[Round, ...] = (
    Round("funnels", 1.0, loops.fold_funnels),
    Round("partitions", 24 * 3600.0, loops.make_partitions),
)

LOOPS: tuple[Loop, ...] = (
    Loop("dispatch", loops.send_messages),
    Loop("sweep", loops.sweep_lanes),
    Loop("jobs", loops.run_jobs),
    Loop("events", loops.number_events),
    Loop("receiving", loops.receive_late),
    Loop("wakes", loops.wake_lanes),
    *map(repeated, ROUNDS),
)
