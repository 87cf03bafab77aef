"""Providers, accounts and incidents over a real socket: nothing secret comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from antiphon.core import ids
from antiphon.core.db import Database
from antiphon.senders import service
from tests import make
from tests.entry import live
from tests.entry.live import Client

ACCOUNTS = "/api/v1/provider-accounts"
SHOP: dict[str, Any] = {"provider": "wsapme", "name": "Shop", "credentials": {"token": "wsap-secret-1"}}


@pytest.fixture
async def org(database: Database) -> UUID:
    return (await make.organization(database)).id


@pytest.fixture
async def client(database: Database, org: UUID) -> AsyncIterator[Client]:
    async with live.serving(live.services(database, public_url="https://m.example.com")) as anonymous:
        yield anonymous.signed_in(await make.token(database, org))


async def test_the_providers_say_what_they_ask_for(client: Client) -> None:
    answer = await client.get("/api/v1/providers")
    assert answer.status == 200
    shown = {provider["name"]: provider for provider in answer.json}
    assert {"wsapme", "meta_whatsapp", "smtp"} <= set(shown)
    assert "keyed" not in shown
    [token, base_url] = shown["wsapme"]["credentials"]
    assert (token["name"], token["secret"], token["required"]) == ("token", True, True)
    assert (base_url["name"], base_url["secret"], base_url["required"]) == ("base_url", False, False)
    assert shown["smtp"]["channels"] == ["email"]


async def test_no_answer_ever_holds_a_credential(client: Client, database: Database, org: UUID) -> None:
    headers = {"Idempotency-Key": "once"}
    made = await client.post(ACCOUNTS, SHOP, headers=headers)
    assert made.status == 201, made.content
    path = f"{ACCOUNTS}/{made.json['account']['id']}"
    again = await client.post(ACCOUNTS, SHOP, headers=headers)
    assert (again.status, again.json["account"], again.json["webhook"]) == (201, made.json["account"], None)
    answers = [
        made,
        again,
        await client.get(ACCOUNTS),
        await client.get(path),
        await client.patch(path, {"name": "Other"}),
        await client.post(f"{path}/credentials", {"credentials": {"token": "wsap-secret-2"}}),
        await client.post(f"{path}/credentials", {"credentials": {"token": 5, "tokn": "wsap-secret-3"}}),
        await client.get(f"{path}/webhook"),
        await client.get("/api/v1/audit-log"),
    ]
    assert [answer.status for answer in answers] == [201, 201, 200, 200, 200, 200, 422, 200, 200]
    for answer in answers:
        assert b"wsap-secret" not in answer.content
    assert answers[6].json["errors"][0]["field"] == "credentials.tokn"
    vault = live.services(database).vault
    async with database.transaction(org) as conn:
        opened = await service.open_account(conn, org, UUID(made.json["account"]["id"]), vault)
    assert opened.credentials.token == "wsap-secret-2"


async def test_the_webhooks_address_is_shown_again_and_renewed(
    client: Client, database: Database, org: UUID
) -> None:
    made = (await client.post(ACCOUNTS, SHOP)).json
    path = f"{ACCOUNTS}/{made['account']['id']}/webhook"
    url = made["webhook"]["url"]
    assert url.startswith(f"https://m.example.com/webhooks/wsapme/{ids.short(org)}/")
    assert (await client.get(path)).json["url"] == url
    renewed = (await client.post(path)).json["webhook"]["url"]
    assert renewed != url
    assert (await client.get(path)).json["url"] == renewed
    reader = client.signed_in(await make.token(database, org, ["senders:read"]))
    assert (await reader.get(path)).status == 403
    assert (await reader.get(ACCOUNTS)).status == 200
    assert url.rpartition("/")[2].encode() not in (await client.get("/api/v1/audit-log")).content


async def test_incidents_are_listed_and_closed_by_hand(client: Client, database: Database, org: UUID) -> None:
    subject = ids.new_id()
    async with database.transaction(org) as conn:
        await service.open_incident(conn, org, "sender", subject, "account", "the token was refused")
    [shown] = (await client.get("/api/v1/incidents", params={"open": "true"})).json["items"]
    assert (shown["kind"], shown["reason"], shown["closed_at"]) == ("account", "the token was refused", None)
    closed = await client.post(f"/api/v1/incidents/{shown['id']}/close")
    assert closed.json["closed_by"].startswith("key:")
    assert (await client.post(f"/api/v1/incidents/{shown['id']}/close")).code == "incident_closed"
    assert (await client.get("/api/v1/incidents", params={"open": "true"})).json["items"] == []
    assert (
        len((await client.get("/api/v1/incidents", params={"subject_id": str(subject)})).json["items"]) == 1
    )


async def test_who_may_not_write_may_not_and_strangers_find_nothing(
    client: Client, database: Database, org: UUID
) -> None:
    made = (await client.post(ACCOUNTS, SHOP)).json
    path = f"{ACCOUNTS}/{made['account']['id']}"
    reader = client.signed_in(await make.token(database, org, ["senders:read"]))
    stranger = client.signed_in(await make.token(database, (await make.organization(database)).id))
    for one, status in ((reader, 403), (stranger, 404)):
        answers = [
            await one.patch(path, {"name": "x"}),
            await one.post(f"{path}/credentials", {"credentials": {"token": "x"}}),
            await one.get(f"{path}/webhook"),
            await one.post(f"{path}/webhook"),
            await one.delete(path),
        ]
        assert [answer.status for answer in answers] == [status] * 5
    assert (await stranger.get(path)).status == 404
    assert (await stranger.get(ACCOUNTS)).json["items"] == []
    assert (await client.delete(path)).status == 204
    assert (await client.get(path)).status == 404
