"""From an audience to the ledger: once per person, whatever is repeated, and with what each text needs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from antiphon.campaigns import jobs, queries, recipients, service
from antiphon.campaigns.jobs import ExpandAudience
from antiphon.campaigns.model import Campaign, NewRecipient
from antiphon.contacts import groups
from antiphon.contacts import service as contacts
from antiphon.contacts.audience import Audience
from antiphon.contacts.groups import GroupChanges
from antiphon.contacts.model import ContactChanges
from antiphon.core import db, ids
from antiphon.core.db import Connection
from antiphon.jobs.model import Continue, Done, Run
from antiphon.messages import funnel
from antiphon.organizations.model import Actor
from antiphon.templates import service as templates
from antiphon.templates.model import NewTemplate, NewVersion
from tests.campaigns import make
from tests.make import actor as make_actor


@pytest.fixture
def actor(org_id: UUID) -> Actor:
    return make_actor(org_id)


async def ledger(conn: Connection, org_id: UUID, campaign: Campaign) -> dict[str, tuple[Any, ...]]:
    """Of each address: status, reason, variables, text, whether it waits in the queue."""
    found = await db.tuples(
        conn,
        """SELECT m.address, m.status, m.reason, m.variables, c.text, o.message_id IS NOT NULL
             FROM messages m
             LEFT JOIN message_contents c ON c.org_id = m.org_id AND c.message_id = m.id
             LEFT JOIN outbox o ON o.org_id = m.org_id AND o.message_id = m.id
            WHERE m.org_id = %(org_id)s AND m.campaign_id = %(id)s""",
        org_id=org_id,
        id=campaign.id,
    )
    assert len({row[0] for row in found}) == len(found), "an address was written to twice"
    return {row[0]: row[1:] for row in found}


async def test_a_launch_puts_one_message_for_each_person_in_ledger_queue_and_funnel(
    conn: Connection, actor: Actor
) -> None:
    campaign, messages = await make.launched(
        conn, actor, 3, priority="high", rate="10/s", variables={"off": "20%"}
    )
    assert (campaign.status, campaign.is_expanded, campaign.planned, len(messages)) == ("active", True, 3, 3)
    found = await ledger(conn, actor.org_id, campaign)
    assert [row[0] for row in found.values()] == ["scheduled"] * 3
    assert all(row[4] for row in found.values())
    assert found["+60123451000"][2] == {"firstName": "Name0", "phone": "+60123451000", "off": "20%"}
    counts = funnel.funnel_of(await funnel.read(conn, actor.org_id, campaign.id))
    assert (counts.recipients, counts.scheduled) == (3, 3)
    gate = await db.tuples(
        conn,
        "SELECT lane_id, class, priority, rate, is_open FROM gates WHERE org_id = %(org_id)s AND cause_id = %(id)s",
        org_id=actor.org_id,
        id=campaign.id,
    )
    assert gate == [(campaign.sender_id, "bulk", 3, 10.0, True)]


async def test_a_repeated_expansion_makes_nothing_twice(conn: Connection, actor: Actor) -> None:
    campaign, messages = await make.launched(conn, actor, 4)
    await db.execute(
        conn,
        "UPDATE campaigns SET is_expanded = false WHERE org_id = %(org_id)s AND id = %(id)s",
        org_id=actor.org_id,
        id=campaign.id,
    )
    progress = await make.expand(conn, campaign, actor.org_id)
    assert progress["made"] == 0
    assert await make.messages_of(conn, actor.org_id, campaign.id) == messages
    assert (await service.get(conn, actor, campaign.id)).planned == 4


async def test_an_expansion_goes_on_from_the_last_committed_page(conn: Connection, actor: Actor) -> None:
    shop = await make.sender(conn, actor)
    members = await make.people(conn, actor, 5)
    draft = await make.blast(conn, actor, shop, [await make.group(conn, actor, members)])
    campaign = await service.launch(conn, actor, draft.id)
    first = await make.expand(conn, campaign, actor.org_id, steps=2, page=2)
    assert (first["made"], first["total"]) == (2, 5)
    job = ExpandAudience(campaign_id=campaign.id, page=2)
    run = Run(id=ids.new_id(), org_id=actor.org_id, progress=first)
    again = await jobs.expand_audience(conn, job, run)  # the page whose commit nobody heard of
    once_more = await jobs.expand_audience(conn, job, run)
    assert isinstance(again, Continue)
    assert isinstance(once_more, Continue)
    assert again.progress["made"] == 4
    assert once_more.progress["made"] == 2
    done = await make.expand(conn, campaign, actor.org_id)
    assert done["part"] == "done"
    assert len(await make.messages_of(conn, actor.org_id, campaign.id)) == 5


@pytest.mark.parametrize("upper_first", [False, True], ids=["the lower ends first", "the upper ends first"])
async def test_a_large_audience_is_brought_in_by_two_jobs_and_the_last_one_closes_the_books(
    conn: Connection, actor: Actor, upper_first: bool
) -> None:
    shop = await make.sender(conn, actor)
    draft = await make.blast(
        conn, actor, shop, [await make.group(conn, actor, await make.people(conn, actor, 9))]
    )
    await make.listed(conn, actor, draft, "+60123451000", "+60123451008", "+60199990000")
    campaign = await service.launch(conn, actor, draft.id)
    begun = await make.expand(conn, campaign, actor.org_id, steps=1, page=2, large=5)
    job = ExpandAudience(campaign_id=campaign.id, page=2, large=5)
    lower, upper = 0, 0
    for is_upper in (upper_first, not upper_first):
        shown = await service.get(conn, actor, campaign.id)
        assert (shown.is_expanded, shown.planned) == (False, 0)
        if is_upper:
            upper = (await make.expand_upper_half(conn, actor.org_id))["made"]
        else:
            lower = (await make.go_on(conn, job, actor.org_id, begun))["made"]
    assert len(await ledger(conn, actor.org_id, campaign)) == 10
    assert lower + upper == 10
    assert min(lower, upper) > 2
    after = await service.get(conn, actor, campaign.id)
    assert (after.is_expanded, after.planned) == (True, 10)


async def test_who_cannot_be_reached_is_in_the_ledger_with_the_reason(conn: Connection, actor: Actor) -> None:
    shop = await make.sender(conn, actor)
    good = await make.contact(conn, actor, "+60123450001")
    gone = await make.contact(conn, actor, "+60123450002")
    mail = await make.contact(conn, actor, None, email="a@example.com")
    await contacts.update(conn, actor, gone.id, ContactChanges(is_active=False))
    draft = await make.blast(conn, actor, shop, [await make.group(conn, actor, [good, gone, mail])])
    campaign = await service.launch(conn, actor, draft.id)
    progress = await make.expand(conn, campaign, actor.org_id)
    assert (progress["made"], progress["skipped"]) == (3, 2)
    found = await ledger(conn, actor.org_id, campaign)
    assert {a: (row[0], row[1], row[4]) for a, row in found.items()} == {
        "+60123450001": ("scheduled", "", True),
        "+60123450002": ("skipped", "inactive", False),
        "": ("skipped", "no_address", False),
    }


async def test_the_own_list_gives_variables_and_whole_texts_also_to_people_of_a_group(
    conn: Connection, actor: Actor
) -> None:
    shop = await make.sender(conn, actor)
    member, other, barred = await make.people(conn, actor, 3)
    draft = await make.blast(
        conn, actor, shop, text="{{ firstName }} {{ off }}", variables={"off": "10%", "shop": "North"},
        audience=Audience(
            groups=[await make.group(conn, actor, [member, other])], exclude_contacts=[barred.id]
        ),
    )  # fmt: skip
    added = await recipients.add_recipients(
        conn, actor, draft.id,
        [
            NewRecipient(to="+60123451000", variables={"off": "30%"}),
            NewRecipient(to="+60199990000", text="Only for you"),
            NewRecipient(to=str(barred.id)),
        ],
    )  # fmt: skip
    assert (added.added, added.repeated, added.wrong) == (3, 0, [])
    campaign = await service.launch(conn, actor, draft.id)
    progress = await make.expand(conn, campaign, actor.org_id)
    assert progress["total"] == 5
    found = await ledger(conn, actor.org_id, campaign)
    assert set(found) == {"+60123451000", "+60123451001", "+60199990000"}
    assert found["+60123451000"][2]["off"] == "30%"
    assert found["+60123451001"][2]["off"] == "10%"
    assert found["+60199990000"][3] == "Only for you"
    assert found["+60123451000"][3] is None


async def test_each_person_gets_the_version_of_their_language(conn: Connection, actor: Actor) -> None:
    shop = await make.sender(conn, actor)
    template = await templates.create(
        conn,
        actor,
        NewTemplate(name="Greeting", channel="whatsapp", language="en", text="Hello {{ firstName }}"),
    )
    german = await templates.add_version(
        conn, actor, template.id, NewVersion(language="de", text="Hallo {{ firstName }}")
    )
    members = [
        await make.contact(conn, actor, "+60123450001", language="de-AT"),
        await make.contact(conn, actor, "+60123450002", language="fr"),
        await make.contact(conn, actor, "+60123450003"),
    ]
    draft = await make.blast(
        conn, actor, shop, [await make.group(conn, actor, members)], text=None, template="Greeting"
    )
    campaign = await service.launch(conn, actor, draft.id)
    await make.expand(conn, campaign, actor.org_id)
    found = await db.tuples(
        conn,
        "SELECT address, template_version_id FROM messages WHERE org_id = %(org_id)s ORDER BY address",
        org_id=actor.org_id,
    )
    english = template.versions[0].id
    assert [row[1] for row in found] == [german.id, english, english]


async def test_a_canceled_campaign_is_not_expanded_further(conn: Connection, actor: Actor) -> None:
    shop = await make.sender(conn, actor)
    draft = await make.blast(
        conn, actor, shop, [await make.group(conn, actor, await make.people(conn, actor, 3))]
    )
    campaign = await service.launch(conn, actor, draft.id)
    progress = await make.expand(conn, campaign, actor.org_id, steps=2, page=1)
    await service.cancel(conn, actor, campaign.id, "wrong text")
    run = Run(id=ids.new_id(), org_id=actor.org_id, progress=progress)
    outcome = await jobs.expand_audience(conn, ExpandAudience(campaign_id=campaign.id), run)
    assert outcome == Done({"stopped": "canceled"})
    assert len(await make.messages_of(conn, actor.org_id, campaign.id)) == 1


async def test_an_empty_audience_completes_at_once(conn: Connection, actor: Actor) -> None:
    shop = await make.sender(conn, actor)
    draft = await make.blast(conn, actor, shop, [await make.group(conn, actor, [])])
    campaign = await service.launch(conn, actor, draft.id)
    await make.expand(conn, campaign, actor.org_id)
    after = await service.get(conn, actor, campaign.id)
    assert (after.status, after.planned) == ("completed", 0)


async def scheduled(conn: Connection, actor: Actor, minutes: float, **changes: Any) -> Campaign:
    shop = await make.sender(conn, actor)
    draft = await make.blast(
        conn, actor, shop, [await make.group(conn, actor, await make.people(conn, actor, 2))]
    )
    return await service.launch(conn, actor, draft.id, make.later(minutes), **changes)


async def test_a_scheduled_one_becomes_active_when_its_job_runs(conn: Connection, actor: Actor) -> None:
    campaign = await scheduled(conn, actor, 30)
    assert (campaign.status, campaign.launched_at) == ("scheduled", None)
    [job] = await db.tuples(
        conn,
        "SELECT run_at FROM jobs WHERE org_id = %(org_id)s AND kind = 'expand_audience'",
        org_id=actor.org_id,
    )
    assert job[0] == campaign.scheduled_for
    await make.expand(conn, campaign, actor.org_id)
    after = await service.get(conn, actor, campaign.id)
    assert (after.status, after.planned) == ("active", 2)
    assert after.launched_at is not None


async def test_a_job_of_an_earlier_time_does_nothing(conn: Connection, actor: Actor) -> None:
    before = await scheduled(conn, actor, 30)
    moved = await service.launch(conn, actor, before.id, make.later(60))
    assert (await make.expand(conn, before, actor.org_id))["stopped"] == "another time was set"
    assert (await service.get(conn, actor, before.id)).status == "scheduled"
    now = await service.launch(conn, actor, before.id)
    assert (await make.expand(conn, moved, actor.org_id))["stopped"] == "another time was set"
    assert (await make.expand(conn, now, actor.org_id))["made"] == 2


async def test_after_the_latest_start_it_is_canceled_with_the_reason(conn: Connection, actor: Actor) -> None:
    campaign = await scheduled(conn, actor, 30, latest_start=make.later(31))
    late = structs.replace(campaign, latest_start=make.later(-1))
    await queries.save_status(conn, actor.org_id, late)
    assert (await make.expand(conn, late, actor.org_id))["stopped"] == "latest start"
    after = await service.get(conn, actor, campaign.id)
    assert after.status == "canceled"
    assert "latest start" in after.status_reason
    assert await make.messages_of(conn, actor.org_id, campaign.id) == []


async def test_a_group_that_became_inactive_meanwhile_pauses_it_with_the_reason_and_resume_goes_on(
    conn: Connection, actor: Actor
) -> None:
    campaign = await scheduled(conn, actor, 30)
    group_id = campaign.audience.groups[0]
    await groups.update_group(conn, actor, group_id, GroupChanges(is_active=False))
    await make.expand(conn, campaign, actor.org_id)
    stopped = await service.get(conn, actor, campaign.id)
    assert stopped.status == "paused"
    assert "inactive groups" in stopped.status_reason
    await groups.update_group(conn, actor, group_id, GroupChanges(is_active=True))
    resumed = await service.resume(conn, actor, campaign.id)
    await make.expand(conn, resumed, actor.org_id)
    after = await service.get(conn, actor, campaign.id)
    assert (after.status, after.planned) == ("active", 2)


async def test_one_paused_before_its_expansion_gets_a_closed_gate(conn: Connection, actor: Actor) -> None:
    shop = await make.sender(conn, actor)
    draft = await make.blast(
        conn, actor, shop, [await make.group(conn, actor, await make.people(conn, actor, 1))]
    )
    campaign = await service.launch(conn, actor, draft.id)
    await service.pause(conn, actor, campaign.id)
    await make.expand(conn, campaign, actor.org_id)
    is_open = await db.value(
        conn, "SELECT is_open FROM gates WHERE org_id = %(org_id)s AND cause_id = %(id)s",
        org_id=actor.org_id, id=campaign.id,
    )  # fmt: skip
    assert is_open is False


async def test_a_paused_sender_does_not_stop_an_expansion(conn: Connection, actor: Actor) -> None:
    campaign = await scheduled(conn, actor, 30)
    await make.pause_sender(conn, actor, campaign.sender_id)
    assert (await make.expand(conn, campaign, actor.org_id))["made"] == 2
