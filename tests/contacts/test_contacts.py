"""Contacts: made, found, changed, deleted and brought back; an address belongs to one of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from antiphon.contacts import service
from antiphon.contacts.model import Contact, ContactChanges, NewAddress, NewContact, fold, split_name
from antiphon.contacts.service import Wanted
from antiphon.core import clock, db
from antiphon.core.channel import AddressKind, Channel
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Invalid, NotFound, Problem, TooLarge
from antiphon.organizations.model import Actor
from tests import make

ANNA = NewContact(name="Anna Berg", phone="+49 151 23456789", email="Anna@Example.com")


async def names(conn: Connection, actor: Actor, **wanted: Any) -> list[str | None]:
    page = await service.list_contacts(conn, actor, Wanted(**wanted))
    return [contact.first_name for contact in page.items]


def values(contact: Contact) -> dict[str, str]:
    return {f"{a.kind}{'' if a.is_primary else ' (other)'}": a.value for a in contact.addresses}


async def events(conn: Connection, org_id: UUID) -> list[str]:
    found = await db.tuples(
        conn, "SELECT name FROM events_new WHERE org_id = %(org_id)s ORDER BY id", org_id=org_id
    )
    return [name for (name,) in found]


async def test_stores_a_contact_in_one_spelling_and_says_so(conn: Connection, actor: Actor) -> None:
    new = NewContact(
        first_name="  Anna\tMaria ",
        last_name="Berg",
        language="pt_br",
        timezone="Europe/Lisbon",
        country="pt",
        phone="912 345 678",
        email="Anna@Example.COM",
        attributes={"tier": "gold", "visits": 3, "tags": ["a", "b"], "gone": None},
    )
    contact = await service.create(conn, actor, new)
    assert await service.get(conn, actor, contact.id) == contact
    assert (contact.first_name, contact.language, contact.country) == ("Anna Maria", "pt-BR", "PT")
    assert values(contact) == {"email": "anna@example.com", "phone": "+351912345678"}
    assert contact.attributes == {"tier": "gold", "visits": 3, "tags": ["a", "b"]}
    assert await events(conn, actor.org_id) == ["contact_created"]
    audited = await db.value(
        conn, "SELECT action FROM audit_log WHERE org_id = %(org_id)s ORDER BY id DESC", org_id=actor.org_id
    )
    assert audited == "contact.created"


WRONG: list[tuple[str, NewContact, list[str]]] = [
    (
        "every wrong field is named",
        NewContact(language="german!", timezone="Mars/One", country="ZZ", attributes={"a b": 1}),
        ["language", "timezone", "country", "attributes"],
    ),
    (
        "a wrong address among others",
        NewContact(addresses=[NewAddress(kind=AddressKind.EMAIL, value="nobody")]),
        ["addresses[0]"],
    ),
    ("a number without its country", NewContact(phone="0151 23456789"), ["phone"]),
    ("a control character", NewContact(first_name="An\x07na"), ["first_name"]),
    ("a NUL in an attribute", NewContact(attributes={"a": "x\0"}), ["attributes.a"]),
    ("an attribute that templates cannot show", NewContact(attributes={"a": {"b": 1}}), ["attributes.a"]),
    ("a name without end", NewContact(last_name="x" * 201), ["last_name"]),
    ("a channel that does not exist", NewContact(preferred_channel="pigeon"), ["preferred_channel"]),
]


@pytest.mark.parametrize(("new", "fields"), [c[1:] for c in WRONG], ids=[c[0] for c in WRONG])
async def test_refuses_a_contact_and_names_what_is_wrong(
    conn: Connection, actor: Actor, new: NewContact, fields: list[str]
) -> None:
    with pytest.raises(Invalid) as refused:
        await service.create(conn, actor, new)
    assert [error.field for error in refused.value.errors] == fields
    assert await names(conn, actor) == []


async def test_an_address_belongs_to_one_contact(conn: Connection, actor: Actor) -> None:
    anna = await service.create(conn, actor, ANNA)
    with pytest.raises(Problem) as refused:
        await service.create(conn, actor, NewContact(name="Ben", phone="0049 151 23456789"))
    assert refused.value.status == 409
    assert refused.value.code == "address_taken"
    assert str(anna.id) in refused.value.errors[0].message


async def test_many_are_made_together_or_not_at_all(conn: Connection, actor: Actor) -> None:
    good = [NewContact(name=f"Person {i}", phone=f"+4915123456{i:03}") for i in range(500)]
    assert len(await service.create_many(conn, actor, good)) == 500
    with pytest.raises(Problem) as refused:
        await service.create_many(
            conn,
            actor,
            [NewContact(email="a@example.com"), NewContact(email="A@example.com"), good[0]],
        )
    assert [error.field for error in refused.value.errors] == ["contacts[1].email", "contacts[2].phone"]
    with pytest.raises(Invalid) as wrong:
        await service.create_many(conn, actor, [ANNA, NewContact(phone="+49")])
    assert [error.field for error in wrong.value.errors] == ["contacts[1].phone"]
    with pytest.raises(TooLarge):
        await service.create_many(conn, actor, [ANNA] * 1001)
    assert len(await names(conn, actor, q="Anna")) == 0


SEARCHES: list[tuple[str, str, bool]] = [
    ("part of a name", "erg", True),
    ("without accents", "lukasz muller", True),
    ("with accents", "ŁUKASZ Müller", True),
    ("the words in another order", "müller łuk", True),
    ("the company", "südwind", True),
    ("an email address", "L.Muller@example", True),
    ("a phone number as it is dialled at home", "0151 234 56-789", True),
    ("the end of a phone number", "6789", True),
    ("a sign that means something to LIKE", "100%", True),
    ("another one", "_", False),
    ("one word that is not there", "lukasz schmidt", False),
]


@pytest.mark.parametrize(("q", "is_found"), [c[1:] for c in SEARCHES], ids=[c[0] for c in SEARCHES])
async def test_finds_people_by_what_one_remembers(
    conn: Connection, actor: Actor, q: str, is_found: bool
) -> None:
    await service.create(
        conn,
        actor,
        NewContact(
            first_name="Łukasz",
            last_name="Müller-Berg",
            company="Südwind 100%",
            phone="+49 151 23456789",
            email="l.muller@example.com",
        ),
    )
    await service.create(conn, actor, NewContact(name="Zoe Zander", email="zoe@example.org"))
    assert (await names(conn, actor, q=q) == ["Łukasz"]) == is_found


async def test_lists_by_filter_and_page(conn: Connection, actor: Actor) -> None:
    group = await service.create_group(conn, actor, service.NewGroup(name="Guests"))
    made = await service.create_many(
        conn,
        actor,
        [
            NewContact(name="P0", email="p0@example.com", groups=[group.id]),
            NewContact(name="P1", phone="+4915123456789", is_active=False),
            NewContact(name="P2", phone="+4915123456780", groups=[group.id]),
        ],
    )
    assert await names(conn, actor) == ["P2", "P1", "P0"]
    assert await names(conn, actor, active=False) == ["P1"]
    assert await names(conn, actor, channel="email") == ["P0"]
    assert await names(conn, actor, channel="WhatsApp") == ["P2", "P1"]
    assert await names(conn, actor, group=group.id) == ["P2", "P0"]
    assert await names(conn, actor, group=group.id, channel="sms", q="p2") == ["P2"]
    assert await names(conn, actor, created_to=clock.now() - timedelta(days=1)) == []
    assert len(await names(conn, actor, created_from=clock.now() - timedelta(days=1))) == 3
    first = await service.list_contacts(conn, actor, Wanted(), 2)
    assert [c.id for c in first.items] == [made[2].id, made[1].id]
    rest = await service.list_contacts(conn, actor, Wanted(), 2, first.next)
    assert [c.id for c in rest.items] == [made[0].id]
    assert rest.next is None
    with pytest.raises(NotFound):
        await names(conn, actor, group=uuid4())


async def test_changes_what_is_given_and_keeps_the_rest(conn: Connection, actor: Actor) -> None:
    anna = await service.create(
        conn, actor, msgspec.structs.replace(ANNA, attributes={"a": 1, "b": 2}, company="Südwind")
    )
    changes = ContactChanges(
        last_name="Tal", company=None, attributes={"a": None, "c": "3"}, phone="+49 160 1234567"
    )
    changed = await service.update(conn, actor, anna.id, changes)
    stored = await service.get(conn, actor, anna.id)
    assert changed == stored
    assert (stored.first_name, stored.last_name, stored.company) == ("Anna", "Tal", None)
    assert stored.attributes == {"b": 2, "c": "3"}
    assert values(stored) == {"email": "anna@example.com", "phone": "+491601234567"}
    assert await names(conn, actor, q="tal") == ["Anna"]
    assert await names(conn, actor, q="0160 1234567") == ["Anna"]
    assert await names(conn, actor, q="südwind") == []
    # the old number is free
    await service.create(conn, actor, NewContact(name="Ben", phone="+49 151 23456789"))
    with pytest.raises(Problem, match="belongs to"):
        await service.update(conn, actor, anna.id, ContactChanges(phone="+49 151 23456789"))


async def test_one_change_for_many(conn: Connection, actor: Actor) -> None:
    made = await service.create_many(conn, actor, [NewContact(name=f"P{i}") for i in range(3)])
    ids = [contact.id for contact in made]
    await service.update_many(conn, actor, ids[:2], ContactChanges(is_active=False, language="de"))
    assert await names(conn, actor, active=False) == ["P1", "P0"]
    with pytest.raises(Invalid) as refused:
        await service.update_many(conn, actor, [ids[2], uuid4()], ContactChanges(is_active=False))
    assert [error.field for error in refused.value.errors] == ["ids[1]"]
    with pytest.raises(Invalid, match="one contact at a time"):
        await service.update_many(conn, actor, ids, ContactChanges(email="a@example.com"))
    assert await service.delete_many(conn, actor, ids[:2]) == 2
    assert await names(conn, actor) == ["P2"]


async def test_a_deleted_contact_is_gone_and_its_address_free(conn: Connection, actor: Actor) -> None:
    anna = await service.create(conn, actor, ANNA)
    await service.delete(conn, actor, anna.id)
    with pytest.raises(NotFound):
        await service.get(conn, actor, anna.id)
    with pytest.raises(NotFound):
        await service.delete(conn, actor, anna.id)
    assert await names(conn, actor) == []
    assert await names(conn, actor, deleted=True) == ["Anna"]
    restored = await service.restore(conn, actor, anna.id)
    assert values(restored) == values(anna)
    await service.delete(conn, actor, anna.id)
    await service.create(conn, actor, NewContact(name="Ben", email="anna@example.com"))
    with pytest.raises(Problem) as refused:
        await service.restore(conn, actor, anna.id)
    assert refused.value.code == "address_taken"


async def test_has_several_addresses_and_one_primary_of_each_kind(conn: Connection, actor: Actor) -> None:
    anna = await service.create(conn, actor, ANNA)
    work = NewAddress(kind=AddressKind.EMAIL, value="work@example.com", label="work")
    anna = await service.add_address(conn, actor, anna.id, work)
    assert anna.address(AddressKind.EMAIL) == "anna@example.com"
    anna = await service.add_address(conn, actor, anna.id, msgspec.structs.replace(work, is_primary=True))
    assert anna.address(AddressKind.EMAIL) == "work@example.com"
    assert len(anna.addresses) == 3
    (primary,) = [a for a in anna.addresses if a.value == "work@example.com"]
    anna = await service.remove_address(conn, actor, anna.id, primary.id)
    assert values(anna) == {"email": "anna@example.com", "phone": "+4915123456789"}
    with pytest.raises(NotFound):
        await service.remove_address(conn, actor, anna.id, primary.id)
    assert await names(conn, actor, q="work@example") == []


async def test_resolves_an_address_to_its_contact_or_a_new_one(conn: Connection, actor: Actor) -> None:
    anna = await service.create(conn, actor, ANNA)
    found = await service.resolve(conn, actor, Channel.WHATSAPP, "0049151 23456789", name="Somebody Else")
    assert found.id == anna.id
    assert found.first_name == "Anna"
    new = await service.resolve(conn, actor, Channel.SMS, "+49 160 1234567", name="Ben Tal")
    assert (new.first_name, new.last_name, new.source) == ("Ben", "Tal", "sms")
    both = await service.resolve_many(
        conn, actor, Channel.SMS, ["+491601234567", "+4915123456789", "+491601234568", "+491601234568"]
    )
    assert [contact_id for contact_id, _ in both[:2]] == [new.id, anna.id]
    assert both[2] == both[3]
    with pytest.raises(Invalid) as refused:
        await service.resolve_many(conn, actor, Channel.EMAIL, ["a@example.com", "nobody"])
    assert [error.field for error in refused.value.errors] == ["addresses[1]"]


async def test_two_who_resolve_the_same_new_address_get_one_contact(database: Database) -> None:
    org_id = (await make.organization(database)).id
    actor = make.actor(org_id)

    async def resolve() -> UUID:
        async with database.transaction(org_id) as conn:
            found = await service.resolve(conn, actor, Channel.WHATSAPP, "+4915123456789")
            await asyncio.sleep(0.02)
            return found.id

    found = await asyncio.gather(*(resolve() for _ in range(4)))
    assert len(set(found)) == 1
    async with database.transaction(org_id) as conn:
        assert len((await service.list_contacts(conn, actor, Wanted())).items) == 1


async def test_another_organization_sees_nothing_of_it(database: Database) -> None:
    mine, theirs = [make.actor((await make.organization(database)).id) for _ in range(2)]
    async with database.transaction(mine.org_id) as conn:
        anna = await service.create(conn, mine, ANNA)
        group = await service.create_group(conn, mine, service.NewGroup(name="Guests"))
    async with database.transaction(theirs.org_id) as conn:
        for attempt in (
            service.get(conn, theirs, anna.id),
            service.update(conn, theirs, anna.id, ContactChanges(first_name="X")),
            service.delete(conn, theirs, anna.id),
            service.get_group(conn, theirs, group.id),
            # not even with the other's actor, as long as the transaction is theirs
            service.get(conn, mine, anna.id),
        ):
            with pytest.raises(NotFound):
                await attempt
        assert (await service.create(conn, theirs, ANNA)).id != anna.id


NAMES: list[tuple[str, tuple[str | None, str | None]]] = [
    ("Anna Berg", ("Anna", "Berg")),
    ("Anna Maria Berg", ("Anna Maria", "Berg")),
    ("Berg, Anna Maria", ("Anna Maria", "Berg")),
    ("Ludwig van Beethoven", ("Ludwig", "van Beethoven")),
    ("Siti binti Ahmad", ("Siti", "binti Ahmad")),
    ("Cher", ("Cher", None)),
    ("  ", (None, None)),
    ("Berg,", ("Berg", None)),
]


@pytest.mark.parametrize(("name", "split"), NAMES, ids=[name for name, _ in NAMES])
def test_splits_a_full_name(name: str, split: tuple[str | None, str | None]) -> None:
    assert split_name(name) == split


def test_folds_letters_as_people_type_them() -> None:
    assert fold("ŁUKASZ Ørsted Straße ŒUVRE Ñandú İstanbul") == "lukasz orsted strasse oeuvre nandu istanbul"
