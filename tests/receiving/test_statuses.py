"""Statuses by webhook, end to end: a socket, a signature, one transaction, the ledger."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pywa.utils import webhook_updates_validator

from antiphon.core.db import Database
from antiphon.receiving import upkeep
from tests.entry.live import Client
from tests.receiving import shop as shops
from tests.receiving.shop import APP_SECRET, Shop, envelope, signature, status, statuses


async def test_a_signed_status_moves_its_message(shop: Shop, client: Client) -> None:
    [message] = await shop.hand_over("wamid.1")
    answer = await shop.post(client, statuses(status("wamid.1", "delivered")))
    assert (answer.status, answer.content) == (200, b"ok")
    assert await shop.status(message) == "delivered"
    assert await shop.kept() == [(1, 0, 0, 0, 0)]


def test_we_sign_as_an_independent_reader_of_the_wire_verifies() -> None:
    body = msgspec.json.encode(statuses(status("wamid.1")))
    assert webhook_updates_validator(APP_SECRET, body, signature(body))
    assert not webhook_updates_validator("another", body, signature(body))


async def test_the_same_webhook_twice_at_once_or_later_has_one_effect(shop: Shop, client: Client) -> None:
    [message] = await shop.hand_over("wamid.1")
    body = statuses(status("wamid.1", "delivered"))
    answers = [await shop.post(client, body)]
    answers += await asyncio.gather(*(shop.post(client, body) for _ in range(20)))
    assert [a.status for a in answers] == [200] * 21
    assert await history(shop, message) == ["delivered", "sent"]
    assert await stages(shop) == {"delivered": 1}


async def history(shop: Shop, message: UUID) -> list[str]:
    found = await shop.ask(
        "SELECT kind FROM message_events WHERE org_id = %(org_id)s AND message_id = %(id)s", id=message
    )
    return sorted(kind for (kind,) in found)


async def stages(shop: Shop) -> dict[str, int]:
    """The funnel: how many stand at each stage."""
    return dict(
        await shop.ask(
            "SELECT stage, sum(n)::int FROM funnel_deltas WHERE org_id = %(org_id)s"
            " GROUP BY stage HAVING sum(n) <> 0"
        )
    )


# ---- bad entries beside good ones -----------------------------------------------------------------


BAD: dict[str, Any] = {
    "a word that nobody knows": status("wamid.1", "teleported"),
    "no name": {"status": "read"},
    "null for a name": {"id": None, "status": "delivered"},
    "a number for a word": {"id": "wamid.1", "status": 7},
    "a text": "delivered",
    "a message that is not ours": status("wamid.unknown", "read"),
    "a name with NULs": status("\x00wamid\x00", "read"),
    "a very long name": status("wamid.1" * 1000, "read"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_one_bad_entry_never_loses_its_neighbours(shop: Shop, client: Client, bad: Any) -> None:
    first, second = await shop.hand_over("wamid.1", "wamid.2")
    body = statuses(status("wamid.1", "delivered"), bad, status("wamid.2", "read"))
    assert (await shop.post(client, body)).status == 200
    assert (await shop.status(first), await shop.status(second)) == ("delivered", "read")
    [(receipts, _, unreadable, _, parked)] = await shop.kept()
    assert (receipts - parked, unreadable + parked) == (2, 1)


async def test_a_body_of_several_changes_is_read_whole(shop: Shop, client: Client) -> None:
    first, second = await shop.hand_over("wamid.1", "wamid.2")
    body = envelope(
        {"statuses": [status("wamid.1", "read")]},
        {"errors": [{"code": 131000, "title": "Something went wrong"}]},
        {"statuses": [status("wamid.2", "failed", errors=[{"code": 131026, "title": "Undeliverable"}])]},
    )
    body["entry"].append({"id": "2", "changes": [{"field": "account_update", "value": {"event": "x"}}]})
    assert (await shop.post(client, body)).status == 200
    assert (await shop.status(first), await shop.status(second)) == ("read", "failed")
    [(code,)] = await shop.ask(
        "SELECT code FROM messages WHERE org_id = %(org_id)s AND id = %(id)s", id=second
    )
    assert code == "131026"
    assert await shop.kept() == [(2, 0, 2, 0, 0)]


async def test_a_number_that_is_not_the_accounts_sender_is_kept_and_not_applied(
    shop: Shop, client: Client
) -> None:
    first, second = await shop.hand_over("wamid.1", "wamid.2")
    body = statuses(status("wamid.1", "read"), number="5559999")
    body["entry"] += statuses(status("wamid.2", "read"))["entry"]
    assert (await shop.post(client, body)).status == 200
    assert (await shop.status(first), await shop.status(second)) == ("sent", "read")
    [(unmatched, note)] = await shop.ask(
        "SELECT unmatched, note FROM provider_events WHERE org_id = %(org_id)s"
    )
    assert (unmatched, note) == (1, "sender '5559999' is not of this account")


async def test_an_organization_cannot_touch_anothers_message(shop: Shop, client: Client) -> None:
    """Neither by the provider's id nor by our reference, although both are right."""
    other = await shops.build(shop.database)
    [message] = await other.hand_over("wamid.theirs")
    entries = [
        status("wamid.theirs", "read"),
        status("wamid.x", "failed", biz_opaque_callback_data=str(message)),
    ]
    assert (await shop.post(client, statuses(*entries))).status == 200
    assert await other.status(message) == "sent"
    assert (await other.kept(), await shop.kept()) == ([], [(2, 0, 0, 0, 2)])


