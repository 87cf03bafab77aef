"""The keyed provider: exactly once, whatever the caller repeats; signed webhooks; a look-up."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.simulator.conftest import Endpoint
from tests.simulator_process import Json, Simulator

GOOD: Json = {"to": "+60123456789", "text": "Hello", "reference": "m_1"}


async def send(
    http: aiohttp.ClientSession, sim: Simulator, body: Any = GOOD, key: str | None = "k1", token: str = ""
) -> tuple[int, Json]:
    headers = ({"Idempotency-Key": key} if key is not None else {}) | (
        {"Authorization": f"Bearer {token}"} if token else {}
    )
    async with http.post(f"{sim.url}/keyed/messages", json=body, headers=headers) as response:
        return response.status, await response.json()


async def test_the_same_key_and_body_get_the_same_answer_and_one_message(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    first = await send(http, sim)
    assert first[0] == 200
    again = await asyncio.gather(*(send(http, sim) for _ in range(20)))
    assert all(answer == first for answer in again)
    summary = await sim.summary()
    assert summary["sends"]["keyed"] == {"accepted": 1, "replayed": 20}
    assert summary["duplicates"] == {"recipient_text": [], "reference": [], "key": []}


async def test_the_same_key_with_another_body_is_a_conflict(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    await send(http, sim)
    answer = await send(http, sim, GOOD | {"text": "Hello again"})
    assert answer == (409, {"error": "key_used_with_another_body"})
    assert (await sim.summary())["sends"]["keyed"] == {"accepted": 1, "conflict": 1}


async def test_another_key_is_another_message_and_the_oracle_calls_it_a_duplicate(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    await send(http, sim, key="k1")
    await send(http, sim, key="k2")
    duplicates = (await sim.summary())["duplicates"]
    assert [one["times"] for one in duplicates["recipient_text"]] == [2]
    assert duplicates["reference"] == [{"of": ["keyed", "m_1"], "times": 2}]
    assert duplicates["key"] == []


REFUSED = {
    "no key": (GOOD, None, 400, "key_required"),
    "an empty key": (GOOD, "", 400, "key_required"),
    "a key of 256 characters": (GOOD, "k" * 256, 400, "key_required"),
    "a field too few": ({"to": "1", "text": "x"}, "k", 422, "fields"),
    "a field too many": (GOOD | {"from": "x"}, "k", 422, "fields"),
    "an empty field": (GOOD | {"reference": ""}, "k", 422, "fields"),
    "a number for a text": (GOOD | {"text": 1}, "k", 422, "fields"),
    "a text of 10,001 characters": (GOOD | {"text": "x" * 10_001}, "k", 422, "text_too_long"),
    "a body that is no object": ("hello", "k", 400, "not_json"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_it_refuses_and_does_not_use_the_key_up(
    case: str, sim: Simulator, http: aiohttp.ClientSession
) -> None:
    body, key, status, code = REFUSED[case]
    answer = await send(http, sim, body, key)
    assert (answer[0], answer[1]["error"]) == (status, code)
    if key == "k":
        assert (await send(http, sim, GOOD, key))[0] == 200


async def test_a_throttled_request_does_not_use_its_key_up(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    await sim.scenario({"keyed": {"rate": 5, "burst": 1}})
    assert [(await send(http, sim, key=key))[0] for key in ("a", "b")] == [200, 429]
    await asyncio.sleep(0.3)
    assert (await send(http, sim, key="b"))[0] == 200


async def test_a_token_names_the_account(sim: Simulator, http: aiohttp.ClientSession) -> None:
    await sim.account("keyed", "shop", token="s")
    await sim.account("keyed", "club", token="c")
    assert [(await send(http, sim, token=token))[0] for token in ("", "x", "s", "c")] == [401, 401, 200, 200]
    accepted = await sim.log(verdict="accepted")
    assert [entry["account"] for entry in accepted] == ["shop", "club"], "a key belongs to its account"
    url, bearer = f"{sim.url}/keyed/messages?reference=m_1", {"Authorization": "Bearer s"}
    async with http.get(url, headers=bearer) as response:
        found = (await response.json())["messages"]
    assert [one["id"] for one in found] == [accepted[0]["message_id"]], "and so does a reference"


async def test_it_can_be_asked_about_a_reference(sim: Simulator, http: aiohttp.ClientSession) -> None:
    _, answer = await send(http, sim)
    await sim.settled()
    async with http.get(f"{sim.url}/keyed/messages", params={"reference": "m_1"}) as response:
        found = await response.json()
    assert found == {
        "messages": [{"id": answer["id"], "reference": "m_1", "to": "+60123456789", "status": "delivered"}]
    }
    async with http.get(f"{sim.url}/keyed/messages", params={"reference": "m_2"}) as response:
        assert await response.json() == {"messages": []}


async def test_keys_and_look_ups_outlive_a_crash(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with Simulator.start(tmp_path) as sim:
        first = await send(http, sim)
        await sim.account("keyed", "default")
        await sim.kill()
        await sim.run()
        assert await send(http, sim) == first
        assert (await send(http, sim, GOOD | {"text": "x"}))[0] == 409
        async with http.get(f"{sim.url}/keyed/messages", params={"reference": "m_1"}) as response:
            assert (await response.json())["messages"][0]["id"] == first[1]["id"]
        assert [entry["seq"] for entry in await sim.log()] == [1, 2, 3, 4]
        assert [account["name"] for account in await sim.control("GET", "/accounts")] == ["default"]


async def test_webhooks_are_signed_over_timestamp_and_body(
    sim: Simulator, http: aiohttp.ClientSession, endpoint: Endpoint
) -> None:
    await sim.account("keyed", "default", url=endpoint.url, secret="s3")
    await sim.scenario({"keyed": {"read": 1.0, "replied": 1.0, "quoted": 1.0, "replies": ["Ja"]}})
    _, answer = await send(http, sim)
    await sim.settled()
    bodies: list[Json] = []
    for one in endpoint.received:
        stamp = one.headers["X-Keyed-Timestamp"]
        good = hmac.new(b"s3", stamp.encode() + b"." + one.body, hashlib.sha256).hexdigest()
        assert one.headers["X-Keyed-Signature"] == good
        assert abs(int(stamp) - time.time()) < 10
        bodies.append(json.loads(one.body))
    statuses = [body["status"] for body in bodies if body["type"] == "status"]
    assert sorted(statuses) == ["delivered", "read", "sent"]
    [reply] = [body for body in bodies if body["type"] == "message"]
    assert (reply["from"], reply["text"], reply["quotes"]) == ("60123456789", "Ja", answer["id"])
