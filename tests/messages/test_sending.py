"""`POST /messages`: what a request may name and how, and what it is told of what cannot be."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from antiphon.contacts import service as contacts
from antiphon.contacts.model import NewAddress, NewContact
from antiphon.core import db, ids
from antiphon.core.channel import AddressKind
from antiphon.core.db import Connection
from antiphon.core.errors import Invalid
from antiphon.messages import lane_service, named
from antiphon.messages.named import Asked
from antiphon.messages.sending import OutgoingMessage, send
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor
from antiphon.organizations.service import OrganizationChanges
from antiphon.senders.model import Sender, SenderChanges
from antiphon.templates import service as templates
from antiphon.templates.model import NewTemplate, NewVersion, TemplateChanges, Variable
from tests.messages.road import sender_in

KNOWN = "+4915110000001"


class Shop:
    """A sender, a template in two languages, and a contact who reads German."""

    def __init__(self, actor: Actor, sender: Sender, contact_id: UUID, template_id: UUID) -> None:
        self.actor, self.sender, self.contact_id, self.template_id = actor, sender, contact_id, template_id

    async def send(self, conn: Connection, *messages: dict[str, Any]) -> list[dict[str, Any]]:
        """Send these, and what the ledger says of each, in order."""
        usual: dict[str, Any] = {"sender": str(self.sender.id), "to": KNOWN, "template": "welcome"}
        wanted = [
            OutgoingMessage(**{k: v for k, v in {**usual, **m}.items() if v is not None}) for m in messages
        ]
        made = (await send(conn, self.actor, wanted)).ids
        cursor = await conn.execute(
            "SELECT m.id, m.contact_id, m.address, m.language, m.sender_id, m.variables, v.language, v.version"
            "  FROM messages m LEFT JOIN template_versions v"
            "    ON v.org_id = m.org_id AND v.id = m.template_version_id WHERE m.org_id = %s",
            (self.actor.org_id,),
        )
        names: tuple[str, ...] = (
            "id",
            "contact",
            "address",
            "language",
            "sender",
            "variables",
            "text_language",
            "version",
        )
        found: dict[UUID, dict[str, Any]] = {
            row[0]: dict(zip(names, row, strict=True)) for row in await cursor.fetchall()
        }
        return [found[id_] for id_ in made]


@pytest.fixture
async def shop(conn: Connection, org_id: UUID) -> Shop:
    actor = Actor.operator(org_id)
    await organizations.update(conn, actor, OrganizationChanges(country="DE"))
    sender = await sender_in(conn, org_id)
    new = NewContact(
        first_name="Jonas", language="de-AT", addresses=[NewAddress(kind=AddressKind.PHONE, value=KNOWN)]
    )
    contact = await contacts.create(conn, actor, new)
    variables = {"firstName": Variable(sample="Max")}
    template = await templates.create(
        conn, actor,
        NewTemplate(name="welcome", channel="sms", language="en", text="Hi {{ firstName }}", variables=variables),
    )  # fmt: skip
    for text in ("Hallo {{ firstName }}", "Servus {{ firstName }}"):
        await templates.add_version(
            conn, actor, template.id, NewVersion(language="de", text=text, variables=variables)
        )
    return Shop(actor, sender, contact.id, template.id)


async def test_a_known_number_is_its_contact_in_their_language(conn: Connection, shop: Shop) -> None:
    [message] = await shop.send(conn, {})
    assert message["contact"] == shop.contact_id and message["address"] == KNOWN
    assert (message["text_language"], message["version"], message["language"]) == ("de", 2, "de-AT")
    assert message["variables"] == {"firstName": "Jonas", "phone": KNOWN}


WAYS: dict[str, dict[str, Any]] = {
    "the number with spaces": {"to": "+49 151 1000 0001"},
    "the number as at home": {"to": "0151 10000001"},
    "the contact's id": {"to": None, "contact_id": ...},
    "the template's id": {"template": ...},
    "the template's name in another case": {"template": "  WELCOME "},
    "the sender's name in another case": {"sender": ...},
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_same_message_by(conn: Connection, shop: Shop, way: str) -> None:
    ids_of = {
        "contact_id": shop.contact_id,
        "template": str(shop.template_id),
        "sender": shop.sender.name.upper(),
    }
    fields = {name: ids_of[name] if value is ... else value for name, value in WAYS[way].items()}
    [plain, other] = await shop.send(conn, {}, fields)
    assert {**plain, "id": 0} == {**other, "id": 0}


async def test_the_language_that_a_message_names_goes_before_the_contact_s(
    conn: Connection, shop: Shop
) -> None:
    english, other = await shop.send(conn, {"language": "en-GB"}, {"language": "fr"})
    assert (english["text_language"], other["text_language"]) == ("en", "en")


async def test_an_address_that_nobody_has_becomes_one_contact(conn: Connection, shop: Shop) -> None:
    new = {"to": "+4915110000099", "variables": {"firstName": "Ada"}}
    first, second, known = await shop.send(conn, new, new, {})
    assert first["contact"] == second["contact"] != known["contact"] == shop.contact_id


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a sender that does not exist": ({"sender": "nobody"}, "sender", "there is no sender"),
    "a template that does not exist": ({"template": "nothing"}, "template", "there is no template"),
    "an archived template": ({"template": "old"}, "template", "only an active template can be used"),
    "a contact that does not exist": (
        {"to": None, "contact_id": ids.new_id()},
        "to",
        "no contact of this id",
    ),
    "a number that cannot be one": ({"to": "+49abc"}, "to", "not a phone number"),
    "a variable that nobody gave": ({"to": "+4915110000098"}, "variables", "firstName"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_it_is_refused_and_nothing_is_written_for(conn: Connection, shop: Shop, case: str) -> None:
    fields, field, said = REFUSED[case]
    old = NewTemplate(name="old", channel="sms", language="en", text="Old.")
    archived = await templates.create(conn, shop.actor, old)
    await templates.update(conn, shop.actor, archived.id, TemplateChanges(status="archived"))
    with pytest.raises(Invalid) as refused:
        await shop.send(conn, {}, fields)
    [error] = refused.value.errors
    assert error.field == f"messages[1].{field}" and said in error.message
    count = await db.value(
        conn, "SELECT count(*) FROM messages WHERE org_id = %(org_id)s", org_id=shop.actor.org_id
    )
    assert count == 0


async def test_a_sender_that_is_not_active_is_refused(conn: Connection, shop: Shop) -> None:
    await lane_service.update_sender(conn, shop.actor, shop.sender.id, SenderChanges(is_active=False))
    with pytest.raises(Invalid) as refused:
        await shop.send(conn, {})
    assert "is not active" in refused.value.errors[0].message


LANGUAGES = (None, "de", "de-AT", "en", "en-US", "fr", "pt-BR")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_one_look_up_chooses_the_version_that_templates_choose(
    conn: Connection, shop: Shop, language: str | None
) -> None:
    found = await named.look_up(conn, shop.actor.org_id, Asked([], ["welcome"], []))
    chosen = await templates.active_version(conn, shop.actor.org_id, shop.template_id, language)
    assert found.templates["welcome"].version_for(language) == chosen.id


async def test_the_one_look_up_sees_one_organization(conn: Connection, shop: Shop) -> None:
    found = await named.look_up(conn, ids.new_id(), Asked([str(shop.sender.id)], ["welcome"], [KNOWN]))
    assert not (found.senders or found.templates or found.people)
