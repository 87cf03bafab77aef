"""The next blast from a stage of the last one, and a sale that is closed."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from antiphon.campaigns import list_queries, recipients, service
from antiphon.campaigns.model import Campaign, Close, FollowUp, NewRecipient
from antiphon.contacts import service as contacts
from antiphon.contacts.audience import Audience
from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, Invalid, NotFound
from antiphon.organizations.model import Actor
from tests.campaigns import make
from tests.make import actor as make_actor

STANDING: list[tuple[str, ...]] = [
    ("sent",),
    ("sent", "delivered"),
    ("sent", "delivered", "read"),
    ("sent", "delivered", "read", "clicked"),
    ("sent", "delivered", "read", "replied"),
    ("sent", "closed"),
    ("failed",),
    ("bounced",),
    ("unknown",),
    ("skipped",),
    ("canceled",),
    (),
]
"""What is known of each recipient's message; the last one still waits."""

FOLLOWED = {
    "sent": {0},
    "delivered": {1},
    "read": {2, 3},
    "not_read": {0, 1},
    "not_replied": {0, 1, 2, 3},
    "replied": {4},
    "closed": {5},
    "failed": {6, 7},
    "unknown": {8},
    "skipped": {9},
    "canceled": {10},
}


@pytest.fixture
def actor(org_id: UUID) -> Actor:
    return make_actor(org_id)


async def standing(conn: Connection, actor: Actor) -> tuple[Campaign, list[UUID]]:
    """A blast with one recipient for each of STANDING; their contacts in that order."""
    campaign, messages = await make.launched(conn, actor, len(STANDING), variables={"off": "20%"})
    for message_id, kinds in zip(messages, STANDING, strict=True):
        await make.learn(
            conn, actor.org_id, message_id, *kinds, reason="no_whatsapp" if "failed" in kinds else ""
        )
    found = await db.tuples(
        conn,
        "SELECT contact_id FROM messages WHERE org_id = %(org_id)s AND campaign_id = %(id)s ORDER BY contact_id",
        org_id=actor.org_id,
        id=campaign.id,
    )
    return campaign, [row[0] for row in found]


async def on_list(conn: Connection, campaign: Campaign, org_id: UUID) -> set[UUID]:
    return set(await list_queries.recipients_after(conn, org_id, campaign.id, UUID(int=0), 100))


async def test_each_stage_gives_those_who_stand_there(conn: Connection, actor: Actor) -> None:
    source, people = await standing(conn, actor)
    for stage, places in FOLLOWED.items():
        made = await recipients.follow_up(conn, actor, source.id, FollowUp(stage=stage))
        assert await on_list(conn, made.campaign, actor.org_id) == {people[n] for n in places}, stage
        assert made.recipients == len(places)
        assert (made.campaign.status, made.campaign.kind, made.campaign.tag) == (
            "draft",
            "blast",
            "Product Launch",
        )
        assert (made.campaign.source_campaign_id, made.campaign.source_stage) == (source.id, stage)
        assert made.campaign.follow_up_stage == "Follow-up 1"
        assert await service.get(conn, actor, made.campaign.id) == made.campaign


async def test_it_says_the_same_again_or_something_else(conn: Connection, actor: Actor) -> None:
    source, _ = await standing(conn, actor)
    same = (await recipients.follow_up(conn, actor, source.id, FollowUp(stage="failed"))).campaign
    assert (same.template_version_id, same.variables) == (source.template_version_id, {"off": "20%"})
    wanted = FollowUp(
        stage="not_replied",
        text="Still there, {{ firstName }}?",
        name="Second call",
        rate="5/s",
        variables={},
    )
    other = (await recipients.follow_up(conn, actor, source.id, wanted)).campaign
    assert other.template_version_id not in (None, source.template_version_id)
    assert (other.name, other.rate, other.variables) == ("Second call", 5.0, {})


