"""What two transactions do to one campaign: who waits for whom, and that the last fact is never missed."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from antiphon.campaigns import jobs, service, settling
from antiphon.campaigns.jobs import ExpandAudience
from antiphon.campaigns.model import Campaign
from antiphon.core import ids
from antiphon.core.db import Database
from antiphon.jobs.model import Continue, Done, Run
from antiphon.messages import funnel
from antiphon.organizations.model import Actor
from tests import make as base
from tests.campaigns import make


async def begun(database: Database, people: int = 3) -> tuple[Actor, Campaign, Run]:
    """A committed blast whose expansion has begun and has pages to write."""
    org = await base.organization(database, country="MY")
    actor = Actor.operator(org.id)
    async with database.transaction(org.id) as conn:
        shop = await make.sender(conn, actor)
        members = await make.people(conn, actor, people)
        draft = await make.blast(conn, actor, shop, [await make.group(conn, actor, members)])
        campaign = await service.launch(conn, actor, draft.id)
        progress = await make.expand(conn, campaign, org.id, steps=1, page=1)
    return actor, campaign, Run(id=ids.new_id(), org_id=org.id, progress=progress)


async def test_a_pause_does_not_wait_for_the_page_that_is_being_written(database: Database) -> None:
    actor, campaign, run = await begun(database)
    async with database.transaction(actor.org_id) as writing:
        await jobs.expand_audience(writing, ExpandAudience(campaign_id=campaign.id, page=1), run)
        started = time.monotonic()
        async with asyncio.timeout(5), database.transaction(actor.org_id) as conn:
            paused = await service.pause(conn, actor, campaign.id)
        assert time.monotonic() - started < 1
        assert paused.status == "paused"


async def test_a_cancelation_waits_for_the_page_and_no_page_follows_it(database: Database) -> None:
    actor, campaign, run = await begun(database)
    job = ExpandAudience(campaign_id=campaign.id, page=1)

    async def cancel() -> None:
        async with database.transaction(actor.org_id) as conn:
            await service.cancel(conn, actor, campaign.id)

    async with database.transaction(actor.org_id) as writing:
        outcome = await jobs.expand_audience(writing, job, run)
        canceling = asyncio.create_task(cancel())
        await asyncio.sleep(0.3)
        assert not canceling.done()
    await asyncio.wait_for(canceling, 5)
    assert isinstance(outcome, Continue)
    following = Run(id=run.id, org_id=run.org_id, progress=outcome.progress)
    async with database.transaction(actor.org_id) as conn:
        assert await jobs.expand_audience(conn, job, following) == Done({"stopped": "canceled"})
        assert await make.cancel_rest(conn, campaign, actor.org_id) == {"canceled": 1}
        assert await make.messages_of(conn, actor.org_id, campaign.id) != []


async def all_sent(database: Database, org_id: UUID, campaign: Campaign) -> None:
    async with database.transaction(org_id) as conn:
        for message_id in await make.messages_of(conn, org_id, campaign.id):
            await make.learn(conn, org_id, message_id, "sent")


async def test_the_last_outcome_is_not_missed_when_it_comes_while_the_books_are_closed(
    database: Database,
) -> None:
    actor, campaign, _ = await begun(database, people=1)
    org_id = actor.org_id
    async with database.transaction(org_id) as conn:
        await make.expand(conn, campaign, org_id, steps=2)

    async def fold() -> list[UUID]:
        async with database.transaction(org_id) as conn:
            return await service.complete_settled(conn, org_id, await funnel.fold(conn, org_id))

    async with database.transaction(org_id) as closing:
        await settling.close_books(closing, org_id, campaign.id)  # counts one message that is still scheduled
        await all_sent(database, org_id, campaign)
        folding = asyncio.create_task(fold())
        await asyncio.sleep(0.3)
        assert not folding.done()
    assert await asyncio.wait_for(folding, 5) == [campaign.id]


async def test_nor_when_it_was_folded_just_before(database: Database) -> None:
    actor, campaign, _ = await begun(database, people=1)
    org_id = actor.org_id
    async with database.transaction(org_id) as conn:
        await make.expand(conn, campaign, org_id, steps=2)
    await all_sent(database, org_id, campaign)
    async with database.transaction(org_id) as conn:
        assert await service.complete_settled(conn, org_id, await funnel.fold(conn, org_id)) == []
    async with database.transaction(org_id) as conn:
        await settling.close_books(conn, org_id, campaign.id)
        assert (await service.get(conn, actor, campaign.id)).status == "completed"
