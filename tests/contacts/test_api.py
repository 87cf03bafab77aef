"""Contacts, groups, suppressions and imports over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from antiphon.contacts.jobs import ImportContacts, Importing
from antiphon.core.db import Database
from antiphon.jobs import runner
from antiphon.jobs.model import Handlers
from antiphon.jobs.runner import Pace
from tests import make
from tests.contacts import files
from tests.entry import live
from tests.entry.live import Client

CONTACTS = "/api/v1/contacts"
GROUPS = "/api/v1/groups"
SUPPRESSIONS = "/api/v1/suppressions"
IMPORTS = f"{CONTACTS}/imports"


@pytest.fixture
async def org(database: Database) -> UUID:
    return (await make.organization(database)).id


@pytest.fixture
async def client(database: Database, org: UUID, tmp_path: Path) -> AsyncIterator[Client]:
    async with live.serving(live.services(database, data_dir=tmp_path)) as anonymous:
        yield anonymous.signed_in(await make.token(database, org))


@pytest.fixture
async def worker(worker_database: Database) -> AsyncIterator[None]:
    """Imports are done meanwhile."""
    stop, importing = asyncio.Event(), Importing()
    handlers: Handlers = {ImportContacts: importing}
    task = asyncio.create_task(runner.work(worker_database, handlers, stop, Pace(look_every=0.02)))
    yield
    stop.set()
    await task
    await importing.close()


async def test_a_contact_from_beginning_to_end(client: Client) -> None:
    made = await client.post(
        CONTACTS, {"name": "Anna Berg", "phone": "0151 23456789", "email": "A@Example.com"}
    )
    assert made.status == 201
    contact = f"{CONTACTS}/{made.json['id']}"
    assert {a["kind"]: a["value"] for a in made.json["addresses"]} == {
        "phone": "+4915123456789",
        "email": "a@example.com",
    }
    taken = await client.post(CONTACTS, {"phone": "+4915123456789"})
    assert (taken.status, taken.code) == (409, "address_taken")
    wrong = await client.post(CONTACTS, {"phone": "12", "timezone": "Mars", "colour": 1})
    assert wrong.status == 422
    changed = await client.patch(contact, {"last_name": None, "attributes": {"tier": "gold"}})
    assert (changed.status, changed.json["last_name"], changed.json["attributes"]) == (
        200,
        None,
        {"tier": "gold"},
    )
    more = await client.post(
        f"{contact}/addresses", {"kind": "email", "value": "work@example.com", "label": "work"}
    )
    assert (more.status, len(more.json["addresses"])) == (201, 3)
    address = next(a["id"] for a in more.json["addresses"] if a["label"] == "work")
    assert len((await client.delete(f"{contact}/addresses/{address}")).json["addresses"]) == 2
    said = {"channel": "whatsapp", "is_given": True, "source": "form", "wording": "Yes"}
    assert (await client.post(f"{contact}/consents", said)).status == 201
    facts = (await client.get(f"{contact}/consents")).json["items"]
    assert [(f["channel"], f["address"], f["wording"]) for f in facts] == [
        ("whatsapp", "+4915123456789", "Yes")
    ]
    assert (await client.delete(contact)).status == 204
    assert (await client.get(contact)).status == 404
    assert (await client.post(f"{contact}/restore")).json["id"] == made.json["id"]


async def test_lists_by_every_filter(client: Client) -> None:
    bulk = [{"name": f"Person {i}", "phone": f"+4915123456{i:03}", "is_active": i % 2 == 0} for i in range(6)]
    made = await client.post(f"{CONTACTS}/bulk", {"contacts": bulk})
    assert made.status == 201
    ids = [contact["id"] for contact in made.json["contacts"]]
    group = (await client.post(GROUPS, {"name": "Guests"})).json["id"]
    assert (await client.post(f"{GROUPS}/{group}/members", {"contacts": ids[:4]})).json == {"changed": 4}

    async def shown(**params: str) -> list[str]:
        answer = await client.get(CONTACTS, params=params)
        assert answer.status == 200, answer.json
        return [contact["first_name"] + contact["last_name"] for contact in answer.json["items"]]

    assert len(await shown()) == 6
    assert await shown(q="person 456003") == ["Person3"]
    assert await shown(active="false", group=group) == ["Person3", "Person1"]
    assert await shown(channel="email") == []
    assert await shown(created_from="2031-01-01T00:00:00Z") == []
    assert len(await shown(created_to="4102444800000", created_from="946684800000")) == 6
    first = (await client.get(CONTACTS, params={"limit": "4"})).json
    assert len((await client.get(CONTACTS, params={"cursor": first["next"]})).json["items"]) == 2
    for wrong in ({"limit": "0"}, {"cursor": "x"}, {"channel": "pigeon"}, {"group": "x"}):
        assert (await client.get(CONTACTS, params=wrong)).status in {400, 404, 422}
    changed = await client.patch(f"{CONTACTS}/bulk", {"ids": ids[:2], "changes": {"company": "Südwind"}})
    assert [contact["company"] for contact in changed.json["contacts"]] == ["Südwind", "Südwind"]
    assert (await client.post(f"{CONTACTS}/bulk/delete", {"ids": ids[:2]})).json == {"deleted": 2}
    assert len((await client.get(f"{GROUPS}/{group}/members")).json["items"]) == 2
    assert len(await shown(deleted="true")) == 2


async def test_a_group_from_beginning_to_end(client: Client) -> None:
    made = await client.post(GROUPS, {"name": "Guests", "description": "of the house"})
    group = f"{GROUPS}/{made.json['id']}"
    assert (await client.post(GROUPS, {"name": "guests"})).code == "name_taken"
    assert (await client.patch(group, {"is_active": False})).json["is_active"] is False
    assert (await client.get(group)).json["members"] == 0
    assert [g["name"] for g in (await client.get(GROUPS, params={"active": "false"})).json["items"]] == [
        "Guests"
    ]
    assert (await client.post(f"{group}/members/remove", {"contacts": [str(uuid4())]})).json == {"changed": 0}
    assert (await client.delete(group)).status == 204
    assert (await client.get(group)).status == 404


async def test_an_address_is_forbidden_and_freed(client: Client) -> None:
    made = await client.post(
        SUPPRESSIONS, {"channel": "FACEBOOK", "address": "123", "detail": "asked by letter"}
    )
    assert (made.status, made.json["channel"], made.json["reason"]) == (201, "messenger", "manual")
    assert len((await client.get(SUPPRESSIONS, params={"reason": "manual"})).json["items"]) == 1
    lifted = await client.post(f"{SUPPRESSIONS}/lift", {"channel": "messenger", "address": "123"})
    assert lifted.json["lifted_by"].startswith("key:")
    assert (await client.get(SUPPRESSIONS)).json["items"] == []
    assert (await client.post(SUPPRESSIONS, {"channel": "sms", "address": "12"})).status == 422


# Imports


async def ended(client: Client, import_id: str) -> Any:
    async with asyncio.timeout(30):
        while True:
            found = (await client.get(f"{IMPORTS}/{import_id}")).json
            if found["status"] != "running":
                return found
            await asyncio.sleep(0.05)


async def upload(client: Client, content: str | bytes, **params: str) -> Any:
    data = content.encode() if isinstance(content, str) else content
    return await client.request(
        "POST", IMPORTS, data=data, params=params, headers={"Content-Type": "text/csv"}
    )


@pytest.mark.usefixtures("worker")
async def test_a_file_is_imported_in_the_background(client: Client, tmp_path: Path) -> None:
    group = (await client.post(GROUPS, {"name": "Guests"})).json["id"]
    content = "Who,Handy,Ort\nAnna Berg,0151 23456789,Köln\n=1+1,12,\n"
    begun = await upload(
        client, content, group=group, map="Who=name", extra="attributes", file_name="../a.csv"
    )
    assert begun.status == 202
    assert begun.json["columns"] == {"Who": "name", "Handy": "phone", "Ort": "attr:ort"}
    assert begun.json["file_name"] == "a.csv"
    assert "no consent" in begun.json["warnings"][0]
    done = await ended(client, begun.json["id"])
    assert (done["status"], done["created"], done["rejected"]) == ("done", 1, 1)
    errors = await client.get(f"{IMPORTS}/{done['id']}/errors")
    assert [(e["line"], e["field"], e["content"]) for e in errors.json["items"]] == [(3, "phone", "=1+1,12,")]
    sheet = await client.get(f"{IMPORTS}/{done['id']}/errors.csv")
    assert sheet.headers["content-type"].startswith("text/csv")
    assert "attachment" in sheet.headers["content-disposition"]
    assert b'"\'=1+1,12,"' in sheet.content
    (member,) = (await client.get(f"{GROUPS}/{group}/members")).json["items"]
    assert member["attributes"] == {"ort": "Köln"}
    assert [path.name for path in (tmp_path / "imports").iterdir()] == []


@pytest.mark.usefixtures("worker")
async def test_a_dry_run_over_the_api_writes_no_contact(client: Client) -> None:
    begun = await upload(client, files.people(30), dry_run="true", consent="yes")
    done = await ended(client, begun.json["id"])
    assert (done["is_dry_run"], done["created"]) == (True, 30)
    assert (await client.get(CONTACTS)).json["items"] == []


async def test_a_file_larger_than_other_requests_may_be_is_taken(client: Client) -> None:
    content = files.people(10) + "x,y,12,," + "z" * 30_000 + "\n"
    content += ("x,y,12,," + "z" * 30_000 + "\n") * 500
    assert len(content) > 15_000_000
    begun = await upload(client, content)
    assert (begun.status, begun.json["total_bytes"]) == (202, len(content))


async def test_the_same_file_sent_twice_is_one_import_and_can_be_canceled(client: Client) -> None:
    first, again = [(await upload(client, files.people(10))).json for _ in range(2)]
    assert first["id"] == again["id"]
    assert (await upload(client, files.people(10), overwrite="true")).json["id"] != first["id"]
    canceled = await client.post(f"{IMPORTS}/{first['id']}/cancel")
    assert (canceled.status, canceled.json["status"]) == (200, "canceled")
    assert (await client.post(f"{IMPORTS}/{first['id']}/cancel")).code == "import_ended"
    listed = (await client.get(IMPORTS, params={"status": "running"})).json["items"]
    assert len(listed) == 1


REFUSED: list[tuple[str, str, dict[str, str], str]] = [
    ("an empty file", "", {}, "empty_file"),
    ("no header", "Anna,+4915123456789\n", {}, "missing_header"),
    ("a map that is none", "phone\n1\n", {"map": "phone"}, "invalid"),
    ("a group that does not exist", "phone\n1\n", {"group": str(uuid4())}, "not_found"),
]


@pytest.mark.parametrize(("content", "params", "code"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
async def test_a_file_that_cannot_be_imported_leaves_nothing(
    client: Client, tmp_path: Path, content: str, params: dict[str, str], code: str
) -> None:
    refused = await upload(client, content, **params)
    assert (refused.status, refused.code) == (404 if code == "not_found" else 422, code)
    assert (await client.get(IMPORTS)).json["items"] == []
    assert list(tmp_path.rglob("*.upload")) == []


async def test_another_organization_sees_nothing_of_it(client: Client, database: Database) -> None:
    contact = (await client.post(CONTACTS, {"name": "Anna"})).json["id"]
    group = (await client.post(GROUPS, {"name": "Guests"})).json["id"]
    begun = (await upload(client, files.people(3))).json["id"]
    stranger = client.signed_in(await make.token(database, (await make.organization(database)).id))
    for path in (
        f"{CONTACTS}/{contact}",
        f"{CONTACTS}/{contact}/consents",
        f"{GROUPS}/{group}",
        f"{GROUPS}/{group}/members",
        f"{IMPORTS}/{begun}",
        f"{IMPORTS}/{begun}/errors",
        f"{IMPORTS}/{begun}/errors.csv",
    ):
        assert (await stranger.get(path)).code == "not_found", path
    assert (await stranger.post(f"{IMPORTS}/{begun}/cancel")).status == 404
    for path in (CONTACTS, GROUPS, IMPORTS):
        assert (await stranger.get(path)).json["items"] == []


async def test_a_key_without_the_scope_is_refused(client: Client, database: Database, org: UUID) -> None:
    reader = client.signed_in(await make.token(database, org, ["contacts:read", "groups:read"]))
    assert (await reader.get(CONTACTS)).status == 200
    for answer in (
        await reader.post(CONTACTS, {"name": "Anna"}),
        await reader.post(GROUPS, {"name": "Guests"}),
        await reader.post(SUPPRESSIONS, {"channel": "sms", "address": "+4915123456789"}),
        await upload(reader, files.people(1)),
    ):
        assert (answer.status, answer.code) == (403, "permission_missing")
