"""WSAPME as it is observed: failures under HTTP 200, statuses by asking and by webhook, inbound without an id."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from typing import Any

import aiohttp
import pytest

from tests.simulator.conftest import Endpoint
from tests.simulator_process import Json, Simulator

TOKEN = {"x-wsapme-token": "t-1"}
GOOD: Json = {"device": "d1", "to": "60123456789", "message": "Hello"}


async def send(
    http: aiohttp.ClientSession, sim: Simulator, body: Any = GOOD, **headers: str
) -> tuple[int, Json]:
    async with http.post(f"{sim.url}/v1/sendMessage2", json=body, headers=headers or TOKEN) as response:
        return response.status, await response.json()


async def ask(http: aiohttp.ClientSession, sim: Simulator, message_id: str, device: str = "d1") -> Json:
    body = {"device": device, "messageId": message_id}
    async with http.post(f"{sim.url}/v1/getMessageStatus", json=body, headers=TOKEN) as response:
        assert response.status == 200
        return await response.json()


async def test_a_message_is_answered_in_the_observed_shape_and_logged(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    status, answer = await send(http, sim)
    assert (status, answer["success"], answer["message"]) == (200, True, "Sent Successfully")
    assert answer["data"]["key"] == {
        "remoteJid": "60123456789@s.whatsapp.net",
        "fromMe": True,
        "id": answer["messageId"],
    }
    assert answer["data"]["status"] == "PENDING"
    [entry] = await sim.log(operation="send")
    assert (entry["verdict"], entry["account"], entry["recipient"], entry["text"], entry["message_id"]) == (
        "accepted",
        "d1",
        "60123456789",
        "Hello",
        answer["messageId"],
    )


REFUSED = {
    "a device that is missing": ({"to": "60123456789", "message": "x"}, "device"),
    "a device that is not a text or number": (GOOD | {"device": True}, "device"),
    "a number with letters": (GOOD | {"to": "6012-ABC"}, "to"),
    "a number that is a number": (GOOD | {"to": 60123456789}, "to"),
    "an empty message": (GOOD | {"message": ""}, "message"),
    "a message that is not text": (GOOD | {"message": {"text": "x"}}, "message"),
    "a priority as a number": (GOOD | {"priority": 1}, "priority"),
    "an exclude_group that is no list": (GOOD | {"exclude_group": "a"}, "exclude_group"),
    "a field that it does not know": (GOOD | {"text": "x"}, "field"),
    "a body that is no object": ([GOOD], "json"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_it_refuses_under_http_200(case: str, sim: Simulator, http: aiohttp.ClientSession) -> None:
    body, code = REFUSED[case]
    status, answer = await send(http, sim, body)
    assert (status, answer["success"]) == (200, False)
    [entry] = await sim.log()
    assert (entry["verdict"], entry["code"]) == ("refused", code)


@pytest.mark.parametrize(
    "to", ["+60123456789", "60123456789", "120363021234567890@g.us"], ids=["with a plus", "digits", "a group"]
)
async def test_it_takes_each_form_of_a_recipient(
    to: str, sim: Simulator, http: aiohttp.ClientSession
) -> None:
    _, answer = await send(http, sim, GOOD | {"to": to, "device": 17, "priority": "1", "exclude_group": []})
    assert answer["success"]


async def test_a_token_that_is_not_the_accounts_is_unauthorised(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    await sim.account("wsapme", "d1", token="t-1")
    for headers in ({"x-wsapme-token": "t-2"}, {"x-nothing": "1"}):
        status, answer = await send(http, sim, **headers)
        assert (status, answer) == (200, {"success": False, "message": "Unauthorised Token"})
    assert (await send(http, sim))[1]["success"]
    assert (await send(http, sim, GOOD | {"device": "d2"}))[1]["message"] == "Device not found"


async def test_a_phone_that_is_off_refuses(sim: Simulator, http: aiohttp.ClientSession) -> None:
    await sim.account("wsapme", "d1", connected=False)
    assert (await send(http, sim))[1] == {"success": False, "message": "Device not connected"}
    async with http.post(f"{sim.url}/v1/info", json={"device": "d1"}, headers=TOKEN) as response:
        assert (await response.json())["data"]["status"] == "disconnected"
    async with http.get(f"{sim.url}/v1/devices", headers=TOKEN) as response:
        assert [device["id"] for device in (await response.json())["data"]] == ["d1"]


async def test_a_number_without_whatsapp_is_refused_at_once(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    await sim.scenario({"wsapme": {"absent_suffixes": ["404"]}})
    _, answer = await send(http, sim, GOOD | {"to": "60123456404"})
    assert answer == {"success": False, "message": "60123456404 is not on WhatsApp"}
    assert (await send(http, sim))[1]["success"]


async def test_above_its_rate_it_throttles_and_says_how_long(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    await sim.scenario({"wsapme": {"rate": 2, "burst": 2, "retry_after": "3"}})
    answers = [await send(http, sim) for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    assert (await send(http, sim, GOOD | {"device": "d2"}))[0] == 200, "another device has a rate of its own"
    await asyncio.sleep(0.6)
    assert (await send(http, sim))[0] == 200, "half a second later there is room for one"


async def test_polling_climbs_the_ladder(sim: Simulator, http: aiohttp.ClientSession) -> None:
    pause = {"least": 0.1, "mean": 0.1}
    steps = {"sent_after": pause, "delivered_after": pause, "read_after": pause}
    await sim.scenario({"wsapme": {"read": 1.0, "statuses": "poll", **steps}})
    _, answer = await send(http, sim)
    seen: list[str] = []
    async with asyncio.timeout(10):
        while not seen or seen[-1] != "READ":
            data = (await ask(http, sim, answer["messageId"]))["data"]
            if not seen or data["status"] != seen[-1]:
                seen.append(data["status"])
            await asyncio.sleep(0.005)
    assert seen == ["PENDING", "SERVER_ACK", "DELIVERY_ACK", "READ"]
    assert (await ask(http, sim, "WMAPI0"))["message"] == "Message not found"
    assert (await ask(http, sim, answer["messageId"], device="d2"))["message"] == "Message not found"


async def test_statuses_by_half_leave_the_other_half_to_polling(
    sim: Simulator, http: aiohttp.ClientSession, endpoint: Endpoint
) -> None:
    await sim.account("wsapme", url=endpoint.url)
    await sim.scenario({"wsapme": {"statuses": "half"}})
    ids = [(await send(http, sim, GOOD | {"to": f"6012345{n:04}"}))[1]["messageId"] for n in range(40)]
    await sim.settled()
    told = {json.loads(one.body)["key"]["id"] for one in endpoint.received}
    assert 8 < len(told) < 32
    for one in ids:
        assert (await ask(http, sim, one))["data"]["status"] == "DELIVERY_ACK"


@pytest.mark.parametrize("encoding", ["json", "form", "form_json"])
async def test_an_acknowledgement_comes_in_the_encoding_asked_for(
    encoding: str, sim: Simulator, http: aiohttp.ClientSession, endpoint: Endpoint
) -> None:
    await sim.account("wsapme", "d1", url=endpoint.url, encoding=encoding)
    _, answer = await send(http, sim)
    first, second = (await endpoint.until(2))[:2]
    bodies: list[Json] = []
    for one in (first, second):
        if encoding == "json":
            bodies.append(json.loads(one.body))
            continue
        form = dict(urllib.parse.parse_qsl(one.body.decode(), strict_parsing=True))
        bodies.append(
            json.loads(form["data"]) if encoding == "form_json" else form | {"key": json.loads(form["key"])}
        )
    assert {body["status"] for body in bodies} == {"SERVER_ACK", "DELIVERY_ACK"}
    assert {body["key"]["id"] for body in bodies} == {answer["messageId"]}


async def test_people_reply_in_turn_and_without_an_id(
    sim: Simulator, http: aiohttp.ClientSession, endpoint: Endpoint
) -> None:
    await sim.account("wsapme", "d1", url=endpoint.url, number="60311112222")
    await sim.scenario({"wsapme": {"read": 1.0, "replied": 1.0, "replies": ["Ya", "STOP"]}})
    await send(http, sim)
    await send(http, sim, GOOD | {"to": "60123456780"})
    await sim.settled()
    replies = [body for one in endpoint.received if "dataReceiver" in (body := json.loads(one.body))]
    assert sorted(reply["message"] for reply in replies) == ["STOP", "Ya"]
    assert {reply["from"] for reply in replies} == {"60123456789@c.us", "60123456780@c.us"}
    assert all(
        "id" not in reply and reply["dataReceiver"]["jid"] == "60311112222@s.whatsapp.net"
        for reply in replies
    )
