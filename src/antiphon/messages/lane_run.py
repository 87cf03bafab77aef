"""Serving one lane: claim, render, send, record, until it is idle, lost or the worker stops. Opens transactions.

Claiming, sending and recording overlap: a slot is taken by the claim and freed only when the outcome has committed, so
what may be in doubt after a crash is never more than the lane's in-flight limit.

The wall: a call may not begin later than a lease (less a second) after the claim or renewal that allows it, by the
clock that also counts while the machine is suspended. What has not begun by then is closed as not sent, and due again.
Every time that is written down is the database's, carried on by that clock: this machine's wall clock may be wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from antiphon.core import failpoints
from antiphon.core.clock import boottime
from antiphon.core.crypto import SealError, Vault
from antiphon.core.db import Connection, Database
from antiphon.core.errors import NotFound
from antiphon.core.http import Client
from antiphon.core.smtp import MailClient
from antiphon.core.wire import MailEnvelope, MailReply, Request, Response
from antiphon.messages import consequences, lanes, polling, recovery, rendering
from antiphon.messages.breaker import Breaker
from antiphon.messages.claim import Claimed, claim
from antiphon.messages.lanes import LEASE_SECONDS, Owned
from antiphon.messages.record import NOT_BEGUN, PollPlan, TemplateFault, Told, record
from antiphon.organizations import service as organizations
from antiphon.providers import registry
from antiphon.providers.contract import Account, AccountFault, NotSent, Outcome, Provider, Unknown
from antiphon.providers.drive import drive
from antiphon.senders import service as senders
from antiphon.senders.model import Sender

log = structlog.get_logger()

IDLE = 0.05
"""Seconds between two looks at a lane that has nothing due; a lane idle for `REST` seconds is given back."""
REST = 2.0
LONG_REST = 90.0
"""A lane whose provider is left alone is kept for three probes: its next owner would know nothing of the breaker."""
LARGEST_RECORD = 256
DRAIN, RECORD_DRAIN = 25.0, 2.0
"""Seconds that a stopping worker waits for calls under way, and for the last outcomes to be recorded; what is left then
is decided by recovery."""

AWAY = (psycopg.OperationalError, PoolTimeout)


@dataclass(frozen=True)
class Worker:
    """What a dispatcher needs; one a process."""

    id: UUID
    database: Database
    http: Client
    mail: MailClient
    vault: Vault
    public_url: str = ""
    lease: float = LEASE_SECONDS
    most_lanes: int = 64
    provider_of: Callable[[str], Provider[Any]] = registry.get


Try = tuple[UUID, int]
"""A message and the number of its attempt."""


class Clock(NamedTuple):
    """The database's clock as this worker knows it: a reading, and this machine's boot-time clock then."""

    at: datetime
    boot: float

    def now(self) -> datetime:
        """The database's time, however wrong this machine's is."""
        return self.at + timedelta(seconds=boottime() - self.boot)


@dataclass
class LaneRun:
    """A lane while this worker owns it."""

    lane: Owned
    sender: Sender
    account: Account[Any]
    provider: Provider[Any]
    zone: ZoneInfo
    wall: float
    clock: Clock
    calls: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    told: list[Told] = field(default_factory=list[Told])
    under_way: set[Try] = field(default_factory=set[Try])
    unrecorded: set[Try] = field(default_factory=set[Try])
    some_told: asyncio.Event = field(default_factory=asyncio.Event)
    some_free: asyncio.Event = field(default_factory=asyncio.Event)
    breaker: Breaker = field(default_factory=Breaker)
    versions: rendering.Versions = field(default_factory=rendering.Versions)
    is_lost: bool = False
    is_unsure: bool = False  # a claim's answer was lost: it may have taken what was never begun
    is_reported: bool = True  # an earlier owner may have opened the incident
    asked_at: float = 0.0

    @property
    def free(self) -> int:
        """Slots for new calls: the limit, less what is claimed and not recorded yet."""
        return self.lane.in_flight - len(self.under_way)


async def serve(worker: Worker, lane: Owned, wall: float, stop: asyncio.Event) -> None:
    """Serve one lane until it is idle, lost or the worker stops."""
    try:
        lane_run = await _open(worker, lane, wall)
    except (SealError, NotFound) as error:
        await _pause_unopened(worker, lane, str(error))
        return
    except AWAY as error:
        log.warning("dispatch.database_away", lane=str(lane.id), error=type(error).__name__)
        return  # the lease runs out by itself
    recorder = asyncio.create_task(_record_all(worker, lane_run), name=f"record {lane.id}")
    poller = asyncio.create_task(_poll(worker, lane_run), name=f"poll {lane.id}")
    try:
        await _work(worker, lane_run, stop)
    finally:
        poller.cancel()
        await _drain(lane_run)
        recorder.cancel()
        with contextlib.suppress(*AWAY):
            await _give_back(worker, lane_run)


async def _open(worker: Worker, lane: Owned, wall: float) -> LaneRun:
    async with worker.database.transaction(lane.org_id, read_only=True) as conn:
        clock = Clock(await lanes.database_now(conn), boottime())
        organization = await organizations.get(conn, lane.org_id)
        sender = await senders.get_sender(conn, lane.org_id, lane.id)
        account = await senders.open_account(
            conn, lane.org_id, lane.account_id, worker.vault, worker.public_url
        )
    provider, zone = worker.provider_of(lane.provider), ZoneInfo(organization.timezone)
    return LaneRun(
        lane=lane, sender=sender, account=account, provider=provider, zone=zone, wall=wall, clock=clock
    )


async def _pause_unopened(worker: Worker, lane: Owned, why: str) -> None:
    """A sender whose account cannot be opened sends nothing, keeps its messages, and a person is told."""
    async with worker.database.transaction(lane.org_id) as conn:
        await lanes.pause_lane(conn, lane.org_id, lane.id, why)
        await senders.open_incident(conn, lane.org_id, "sender", lane.id, "account", why)
        await lanes.fall_asleep(conn, lane, worker.id)


async def _work(worker: Worker, run: LaneRun, stop: asyncio.Event) -> None:
    looked = boottime() - 1
    busy = boottime()
    while not (stop.is_set() or run.is_lost):
        run.some_free.clear()
        started = 0
        try:
            if boottime() - looked >= 1:
                looked = boottime()
                await _care(worker, run)
            if run.free >= max(1, run.lane.in_flight // 8):
                started = await _claim(worker, run)
        except AWAY as error:
            log.warning("dispatch.database_away", lane=str(run.lane.id), error=type(error).__name__)
            await pause(stop, 0.5)
        if started or run.under_way:
            busy = boottime()
        elif boottime() - max(busy, run.asked_at) > (LONG_REST if run.breaker.is_open else REST):
            return
        if not started or run.free < max(1, run.lane.in_flight // 8):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run.some_free.wait(), IDLE)


async def _care(worker: Worker, run: LaneRun) -> None:
    """Once a second: keep the lease of a lane that claims little, decide what nobody will answer for."""
    wall = wall_of(worker)
    async with worker.database.transaction(run.lane.org_id) as conn:
        lane = await lanes.renew(conn, run.lane, worker.id, worker.lease)
        if lane is None:
            run.is_lost = True
            return
        if run.is_unsure:
            released = await recovery.release(conn, lane, run.under_way | run.unrecorded)
            log.info("dispatch.released", lane=str(lane.id), count=released)
        await recovery.recover(conn, lane, worker.id)
        await recovery.resolve_doubts(conn, lane, worker.id)
    run.lane, run.wall, run.is_unsure = lane, wall, False


async def _claim(worker: Worker, run: LaneRun) -> int:
    """Claim what may leave now and start its calls; returns how many."""
    wall = wall_of(worker)
    room = run.breaker.room(run.free, boottime())
    if room < 1 or run.is_unsure:
        return 0
    run.is_unsure = True
    async with worker.database.transaction(run.lane.org_id, hot=True) as conn:
        began = boottime()
        view, claimed = await claim(
            conn, run.lane, worker.id, room=room, call_timeout=run.provider.call_timeout, lease=worker.lease,
            replay=run.provider.idempotency,
        )  # fmt: skip
        await run.versions.load(conn, run.lane.org_id, claimed)
    run.is_unsure = False
    await failpoints.reach("claim_committed")
    if view is None:
        run.is_lost = True
        return 0
    run.wall, run.clock = wall, Clock(view.now, began)
    for message in claimed:
        run.under_way.add((message.message_id, message.attempt_no))
        call = asyncio.create_task(_call(worker, run, message))
        run.calls.add(call)
        call.add_done_callback(run.calls.discard)
    return len(claimed)


async def _call(worker: Worker, run: LaneRun, claimed: Claimed) -> None:
    """Render and send one message; whatever happens, its outcome is told."""
    outcome: Outcome | TemplateFault = Unknown(reason="the worker stopped during the call")
    try:
        outcome = await _send(worker, run, claimed)
    except Exception as error:  # a defect of ours: this message's doubt, nobody else's
        log.exception("dispatch.call_failed", message=str(claimed.message_id))
        outcome = Unknown(reason=f"an unexpected {type(error).__name__} during the call")
    finally:
        run.told.append(Told(claimed=claimed, outcome=outcome, at=run.clock.now()))
        run.breaker.note(outcome, boottime())
        run.some_told.set()


async def _send(worker: Worker, run: LaneRun, claimed: Claimed) -> Outcome | TemplateFault:
    try:
        outbound = rendering.outbound(claimed, run.sender, run.versions, run.zone)
    except rendering.Failed as error:
        return TemplateFault(reason=str(error))
    await failpoints.reach("rendered")
    if boottime() >= run.wall:
        return NotSent(code=NOT_BEGUN, reason="the lease left no time to begin the call")
    return await drive(
        run.provider.send(run.account, outbound), _Http(worker.http, run), _Mail(worker.mail, run)
    )


@dataclass(frozen=True)
class _Http:
    """HTTP that writes nothing after the lane's wall: the check is the last thing before the socket."""

    http: Client
    run: LaneRun

    async def send(self, request: Request) -> Response:
        return await self.http.send(request, not_after=self.run.wall)


