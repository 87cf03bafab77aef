"""What runs beside the calls of a lane: outcomes written down in batches, and questions about late statuses."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import structlog

from antiphon.core import failpoints
from antiphon.core.clock import boottime
from antiphon.core.db import Connection
from antiphon.messages import consequences, polling
from antiphon.messages.record import PollPlan, Told, record
from antiphon.messages.worker import AWAY, LaneRun, Try, Worker
from antiphon.providers.contract import AccountFault, NotSent, Provider, Unknown
from antiphon.senders import service as senders

log = structlog.get_logger()

LARGEST_RECORD = 256


async def record_all(worker: Worker, run: LaneRun) -> None:
    """Write outcomes down as they come, in batches; a database that is away is waited for, nothing is dropped."""
    plan = _poll_plan(run.provider)
    wait, size = 0.05, LARGEST_RECORD
    while True:
        if not run.told:
            await run.some_told.wait()
            run.some_told.clear()
            await asyncio.sleep(0)
            continue
        batch, run.told = run.told[:size], run.told[size:]
        try:
            await _record(worker, run, batch, plan)
            wait, size = 0.05, LARGEST_RECORD
        except (
            psycopg.errors.ProgramLimitExceeded
        ):  # a value that cannot be stored is no database that is away
            log.exception("dispatch.record_failed", lane=str(run.lane.id), count=len(batch))
            size = halved(run, batch)
        except AWAY as error:
            log.warning("dispatch.record_waits", lane=str(run.lane.id), error=type(error).__name__)
            run.told = batch + run.told
            await asyncio.sleep(wait)
            wait = min(2.0, wait * 2)
        except Exception:
            log.exception("dispatch.record_failed", lane=str(run.lane.id), count=len(batch))
            size = halved(run, batch)
        run.some_free.set()


def halved(run: LaneRun, batch: list[Told]) -> int:
    """Find the outcome that cannot be recorded; alone, it is its message's doubt: recovery decides about it."""
    if len(batch) > 1:
        run.told = batch + run.told
    else:
        run.unrecorded |= tries(batch)
        run.under_way -= tries(batch)
    return max(1, len(batch) // 2)


def tries(batch: list[Told]) -> set[Try]:
    """Whose outcomes these are."""
    return {(told.claimed.message_id, told.claimed.attempt_no) for told in batch}


async def _record(worker: Worker, run: LaneRun, batch: list[Told], poll: PollPlan | None) -> None:
    async with worker.database.transaction(run.lane.org_id, hot=True) as conn:
        doubled = await record(conn, run.lane, batch, poll=poll, doubt_after=run.lane.doubt_after)
        await consequences.of_outcomes(conn, run.lane, batch)
        await _report_breaker(conn, run, batch)
        await failpoints.reach("record_sent")
    run.under_way -= tries(batch)
    await failpoints.reach("record_committed")
    # a faulty account is opened anew once somebody has resumed the sender
    run.is_lost = run.is_lost or any(isinstance(told.outcome, AccountFault) for told in batch)
    for message_id in doubled:
        log.error("dispatch.doubled", message=str(message_id), lane=str(run.lane.id))


async def _report_breaker(conn: Connection, run: LaneRun, batch: list[Told]) -> None:
    """An incident while the provider is left alone, opened with the breaker, and closed when there are answers."""
    is_answered = any(not isinstance(told.outcome, NotSent | Unknown) for told in batch)
    if run.breaker.is_open:
        why = "most calls bring no answer; the provider is asked with one call every 30 seconds"
        await senders.open_incident(conn, run.lane.org_id, "sender", run.lane.id, "provider", why)
        run.is_reported = True
    elif run.is_reported and is_answered:
        await senders.close_incident(conn, run.lane.org_id, run.lane.id, "provider")
        run.is_reported = False


async def poll(worker: Worker, run: LaneRun) -> None:
    """Ask the provider about late messages while the lane is ours, within its limit of requests."""
    if run.provider.polling is None:
        return
    asked = polling.Asked(account=run.account, provider=run.provider, sender_address=run.sender.address)
    while True:
        count = 0
        try:
            count = await polling.poll_once(worker.database, run.lane, asked, worker.http, worker.mail)
        except AWAY as error:
            log.warning("polling.database_away", lane=str(run.lane.id), error=type(error).__name__)
        except Exception:
            log.exception("polling.failed", lane=str(run.lane.id))
        run.asked_at = boottime() if count else run.asked_at
        await asyncio.sleep(polling.pause_between(run.provider.polling) if count else 0.5)


def _poll_plan(provider: Provider[Any]) -> PollPlan | None:
    if provider.polling is None or provider.status_request is None:
        return None
    rules = [rule for rule in provider.polling.rules if rule.status in ("sending", "sent")]
    if not rules:
        return None
    return PollPlan(first_after=min(r.first_after for r in rules), limit=max(r.limit for r in rules))
