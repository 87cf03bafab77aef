"""Funnels of one campaign and of several, equal to a recount of the ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from antiphon.campaigns.service import Wanted
from antiphon.core import clock, db
from antiphon.core.db import Connection
from antiphon.core.errors import NotFound
from antiphon.insights import service
from antiphon.messages import funnel
from antiphon.messages.funnel import Funnel
from antiphon.organizations.model import Actor
from tests.campaigns import make
from tests.make import actor as make_actor


@pytest.fixture
def actor(org_id: UUID) -> Actor:
    return make_actor(org_id)


def reached(found: Funnel) -> dict[str, int]:
    return {rung.stage: rung.reached for rung in found.stages}


async def moved(conn: Connection, actor: Actor) -> UUID:
    """A blast to ten: two read, one of them replied; one failed, one skipped; the rest waits or was sent."""
    campaign, messages = await make.launched(conn, actor, 10)
    for message_id, kinds in zip(
        messages,
        [("sent", "delivered", "read"), ("sent", "delivered", "read", "replied"), ("sent", "delivered"), ("sent",),
         ("sent",), ("failed",), ("skipped",)],
        strict=False,
    ):  # fmt: skip
        reason = {"failed": "no_whatsapp", "skipped": "suppressed"}.get(kinds[0], "")
        await make.learn(conn, actor.org_id, message_id, *kinds, reason=reason)
    return campaign.id


async def test_a_funnel_says_who_got_how_far_and_who_is_stuck_where(conn: Connection, actor: Actor) -> None:
    campaign_id = await moved(conn, actor)
    found = await service.campaign_funnel(conn, actor, campaign_id, "blast")
    assert reached(found) == {"sent": 5, "delivered": 3, "read": 2, "clicked": 1, "replied": 1, "closed": 0}
    assert {rung.stage: rung.stuck for rung in found.stages} == {
        "sent": 2, "delivered": 1, "read": 1, "clicked": 0, "replied": 1, "closed": 0,
    }  # fmt: skip
    assert (found.recipients, found.scheduled, found.failed, found.skipped) == (10, 3, 1, 1)
    assert found.stages[0].share == 0.5
    assert found.reasons["failed"][0].reason == "no_whatsapp"


async def test_a_fold_changes_no_figure_and_it_equals_a_recount(conn: Connection, actor: Actor) -> None:
    campaign_id = await moved(conn, actor)
    before = await service.campaign_funnel(conn, actor, campaign_id)
    await funnel.fold(conn, actor.org_id)
    assert await service.campaign_funnel(conn, actor, campaign_id) == before
    recount = await db.tuples(
        conn,
        """SELECT stage, reason, count(*) FROM messages
            WHERE org_id = %(org_id)s AND campaign_id = %(id)s GROUP BY stage, reason""",
        org_id=actor.org_id,
        id=campaign_id,
    )
    assert funnel.funnel_of([funnel.Count(*row) for row in recount]) == before


async def test_several_are_added_up_by_tag_stage_kind_and_day(conn: Connection, actor: Actor) -> None:
    first = await moved(conn, actor)
    second_shop = await make.sender(conn, actor, "Second", address="+60123456788")
    draft = await make.blast(
        conn, actor, second_shop, tag="Other", follow_up_stage="Follow-up 1",
        text="Hi",
    )  # fmt: skip
    await make.listed(conn, actor, draft, "+60123451000", "+60123451001")
    launched = await make.service.launch(conn, actor, draft.id)
    await make.expand(conn, launched, actor.org_id)
    await funnel.fold(conn, actor.org_id)
    today, day = clock.now().date(), timedelta(days=1)

    async def found(**wanted: Any) -> tuple[int, int]:
        combined = await service.combined_funnel(conn, actor, Wanted(**wanted))
        return combined.campaigns, combined.funnel.recipients

    assert await found() == (2, 12)
    assert await found(tag="Product Launch") == (1, 10)
    assert await found(stage="Follow-up 1") == (1, 2)
    assert await found(kind="campaign") == (0, 0)
    assert await found(sender_id=second_shop.id) == (1, 2)
    assert await found(since=today - day, until=today + day) == (2, 12)
    assert await found(since=today + 2 * day) == (0, 0)
    assert first is not None


async def test_another_organizations_funnel_is_not_there(conn: Connection, actor: Actor) -> None:
    campaign_id = await moved(conn, actor)
    stranger = make_actor(uuid4())
    with pytest.raises(NotFound):
        await service.campaign_funnel(conn, stranger, campaign_id)
    assert (await service.combined_funnel(conn, stranger, Wanted())).funnel.recipients == 0
    with pytest.raises(NotFound):
        await service.campaign_funnel(conn, actor, uuid4())
