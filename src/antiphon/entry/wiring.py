"""Who runs what. Tables only: to see what a worker does, read them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from antiphon.campaigns import given_up
from antiphon.campaigns import jobs as campaigns
from antiphon.campaigns.jobs import CancelRemaining, ExpandAudience, ExpandUpperHalf
from antiphon.contacts.jobs import ImportContacts, import_contacts
from antiphon.entry import loops
from antiphon.entry.loops import Loop, Round, repeated
from antiphon.jobs.model import Guarded, Handlers
from antiphon.organizations.jobs import TidyUp, tidy_up

HANDLERS: Handlers = {
    TidyUp: tidy_up,
    ImportContacts: import_contacts,
    ExpandAudience: Guarded(campaigns.expand_audience, given_up.pause_campaign),
    ExpandUpperHalf: Guarded(campaigns.expand_upper_half, given_up.pause_campaign),
    CancelRemaining: Guarded(campaigns.cancel_remaining, given_up.settle_later),
}

# what handlers keep open from step to step
AT_THE_END: tuple[Callable[[], Awaitable[None]], ...] = (import_contacts.close,)

ROUNDS: tuple[Round, ...] = (
    Round("funnels", 1.0, loops.fold_funnels),
    Round("old receipts", 600.0, loops.look_at_old_receipts),
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
