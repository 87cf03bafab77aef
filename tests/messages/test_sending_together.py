"""Single messages over a real socket, many at a time: each gets the answer that it would get alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from antiphon.core.db import Database
from antiphon.organizations.model import Actor
from tests import make
from tests.entry import live
from tests.entry.live import Client
from tests.messages.road import sender_in

MESSAGES = "/api/v1/messages"


class Shop:
    """A sender, a client, and a look at the ledger."""

    def __init__(self, client: Client, database: Database, org_id: UUID, sender_id: UUID) -> None:
        self.client, self.database, self.org_id, self.sender_id = client, database, org_id, sender_id

    def message(self, n: int, **more: Any) -> dict[str, Any]:
        """A message to the n-th person."""
        return {"sender": str(self.sender_id), "to": f"+49151{10_000_000 + n}", "text": f"Hello {n}"} | more

    async def ledger(self) -> dict[str, str]:
        """What is written, by id: the address."""
        async with self.database.transaction(self.org_id) as conn:
            cursor = await conn.execute(
                "SELECT m.id, m.address FROM messages m JOIN outbox o ON o.org_id = m.org_id AND o.message_id = m.id"
                " WHERE m.org_id = %s",
                (self.org_id,),
            )
            return {str(id_): address for id_, address in await cursor.fetchall()}

    async def entries(self) -> list[str]:
        """The subjects of the audit log's entries of sending."""
        async with self.database.transaction(self.org_id) as conn:
            cursor = await conn.execute(
                "SELECT subject_id FROM audit_log WHERE org_id = %s AND action = 'messages.sent'",
                (self.org_id,),
            )
            return [str(id_) for (id_,) in await cursor.fetchall()]


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    organization = await make.organization(database)
    async with database.transaction(organization.id) as conn:
        sender = await sender_in(conn, organization.id)
    token = await make.token(database, organization.id)
    async with live.serving(live.services(database)) as anonymous:
        yield Shop(anonymous.signed_in(token), database, organization.id, sender.id)


async def test_each_of_many_gets_its_own_answer(shop: Shop) -> None:
    people = [shop.message(n) for n in range(40)]
    await asyncio.gather(
        *(shop.client.post(MESSAGES, message) for message in people)
    )  # now everybody is known
    odd = {
        7: (shop.message(7, sender="nobody"), 422),
        13: (shop.message(13, to="+49abc"), 422),
        21: (shop.message(21, text="a\0b"), 422),
        28: (shop.message(28, expires_at="2020-01-01T00:00:00Z"), 422),
        33: (shop.message(133), 201),  # somebody new
        39: (shop.message(39, to="0151 10000039"), 201),  # as at home
    }
    wanted = [odd[n][0] if n in odd else message for n, message in enumerate(people)]
    before = await shop.ledger()
    answers = await asyncio.gather(*(shop.client.post(MESSAGES, message) for message in wanted))
    assert [a.status for a in answers] == [odd[n][1] if n in odd else 201 for n in range(40)]
    made = {id_: address for id_, address in (await shop.ledger()).items() if id_ not in before}
    told = {a.json["ids"][0]: message for a, message in zip(answers, wanted, strict=True) if a.status == 201}
    assert made.keys() == told.keys()
    assert all(made[id_] == told[id_]["to"] for id_ in told if told[id_]["to"].startswith("+"))
    assert sorted(await shop.entries()) == sorted(await shop.ledger())


async def test_a_revoked_key_sends_nothing_more_however_many_ask(shop: Shop) -> None:
    await shop.client.post(MESSAGES, shop.message(1))
    async with shop.database.transaction(shop.org_id) as conn:
        key, token = await make.key(conn, shop.org_id, ["messages:send"])
    revoked = shop.client.signed_in(token)
    assert (await revoked.post(MESSAGES, shop.message(1))).status == 201
    assert (await shop.client.post(f"/api/v1/keys/{key.id}/revoke")).status == 200
    before = await shop.ledger()
    answers = await asyncio.gather(*(revoked.post(MESSAGES, shop.message(1)) for _ in range(20)))
    assert {answer.status for answer in answers} == {401}
    assert await shop.ledger() == before


async def test_with_an_idempotency_key_it_is_sent_once_beside_others(shop: Shop) -> None:
    headers = {"Idempotency-Key": "once"}
    requests = [shop.client.post(MESSAGES, shop.message(1), headers=headers) for _ in range(3)]
    plain = [shop.client.post(MESSAGES, shop.message(1)) for _ in range(10)]
    answers = await asyncio.gather(*requests, *plain)
    assert {a.status for a in answers[:3]} <= {201, 409} and {a.status for a in answers[3:]} == {201}
    again = await shop.client.post(MESSAGES, shop.message(1), headers=headers)
    assert again.status == 201 and len(await shop.ledger()) == 11


async def test_nothing_of_the_actor_is_lost(shop: Shop) -> None:
    answer = await shop.client.post(MESSAGES, shop.message(1))
    answer = await shop.client.post(MESSAGES, shop.message(1))
    async with shop.database.transaction(shop.org_id) as conn:
        cursor = await conn.execute(
            "SELECT m.caused_by, a.actor_kind || ':' || a.actor_id, a.detail FROM messages m"
            "  JOIN audit_log a ON a.org_id = m.org_id AND a.subject_id = m.id WHERE m.org_id = %s AND m.id = %s",
            (shop.org_id, answer.json["ids"][0]),
        )
        [(caused_by, actor, detail)] = await cursor.fetchall()
    assert caused_by == actor and actor.startswith("key:") and detail == {"count": 1}
    assert actor != Actor.operator(shop.org_id).label
