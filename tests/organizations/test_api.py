"""The organization, its keys and its audit log, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from antiphon.core import clock
from antiphon.core.db import Database
from antiphon.organizations.model import Permission
from tests import make
from tests.entry import live
from tests.entry.live import Client

ORGANIZATION = "/api/v1/organization"
KEYS = "/api/v1/keys"
AUDIT = "/api/v1/audit-log"


@pytest.fixture
async def org(database: Database) -> UUID:
    return (await make.organization(database)).id


@pytest.fixture
async def client(database: Database, org: UUID) -> AsyncIterator[Client]:
    async with live.serving(live.services(database)) as anonymous:
        yield anonymous.signed_in(await make.token(database, org))


async def test_shows_the_organization_that_the_key_belongs_to(client: Client, org: UUID) -> None:
    answer = await client.get(ORGANIZATION)
    assert answer.status == 200
    assert answer.json["id"] == str(org)
    assert answer.json["timezone"] == "Europe/Berlin"


async def test_changes_what_is_given_and_keeps_the_rest(client: Client) -> None:
    await client.patch(ORGANIZATION, {"settings": {"quiet": "22:00", "reply_days": 14}})
    answer = await client.patch(ORGANIZATION, {"timezone": "Asia/Tokyo", "settings": {"quiet": None}})
    assert answer.status == 200
    shown = (await client.get(ORGANIZATION)).json
    assert (shown["timezone"], shown["country"], shown["settings"]) == (
        "Asia/Tokyo",
        "DE",
        {"reply_days": 14},
    )


WRONG_CHANGES: list[tuple[str, Any, list[str]]] = [
    ("a zone that does not exist", {"timezone": "Mars/Olympus"}, ["timezone"]),
    ("a folder of zones", {"timezone": "Europe"}, ["timezone"]),
    ("a path", {"timezone": "../../etc/passwd"}, ["timezone"]),
    (
        "three wrong fields at once",
        {"name": " ", "country": "Germany", "language": "?"},
        ["name", "country", "language"],
    ),
    ("a number for a name", {"name": 5}, ["name"]),
    ("null where a text must be", {"language": None}, ["language"]),
    ("an unknown field beside a wrong one", {"nmae": "x", "timezone": 1}, ["timezone", "nmae"]),
    ("settings that are too large", {"settings": {"x": "y" * 20_000}}, ["settings"]),
    ("a list instead of an object", [1], [""]),
]


@pytest.mark.parametrize(("what", "body", "fields"), WRONG_CHANGES, ids=[case[0] for case in WRONG_CHANGES])
async def test_names_every_wrong_field(client: Client, what: str, body: Any, fields: list[str]) -> None:
    answer = await client.patch(ORGANIZATION, body)
    assert (answer.status, answer.code) == (422, "invalid"), what
    assert [error["field"] for error in answer.json["errors"]] == fields


async def test_a_token_is_shown_once_and_works(client: Client) -> None:
    answer = await client.post(KEYS, {"name": "booking system", "scopes": ["organization:read"]})
    assert answer.status == 201
    token, key = answer.json["token"], answer.json["key"]
    assert token.startswith(key["prefix"])
    assert (await client.signed_in(token).get(ORGANIZATION)).status == 200
    for shown in (await client.get(f"{KEYS}/{key['id']}"), await client.get(KEYS), await client.get(AUDIT)):
        assert shown.status == 200
        assert token.encode() not in shown.content


WRONG_KEYS: list[tuple[str, Any, int, list[str]]] = [
    ("no scopes", {"name": "x", "scopes": []}, 422, ["scopes"]),
    ("a scope that does not exist", {"name": "x", "scopes": ["jobs:read", "all"]}, 422, ["scopes[1]"]),
    (
        "an expiry in the past",
        {"name": "x", "scopes": ["jobs:read"], "expires_at": 1000},
        422,
        ["expires_at"],
    ),
    (
        "an expiry without a time zone",
        {"name": "x", "scopes": [], "expires_at": "2099-01-01T00:00:00"},
        422,
        ["expires_at"],
    ),
    ("nothing", {}, 422, ["name", "scopes"]),
]


@pytest.mark.parametrize(
    ("what", "body", "status", "fields"), WRONG_KEYS, ids=[case[0] for case in WRONG_KEYS]
)
async def test_refuses_a_key_with(
    client: Client, what: str, body: Any, status: int, fields: list[str]
) -> None:
    answer = await client.post(KEYS, body)
    assert answer.status == status, what
    assert [error["field"] for error in answer.json["errors"]] == fields


async def test_no_key_makes_one_that_can_do_more(client: Client, database: Database, org: UUID) -> None:
    weak = client.signed_in(await make.token(database, org, ["keys:write"]))
    answer = await weak.post(KEYS, {"name": "more", "scopes": ["keys:write", "contacts:read"]})
    assert (answer.status, answer.code) == (403, "scope_not_yours")
    assert "contacts:read" in answer.json["detail"]


async def test_a_revoked_key_is_refused_by_its_next_request(client: Client) -> None:
    made = (await client.post(KEYS, {"name": "lost laptop", "scopes": list(Permission)})).json
    lost = client.signed_in(made["token"])
    for _ in range(3):  # known to the process now
        assert (await lost.get(ORGANIZATION)).status == 200
    assert (await client.post(f"{KEYS}/{made['key']['id']}/revoke")).status == 200
    for answer in (
        await lost.get(ORGANIZATION),
        await lost.patch(ORGANIZATION, {"name": "Stolen"}),
        await lost.patch(ORGANIZATION, {"name": "Stolen"}, headers={"Idempotency-Key": "k"}),
        await lost.get(ORGANIZATION),
    ):
        assert answer.status == 401
    assert (await client.get(ORGANIZATION)).json["name"] == "Lakeside Hotels"
    again = await client.post(f"{KEYS}/{made['key']['id']}/revoke")
    assert (again.status, again.code) == (409, "key_revoked")


async def test_a_key_that_expires_is_refused_from_that_moment(
    client: Client, database: Database, org: UUID
) -> None:
    async with database.transaction(org) as conn:
        _, token = await make.key(conn, org, expires_at=clock.now() + timedelta(seconds=0.6))
    short = client.signed_in(token)
    assert (await short.get(ORGANIZATION)).status == 200
    await asyncio.sleep(0.7)
    assert (await short.get(ORGANIZATION)).status == 401


BAD_HEADERS: list[tuple[str, dict[str, str]]] = [
    ("nothing", {}),
    ("an empty bearer", {"Authorization": "Bearer "}),
    ("a password", {"Authorization": "Basic YWRtaW46YWRtaW4="}),
    ("a word", {"X-API-Key": "admin"}),
    ("the right organization with a made-up secret", {"X-API-Key": "ORG_AND_WRONG"}),
    ("another organization's name before a real secret", {"X-API-Key": "OTHER_ORG"}),
]


@pytest.mark.parametrize(("what", "headers"), BAD_HEADERS, ids=[case[0] for case in BAD_HEADERS])
async def test_nobody_gets_in_with(
    client: Client, database: Database, what: str, headers: dict[str, str]
) -> None:
    token = client.token or ""
    mark, own, secret = token.split("_", 2)
    other = (await make.token(database, (await make.organization(database)).id)).split("_", 2)[1]
    headers = {
        name: value.replace("ORG_AND_WRONG", f"{mark}_{own}_{secret[::-1]}").replace(
            "OTHER_ORG", f"{mark}_{other}_{secret}"
        )
        for name, value in headers.items()
    }
    answer = await client.signed_in(None).get(ORGANIZATION, headers=headers)
    assert (answer.status, answer.code) == (401, "unauthorized"), what
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_may_come_in_either_header(client: Client) -> None:
    answer = await client.signed_in(None).get(ORGANIZATION, headers={"X-API-Key": client.token or ""})
    assert answer.status == 200


async def test_use_of_a_key_is_noted_at_most_once_a_minute(
    client: Client, database: Database, org: UUID
) -> None:
    assert (await client.get(ORGANIZATION)).status == 200
    first = (await client.get(KEYS)).json["items"][0]["last_used_at"]
    assert first is not None
    for _ in range(5):
        await client.get(ORGANIZATION)
    assert (await client.get(KEYS)).json["items"][0]["last_used_at"] == first


async def test_keys_come_in_pages_the_newest_first(client: Client) -> None:
    for number in range(5):
        await client.post(KEYS, {"name": f"key {number}", "scopes": ["jobs:read"]})
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await client.get(KEYS, params={"limit": "2"} | ({"cursor": cursor} if cursor else {}))).json
        assert len(page["items"]) <= 2
        names += [key["name"] for key in page["items"]]
        cursor = page["next"]
    assert names == ["key 4", "key 3", "key 2", "key 1", "key 0", "test key"]


BAD_LISTS: list[tuple[str, dict[str, str], str]] = [
    ("a limit of nothing", {"limit": "0"}, "limit"),
    ("a limit above 200", {"limit": "201"}, "limit"),
    ("a limit that is a word", {"limit": "all"}, "limit"),
    ("a cursor of another list", {"cursor": "WzFd"}, "cursor"),
    ("a cursor that is none", {"cursor": "%"}, "cursor"),
]


@pytest.mark.parametrize(("what", "params", "field"), BAD_LISTS, ids=[case[0] for case in BAD_LISTS])
async def test_a_list_refuses(client: Client, what: str, params: dict[str, str], field: str) -> None:
    answer = await client.get(KEYS, params=params)
    assert (answer.status, answer.code) == (422, "invalid"), what
    assert [error["field"] for error in answer.json["errors"]] == [field]


async def test_the_audit_log_says_who_did_what(client: Client) -> None:
    key = (await client.post(KEYS, {"name": "made", "scopes": ["jobs:read"]})).json["key"]
    await client.patch(ORGANIZATION, {"language": "de"})
    entries = (await client.get(AUDIT)).json["items"]
    assert [entry["action"] for entry in entries][:2] == ["organization.updated", "key.created"]
    assert entries[1]["subject_id"] == key["id"]
    assert entries[1]["actor_kind"] == "key"
    by_action = (await client.get(AUDIT, params={"action": "organization.updated"})).json["items"]
    assert [entry["detail"] for entry in by_action] == [{"changed": ["language"]}]
    by_subject = (await client.get(AUDIT, params={"subject_id": key["id"]})).json["items"]
    assert len(by_subject) == 1
    later = str(int((clock.now() + timedelta(hours=1)).timestamp() * 1000))
    assert (await client.get(AUDIT, params={"since": later})).json["items"] == []
    assert len((await client.get(AUDIT, params={"until": later, "limit": "1"})).json["items"]) == 1


async def test_a_key_of_another_organization_is_like_one_that_does_not_exist(
    client: Client, database: Database
) -> None:
    other = (await make.organization(database)).id
    async with database.transaction(other) as conn:
        key, _ = await make.key(conn, other)
    random = uuid4()
    theirs, nobodys = await client.get(f"{KEYS}/{key.id}"), await client.get(f"{KEYS}/{random}")
    assert theirs.status == nobodys.status == 404
    assert theirs.content.replace(str(key.id).encode(), b"") == nobodys.content.replace(
        str(random).encode(), b""
    )