async def test_our_reference_finds_a_message_whose_hand_over_is_not_known(shop: Shop, client: Client) -> None:
    message = await shop.enqueue()
    await shop.claim()
    entry = status("wamid.early", "delivered", biz_opaque_callback_data=str(message))
    assert (await shop.post(client, statuses(entry))).status == 200
    assert await shop.status(message) == "delivered"


async def test_a_status_of_an_inbound_message_is_ignored(shop: Shop, client: Client) -> None:
    assert (await shop.post(client, shops.messages(shops.text("Hi", "wamid.in")))).status == 200
    assert (await shop.post(client, statuses(status("wamid.in", "read")))).status == 200
    assert await shop.ask("SELECT status FROM messages WHERE org_id = %(org_id)s") == [("received",)]


# ---- early statuses -------------------------------------------------------------------------------


async def test_a_status_that_comes_before_the_hand_over_is_parked_and_applied_within_seconds(
    shop: Shop, client: Client, street_worker: Database
) -> None:
    stop = asyncio.Event()
    loops = asyncio.create_task(upkeep.run(street_worker, stop))
    try:
        assert (await shop.post(client, statuses(status("wamid.1", "read")))).status == 200
        assert await shop.kept() == [(1, 0, 0, 0, 1)]
        [message] = await shop.hand_over("wamid.1")
        for _ in range(50):
            if await shop.status(message) == "read":
                break
            await asyncio.sleep(0.1)
        assert await shop.status(message) == "read"
    finally:
        stop.set()
        await loops
    assert await shop.ask("SELECT count(*) FROM parked_receipts WHERE org_id = %(org_id)s") == [(0,)]


# ---- any order ------------------------------------------------------------------------------------

WORDS = ("sent", "delivered", "read", "failed", "played", "sent", "delivered")


@settings(max_examples=10)
@given(chance=st.randoms(use_true_random=False))
async def test_statuses_repeated_and_shuffled_over_requests_end_as_those_in_order(
    street: Database, client: Client, street_worker: Database, chance: random.Random
) -> None:
    """Of nine messages, with early ones among them; some requests at once, some in a row."""
    names = [f"wamid.{n}" for n in range(9)]
    told = {name: chance.sample(WORDS, chance.randint(1, 4)) for name in names}
    entries = {name: [status(name, word) for word in words] for name, words in told.items()}
    ends: list[list[tuple[object, ...]]] = []
    for is_wild in (False, True):
        shop = await shops.build(street)
        early = names[:3] if is_wild else []
        for name in names[3:] if is_wild else names:
            await shop.hand_over(name, to=f"+6012000{name[-1]}000")
        given_out = [entry for name in names for entry in entries[name]]
        if is_wild:
            given_out += chance.sample(given_out, len(given_out) // 2)
            chance.shuffle(given_out)
        cuts = sorted({0, len(given_out), *(chance.randrange(len(given_out)) for _ in range(4))})
        bodies = [statuses(*given_out[a:b]) for a, b in pairwise(cuts)]
        answers = await asyncio.gather(*(shop.post(client, body) for body in bodies))
        assert {answer.status for answer in answers} == {200}
        for name in early:
            await shop.hand_over(name, to=f"+6012000{name[-1]}000")
        await upkeep.apply_parked(street_worker)
        ends.append(await rows(shop))
    assert ends[0] == ends[1]


async def rows(shop: Shop) -> list[tuple[object, ...]]:
    """What became of each message, and its history without what differs from run to run."""
    return await shop.ask(
        """
        SELECT m.provider_message_id, m.status, m.stage, m.reason, m.code, m.sent_at IS NOT NULL,
               m.delivered_at IS NOT NULL, m.read_at IS NOT NULL, m.failed_at IS NOT NULL,
               (SELECT array_agg(DISTINCT e.key ORDER BY e.key) FROM message_events e
                 WHERE e.org_id = %(org_id)s AND e.message_id = m.id)
          FROM messages m WHERE m.org_id = %(org_id)s ORDER BY m.provider_message_id
        """
    )
