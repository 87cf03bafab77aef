"""What a person's message does: whose it is, what it answers, what STOP forbids and START gives back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from antiphon.contacts import service as contacts
from antiphon.contacts.model import NewAddress, NewContact
from antiphon.core.channel import AddressKind, Channel, Purpose
from antiphon.inbox import service as inbox
from antiphon.inbox.keywords import Keyword
from antiphon.inbox.service import Reception
from antiphon.messages import withdrawal
from antiphon.providers.contract import Inbound
from tests.receiving.shop import NUMBER, Shop

AINA, BUDI = "+60111111111", "+60122222222"


async def write(shop: Shop, words: str | None, name: str, sender: str = AINA, **more: Any) -> Reception:
    """Somebody writes."""
    inbound = Inbound(
        channel=Channel.WHATSAPP, dedupe_key=name, provider_message_id=name, sender_address=sender, recipient=NUMBER,
        text=words, **more,
    )  # fmt: skip
    async with shop.database.transaction(shop.org_id) as conn:
        return await inbox.receive(conn, shop.org_id, shop.account_id, shop.sender.id, inbound)


async def replied(shop: Shop) -> set[UUID]:
    """The messages that were answered."""
    return {
        id_
        for (id_,) in await shop.ask(
            "SELECT id FROM messages WHERE org_id = %(org_id)s AND replied_at IS NOT NULL"
        )
    }


async def suppressed(shop: Shop) -> dict[str, str]:
    return dict(
        await shop.ask(
            "SELECT address, reason FROM suppressions WHERE org_id = %(org_id)s AND lifted_at IS NULL"
        )
    )


async def consents(shop: Shop) -> list[tuple[Any, ...]]:
    return await shop.ask(
        "SELECT is_given, source, wording FROM consents WHERE org_id = %(org_id)s ORDER BY at, id"
    )


# ---- replies --------------------------------------------------------------------------------------


async def test_a_reply_is_in_the_ledger_with_its_words_and_whom_it_is_from(shop: Shop) -> None:
    [sent] = await shop.hand_over("wamid.1")
    found = await write(shop, "When does it start?", "wamid.in", profile_name="Aina Binti\tYusof")
    assert (found.outcome, found.keyword) == ("received", None)
    [row] = await shop.ask(
        """
        SELECT m.status, m.purpose, m.address, m.reply_to_id, m.sender_id, c.text
          FROM messages m JOIN message_contents c ON c.org_id = m.org_id AND c.message_id = m.id
         WHERE m.org_id = %(org_id)s AND m.direction = 'in'
        """
    )
    assert row == ("received", "support", AINA, sent, shop.sender.id, "When does it start?")
    [(payload,)] = await shop.ask(
        "SELECT payload FROM events_new WHERE org_id = %(org_id)s AND name = 'message_received'"
    )
    assert (payload["text"], payload["answers"], payload["keyword"]) == (
        "When does it start?",
        str(sent),
        None,
    )


async def test_the_first_reply_answers_and_the_second_changes_nothing(shop: Shop) -> None:
    [sent] = await shop.hand_over("wamid.1")
    await write(shop, "yes", "wamid.in1")
    before = await shop.ask(
        "SELECT replied_at, stage FROM messages WHERE org_id = %(org_id)s AND id = %(id)s", id=sent
    )
    await write(shop, "and two more", "wamid.in2")
    after = await shop.ask(
        "SELECT replied_at, stage FROM messages WHERE org_id = %(org_id)s AND id = %(id)s", id=sent
    )
    assert before == after
    assert after[0][1] == "replied"


async def test_the_named_message_is_answered_not_the_newest(shop: Shop) -> None:
    first, _ = await shop.hand_over("wamid.1", "wamid.2")
    await write(shop, "to the first", "wamid.in", reply_to_provider_id="wamid.1")
    assert await replied(shop) == {first}


async def test_without_a_name_the_newest_to_that_address_is_answered(shop: Shop) -> None:
    _, second = await shop.hand_over("wamid.1", "wamid.2")
    await shop.hand_over("wamid.3", to=BUDI)
    await shop.enqueue()  # waits, so nothing that one could answer
    await write(shop, "yes", "wamid.in")
    assert await replied(shop) == {second}


async def test_a_message_of_three_weeks_ago_is_not_answered_unless_it_is_named(shop: Shop) -> None:
    [old] = await shop.hand_over("wamid.1", hours=24 * 21)
    await write(shop, "hello", "wamid.in1")
    assert await replied(shop) == set()
    await write(shop, "hello", "wamid.in2", reply_to_provider_id="wamid.1")
    assert await replied(shop) == {old}


async def test_a_name_that_is_not_ours_falls_back_to_the_newest(shop: Shop) -> None:
    [sent] = await shop.hand_over("wamid.1")
    await write(shop, "yes", "wamid.in", reply_to_provider_id="wamid.of.somebody")
    assert await replied(shop) == {sent}


async def test_an_automatic_reply_answers_nothing_and_is_obeyed_by_nobody(shop: Shop) -> None:
    await shop.hand_over("wamid.1")
    found = await write(shop, "STOP", "wamid.in", is_automatic=True)
    assert (found.outcome, found.keyword) == ("received", None)
    assert (await replied(shop), await suppressed(shop)) == (set(), {})


async def test_the_same_message_twice_leaves_one_and_nothing_else(shop: Shop) -> None:
    first = await write(shop, "hello", "wamid.in")
    assert first.message is not None
    async with shop.database.transaction(shop.org_id) as conn:
        await contacts.delete(conn, shop.actor, first.message.contact_id)
    before = await shop.ask("SELECT count(*) FROM contacts WHERE org_id = %(org_id)s")
    assert (await write(shop, "hello", "wamid.in")).outcome == "known"
    assert await shop.ask("SELECT count(*) FROM contacts WHERE org_id = %(org_id)s") == before
    assert await shop.ask("SELECT count(*) FROM messages WHERE org_id = %(org_id)s") == [(1,)]


async def test_an_address_that_cannot_be_one_is_unusable(shop: Shop) -> None:
    found = await write(shop, "hello", "wamid.in", sender="+1")
    assert found.outcome == "unusable"
    assert "phone" in found.reason or "+1" in found.reason
    assert await shop.ask("SELECT count(*) FROM messages WHERE org_id = %(org_id)s") == [(0,)]


@pytest.mark.parametrize(
    "name", [None, "", " \t ", "🦊", "x" * 5_000, "a\u202eb\x07c", "O'Neill; DROP TABLE"]
)
async def test_whatever_people_call_themselves_never_loses_their_message(
    shop: Shop, name: str | None
) -> None:
    assert (await write(shop, "hello", "wamid.in", profile_name=name)).outcome == "received"


# ---- who ------------------------------------------------------------------------------------------


async def test_a_known_address_is_its_contact_and_keeps_its_name(shop: Shop) -> None:
    async with shop.database.transaction(shop.org_id) as conn:
        known = await contacts.create(conn, shop.actor, NewContact(first_name="Siti", phone=AINA))
    found = await write(shop, "hello", "wamid.in", profile_name="Somebody Else")
    assert found.message is not None
    assert found.message.contact_id == known.id
    assert await shop.ask("SELECT first_name FROM contacts WHERE org_id = %(org_id)s") == [("Siti",)]


async def test_a_hidden_number_is_a_contact_of_its_own_once(shop: Shop) -> None:
    first = await write(shop, "hello", "wamid.in1", sender="MY.7Qx1", profile_name="Aina")
    second = await write(shop, "again", "wamid.in2", sender="MY.7Qx1")
    assert first.message and second.message
    assert first.message.contact_id == second.message.contact_id
    found = await shop.ask("SELECT kind, value FROM addresses WHERE org_id = %(org_id)s")
    assert found == [("whatsapp_id", "MY.7Qx1")]


async def test_one_person_with_phone_and_opaque_id_is_one_contact_in_either_order(shop: Shop) -> None:
    [sent] = await shop.hand_over("wamid.1")
    both = await write(shop, "hello", "wamid.in1", other_address="MY.7Qx1")
    hidden = await write(shop, "me again", "wamid.in2", sender="MY.7Qx1")
    assert both.message and hidden.message
    assert both.message.contact_id == hidden.message.contact_id
    assert hidden.message.answers == sent  # written to the phone, answered from behind the id

    first = await write(shop, "hi", "wamid.in3", sender="123@lid")
    later = await write(shop, "hi", "wamid.in4", sender=BUDI, other_address="123@lid")
    assert first.message and later.message
    assert first.message.contact_id == later.message.contact_id


async def test_two_contacts_that_turn_out_to_be_one_person_stay_two(shop: Shop) -> None:
    """Merging people is a person's decision."""
    async with shop.database.transaction(shop.org_id) as conn:
        phone = await contacts.create(conn, shop.actor, NewContact(phone=AINA))
        opaque = [NewAddress(kind=AddressKind.WHATSAPP_ID, value="MY.7Qx1")]
        await contacts.create(conn, shop.actor, NewContact(addresses=opaque))
    found = await write(shop, "hello", "wamid.in", other_address="MY.7Qx1")
    assert found.message is not None
    assert found.message.contact_id == phone.id


