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
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import structlog

from antiphon.core import failpoints
from antiphon.core.clock import boottime
from antiphon.core.crypto import SealError
from antiphon.core.errors import NotFound
from antiphon.core.http import Client
from antiphon.core.smtp import MailClient
from antiphon.core.wire import MailEnvelope, MailReply, Request, Response
from antiphon.messages import lanes, recovery, rendering
from antiphon.messages.claim import Claimed, claim
from antiphon.messages.lanes import Owned
from antiphon.messages.record import TemplateFault, Told
from antiphon.messages.recording import poll, record_all
from antiphon.messages.worker import AWAY, Clock, LaneRun, Worker, pause, wall_of
from antiphon.organizations import service as organizations
from antiphon.providers.contract import NOT_BEGUN, NotSent, Outcome, Unknown
from antiphon.providers.drive import drive
from antiphon.senders import service as senders

log = structlog.get_logger()

IDLE = 0.05
"""Seconds between two looks at a lane that has nothing due; a lane idle for `REST` seconds is given back."""
REST = 2.0
LONG_REST = 90.0
"""A lane whose provider is left alone is kept for three probes: its next owner would know nothing of the breaker."""
DRAIN, RECORD_DRAIN = 25.0, 2.0
"""Seconds that a stopping worker waits for calls under way, and for the last outcomes to be recorded; what is left then
is decided by recovery."""


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
    recorder = asyncio.create_task(record_all(worker, lane_run), name=f"record {lane.id}")
    poller = asyncio.create_task(poll(worker, lane_run), name=f"poll {lane.id}")
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
    run.clock = Clock(view.now, began)
    if claimed:  # else the statement that renews the lease may not have run
        run.wall = wall
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
        if (
            run.is_unsure
        ):  # only this worker can know what it never began, though the lane may be another's by now
            await recovery.release(conn, run.lane, run.under_way | run.unrecorded)
        await lanes.look_again(conn, run.lane.org_id, run.lane.id)
