"""Meta's Cloud API, judged by pywa: what it demands, what it answers, what its webhooks look like."""

from __future__ import annotations

import json
from typing import Any, cast

import aiohttp
import pytest
from pywa.client import WhatsApp
from pywa.errors import MessageUndeliverable, ReEngagementMessage
from pywa.types.message import Message
from pywa.types.message_status import MessageStatus, MessageStatusType
from pywa.utils import webhook_updates_validator

from tests.simulator.conftest import Endpoint, Received
from tests.simulator_process import Json, Simulator

NUMBER = "5550001"
SECRET = "app-secret"
TEXT: Json = {
    "messaging_product": "whatsapp",
    "recipient_type": "individual",
    "to": "60123456789",
    "type": "text",
    "text": {"body": "Apa khabar?"},
    "biz_opaque_callback_data": "m_1",
}


def template(*components: Json, name: str = "offer", language: str = "en_US") -> Json:
    asked = {"name": name, "language": {"code": language}, "components": list(components)}
    return {"messaging_product": "whatsapp", "to": "60123456789", "type": "template", "template": asked}


def body(*texts: str) -> Json:
    return {"type": "body", "parameters": [{"type": "text", "text": text} for text in texts]}


async def send(
    http: aiohttp.ClientSession, sim: Simulator, message: Any, token: str = "Bearer t"
) -> tuple[int, Json]:
    url = f"{sim.url}/v23.0/{NUMBER}/messages"
    async with http.post(url, json=message, headers={"Authorization": token}) as response:
        return response.status, await response.json()


async def test_a_text_is_accepted(sim: Simulator, http: aiohttp.ClientSession) -> None:
    status, answer = await send(http, sim, TEXT)
    assert status == 200
    assert answer["contacts"] == [{"input": "60123456789", "wa_id": "60123456789"}]
    [entry] = await sim.log()
    assert (entry["message_id"], entry["reference"]) == (answer["messages"][0]["id"], "m_1")


def without(key: str) -> Json:
    return {name: value for name, value in TEXT.items() if name != key}


