"""WSAPME's webhooks: JSON, a form, JSON inside a form; nothing signed, nothing dated, often nothing named."""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec
import pytest

from antiphon.core.db import Database
from tests.entry.live import Answer, Client
from tests.receiving import shop as shops
from tests.receiving.shop import DEVICE, WSAPME, Json, Shop

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def gateway(street: Database) -> Shop:
    """An organization with an account at WSAPME."""
    return await shops.build(street, "wsapme", WSAPME, DEVICE)


async def post(client: Client, shop: Shop, body: bytes | str, kind: str = JSON) -> Answer:
    raw = body.encode() if isinstance(body, str) else body
    return await client.post(shop.path, data=raw, headers={"content-type": kind})


def ack(name: str, word: str) -> Json:
    return {"key": {"id": name, "fromMe": True, "remoteJid": "60111111111@s.whatsapp.net"}, "status": word}


ONE = msgspec.json.encode(ack("3EB0A1", "DELIVERY_ACK"))
SHAPES: dict[str, tuple[bytes | str, str]] = {
    "JSON": (ONE, JSON),
    "JSON that says it is text": (ONE, "text/plain"),
    "a list": (b"[" + ONE + b"]", JSON),
    "a list under a name": (b'{"events": [' + ONE + b"]}", JSON),
    "a flat object": ('{"messageId": "3EB0A1", "messageStatus": "delivered", "device": "60300000000"}', JSON),
    "a number for a status": ('{"id": "3EB0A1", "status": 3}', JSON),
    "the other count": ('{"id": "3EB0A1", "ack": 2}', JSON),
    "a form": (urlencode({"messageId": "3EB0A1", "status": "DELIVERY_ACK"}), FORM),
    "JSON in a form's field": (urlencode({"data": ONE.decode()}), FORM),
    "a form that says it is JSON in one field": (urlencode({"data": ONE.decode()}), "text/html"),
}


@pytest.mark.parametrize(("body", "kind"), SHAPES.values(), ids=SHAPES.keys())
async def test_a_status_in_whatever_shape_moves_its_message(
    gateway: Shop, client: Client, body: bytes | str, kind: str
) -> None:
    [message] = await gateway.hand_over("3EB0A1")
    assert (await post(client, gateway, body, kind)).status == 200
    assert (await post(client, gateway, body, kind)).status == 200
    assert await gateway.status(message) == "delivered"
    assert await gateway.kept() == [(1, 0, 0, 0, 0)] * 2


async def test_an_error_of_the_phone_is_a_failure(gateway: Shop, client: Client) -> None:
    [message] = await gateway.hand_over("3EB0A1")
    assert (await post(client, gateway, msgspec.json.encode(ack("3EB0A1", "ERROR")))).status == 200
    assert await gateway.status(message) == "failed"


def inbound(words: str, sender: str = "60111111111@c.us", at: int = 1767225600, **more: object) -> bytes:
    return msgspec.json.encode(
        {
            "type": "text", "message": words, "file": "", "from": sender, "timestamp": at, "is_forwarded": False,
            "is_broadcast": False, "dataSender": "Aina",
            "dataReceiver": {"jid": f"{DEVICE}@s.whatsapp.net", "name": "Shop", "phone": {}, "imgUrl": ""},
        }
        | more
    )  # fmt: skip


async def test_a_message_without_a_name_is_received_once_and_said_twice_is_two(
    gateway: Shop, client: Client
) -> None:
    bodies = [inbound("yes"), inbound("yes"), inbound("yes", at=1767225603)]
    for body in bodies:
        assert (await post(client, gateway, body)).status == 200
    found = await gateway.ask(
        """
        SELECT m.sender_id, m.address, c.text, p.first_name
          FROM messages m
          JOIN message_contents c ON c.org_id = m.org_id AND c.message_id = m.id
          JOIN contacts p ON p.org_id = m.org_id AND p.id = m.contact_id
         WHERE m.org_id = %(org_id)s
        """
    )
    assert found == [(gateway.sender.id, "+60111111111", "yes", "Aina")] * 2


GROUPS = {
    "a group": inbound("hi", sender="120363-1@g.us"),
    "a newsletter": inbound("hi", sender="1@newsletter"),
    "a status for all": inbound("hi", sender="status@broadcast"),
    "a broadcast": inbound("hi", is_broadcast=True),
}


@pytest.mark.parametrize("body", GROUPS.values(), ids=GROUPS.keys())
async def test_groups_and_broadcasts_are_ignored_on_purpose_and_counted(
    gateway: Shop, client: Client, body: bytes
) -> None:
    assert (await post(client, gateway, body)).status == 200
    assert await gateway.kept() == [(0, 0, 1, 0, 0)]
    assert await gateway.ask("SELECT count(*) FROM messages WHERE org_id = %(org_id)s") == [(0,)]
    [(note,)] = await gateway.ask("SELECT note FROM provider_events WHERE org_id = %(org_id)s")
    assert note == "a group or a broadcast"


async def test_what_nobody_understands_is_kept(gateway: Shop, client: Client) -> None:
    for body in (b"", b"\x00\xff", b"a=1&b=2", b'{"hello": "world"}'):
        assert (await post(client, gateway, body)).status == 200
    assert [sum(counts) for counts in await gateway.kept()] == [1, 1, 1, 1]
