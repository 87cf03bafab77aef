"""Templates over a real socket: what a person sees when they write one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from antiphon.core import ids
from antiphon.core.db import Database
from tests import make
from tests.entry import live
from tests.entry.live import Client

TEMPLATES = "/api/v1/templates"
REMINDER: dict[str, Any] = {
    "name": "7 Tage Vorfreude",
    "channel": "email",
    "language": "de",
    "subject": "Das erwartet dich am Haff",
    "text": "Hallo {{ firstName }}, am {{ eventDate }} um {{ eventTime }}. {{ tier }}",
    "html": "<h1>Hallo {{ firstName }}</h1>",
    "variables": {"tier": {"sample": "<gold>", "default": "basic"}},
}


@pytest.fixture
async def org(database: Database) -> UUID:
    return (await make.organization(database)).id


@pytest.fixture
async def client(database: Database, org: UUID) -> AsyncIterator[Client]:
    async with live.serving(live.services(database)) as anonymous:
        yield anonymous.signed_in(await make.token(database, org))


async def test_a_template_is_made_shown_changed_and_deleted(client: Client) -> None:
    made = await client.post(f"{TEMPLATES}/", REMINDER)
    assert made.status == 201, made.content
    path = f"{TEMPLATES}/{made.json['id']}"
    assert (await client.get(path)).json == made.json
    assert made.json["versions"][0]["variables"] == {"tier": {"sample": "<gold>", "default": "basic"}}
    changed = await client.patch(path, {"description": "a week before"})
    assert (changed.status, changed.json["description"]) == (200, "a week before")
    version = await client.post(
        f"{path}/versions", {"language": "en", "subject": "Soon", "text": "Hi {{ firstName }}"}
    )
    assert (version.status, version.json["version"]) == (201, 1)
    assert (await client.get(f"{path}/versions/{version.json['id']}")).json == version.json
    assert (await client.get(f"{path}/versions", params={"language": "en"})).json["items"] == [version.json]
    assert (await client.post(f"{path}/archive")).json["status"] == "archived"
    assert (await client.post(f"{path}/activate")).json["status"] == "active"
    copy = await client.post(f"{path}/clone", {"name": "Another"})
    assert (copy.status, copy.json["status"], copy.json["languages"]) == (201, "draft", ["de", "en"])
    listed = await client.get(f"{TEMPLATES}/", params={"channel": "email", "status": "draft"})
    assert [template["name"] for template in listed.json["items"]] == ["Another"]
    assert (await client.delete(path)).status == 204
    assert (await client.get(path)).status == 404


async def test_a_preview_shows_samples_a_contact_and_every_language(client: Client) -> None:
    made = (await client.post(f"{TEMPLATES}/", REMINDER)).json
    path = f"{TEMPLATES}/{made['id']}"
    await client.post(
        f"{path}/versions", {"language": "en", "subject": "x", "text": "{{ eventDate }} {{ eventTime }}"}
    )
    shown = await client.post(f"{path}/preview", {})
    assert shown.status == 200, shown.content
    assert [(one["language"], one["said"]["text"]) for one in shown.json] == [
        ("de", "Hallo Max, am 15. März 2025 um 09:00 Uhr. <gold>"),
        ("en", "March 15, 2025 9:00 AM"),
    ]
    assert shown.json[0]["said"]["html"] == "<h1>Hallo Max</h1>"
    one = await client.post(
        f"{path}/preview", {"language": "de-AT", "variables": {"tier": None, "firstName": ""}}
    )
    assert [(p["said"], p["missing"]) for p in one.json] == [(None, ["firstName"])]
    assert "firstName has no value" in one.json[0]["problem"]
    draft = {"content": {"subject": "a", "text": "Moin {{ firstName }}"}, "language": "de"}
    assert (await client.post(f"{path}/preview", draft)).json[0]["said"]["text"] == "Moin Max"
    broken = await client.post(f"{path}/preview", {"content": {"subject": "a", "text": "{% set a = 1 %}"}})
    assert (broken.status, broken.code) == (422, "template_invalid")


async def test_a_preview_for_a_contact_makes_nothing_up_about_them(client: Client) -> None:
    contact = await client.post(
        "/api/v1/contacts/", {"first_name": "Ada", "language": "de", "attributes": {"tier": "x"}}
    )
    assert contact.status == 201, contact.content
    made = (await client.post(f"{TEMPLATES}/", REMINDER)).json
    text = {"text": "{{ firstName }} {{ tier }} {{ eventDate }} {{ lastName|default('?') }}", "subject": "x"}
    wanted = {"contact_id": contact.json["id"], "content": {**text, "variables": REMINDER["variables"]}}
    [shown] = (await client.post(f"{TEMPLATES}/{made['id']}/preview", wanted)).json
    assert shown["said"]["text"] == "Ada x 15. März 2025 ?"
    unknown = {"contact_id": str(ids.new_id())}
    assert (await client.post(f"{TEMPLATES}/{made['id']}/preview", unknown)).status == 404


WRONG: list[tuple[str, dict[str, Any], list[str]]] = [
    ("an unknown variable", {"text": "{{ frstName }}"}, ["text"]),
    ("a text that doubles itself", {"text": "{% set a = 'x' %}" + "{% set a = a ~ a %}" * 40}, ["text"]),
    ("a loop in a loop", {"text": "{% for a in x %}{% for b in y %}{% endfor %}{% endfor %}"}, ["text"]),
    ("a filter outside the list", {"html": "{{ firstName|safe }}"}, ["html"]),
    ("attribute access", {"subject": "{{ firstName.__class__ }}"}, ["subject"]),
    ("several at once", {"subject": "{{ a() }}", "html": "<a title={{ firstName }}>"}, ["subject", "html"]),
    ("a channel that does not exist", {"channel": "pigeon"}, ["channel"]),
    ("a language that is none", {"language": "deutsch!"}, ["language"]),
    ("an unknown field", {"txet": "x"}, ["txet"]),
    ("a text that is none", {"text": 5, "status": "sent"}, ["text", "status"]),
    ("an SMS with HTML", {"channel": "sms"}, ["subject", "html"]),
    ("a NUL", {"text": "a\0b"}, ["text"]),
]


async def test_a_refusal_names_every_wrong_field_and_stores_nothing(client: Client) -> None:
    for what, more, fields in WRONG:
        answer = await client.post(f"{TEMPLATES}/", {**REMINDER, **more})
        named = sorted(error["field"] for error in answer.json["errors"])
        assert (answer.status, named) == (422, sorted(fields)), what
    assert (await client.get(f"{TEMPLATES}/")).json["items"] == []


async def test_a_repeated_request_makes_one_template(client: Client) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await client.post(f"{TEMPLATES}/", REMINDER, headers=headers)
    again = await client.post(f"{TEMPLATES}/", REMINDER, headers=headers)
    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json
    taken = await client.post(f"{TEMPLATES}/", REMINDER)
    assert (taken.status, taken.code) == (409, "template_name_taken")


async def test_reading_does_not_let_you_write(client: Client, database: Database, org: UUID) -> None:
    made = (await client.post(f"{TEMPLATES}/", REMINDER)).json
    path = f"{TEMPLATES}/{made['id']}"
    reader = client.signed_in(await make.token(database, org, ["templates:read"]))
    assert (await reader.get(path)).status == 200
    assert (await reader.post(f"{path}/preview", {})).status == 200
    for answer in (
        await reader.post(f"{TEMPLATES}/", REMINDER),
        await reader.patch(path, {"name": "x"}),
        await reader.post(f"{path}/versions", {"text": "x"}),
        await reader.post(f"{path}/clone", {}),
        await reader.post(f"{path}/archive"),
        await reader.delete(path),
    ):
        assert (answer.status, answer.code) == (403, "permission_missing")


async def test_another_organizations_template_is_not_found(client: Client, database: Database) -> None:
    made = (await client.post(f"{TEMPLATES}/", REMINDER)).json
    stranger = client.signed_in(await make.token(database, (await make.organization(database)).id))
    for path in (f"{TEMPLATES}/{made['id']}", f"{TEMPLATES}/{ids.new_id()}"):
        answers = [
            await stranger.get(path),
            await stranger.patch(path, {"name": "x"}),
            await stranger.post(f"{path}/preview", {}),
            await stranger.get(f"{path}/versions"),
            await stranger.get(f"{path}/versions/{made['versions'][0]['id']}"),
            await stranger.delete(path),
        ]
        assert [(answer.status, answer.code) for answer in answers] == [(404, "not_found")] * 6