REFUSED: dict[str, tuple[Any, int, int]] = {
    "no product": (without("messaging_product"), 100, 400),
    "no recipient": (without("to"), 100, 400),
    "a recipient with letters": (TEXT | {"to": "60-abc"}, 131009, 400),
    "a recipient that is a number": (TEXT | {"to": 60123456789}, 131009, 400),
    "no text": (without("text"), 131008, 400),
    "an empty text": (TEXT | {"text": {"body": ""}}, 131008, 400),
    "a text of 4097 characters": (TEXT | {"text": {"body": "x" * 4097}}, 100, 400),
    "a preview_url that is a text": (TEXT | {"text": {"body": "x", "preview_url": "yes"}}, 100, 400),
    "callback data of 513 characters": (TEXT | {"biz_opaque_callback_data": "x" * 513}, 131009, 400),
    "a field that it does not know": (TEXT | {"message": "x"}, 100, 400),
    "a type that is not played": (TEXT | {"type": "hologram"}, 131051, 400),
    "a template beside a text": (TEXT | {"template": {}}, 100, 400),
    "a template that nobody approved": (template(name="unheard"), 132001, 404),
    "a template in another language": (template(body("a", "b"), language="ms"), 132001, 404),
    "one parameter too few": (template(body("a")), 132000, 400),
    "one parameter too many": (template(body("a", "b", "c")), 132000, 400),
    "no body at all": (template(), 132000, 400),
    "a header that the template lacks": (
        template({"type": "header", "parameters": [{"type": "text", "text": "x"}]}, body("a", "b")),
        132000,
        400,
    ),
    "a parameter of another kind": (
        template(
            {
                "type": "body",
                "parameters": [{"type": "payload", "payload": "x"}, {"type": "text", "text": "b"}],
            }
        ),
        100,
        400,
    ),
    "an empty parameter": (template(body("", "b")), 131008, 400),
    "a parameter with a new line": (template(body("a\nb", "c")), 100, 400),
    "a parameter of 1025 characters": (template(body("x" * 1025, "c")), 132005, 400),
    "a component that is none": (template({"type": "footer"}, body("a", "b")), 131009, 400),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_it_refuses_with_the_code_of_the_table(
    case: str, sim: Simulator, http: aiohttp.ClientSession
) -> None:
    await sim.template("offer", body=2)
    message, code, http_status = REFUSED[case]
    status, answer = await send(http, sim, message)
    assert (status, answer["error"]["code"]) == (http_status, code)
    assert answer["error"]["error_data"]["details"]
    [entry] = await sim.log()
    assert (entry["verdict"], entry["code"]) == ("refused", str(code))


@pytest.mark.parametrize("token", ["", "Basic x", "Bearer", "Bearer other"])
async def test_a_bad_token_is_190(token: str, sim: Simulator, http: aiohttp.ClientSession) -> None:
    await sim.account("meta", NUMBER, token="t")
    status, answer = await send(http, sim, TEXT, token)
    assert (status, answer["error"]["code"]) == (401, 190)


async def test_limits_are_inclusive(sim: Simulator, http: aiohttp.ClientSession) -> None:
    await sim.template("offer", body=2)
    for message in (
        TEXT | {"text": {"body": "x" * 4096}, "biz_opaque_callback_data": "x" * 512},
        TEXT | {"to": "+60123456789", "context": {"message_id": "wamid.X"}},
        template(body("x" * 1024, "b")),
    ):
        assert (await send(http, sim, message))[0] == 200


async def test_a_full_template_is_checked_in_every_place(sim: Simulator, http: aiohttp.ClientSession) -> None:
    await sim.template("full", body=["name", "order"], header="image", buttons=["quick_reply", "url"])
    image = {
        "type": "header",
        "parameters": [{"type": "image", "image": {"link": "https://example.com/a.jpg"}}],
    }
    named = {
        "type": "body",
        "parameters": [
            {"type": "text", "parameter_name": name, "text": name.upper()} for name in ("name", "order")
        ],
    }
    reply: Json = {
        "type": "button",
        "sub_type": "quick_reply",
        "index": "0",
        "parameters": [{"type": "payload", "payload": "P"}],
    }
    link: Json = {
        "type": "button",
        "sub_type": "url",
        "index": 1,
        "parameters": [{"type": "text", "text": "t"}],
    }
    assert (await send(http, sim, template(image, named, reply, link, name="full")))[0] == 200
    wrong = (
        ((named, reply, link), 132000),
        ((image, body("a", "b"), reply, link), 132012),
        ((image, named, reply), 132000),
        ((image, named, reply, link | {"sub_type": "copy_code"}), 132012),
    )
    for components, code in wrong:
        _, answer = await send(http, sim, template(*components, name="full"))
        assert answer["error"]["code"] == code
    await sim.template("full", status="paused")
    assert (await send(http, sim, template(name="full")))[1]["error"]["code"] == 132015


async def test_a_read_receipt_is_no_message(sim: Simulator, http: aiohttp.ClientSession) -> None:
    receipt = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.X"}
    assert await send(http, sim, receipt) == (200, {"success": True})
    assert (await sim.summary())["accepted"] == 0


# ---- webhooks, as pywa sees them ---------------------------------------------------------------------

CLIENT = WhatsApp(phone_id=NUMBER, token="t", verify_token="v", server=None)


def verified(one: Received) -> Any:
    """The body, once pywa has accepted its signature and refused the same with a byte changed."""
    header = one.headers["X-Hub-Signature-256"]
    assert webhook_updates_validator(SECRET, one.body, header)
    assert not webhook_updates_validator(SECRET, one.body[:-1] + b" ", header)
    assert one.body.isascii(), "Meta escapes what is not ASCII"
    return json.loads(one.body)


def told(one: Received) -> MessageStatus[Any]:
    """The one status in a webhook, as pywa reads it."""
    return cast("MessageStatus[Any]", MessageStatus.from_update(CLIENT, verified(one)))  # pyright: ignore[reportUnknownMemberType]


async def test_statuses_are_signed_and_echo_our_data(
    sim: Simulator, http: aiohttp.ClientSession, endpoint: Endpoint
) -> None:
    await sim.account("meta", NUMBER, url=endpoint.url, secret=SECRET)
    await sim.template("offer", body=2)
    await sim.scenario({"meta": {"read": 1.0}})
    _, answer = await send(http, sim, template(body("a", "b")) | {"biz_opaque_callback_data": "m_7"})
    await sim.settled()
    statuses = [told(one) for one in endpoint.received]
    assert {one.status for one in statuses} == {
        MessageStatusType.SENT,
        MessageStatusType.DELIVERED,
        MessageStatusType.READ,
    }
    for one in statuses:
        assert (one.id, one.tracker, one.from_user.wa_id) == (
            answer["messages"][0]["id"],
            "m_7",
            "60123456789",
        )
        assert one.metadata.phone_number_id == NUMBER
        assert one.pricing is not None
        assert one.pricing.category == "marketing"


async def test_a_number_without_whatsapp_is_accepted_and_fails(
    sim: Simulator, http: aiohttp.ClientSession, endpoint: Endpoint
) -> None:
    await sim.account("meta", NUMBER, url=endpoint.url, secret=SECRET)
    await sim.scenario({"meta": {"absent_suffixes": ["404"]}})
    status, _ = await send(http, sim, TEXT | {"to": "60123456404"})
    assert status == 200
    [one] = await endpoint.until(1)
    failed = told(one)
    assert failed.status is MessageStatusType.FAILED
    assert isinstance(failed.error, MessageUndeliverable)


async def test_free_text_outside_the_service_window_fails(
    sim: Simulator, http: aiohttp.ClientSession, endpoint: Endpoint
) -> None:
    await sim.account("meta", NUMBER, url=endpoint.url, secret=SECRET)
    await sim.scenario({"meta": {"service_window": True}})
    await send(http, sim, TEXT)
    [one] = await endpoint.until(1)
    assert isinstance(told(one).error, ReEngagementMessage)
    await sim.inbound("meta", "60123456789", "hi")
    await endpoint.until(2)
    await send(http, sim, TEXT)
    await sim.settled()
    last = told(endpoint.received[-1])
    assert last.status in (MessageStatusType.SENT, MessageStatusType.DELIVERED)


async def test_an_inbound_message_names_person_and_quoted_message(sim: Simulator, endpoint: Endpoint) -> None:
    await sim.account("meta", NUMBER, url=endpoint.url, secret=SECRET)
    await sim.inbound("meta", "60123456789", "Boleh 👍", id="wamid.IN", quotes="wamid.OUT")
    [one] = await endpoint.until(1)
    message = Message.from_update(CLIENT, verified(one))
    assert (message.id, message.text, message.from_user.wa_id) == ("wamid.IN", "Boleh 👍", "60123456789")
    assert message.reply_to_message is not None
    assert message.reply_to_message.id == "wamid.OUT"
    assert json.loads(one.body)["entry"][0]["changes"][0]["value"]["contacts"][0]["user_id"].startswith("MY.")


async def test_an_account_may_be_without_business_scoped_ids(sim: Simulator, endpoint: Endpoint) -> None:
    await sim.account("meta", NUMBER, url=endpoint.url, secret=SECRET, user_ids=False)
    await sim.inbound("meta", "60123456789", "hi", fields={"type": "reaction", "reaction": {"emoji": "x"}})
    [one] = await endpoint.until(1)
    assert b"user_id" not in one.body
    assert b'"reaction"' in one.body


async def test_events_share_a_webhook_when_asked_to(
    sim: Simulator, http: aiohttp.ClientSession, endpoint: Endpoint
) -> None:
    await sim.account("meta", NUMBER, url=endpoint.url, secret=SECRET)
    await sim.scenario({"meta": {"batch": 4, "batch_wait": 0.3, "statuses": "none"}})
    for number in range(3):
        await sim.control("POST", "/status", {"provider": "meta", "id": f"wamid.{number}", "status": "read"})
    await sim.inbound("meta", "60123456789", "hi")
    [one] = await endpoint.until(1)
    statuses, messages = verified(one)["entry"][0]["changes"]
    assert [status["id"] for status in statuses["value"]["statuses"]] == ["wamid.0", "wamid.1", "wamid.2"]
    assert len(messages["value"]["messages"]) == 1


async def test_a_webhook_is_sent_again_until_it_is_taken(sim: Simulator, endpoint: Endpoint) -> None:
    await sim.account("meta", NUMBER, url=endpoint.url, secret=SECRET)
    await sim.scenario({"meta": {"webhook_retry_delay": 0.01}})
    endpoint.answers = [500, 403]
    await sim.inbound("meta", "60123456789", "hi")
    await sim.settled()
    assert len({one.body for one in endpoint.received}) == 1
    assert [(one["number"], one["status"]) for one in await sim.webhooks()] == [(1, 500), (2, 403), (3, 200)]


async def test_duplicates_and_disorder_come_when_asked_for(
    sim: Simulator, http: aiohttp.ClientSession, endpoint: Endpoint
) -> None:
    await sim.account("meta", NUMBER, url=endpoint.url, secret=SECRET)
    await sim.scenario({"meta": {"duplicates": 1.0, "disorder": 0.5, "read": 1.0}})
    for number in range(10):
        await send(http, sim, TEXT | {"to": f"6012345678{number}"})
    await sim.settled()
    order: dict[str, list[str]] = {}
    for one in endpoint.received:
        status = verified(one)["entry"][0]["changes"][0]["value"]["statuses"][0]
        order.setdefault(status["id"], []).append(status["status"])
    assert all(sorted(seen) == sorted(["sent", "delivered", "read"] * 2) for seen in order.values())
    assert any(seen.index("read") < seen.index("delivered") for seen in order.values())


async def test_the_handshake_is_metas(sim: Simulator, endpoint: Endpoint) -> None:
    endpoint.token = "verify-me"
    await sim.account("meta", NUMBER, url=endpoint.url, verify_token="verify-me")
    assert await sim.control("POST", "/handshake", {"challenge": "42"}) == {
        "status": 200,
        "body": "42",
        "ok": True,
    }
    refused = await sim.control("POST", "/handshake", {"verify_token": "wrong"})
    assert (refused["status"], refused["ok"]) == (403, False)
