"""What is tidied up behind an organization, hour after hour."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from antiphon.core import clock
from antiphon.core.db import Connection
from antiphon.events import service as events
from antiphon.jobs import service as jobs
from antiphon.jobs.model import Continue, Run
from antiphon.organizations import queries

EVERY = timedelta(hours=1)
EVENTS_KEPT = timedelta(days=30)
JOBS_KEPT = timedelta(days=30)
_AT_ONCE = 5000


class TidyUp(Struct, frozen=True):
    """Forget what is kept for a time only: answers to repeated requests, old events, finished jobs."""


async def tidy_up(conn: Connection, _: TidyUp, run: Run) -> Continue:
    """One round; the next follows at once while there is much to forget, else in an hour."""
    gone = {
        "answers": await queries.forget_old_answers(conn, run.org_id, _AT_ONCE),
        "events": await events.forget_old(conn, run.org_id, EVENTS_KEPT, _AT_ONCE),
        "jobs": await jobs.forget_finished(conn, run.org_id, JOBS_KEPT, _AT_ONCE),
    }
    is_more = max(gone.values()) == _AT_ONCE
    return Continue(gone, None if is_more else clock.now() + EVERY)
