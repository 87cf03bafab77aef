"""Whom a message is for: contacts behind ids and addresses, those that are new among them."""

from __future__ import annotations

from uuid import UUID

from antiphon.contacts import service
from antiphon.contacts.model import NewAddress, NewContact
from antiphon.contacts.reaching import reach
from antiphon.core import db, ids
from antiphon.core.channel import AddressKind, Channel
from antiphon.core.db import Connection
from antiphon.organizations.model import Actor


async def test_ids_known_addresses_and_new_ones_are_reached_together(conn: Connection, org_id: UUID) -> None:
    actor = Actor.operator(org_id)
    known = await service.create(
        conn,
        actor,
        NewContact(
            first_name="Ada",
            language="de",
            addresses=[
                NewAddress(kind=AddressKind.PHONE, value="+4915112345678"),
                NewAddress(kind=AddressKind.PHONE, value="+4915112345679", is_primary=False),
            ],
        ),
    )
    names = [str(known.id), "+49 151 12345678", "+49 151 12345679", "+4915187654321"]
    reached, wrong = await reach(conn, actor, Channel.SMS, names)
    assert wrong == {}
    assert [reached[name].contact_id == known.id for name in names] == [True, True, True, False]
    assert [reached[name].address for name in names] == [
        "+4915112345678", "+4915112345678", "+4915112345679", "+4915187654321",
    ]  # fmt: skip
    assert reached[names[0]].language == "de"
    assert reached[names[2]].variables == {"firstName": "Ada", "phone": "+4915112345678"}
    assert reached[names[3]].variables == {"phone": "+4915187654321"}


async def test_with_a_wrong_address_nobody_is_made_and_it_is_named(conn: Connection, org_id: UUID) -> None:
    actor = Actor.operator(org_id)
    stranger = str(ids.new_id())
    reached, wrong = await reach(conn, actor, Channel.SMS, ["+4915187654321", "nonsense", stranger])
    assert (reached, list(wrong)) == ({}, ["nonsense", stranger])
    assert await db.value(conn, "SELECT count(*) FROM contacts WHERE org_id = %(org_id)s", org_id=org_id) == 0


async def test_an_unknown_id_hinders_no_other(conn: Connection, org_id: UUID) -> None:
    stranger = str(ids.new_id())
    reached, wrong = await reach(conn, Actor.operator(org_id), Channel.SMS, ["+4915187654321", stranger])
    assert list(reached) == ["+4915187654321"]
    assert wrong == {stranger: "there is no contact of this id"}