# ---- STOP and START -------------------------------------------------------------------------------


async def test_stop_suppresses_withdraws_and_cancels_what_waits(shop: Shop) -> None:
    await shop.hand_over("wamid.1")
    waiting = await shop.enqueue()
    theirs = await shop.enqueue(to=BUDI)
    found = await write(shop, "Berhenti!", "wamid.in")
    assert found.keyword is Keyword.STOP
    assert found.message is not None
    assert await suppressed(shop) == {AINA: "opt_out"}
    [(source, detail, evidence)] = await shop.ask(
        "SELECT source, detail, message_id FROM suppressions WHERE org_id = %(org_id)s"
    )
    assert (source, detail, evidence) == ("keyword", "Berhenti!", found.message.message_id)
    assert [row[:2] for row in await consents(shop)] == [(False, "keyword")]
    assert await shop.status(waiting) == "skipped"
    _, claimed = await shop.claim()
    assert [each.message_id for each in claimed] == [theirs]


async def test_after_stop_nothing_new_is_claimed_either(shop: Shop) -> None:
    await write(shop, "STOP", "wamid.in")
    late = await shop.enqueue(purpose=Purpose.TRANSACTIONAL)
    _, claimed = await shop.claim()
    assert claimed == []
    assert await shop.status(late) == "skipped"