@dataclass(frozen=True)
class _Mail:
    """Mail whose content is not written after the lane's wall."""

    mail: MailClient
    run: LaneRun

    async def send(self, envelope: MailEnvelope) -> MailReply:
        return await self.mail.send(envelope, not_after=self.run.wall)


async def _record_all(worker: Worker, run: LaneRun) -> None:
    """Write outcomes down as they come, in batches; a database that is away is waited for, nothing is dropped."""
    poll = _poll_plan(run.provider)
    wait, size = 0.05, LARGEST_RECORD
    while True:
        if not run.told:
            await run.some_told.wait()
            run.some_told.clear()
            await asyncio.sleep(0)
            continue
        batch, run.told = run.told[:size], run.told[size:]
        try:
            await _record(worker, run, batch, poll)
            wait, size = 0.05, LARGEST_RECORD
        except AWAY as error:
            log.warning("dispatch.record_waits", lane=str(run.lane.id), error=type(error).__name__)
            run.told = batch + run.told
            await asyncio.sleep(wait)
            wait = min(2.0, wait * 2)
        except Exception:
            log.exception("dispatch.record_failed", lane=str(run.lane.id), count=len(batch))
            if len(batch) > 1:  # find the one that cannot be recorded
                run.told, size = batch + run.told, len(batch) // 2
            else:  # its own doubt, and nobody else's: recovery decides about it
                run.unrecorded |= tries(batch)
                run.under_way -= tries(batch)
        run.some_free.set()


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


async def _poll(worker: Worker, run: LaneRun) -> None:
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


async def _drain(run: LaneRun) -> None:
    """Let the calls under way end and be recorded; those that take too long are broken off, in doubt."""
    until = boottime() + DRAIN
    if run.calls:
        await asyncio.wait(run.calls, timeout=DRAIN)
    if late := set(run.calls):
        for call in late:
            call.cancel()
        await asyncio.wait(late)
    while run.under_way and boottime() < until + RECORD_DRAIN:
        run.some_told.set()
        await asyncio.sleep(0.01)


async def _give_back(worker: Worker, run: LaneRun) -> None:
    """Two statements in two snapshots, so that a message enqueued in between is not slept over."""
    async with worker.database.transaction(run.lane.org_id) as conn:
        await lanes.fall_asleep(conn, run.lane, worker.id)
    async with worker.database.transaction(run.lane.org_id) as conn:
        await lanes.look_again(conn, run.lane.org_id, run.lane.id)


def wall_of(worker: Worker) -> float:
    """Until when calls may begin that a claim or renewal sent now will allow."""
    return boottime() + worker.lease - min(1.0, worker.lease / 2)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