async def test_the_list_of_the_source_gives_its_variables_and_its_texts_where_the_same_is_said_again(
    conn: Connection, actor: Actor
) -> None:
    shop = await make.sender(conn, actor)
    draft = await make.blast(conn, actor, shop, text=None)
    await recipients.add_recipients(
        conn, actor, draft.id, [NewRecipient(to="+60123450001", text="For you", variables={"n": 1})]
    )
    source = await service.launch(conn, actor, draft.id)
    await make.expand(conn, source, actor.org_id)
    [message] = await make.messages_of(conn, actor.org_id, source.id)
    await make.learn(conn, actor.org_id, message, "failed")
    again = (await recipients.follow_up(conn, actor, source.id, FollowUp(stage="failed"))).campaign
    anew = (await recipients.follow_up(conn, actor, source.id, FollowUp(stage="failed", text="Hi"))).campaign
    lists = await db.tuples(
        conn,
        """SELECT campaign_id, text, variables FROM campaign_recipients
            WHERE org_id = %(org_id)s AND campaign_id <> %(source)s""",
        org_id=actor.org_id,
        source=source.id,
    )
    assert {row[0]: row[1:] for row in lists} == {again.id: ("For you", {"n": 1}), anew.id: (None, {"n": 1})}
    assert (await service.launch(conn, actor, again.id)).status == "active"


async def test_reasons_narrow_it(conn: Connection, actor: Actor) -> None:
    source, people = await standing(conn, actor)
    wanted = FollowUp(stage="failed", reasons=["no_whatsapp"])
    made = await recipients.follow_up(conn, actor, source.id, wanted)
    assert await on_list(conn, made.campaign, actor.org_id) == {people[6]}


async def test_deleted_and_excluded_people_are_left_out(conn: Connection, actor: Actor) -> None:
    source, people = await standing(conn, actor)
    await contacts.delete(conn, actor, people[0])
    made = await recipients.follow_up(conn, actor, source.id, FollowUp(stage="not_read"))
    assert await on_list(conn, made.campaign, actor.org_id) == {people[1]}
    assert made.campaign.audience == Audience()


async def test_what_cannot_be_followed_up_says_why(conn: Connection, actor: Actor) -> None:
    source, _ = await standing(conn, actor)
    with pytest.raises(Invalid, match="use one of"):
        await recipients.follow_up(conn, actor, source.id, FollowUp(stage="asleep"))
    with pytest.raises(Conflict, match="nobody stands at 'failed'"):
        await recipients.follow_up(conn, actor, source.id, FollowUp(stage="failed", reasons=["no_such"]))
    draft = await make.blast(conn, actor, await make.sender(conn, actor, "Other", address="+60123456780"))
    with pytest.raises(Conflict, match="has not started"):
        await recipients.follow_up(conn, actor, draft.id, FollowUp(stage="failed"))


async def test_a_follow_up_of_a_follow_up_reaches_the_same_people_again(
    conn: Connection, actor: Actor
) -> None:
    source, people = await standing(conn, actor)
    first = (await recipients.follow_up(conn, actor, source.id, FollowUp(stage="delivered"))).campaign
    launched = await service.launch(conn, actor, first.id)
    await make.expand(conn, launched, actor.org_id)
    [message] = await make.messages_of(conn, actor.org_id, first.id)
    await make.learn(conn, actor.org_id, message, "sent")
    second = (await recipients.follow_up(conn, actor, first.id, FollowUp(stage="sent"))).campaign
    assert second.follow_up_stage == "Follow-up 2"
    assert await on_list(conn, second, actor.org_id) == {people[1]}


# ---- closed --------------------------------------------------------------------------------------


async def test_a_sale_is_closed_by_phone_by_contact_and_by_message(conn: Connection, actor: Actor) -> None:
    source, people = await standing(conn, actor)
    messages = await make.messages_of(conn, actor.org_id, source.id)
    closed = await recipients.close(conn, actor, source.id, Close(to="+60 12-345 1000", reason="bought two"))
    assert (closed.id, closed.stage) == (messages[0], "closed")
    assert closed.closed_at is not None
    assert (await recipients.close(conn, actor, source.id, Close(contact_id=people[1]))).id == messages[1]
    assert (await recipients.close(conn, actor, source.id, Close(message_id=messages[2]))).id == messages[2]


async def test_who_is_no_recipient_has_no_sale_to_close(conn: Connection, actor: Actor) -> None:
    source, _ = await standing(conn, actor)
    other = await make.contact(conn, actor, "+60123450009")
    for whose in (Close(to="+60123450009"), Close(contact_id=other.id), Close(message_id=uuid4())):
        with pytest.raises(NotFound):
            await recipients.close(conn, actor, source.id, whose)
    for unclear in (Close(), Close(to="+60123450009", contact_id=other.id)):
        with pytest.raises(Invalid, match="by one of"):
            await recipients.close(conn, actor, source.id, unclear)
    with pytest.raises(Invalid):
        await recipients.close(conn, actor, source.id, Close(to="not a number"))
