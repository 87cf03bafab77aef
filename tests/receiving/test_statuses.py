"""Statuses by webhook, end to end: a socket, a signature, one transaction, the ledger."""

from __future__ import annotations

import asyncio

import msgspec
from pywa.utils import webhook_updates_validator

from tests.entry.live import Client
from tests.receiving.shop import APP_SECRET, Shop, signature, status, statuses


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
    events = await shop.ask(
        "SELECT kind FROM message_events WHERE org_id = %(org_id)s AND message_id = %(id)s", id=message
    )
    assert sorted(events) == [("delivered",), ("sent",)]
    [(delivered,)] = await shop.ask(
        "SELECT sum(n) FROM funnel_deltas WHERE org_id = %(org_id)s AND stage = 'delivered'"
    )
    assert delivered == 1
