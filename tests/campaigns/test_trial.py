"""A test send: the campaign's words to a few, and nothing of it in the campaign."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from antiphon.campaigns import recipients, service
from antiphon.campaigns.model import NewRecipient
from antiphon.campaigns.trial import TestSend, send_test
from antiphon.contacts.audience import Audience
from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, Invalid
from antiphon.messages import funnel
from antiphon.organizations.model import Actor
from antiphon.templates import service as templates
from antiphon.templates.model import NewTemplate, NewVersion
from tests.campaigns import make
from tests.make import actor as make_actor


@pytest.fixture
def actor(org_id: UUID) -> Actor:
    return make_actor(org_id)


async def sent(conn: Connection, org_id: UUID) -> list[tuple[Any, ...]]:
    """Of each test: address, purpose, needs_consent, campaign, own text, variables."""
    return await db.tuples(
        conn,
        """SELECT m.address, m.purpose, o.needs_consent, m.campaign_id, c.text, m.variables
             FROM messages m JOIN outbox o ON o.org_id = m.org_id AND o.message_id = m.id
             LEFT JOIN message_contents c ON c.org_id = m.org_id AND c.message_id = m.id
            WHERE m.org_id = %(org_id)s AND m.origin = 'test' ORDER BY m.id""",
        org_id=org_id,
    )


async def test_a_test_is_sent_at_once_without_consent_and_is_nothing_of_the_campaign(
    conn: Connection, actor: Actor
) -> None:
    aisha = await make.contact(conn, actor, "+60123451000", agrees=False)
    group = await make.group(conn, actor, [aisha])
    draft = await make.blast(conn, actor, await make.sender(conn, actor), [group], variables={"off": "20%"})
    queued = await send_test(
        conn,
        actor,
        draft.id,
        TestSend(to=[str(aisha.id), "+60123452000", "+60123452000"], variables={"x": 1}),
    )
    first, second = await sent(conn, actor.org_id)
    assert len(queued.ids) == 2
    assert first[:5] == ("+60123451000", "transactional", False, None, None)
    known = {"firstName": "Aisha", "phone": "+60123451000", "off": "20%", "x": 1}
    assert {name: first[5][name] for name in known} == known
    assert (second[0], bool(second[5]["firstName"])) == (
        "+60123452000",
        True,
    )  # a sample, where nothing is known
    assert (await service.get(conn, actor, draft.id)).status == "draft"
    assert funnel.funnel_of(await funnel.read(conn, actor.org_id, draft.id)).recipients == 0
    await make.expand(conn, await service.launch(conn, actor, draft.id), actor.org_id)
    assert len(await make.messages_of(conn, actor.org_id, draft.id)) == 1, (
        "who had the test gets the campaign too"
    )


async def test_who_is_on_the_list_gets_what_the_list_says_for_them(conn: Connection, actor: Actor) -> None:
    draft = await make.blast(conn, actor, await make.sender(conn, actor), text=None)
    person = NewRecipient(to="+60123451000", text="Your order 7 is ready")
    await recipients.add_recipients(conn, actor, draft.id, [person])
    await send_test(conn, actor, draft.id, TestSend(to=["+60123451000"]))
    assert [row[4] for row in await sent(conn, actor.org_id)] == ["Your order 7 is ready"]
    with pytest.raises(Conflict, match="no text to try"):
        await send_test(conn, actor, draft.id, TestSend(to=["+60123452000"]))


async def test_each_reads_it_in_their_own_language_or_the_default_one(conn: Connection, actor: Actor) -> None:
    template = await templates.create(
        conn, actor, NewTemplate(name="Offer", channel="whatsapp", text="Hello", language="en")
    )
    german = await templates.add_version(conn, actor, template.id, NewVersion(text="Hallo", language="de"))
    english = await templates.active_version(conn, actor.org_id, template.id, "en")
    people = {
        language: await make.contact(conn, actor, f"+6012345100{n}", language=language)
        for n, language in enumerate(("de-AT", "fr", "en"))
    }
    draft = await make.blast(conn, actor, await make.sender(conn, actor), template="Offer", text=None)
    await send_test(conn, actor, draft.id, TestSend(to=[str(person.id) for person in people.values()]))
    found = await db.tuples(
        conn,
        "SELECT template_version_id FROM messages WHERE org_id = %(org_id)s AND origin = 'test' ORDER BY id",
        org_id=actor.org_id,
    )
    assert [row[0] for row in found] == [german.id, english.id, english.id]


async def test_all_that_is_wrong_is_named_and_nothing_is_sent(conn: Connection, actor: Actor) -> None:
    no_phone = await make.contact(conn, actor, None, email="a@example.com")
    draft = await make.blast(
        conn, actor, await make.sender(conn, actor), text="Hello {{ order }}", samples={"order": "7"}
    )
    for to, order, fields in (
        (["+60123451000", "nobody"], "8", ["to[1]"]),
        ([str(no_phone.id)], "8", ["to[0]"]),
        (["+60123451000", "+60123452000"], "8" * 5000, ["to[0]", "to[1]"]),  # longer than a message may be
    ):
        with pytest.raises(Invalid) as refused:
            await send_test(conn, actor, draft.id, TestSend(to=to, variables={"order": order}))
        assert [error.field for error in refused.value.errors] == fields, to
    assert await sent(conn, actor.org_id) == []
    await send_test(conn, actor, draft.id, TestSend(to=["+60123451000"]))
    assert [row[5]["order"] for row in await sent(conn, actor.org_id)] == ["7"]


async def test_it_can_be_tried_whatever_its_status(conn: Connection, actor: Actor) -> None:
    someone = await make.contact(conn, actor, "+60123451000")
    draft = await make.blast(
        conn, actor, await make.sender(conn, actor), audience=Audience(contacts=[someone.id])
    )
    await service.launch(conn, actor, draft.id, make.later(60))
    await send_test(conn, actor, draft.id, TestSend(to=["+60123452000"]))
    await service.cancel(conn, actor, draft.id)
    await send_test(conn, actor, draft.id, TestSend(to=["+60123452000"]))
    assert len(await sent(conn, actor.org_id)) == 2
