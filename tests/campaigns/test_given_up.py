"""A campaign whose background work fails for good says so, and goes on when it is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from antiphon.campaigns import given_up, jobs, queries, service
from antiphon.campaigns.jobs import CancelRemaining, ExpandAudience, ExpandUpperHalf
from antiphon.campaigns.model import Campaign
from antiphon.core import db
from antiphon.core.clock import now
from antiphon.core.db import Connection, Database
from antiphon.entry import wiring
from antiphon.jobs import runner
from antiphon.jobs import service as queue
from antiphon.jobs.model import Guarded, Handlers, Job, Leased, Run
from antiphon.jobs.runner import Pace
from antiphon.messages import doctor
from antiphon.organizations.model import Actor
from tests import make as base
from tests.campaigns import make

QUICK = Pace(look_every=0.02, wait_after=lambda _: timedelta(milliseconds=5))


async def broken(conn: Connection, job: object, run: Run) -> Any:
    raise ValueError("the disk is full")


def breaking(*kinds: type) -> Handlers:
    """What a worker runs, but the steps of these jobs fail."""
    handlers = dict(wiring.HANDLERS)
    for kind in kinds:
        guarded = handlers[kind]
        assert isinstance(guarded, Guarded), "nobody is told when it is given up"
        handlers[kind] = Guarded(broken, guarded.given_up)
    return handlers


@asynccontextmanager
async def working(database: Database, handlers: Handlers) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(runner.work(database, handlers, stop, QUICK))
    try:
        yield
    finally:
        stop.set()
        await task


async def jobs_of(database: Database, org_id: UUID, kind: str) -> list[Job]:
    async with database.transaction(org_id) as conn:
        return (await queue.page(conn, org_id, 50, None, kind=kind)).items


async def read(database: Database, campaign: Campaign, org_id: UUID) -> Campaign:
    async with database.transaction(org_id) as conn:
        return await queries.get(conn, org_id, campaign.id)


async def until_status(database: Database, campaign: Campaign, org_id: UUID, *wanted: str) -> Campaign:
    found = None
    for _ in range(500):
        found = await read(database, campaign, org_id)
        if found.status in wanted and (found.status_reason or found.is_expanded):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"it is not {wanted} within 10 seconds: {found}")


async def launched(database: Database, after: float | None = None) -> tuple[Actor, Campaign]:
    """A blast to two people, launched or scheduled, of which nothing is in the ledger."""
    actor = base.actor((await base.organization(database, country="MY")).id)
    async with database.transaction(actor.org_id) as conn:
        members = await make.people(conn, actor, 2)
        group = await make.group(conn, actor, members)
        draft = await make.blast(conn, actor, await make.sender(conn, actor), [group])
        at = None if after is None else now() + timedelta(seconds=after)
        return actor, await service.launch(conn, actor, draft.id, at)


@pytest.mark.parametrize("after", [None, 0.3], ids=["launched", "scheduled"])
async def test_an_expansion_that_is_given_up_pauses_its_campaign_and_resumed_it_goes_on(
    database: Database, worker_database: Database, after: float | None
) -> None:
    actor, campaign = await launched(database, after)
    async with working(worker_database, breaking(ExpandAudience)):
        paused = await until_status(database, campaign, actor.org_id, "paused")
    assert "ValueError: the disk is full" in paused.status_reason
    assert [job.status for job in await jobs_of(database, actor.org_id, "expand_audience")] == ["failed"]
    async with database.transaction(actor.org_id) as conn:
        assert await doctor.examine(conn, actor.org_id) == []
        said = await db.tuples(
            conn,
            "SELECT payload FROM events_new WHERE org_id = %(org_id)s AND name = 'campaign_status_changed' ORDER BY id",
            org_id=actor.org_id,
        )
        assert said[-1][0]["status"] == "paused"
        await service.resume(conn, actor, campaign.id)
    async with working(worker_database, wiring.HANDLERS):
        done = await until_status(database, campaign, actor.org_id, "active")
    assert (done.is_expanded, done.planned) == (True, 2)


async def test_the_other_half_ends_with_the_half_that_is_given_up_and_resumed_nothing_is_missing(
    conn: Connection, org_id: UUID
) -> None:
    actor = base.actor(org_id)
    group = await make.group(conn, actor, await make.people(conn, actor, 6))
    draft = await make.blast(conn, actor, await make.sender(conn, actor), [group])
    campaign = await service.launch(conn, actor, draft.id)
    await make.expand(conn, campaign, org_id, steps=2, page=2, large=2)
    upper = Leased(
        org_id=org_id, id=campaign.id, kind="expand_upper_half", payload={"campaign_id": str(campaign.id)}, failures=4
    )  # fmt: skip
    await given_up.pause_campaign(conn, upper, "ValueError: no")
    live = [
        await queue.is_live(conn, org_id, kind, str(campaign.id))
        for kind in (ExpandAudience, ExpandUpperHalf)
    ]
    assert live == [False, False]
    resumed = await service.resume(conn, actor, campaign.id)
    assert await queue.is_live(conn, org_id, ExpandAudience, str(campaign.id))
    await make.expand(conn, resumed, org_id)
    assert (await service.get(conn, actor, campaign.id)).planned == 6


async def test_a_campaign_whose_upper_half_still_comes_in_is_not_begun_anew(
    conn: Connection, org_id: UUID
) -> None:
    actor = base.actor(org_id)
    group = await make.group(conn, actor, await make.people(conn, actor, 6))
    draft = await make.blast(conn, actor, await make.sender(conn, actor), [group])
    campaign = await service.launch(conn, actor, draft.id)
    await make.expand(conn, campaign, org_id, page=2, large=2)  # the lower half, to its end
    await queue.cancel_live(conn, org_id, ExpandAudience, str(campaign.id))
    await service.pause(conn, actor, campaign.id)
    await service.resume(conn, actor, campaign.id)
    assert not await queue.is_live(conn, org_id, ExpandAudience, str(campaign.id))
    await make.expand_upper_half(conn, org_id)
    done = await service.get(conn, actor, campaign.id)
    assert (done.is_expanded, done.planned) == (True, 6)


async def test_an_old_expansion_for_another_time_does_not_pause_what_was_scheduled_since(
    conn: Connection, org_id: UUID
) -> None:
    actor = base.actor(org_id)
    group = await make.group(conn, actor, await make.people(conn, actor, 1))
    draft = await make.blast(conn, actor, await make.sender(conn, actor), [group])
    await service.launch(conn, actor, draft.id, make.later(60))
    payload = {"campaign_id": str(draft.id), "start_at": make.later(5).isoformat()}
    old = Leased(org_id=org_id, id=draft.id, kind="expand_audience", payload=payload, failures=4)
    await given_up.pause_campaign(conn, old, "ValueError: no")
    assert (await service.get(conn, actor, draft.id)).status == "scheduled"


async def test_what_a_canceled_campaign_left_is_settled_later_and_its_reason_says_so(
    database: Database, worker_database: Database
) -> None:
    actor, campaign = await launched(database)
    async with database.transaction(actor.org_id) as conn:
        await service.cancel(conn, actor, campaign.id)
    async with working(worker_database, breaking(CancelRemaining)):
        told = await until_status(database, campaign, actor.org_id, "canceled")
    assert "the disk is full" in told.status_reason
    waiting, failed = await jobs_of(database, actor.org_id, "cancel_remaining")
    assert (waiting.status, failed.status) == ("waiting", "failed")
    assert timedelta(minutes=9) < waiting.run_at - now() <= timedelta(minutes=10)


async def test_a_deleted_campaign_is_nobodys_to_pause(conn: Connection, org_id: UUID) -> None:
    actor = base.actor(org_id)
    draft = await make.blast(conn, actor, await make.sender(conn, actor))
    await service.delete(conn, actor, draft.id)
    job = Leased(
        org_id=org_id, id=draft.id, kind="cancel_remaining", payload={"campaign_id": str(draft.id)}, failures=4
    )  # fmt: skip
    await given_up.pause_campaign(conn, job, "no")
    await given_up.settle_later(conn, job, "no")
    assert not await queue.is_live(conn, org_id, CancelRemaining, str(draft.id))


async def test_the_doctor_names_a_campaign_that_nobody_expands(conn: Connection, org_id: UUID) -> None:
    actor = base.actor(org_id)
    group = await make.group(conn, actor, await make.people(conn, actor, 1))
    draft = await make.blast(conn, actor, await make.sender(conn, actor), [group])
    campaign = await service.launch(conn, actor, draft.id)
    assert await doctor.examine(conn, org_id) == []
    await queue.cancel_live(conn, org_id, ExpandAudience, jobs.key_of(campaign))
    [finding] = await doctor.examine(conn, org_id)
    assert finding.invariant.startswith("I12")
    assert str(campaign.id) in finding.examples[0]


async def test_a_job_is_given_up_also_when_who_should_hear_of_it_fails(
    database: Database, worker_database: Database
) -> None:
    async def deaf(conn: Connection, job: Leased, error: str) -> None:
        await db.execute(conn, "DELETE FROM jobs WHERE org_id = %(org_id)s", org_id=job.org_id)
        raise RuntimeError("nobody hears")

    actor, campaign = await launched(database)
    async with working(worker_database, {ExpandAudience: Guarded(broken, deaf)}):
        [job] = await jobs_of(database, actor.org_id, "expand_audience")
        for _ in range(500):
            if job.status == "failed":
                break
            await asyncio.sleep(0.02)
            [job] = await jobs_of(database, actor.org_id, "expand_audience")
    assert (job.status, job.failures, job.last_error) == ("failed", 5, "ValueError: the disk is full")
    assert (await read(database, campaign, actor.org_id)).status == "active"
