"""Drafts, launches, pauses, cancelations, lists: what is legal happens and is told, what is not says why."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from antiphon.campaigns import list_queries, recipients, service
from antiphon.campaigns.model import (
    Campaign,
    CampaignChanges,
    Close,
    FollowUp,
    NewCampaign,
    NewRecipient,
    Removed,
)
from antiphon.campaigns.service import Wanted
from antiphon.contacts import consent
from antiphon.contacts import service as contacts
from antiphon.contacts.audience import Audience
from antiphon.contacts.model import ContactChanges
from antiphon.core import db
from antiphon.core.channel import Channel, Purpose
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, Invalid, NotFound, Problem, TooLarge
from antiphon.messages import funnel
from antiphon.organizations.model import Actor
from antiphon.templates import service as templates
from antiphon.templates.model import NewTemplate, TemplateChanges
from tests.campaigns import make
from tests.make import actor as make_actor


@pytest.fixture
def actor(org_id: UUID) -> Actor:
    return make_actor(org_id)


async def gate_is_open(conn: Connection, campaign: Campaign, org_id: UUID) -> bool | None:
    return await db.value(
        conn, "SELECT is_open FROM gates WHERE org_id = %(org_id)s AND cause_id = %(id)s",
        org_id=org_id, id=campaign.id,
    )  # fmt: skip


async def told(conn: Connection, org_id: UUID) -> list[str]:
    """The names of the campaign events of this transaction, in order."""
    rows = await db.tuples(
        conn,
        "SELECT name FROM events_new WHERE org_id = %(org_id)s AND name LIKE 'campaign%%' ORDER BY id",
        org_id=org_id,
    )
    return [row[0] for row in rows]


async def audited(conn: Connection, org_id: UUID) -> list[str]:
    rows = await db.tuples(
        conn,
        "SELECT action FROM audit_log WHERE org_id = %(org_id)s AND action LIKE 'campaign%%' ORDER BY id",
        org_id=org_id,
    )
    return [row[0] for row in rows]


# ---- drafts --------------------------------------------------------------------------------------


async def test_a_draft_is_changed_and_deleted_and_each_deed_is_told_and_audited(
    conn: Connection, actor: Actor
) -> None:
    shop = await make.sender(conn, actor)
    draft = await make.blast(conn, actor, shop)
    assert (draft.status, draft.kind, draft.name) == ("draft", "blast", "Product Launch, Initial")
    assert await service.get(conn, actor, draft.id) == draft
    changed = await service.update(
        conn, actor, draft.id, CampaignChanges(tag=None, rate="500/min", text="Hi", priority="urgent")
    )
    assert (changed.tag, changed.priority, changed.rate) == (None, "urgent", pytest.approx(500 / 60))
    assert changed.template_version_id != draft.template_version_id
    assert await service.get(conn, actor, draft.id) == changed
    await service.delete(conn, actor, draft.id)
    with pytest.raises(NotFound):
        await service.get(conn, actor, draft.id)
    assert await told(conn, actor.org_id) == ["campaign_created", "campaign_updated", "campaign_deleted"]
    assert await audited(conn, actor.org_id) == ["campaign.created", "campaign.updated", "campaign.deleted"]


WRONG_DRAFTS: list[tuple[str, dict[str, Any], type[Problem], str]] = [
    ("a sender that is not there", {"sender": "nobody"}, NotFound, "sender"),
    ("a template that is not there", {"text": None, "template": "nothing"}, NotFound, "template"),
    ("a template and a text", {"template": "Greeting"}, Invalid, "either a template or a text"),
    ("a group that is not there", {"audience": Audience(groups=[uuid4()])}, Invalid, "does not exist"),
    ("a rate of nothing", {"rate": "0/s"}, Invalid, "rate"),
    ("an own text with an unknown variable", {"text": "{{ color }}"}, Invalid, "color"),
    ("variables that are too large", {"variables": {"x": "y" * 20_000}}, Invalid, "16384"),
    ("a template of another channel", {"text": None, "template": "Letter"}, Invalid, "is for email"),
    ("a negative revenue", {"expected_revenue": "-1"}, Invalid, "expected_revenue"),
]


@pytest.mark.parametrize(
    ("what", "given", "problem", "words"), WRONG_DRAFTS, ids=[c[0] for c in WRONG_DRAFTS]
)
async def test_a_draft_that_cannot_be_is_refused_by_name(
    conn: Connection, actor: Actor, what: str, given: dict[str, Any], problem: type[Problem], words: str
) -> None:
    shop = await make.sender(conn, actor)
    await templates.create(conn, actor, NewTemplate(name="Letter", channel="email", subject="S", text="T"))
    if "expected_revenue" in given:
        given = {"expected_revenue": Decimal(given["expected_revenue"])}
    with pytest.raises(problem) as refused:
        await make.blast(conn, actor, shop, **given)
    said = refused.value.detail + str([(e.field, e.message) for e in refused.value.errors])
    assert words in said, what


async def test_samples_declare_what_an_own_text_uses(conn: Connection, actor: Actor) -> None:
    shop = await make.sender(conn, actor)
    draft = await make.blast(conn, actor, shop, text="Get {{ off }} in {{ town }}", variables={"off": "20%"},
                             samples={"town": "Penang"})  # fmt: skip
    assert draft.template_version_id is not None


async def test_a_sender_of_another_channel_needs_new_words(conn: Connection, actor: Actor) -> None:
    draft = await make.blast(conn, actor, await make.sender(conn, actor))
    mail = await make.mail_sender(conn, actor)
    with pytest.raises(Invalid, match="is for email"):
        await service.update(conn, actor, draft.id, CampaignChanges(sender="Mail"))
    changed = await service.update(
        conn, actor, draft.id, CampaignChanges(sender="Mail", subject="Hello", text="Hi")
    )
    assert (changed.sender_id, changed.channel) == (mail.id, Channel.EMAIL)


# ---- the own list --------------------------------------------------------------------------------


async def test_good_recipients_are_added_and_the_others_named_by_their_place(
    conn: Connection, actor: Actor
) -> None:
    draft = await make.blast(conn, actor, await make.sender(conn, actor))
    people = [
        NewRecipient(to="+60123450001", variables={"n": 1}),
        NewRecipient(to="not a number"),
        NewRecipient(to="+60 12-345 0001", variables={"n": 2}),
        NewRecipient(to=str(uuid4())),
        NewRecipient(to="+60123450002", variables={"x": "y" * 20_000}),
        NewRecipient(to="+60123450003", text="a\0b"),
        NewRecipient(to="+60123450004"),
    ]
    added = await recipients.add_recipients(conn, actor, draft.id, people)
    assert (added.added, added.repeated) == (2, 1)
    assert [error.field for error in added.wrong] == [
        "recipients[1].to", "recipients[3].to", "recipients[4].variables", "recipients[5]",
    ]  # fmt: skip
    again = await recipients.add_recipients(conn, actor, draft.id, people[:1])
    assert (again.added, again.repeated) == (0, 1)
    first = await db.value(
        conn,
        "SELECT variables FROM campaign_recipients WHERE org_id = %(org_id)s AND variables <> '{}'",
        org_id=actor.org_id,
    )
    assert first == {"n": 1}
    await service.launch(conn, actor, draft.id)
    with pytest.raises(Conflict, match="only a draft"):
        await recipients.add_recipients(conn, actor, draft.id, people[:1])


async def test_more_than_a_thousand_at_once_are_refused(conn: Connection, actor: Actor) -> None:
    draft = await make.blast(conn, actor, await make.sender(conn, actor))
    with pytest.raises(TooLarge, match="1001"):
        await recipients.add_recipients(conn, actor, draft.id, [NewRecipient(to="+60123450001")] * 1001)


async def test_people_are_taken_off_the_list(conn: Connection, actor: Actor) -> None:
    draft = await make.blast(conn, actor, await make.sender(conn, actor))
    person = await make.contact(conn, actor, "+60123450001")
    await make.listed(conn, actor, draft, "+60123450001", "+60123450002")
    assert await recipients.remove_recipients(conn, actor, draft.id, [person.id, uuid4()]) == Removed(
        removed=1
    )
    assert await list_queries.count_recipients(conn, actor.org_id, draft.id) == 1


async def test_a_preview_says_whom_it_would_reach_and_why_not_the_others(
    conn: Connection, actor: Actor
) -> None:
    shop = await make.sender(conn, actor, rate=10.0)
    good = await make.people(conn, actor, 3)
    gone = await make.contact(conn, actor, "+60123450002")
    mail = await make.contact(conn, actor, None, email="a@example.com")
    silent = await make.contact(conn, actor, "+60123450003", agrees=False)
    stopped = await make.contact(conn, actor, "+60123450004")
    barred = await make.contact(conn, actor, "+60123450005")
    await contacts.update(conn, actor, gone.id, ContactChanges(is_active=False))
    await consent.suppress(conn, actor, Channel.WHATSAPP, "+60123450004", "manual", source="test")
    members = [*good, gone, mail, silent, stopped, barred]
    draft = await make.blast(
        conn, actor, shop, rate="2/s",
        audience=Audience(groups=[await make.group(conn, actor, members)], exclude_contacts=[barred.id]),
    )  # fmt: skip
    await make.listed(conn, actor, draft, "+60123451000", "+60123459999")
    seen = await service.preview(conn, actor, draft.id)
    assert (seen.recipients, seen.reachable, seen.no_address, seen.inactive) == (8, 3, 1, 1)
    assert (seen.suppressed, seen.no_consent, seen.seconds) == (1, 2, 1.5)
    await service.update(conn, actor, draft.id, CampaignChanges(purpose=Purpose.NOTIFICATION))
    assert (await service.preview(conn, actor, draft.id)).no_consent == 0


# ---- under way -----------------------------------------------------------------------------------


async def unready(conn: Connection, actor: Actor, what: str) -> Campaign:
    shop = await make.sender(conn, actor)
    to = [await make.group(conn, actor, await make.people(conn, actor, 1))]
    match what:
        case "nobody":
            return await make.blast(conn, actor, shop)
        case "nothing_to_say":
            return await make.blast(conn, actor, shop, to, text=None)
        case "sender":
            draft = await make.blast(conn, actor, shop, to)
            await make.pause_sender(conn, actor, shop.id)
            return draft
        case _:
            template = await templates.create(
                conn, actor, NewTemplate(name="Greeting", channel="whatsapp", text="Hi")
            )
            draft = await make.blast(conn, actor, shop, to, text=None, template="Greeting")
            await templates.update(conn, actor, template.id, TemplateChanges(status="archived"))
            return draft


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nobody", "nobody to send to"),
        ("nothing_to_say", "no template and no text"),
        ("sender", "Shop"),
        ("template", "Greeting"),
    ],
)
async def test_a_launch_says_what_is_missing(conn: Connection, actor: Actor, what: str, words: str) -> None:
    draft = await unready(conn, actor, what)
    with pytest.raises(Conflict, match=words):
        await service.launch(conn, actor, draft.id)


async def test_texts_for_every_recipient_are_enough_to_say(conn: Connection, actor: Actor) -> None:
    draft = await make.blast(conn, actor, await make.sender(conn, actor), text=None)
    await recipients.add_recipients(conn, actor, draft.id, [NewRecipient(to="+60123450001", text="Hi you")])
    assert (await service.launch(conn, actor, draft.id)).status == "active"


async def test_pause_closes_the_gate_and_resume_opens_it(conn: Connection, actor: Actor) -> None:
    campaign, messages = await make.launched(conn, actor, 2)
    paused = await service.pause(conn, actor, campaign.id, "wrong picture")
    assert (paused.status, paused.status_reason) == ("paused", "wrong picture")
    assert await gate_is_open(conn, campaign, actor.org_id) is False
    resumed = await service.resume(conn, actor, campaign.id)
    assert (resumed.status, resumed.status_reason) == ("active", "")
    assert await gate_is_open(conn, campaign, actor.org_id) is True
    assert await make.messages_of(conn, actor.org_id, campaign.id) == messages
    assert (await told(conn, actor.org_id))[1:] == ["campaign_status_changed"] * 3
    assert (await audited(conn, actor.org_id))[1:] == [
        "campaign.active",
        "campaign.paused",
        "campaign.active",
    ]


async def test_cancel_settles_what_waits_and_leaves_what_has_left(conn: Connection, actor: Actor) -> None:
    campaign, messages = await make.launched(conn, actor, 4)
    await make.learn(conn, actor.org_id, messages[0], "sent")
    canceled = await service.cancel(conn, actor, campaign.id, "wrong text")
    assert canceled.canceled_at is not None
    assert await gate_is_open(conn, campaign, actor.org_id) is False
    assert await make.cancel_rest(conn, campaign, actor.org_id) == {"canceled": 3}
    counts = funnel.funnel_of(await funnel.read(conn, actor.org_id, campaign.id))
    assert (counts.canceled, counts.scheduled, counts.stages[0].stuck) == (3, 0, 1)
    assert counts.reasons["canceled"][0].reason == "campaign_canceled"


async def test_what_comes_back_from_the_wire_after_a_cancelation_is_settled_too(
    conn: Connection, actor: Actor
) -> None:
    campaign, messages = await make.launched(conn, actor, 2)
    set_state = "UPDATE outbox SET state = %(state)s WHERE org_id = %(org_id)s AND message_id = %(id)s"
    await db.execute(conn, set_state, org_id=actor.org_id, id=messages[0], state=1)
    await service.cancel(conn, actor, campaign.id)
    assert await make.cancel_rest(conn, campaign, actor.org_id) == {"canceled": 1}
    await db.execute(conn, set_state, org_id=actor.org_id, id=messages[0], state=0)
    assert await make.cancel_rest(conn, campaign, actor.org_id) == {"canceled": 1}
    counts = funnel.funnel_of(await funnel.read(conn, actor.org_id, campaign.id))
    assert counts.canceled == 2


async def test_a_scheduled_one_can_be_taken_back_and_changed(conn: Connection, actor: Actor) -> None:
    shop = await make.sender(conn, actor)
    draft = await make.blast(conn, actor, shop, [await make.group(conn, actor, [])])
    await service.launch(conn, actor, draft.id, make.later(30))
    with pytest.raises(Conflict, match="only a draft"):
        await service.update(conn, actor, draft.id, CampaignChanges(name="Other"))
    await service.unschedule(conn, actor, draft.id)
    assert (await service.update(conn, actor, draft.id, CampaignChanges(name="Other"))).name == "Other"


# ---- completion ----------------------------------------------------------------------------------


async def test_it_is_completed_when_every_message_is_settled_and_not_before(
    conn: Connection, actor: Actor
) -> None:
    campaign, (first, second, third) = await make.launched(conn, actor, 3)
    await make.learn(conn, actor.org_id, first, "sent", "delivered")
    await make.learn(conn, actor.org_id, second, "failed", reason="no_whatsapp")
    moved = await funnel.fold(conn, actor.org_id)
    assert moved == [campaign.id]
    assert await service.complete_settled(conn, actor.org_id, moved) == []
    await make.learn(conn, actor.org_id, third, "unknown")
    assert await service.complete_settled(conn, actor.org_id, await funnel.fold(conn, actor.org_id)) == []
    await make.learn(conn, actor.org_id, third, "sent")
    assert await service.complete_settled(conn, actor.org_id, await funnel.fold(conn, actor.org_id)) == [
        campaign.id
    ]
    after = await service.get(conn, actor, campaign.id)
    assert (after.status, after.status_reason, after.planned) == ("completed", "", 3)
    assert await gate_is_open(conn, campaign, actor.org_id) is None
    assert await service.complete_settled(conn, actor.org_id, [campaign.id]) == []


async def test_held_ones_are_named_and_do_not_keep_it_active(conn: Connection, actor: Actor) -> None:
    campaign, (first, second) = await make.launched(conn, actor, 2)
    await service.pause(conn, actor, campaign.id)
    await make.learn(conn, actor.org_id, first, "sent")
    await make.learn(conn, actor.org_id, second, "unknown", "held", reason="held")
    assert await service.complete_settled(conn, actor.org_id, [campaign.id]) == [campaign.id]
    after = await service.get(conn, actor, campaign.id)
    assert after.status_reason.startswith("1 in doubt")
    assert await gate_is_open(conn, campaign, actor.org_id) is False  # a person may still order a resend


async def test_one_whose_messages_are_all_settled_before_the_last_page_is_completed_by_it(
    conn: Connection, actor: Actor
) -> None:
    shop = await make.sender(conn, actor)
    mail = await make.contact(conn, actor, None, email="a@example.com")
    draft = await make.blast(conn, actor, shop, [await make.group(conn, actor, [mail])])
    campaign = await service.launch(conn, actor, draft.id)
    await make.expand(conn, campaign, actor.org_id, steps=2)
    assert await service.complete_settled(conn, actor.org_id, await funnel.fold(conn, actor.org_id)) == []
    await make.expand(conn, campaign, actor.org_id)
    assert (await service.get(conn, actor, campaign.id)).status == "completed"


# ---- lists ---------------------------------------------------------------------------------------


async def test_lists_are_filtered_and_paged_the_newest_first(conn: Connection, actor: Actor) -> None:
    shop = await make.sender(conn, actor)
    blasts = [await make.blast(conn, actor, shop, tag=tag) for tag in ("A", "B", "B")]
    plain = await service.create(conn, actor, NewCampaign(sender="Shop", text="Hi", tags=["B", "C"]))

    async def ids(**wanted: Any) -> list[UUID]:
        return [c.id for c in (await service.page(conn, actor, Wanted(**wanted))).items]

    everything = [plain.id, *(b.id for b in reversed(blasts))]
    assert await ids() == everything
    assert await ids(kind="blast") == everything[1:]
    assert await ids(tag="B") == [plain.id, blasts[2].id, blasts[1].id]
    assert await ids(stage="Initial") == everything[1:]
    assert await ids(status="active") == []
    assert await ids(channel="WhatsApp", sender_id=shop.id) == everything
    first = await service.page(conn, actor, Wanted(), limit=3)
    second = await service.page(conn, actor, Wanted(), limit=3, cursor=first.next)
    assert [c.id for c in (*first.items, *second.items)] == everything
    assert second.next is None


async def test_a_day_is_the_organizations_own(conn: Connection, actor: Actor) -> None:
    await db.execute(
        conn,
        "UPDATE organizations SET timezone = 'Pacific/Auckland' WHERE id = %(org_id)s",
        org_id=actor.org_id,
    )
    draft = await make.blast(conn, actor, await make.sender(conn, actor))
    there = draft.created_at.astimezone(ZoneInfo("Pacific/Auckland")).date()
    day = timedelta(days=1)

    async def count(since: Any, until: Any) -> int:
        return len((await service.page(conn, actor, Wanted(since=since, until=until))).items)

    assert await count(there, there) == 1
    assert await count(there + day, None) == 0
    assert await count(None, there - day) == 0


# ---- isolation -----------------------------------------------------------------------------------


async def test_another_organizations_campaign_is_not_there_for_any_verb(
    conn: Connection, actor: Actor
) -> None:
    campaign, messages = await make.launched(conn, actor, 1)
    stranger = make_actor(uuid4())
    one = campaign.id
    calls = [
        service.get(conn, stranger, one),
        service.update(conn, stranger, one, CampaignChanges(name="Mine")),
        service.delete(conn, stranger, one),
        service.preview(conn, stranger, one),
        service.launch(conn, stranger, one),
        service.unschedule(conn, stranger, one),
        service.pause(conn, stranger, one),
        service.resume(conn, stranger, one),
        service.cancel(conn, stranger, one),
        recipients.add_recipients(conn, stranger, one, [NewRecipient(to="+60123450001")]),
        recipients.follow_up(conn, stranger, one, FollowUp(stage="sent")),
        recipients.close(conn, stranger, one, Close(message_id=messages[0])),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            await call
    assert (await service.get(conn, actor, one)).status == "active"
