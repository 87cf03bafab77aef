"""Whom a campaign is for: everybody once, page by page, without the excluded."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from antiphon.contacts import service
from antiphon.contacts.audience import Audience, check_audience, count_audience, stage_audience
from antiphon.contacts.model import ContactChanges, NewAddress, NewContact
from antiphon.contacts.service import GroupChanges, NewGroup
from antiphon.core import db
from antiphon.core.channel import AddressKind, Channel
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, Invalid
from antiphon.organizations.model import Actor

Staged = list[tuple[UUID, str, str | None, bool, dict[str, Any]]]


async def walk(
    conn: Connection, actor: Actor, audience: Audience, limit: int, channel: Channel = Channel.WHATSAPP
) -> Staged:
    """All pages after each other."""
    rows: Staged = []
    after = None
    while True:
        count, last = await stage_audience(conn, actor.org_id, audience, channel, after, limit)
        found = await db.tuples(
            conn,
            "SELECT contact_id, address, language, is_active, variables FROM audience_page ORDER BY contact_id",
        )
        assert count == len(found)
        if last is None:
            assert count == 0
            assert len(rows) == await count_audience(conn, actor.org_id, audience)
            return rows
        rows += found
        assert after is None or last > after
        after = last


async def group(conn: Connection, actor: Actor, name: str, members: list[UUID]) -> UUID:
    made = await service.create_group(conn, actor, NewGroup(name=name))
    await service.add_members(conn, actor, made.id, members)
    return made.id


@pytest.fixture
async def people(conn: Connection, actor: Actor) -> list[UUID]:
    made = await service.create_many(
        conn, actor, [NewContact(first_name=f"P{i}", phone=f"+4915123456{i:03}") for i in range(20)]
    )
    return [person.id for person in made]


@pytest.mark.parametrize("limit", [1, 3, 20, 1000])
async def test_everybody_is_met_once_however_many_ways_lead_there(
    conn: Connection, actor: Actor, people: list[UUID], limit: int
) -> None:
    first = await group(conn, actor, "first", people[:10])
    second = await group(conn, actor, "second", people[5:15])
    excluded = await group(conn, actor, "excluded", people[3:7])
    empty = await group(conn, actor, "empty", [])
    audience = Audience(
        groups=[first, second, empty],
        contacts=[people[0], people[18], people[4]],
        exclude_groups=[excluded],
        exclude_contacts=[people[14], people[19]],
    )
    met = [row[0] for row in await walk(conn, actor, audience, limit)]
    assert met == sorted([*people[:3], *people[7:14], people[18]])


async def test_brings_what_a_message_needs(conn: Connection, actor: Actor) -> None:
    full = await service.create(
        conn,
        actor,
        NewContact(
            first_name="Anna",
            last_name="Berg",
            company="Südwind",
            language="de",
            attributes={"tier": "gold", "firstName": "from a file", "visits": 3},
            phone="+4915123456780",
            addresses=[
                NewAddress(kind=AddressKind.PHONE, value="+4915123456781", is_primary=True),
                NewAddress(kind=AddressKind.EMAIL, value="anna@example.com"),
            ],
        ),
    )
    bare = await service.create(conn, actor, NewContact(email="b@example.com"))
    await service.update(conn, actor, bare.id, ContactChanges(is_active=False))
    rows = await walk(conn, actor, Audience(contacts=[full.id, bare.id]), 10)
    assert rows[0] == (
        full.id,
        "+4915123456781",
        "de",
        True,
        {
            "firstName": "Anna",
            "lastName": "Berg",
            "company": "Südwind",
            "email": "anna@example.com",
            "phone": "+4915123456781",
            "tier": "gold",
            "visits": 3,
        },
    )
    assert rows[1] == (bare.id, "", None, False, {"email": "b@example.com"})
    by_mail = await walk(conn, actor, Audience(contacts=[full.id, bare.id]), 10, Channel.EMAIL)
    assert [row[1] for row in by_mail] == ["anna@example.com", "b@example.com"]


async def test_the_deleted_are_left_out_and_a_page_of_them_is_not_the_end(
    conn: Connection, actor: Actor, people: list[UUID]
) -> None:
    everybody = await group(conn, actor, "everybody", people)
    await service.delete_many(conn, actor, people[:15])
    assert len(await walk(conn, actor, Audience(groups=[everybody]), 4)) == 5


async def test_refuses_what_does_not_exist_and_inactive_groups(
    conn: Connection, actor: Actor, people: list[UUID]
) -> None:
    active = await group(conn, actor, "active", people)
    inactive = await group(conn, actor, "inactive", people)
    await service.update_group(conn, actor, inactive, GroupChanges(is_active=False))
    await check_audience(conn, actor.org_id, Audience(groups=[active], exclude_groups=[inactive]))
    with pytest.raises(Conflict, match="inactive"):
        await check_audience(conn, actor.org_id, Audience(groups=[active, inactive]))
    unknown = Audience(groups=[active, uuid4()], contacts=[people[0], uuid4()], exclude_groups=[people[0]])
    with pytest.raises(Invalid) as refused:
        await check_audience(conn, actor.org_id, unknown)
    assert [error.field for error in refused.value.errors] == [
        "groups[1]",
        "contacts[1]",
        "exclude_groups[0]",
    ]


async def test_another_organizations_group_is_nobody(
    conn: Connection, actor: Actor, people: list[UUID]
) -> None:
    everybody = await group(conn, actor, "everybody", people)
    count, last = await stage_audience(
        conn, uuid4(), Audience(groups=[everybody], contacts=people), Channel.SMS, None, 100
    )
    assert count == 0
    assert last is not None  # ids were named, nobody was found behind them
