"""Groups, consent and suppressions."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from antiphon.contacts import consent, consent_queries, service
from antiphon.contacts.consent import SuppressionFilter
from antiphon.contacts.model import Contact, NewContact
from antiphon.contacts.service import GroupChanges, NewGroup
from antiphon.core import clock, db
from antiphon.core.channel import Channel
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Conflict, Invalid, NotFound
from antiphon.organizations.model import Actor
from tests import make


@pytest.fixture
async def anna(conn: Connection, actor: Actor) -> Contact:
    return await service.create(
        conn, actor, NewContact(name="Anna", phone="+4915123456789", email="a@example.com")
    )


# Groups


async def test_a_group_has_one_name_however_it_is_written(conn: Connection, actor: Actor) -> None:
    group = await service.create_group(conn, actor, NewGroup(name="  Gäste  Köln "))
    assert group.name == "Gäste Köln"
    assert (await service.find_group(conn, actor, "GASTE KÖLN")) == group
    with pytest.raises(Conflict, match="there is a group named"):
        await service.create_group(conn, actor, NewGroup(name="gäste köln"))
    other = await service.create_group(conn, actor, NewGroup(name="Other"))
    with pytest.raises(Conflict):
        await service.update_group(conn, actor, other.id, GroupChanges(name="Gaste Koln"))
    await service.delete_group(conn, actor, group.id)
    with pytest.raises(NotFound):
        await service.get_group(conn, actor, group.id)
    await service.update_group(conn, actor, other.id, GroupChanges(name="Gäste Köln", is_active=False))
    assert (await service.get_group(conn, actor, other.id)).is_active is False
    for wrong in ("", "   ", "x" * 201, "a\0b"):
        with pytest.raises(Invalid):
            await service.create_group(conn, actor, NewGroup(name=wrong))


async def test_groups_are_listed_by_name_in_pages(conn: Connection, actor: Actor) -> None:
    for name in ("delta", "Alpha", "Ärzte", "beta"):
        await service.create_group(conn, actor, NewGroup(name=name, is_active=name != "beta"))
    first = await service.list_groups(conn, actor, limit=3)
    rest = await service.list_groups(conn, actor, limit=3, cursor=first.next)
    assert [g.name for g in [*first.items, *rest.items]] == ["Alpha", "Ärzte", "beta", "delta"]
    assert rest.next is None
    assert [g.name for g in (await service.list_groups(conn, actor, q="TA", active=True)).items] == ["delta"]


async def test_members_come_and_go_many_at_once(conn: Connection, actor: Actor) -> None:
    group = await service.create_group(conn, actor, NewGroup(name="Guests"))
    people = await service.create_many(conn, actor, [NewContact(name=f"P{i}") for i in range(20)])
    ids = [person.id for person in people]
    assert (await service.add_members(conn, actor, group.id, ids[:12])).changed == 12
    assert (await service.add_members(conn, actor, group.id, ids)).changed == 8
    assert (await service.get_group(conn, actor, group.id)).members == 20
    assert (await service.remove_members(conn, actor, group.id, [*ids[:5], uuid4()])).changed == 5
    with pytest.raises(Invalid) as refused:
        await service.add_members(conn, actor, group.id, [ids[0], uuid4()])
    assert [error.field for error in refused.value.errors] == ["contacts[1]"]
    await service.delete(conn, actor, ids[-1])
    assert (await service.get_group(conn, actor, group.id)).members == 14
    with pytest.raises(NotFound):
        await service.add_members(conn, actor, uuid4(), ids)


# Consent


async def given(conn: Connection, org_id: UUID, channel: str, address: str) -> bool | None:
    return await db.value(
        conn,
        """
        SELECT is_given FROM consent_states
         WHERE org_id = %(org_id)s AND channel = %(channel)s AND address = %(address)s
        """,
        org_id=org_id,
        channel=channel,
        address=address,
    )


async def test_the_newest_word_counts_and_every_word_is_kept(
    conn: Connection, actor: Actor, anna: Contact
) -> None:
    await service.record_consent(conn, actor, anna.id, Channel.SMS, None, True, "form", "Yes, send me news")
    assert await given(conn, actor.org_id, "sms", "+4915123456789") is True
    await service.record_consent(conn, actor, anna.id, Channel.SMS, "0049 151 23456789", False, "phone call")
    assert await given(conn, actor.org_id, "sms", "+4915123456789") is False
    facts = (await service.list_consents(conn, actor, anna.id)).items
    assert [(f.is_given, f.source, f.wording, f.recorded_by) for f in facts] == [
        (False, "phone call", None, actor.label),
        (True, "form", "Yes, send me news", actor.label),
    ]
    with pytest.raises(Invalid, match="has no such email"):
        await service.record_consent(conn, actor, anna.id, Channel.EMAIL, "other@example.com", True, "form")
    with pytest.raises(Invalid):
        await service.record_consent(conn, actor, anna.id, Channel.PUSH, None, True, "form")
    with pytest.raises(NotFound):
        await service.record_consent(conn, actor, uuid4(), Channel.SMS, None, True, "form")


async def test_a_fact_that_is_told_late_does_not_undo_a_newer_one(
    conn: Connection, actor: Actor, anna: Contact
) -> None:
    newest = await service.record_consent(conn, actor, anna.id, Channel.SMS, None, False, "form")
    late = structs.replace(newest, id=uuid4(), is_given=True, at=newest.at - timedelta(days=1))
    await consent_queries.add_consent(conn, actor.org_id, late)
    assert await given(conn, actor.org_id, "sms", "+4915123456789") is False
    assert len((await service.list_consents(conn, actor, anna.id)).items) == 2


# Suppressions


async def test_an_opt_out_suppresses_and_withdraws(conn: Connection, actor: Actor, anna: Contact) -> None:
    await service.record_consent(conn, actor, anna.id, Channel.WHATSAPP, None, True, "form")
    made = await service.suppress(
        conn, actor, Channel.WHATSAPP, "+49 151 23456789", "opt_out", source="inbound", detail="STOP"
    )
    assert (made.address, made.reason, made.detail) == ("+4915123456789", "opt_out", "STOP")
    assert await given(conn, actor.org_id, "whatsapp", "+4915123456789") is False
    # a later bounce does not hide who said stop
    again = await service.suppress(
        conn, actor, Channel.WHATSAPP, "+4915123456789", "hard_bounce", source="webhook"
    )
    assert again.reason == "opt_out"
    lifted = await service.lift(conn, actor, Channel.WHATSAPP, "+4915123456789")
    assert (lifted.lifted_by, lifted.reason) == (actor.label, "opt_out")
    with pytest.raises(NotFound):
        await service.lift(conn, actor, Channel.WHATSAPP, "+4915123456789")
    # lifting is no consent
    assert await given(conn, actor.org_id, "whatsapp", "+4915123456789") is False
    renewed = await service.suppress(
        conn, actor, Channel.WHATSAPP, "+4915123456789", "complaint", source="webhook"
    )
    assert (renewed.reason, renewed.lifted_at) == ("complaint", None)


async def test_a_suppression_may_end_by_itself_and_a_longer_one_wins(conn: Connection, actor: Actor) -> None:
    address, soon, late = "+4915123456789", clock.now() + timedelta(hours=1), clock.now() + timedelta(days=9)

    async def forbid(until: object) -> object:
        await consent.suppress(
            conn,
            actor,
            Channel.SMS,
            address,
            "not_reachable" if until else "manual",
            source="webhook",
            until=until,  # pyright: ignore[reportArgumentType]
        )
        return (await service.get_suppression(conn, actor, Channel.SMS, address)).until

    assert await forbid(soon) == soon
    assert await forbid(late) == late
    assert await forbid(soon) == late
    assert await forbid(None) is None
    assert await forbid(late) is None


async def test_lists_what_is_in_force_by_reason_and_page(conn: Connection, actor: Actor) -> None:
    for i, reason in enumerate(("opt_out", "complaint", "manual", "hard_bounce")):
        await consent.suppress(conn, actor, Channel.EMAIL, f"p{i}@example.com", reason, source="api")
    past = clock.now() - timedelta(seconds=1)
    await consent.suppress(
        conn, actor, Channel.SMS, "+4915123456789", "not_reachable", source="x", until=past
    )
    await service.lift(conn, actor, Channel.EMAIL, "P2@example.com")

    async def shown(wanted: SuppressionFilter) -> list[str]:
        addresses: list[str] = []
        cursor = None
        while True:
            page = await service.list_suppressions(conn, actor, wanted, 2, cursor)
            addresses += [s.address for s in page.items]
            cursor = page.next
            if cursor is None:
                return addresses

    assert await shown(SuppressionFilter()) == ["p3@example.com", "p1@example.com", "p0@example.com"]
    assert await shown(SuppressionFilter(reason="opt_out")) == ["p0@example.com"]
    assert await shown(SuppressionFilter(channel="sms", ended=True)) == ["+4915123456789"]
    assert len(await shown(SuppressionFilter(ended=True))) == 5


async def test_an_erased_persons_address_stays_unused(conn: Connection, actor: Actor) -> None:
    await service.suppress(conn, actor, Channel.EMAIL, "gone@example.com", "erased", source="erasure")
    with pytest.raises(Conflict, match="erased"):
        await service.lift(conn, actor, Channel.EMAIL, "gone@example.com")


async def test_two_who_suppress_at_once_leave_one_row(database: Database) -> None:
    org_id = (await make.organization(database)).id
    who = make.actor(org_id)

    async def stop() -> None:
        async with database.transaction(org_id) as conn:
            await service.suppress(conn, who, Channel.SMS, "+4915123456789", "opt_out", source="inbound")

    await asyncio.gather(*(stop() for _ in range(4)))
    async with database.transaction(org_id) as conn:
        found = (await service.list_suppressions(conn, who, SuppressionFilter())).items
        said = await db.value(
            conn,
            "SELECT count(*) FROM events_new WHERE org_id = %(org_id)s AND name = 'suppression_created'",
            org_id=org_id,
        )
    assert (len(found), said) == (1, 1)