async def test_stop_from_behind_an_opaque_id_forbids_the_phone(shop: Shop) -> None:
    await write(shop, "hello", "wamid.in1", other_address="MY.7Qx1")
    await write(shop, "stop", "wamid.in2", sender="MY.7Qx1")
    assert await suppressed(shop) == {AINA: "opt_out"}


@pytest.mark.parametrize(
    ("said", "forbidden"), [(["STOP"], True), (["STOP", "hm"], True), (["STOP", "START"], False)]
)
async def test_stop_from_an_unknown_phone_holds_once_the_phone_is_known(
    shop: Shop, said: list[str], forbidden: bool
) -> None:
    for number, words in enumerate(said):
        await write(shop, words, f"wamid.in{number}", sender="MY.7Qx1")
    assert await suppressed(shop) == {}
    await write(shop, "hello", "wamid.later", other_address="MY.7Qx1")
    assert await suppressed(shop) == ({AINA: "opt_out"} if forbidden else {})


async def test_stop_as_a_button_counts_and_as_an_emoji_reaction_does_not(shop: Shop) -> None:
    await write(shop, "Stop promotions", "wamid.in1", sender=BUDI, kind="reaction")
    await write(shop, "Stop promotions", "wamid.in2", kind="button")
    assert await suppressed(shop) == {AINA: "opt_out"}


async def test_start_gives_back_what_stop_took(shop: Shop) -> None:
    await write(shop, "STOP", "wamid.in1")
    await write(shop, "hello, is anybody there?", "wamid.in2")
    assert await suppressed(shop) == {AINA: "opt_out"}  # an unrelated message opts nobody in
    found = await write(shop, "Start", "wamid.in3")
    assert found.keyword is Keyword.START
    assert await suppressed(shop) == {}
    assert await consents(shop) == [(False, "keyword", None), (True, "keyword", "Start")]
    message = await shop.enqueue()
    _, claimed = await shop.claim()
    assert [each.message_id for each in claimed] == [message]


async def test_stop_again_after_start(shop: Shop) -> None:
    for number, words in enumerate(("STOP", "START", "STOP", "STOP")):
        await write(shop, words, f"wamid.{number}")
    assert await suppressed(shop) == {AINA: "opt_out"}
    assert [given for given, _, _ in await consents(shop)] == [False, True, False]


async def test_start_without_a_stop_is_only_a_message(shop: Shop) -> None:
    await write(shop, "START", "wamid.in")
    assert (await suppressed(shop), await consents(shop)) == ({}, [])


@pytest.mark.parametrize("reason", ["hard_bounce", "complaint", "manual", "not_reachable"])
async def test_start_does_not_lift_what_somebody_else_decided(shop: Shop, reason: Any) -> None:
    await write(shop, "hello", "wamid.in0")
    async with shop.database.transaction(shop.org_id) as conn:
        await withdrawal.suppress(conn, shop.actor, Channel.WHATSAPP, AINA, reason, source="test")
    await write(shop, "START", "wamid.in1")
    assert await suppressed(shop) == {AINA: reason}
    await write(shop, "STOP", "wamid.in2")
    assert (await suppressed(shop), [row[0] for row in await consents(shop)]) == ({AINA: reason}, [False])


async def test_help_is_told_and_changes_nothing(shop: Shop) -> None:
    assert (await write(shop, "Bantuan", "wamid.in")).keyword is Keyword.HELP
    assert (await suppressed(shop), await consents(shop)) == ({}, [])
    [(payload,)] = await shop.ask(
        "SELECT payload FROM events_new WHERE org_id = %(org_id)s AND name = 'message_received'"
    )
    assert payload["keyword"] == "help"
