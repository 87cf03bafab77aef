"""Campaigns and blasts over a real socket, with a worker's jobs between the requests."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from antiphon.core.db import Database
from antiphon.entry import wiring
from antiphon.jobs import runner
from antiphon.organizations.model import Actor, Permission
from tests import make as base
from tests.campaigns import make
from tests.entry import live
from tests.entry.live import Client

BLASTS = "/api/v1/blasts"
CAMPAIGNS = "/api/v1/campaigns"


class Shop:
    """An organization with a sender, and a client that may do everything in it."""

    def __init__(self, org_id: UUID, client: Client, worker: Database) -> None:
        self.org_id = org_id
        self.client = client
        self.worker = worker

    async def blast(self, count: int = 3, **more: Any) -> dict[str, Any]:
        """A draft with so many recipients on its list."""
        body: dict[str, Any] = {"sender": "Shop", "tag": "Launch", "text": "Hello {{ firstName }}"} | more
        made = await self.client.post(f"{BLASTS}/", body)
        assert made.status == 201, made.json
        people = [{"to": f"+6012345{n:04d}"} for n in range(1000, 1000 + count)]
        if people:
            added = await self.client.post(f"{BLASTS}/{made.json['id']}/recipients", {"recipients": people})
            assert (added.status, added.json["added"]) == (200, count)
        return made.json

    async def work(self, until: Any) -> None:
        """Let a worker run jobs until a condition holds."""
        stop = asyncio.Event()
        task = asyncio.create_task(runner.work(self.worker, wiring.HANDLERS, stop))
        try:
            for _ in range(400):
                if await until():
                    return
                await asyncio.sleep(0.05)
            raise AssertionError("it did not happen within 20 seconds")
        finally:
            stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def sent(self, count: int = 3, **more: Any) -> str:
        """A blast that is launched and wholly in the ledger."""
        made = await self.blast(count, **more)
        path = f"{BLASTS}/{made['id']}"
        answer = await self.client.post(f"{path}/send")
        assert (answer.status, answer.json["status"]) == (200, "active")

        async def expanded() -> bool:
            return (await self.client.get(path)).json["is_expanded"]

        await self.work(expanded)
        return path


@pytest.fixture
async def shop(database: Database, worker_database: Database) -> AsyncIterator[Shop]:
    org = await base.organization(database, country="MY")
    async with database.transaction(org.id) as conn:
        await make.sender(conn, Actor.operator(org.id))
    async with live.serving(live.services(database)) as anonymous:
        client = anonymous.signed_in(await base.token(database, org.id))
        yield Shop(org.id, client, worker_database)


async def test_a_blast_goes_from_draft_to_ledger_and_shows_its_funnel(shop: Shop) -> None:
    made = await shop.blast(3, follow_up_stage="Initial")
    assert (made["kind"], made["status"], made["channel"]) == ("blast", "draft", "whatsapp")
    path = f"{BLASTS}/{made['id']}"
    preview = (await shop.client.get(f"{path}/preview")).json
    assert (preview["recipients"], preview["no_consent"]) == (3, 3)
    await shop.client.patch(path, {"purpose": "notification"})
    assert (await shop.client.get(f"{path}/preview")).json["reachable"] == 3
    assert (await shop.client.post(f"{path}/send", {})).json["status"] == "active"

    async def in_ledger() -> bool:
        return (await shop.client.get(f"{path}/funnel")).json["recipients"] == 3

    await shop.work(in_ledger)
    shown = (await shop.client.get(f"{path}/recipients", params={"status": "PENDING"})).json
    assert {item["address"] for item in shown["items"]} == {f"+6012345{n}" for n in (1000, 1001, 1002)}
    assert {item["status"] for item in shown["items"]} == {"scheduled"}
    again = await shop.client.post(f"{path}/launch", {})
    assert (again.status, again.code) == (409, "blast_active")


async def test_recipients_are_paged_searched_and_exported(shop: Shop) -> None:
    path = await shop.sent(5, purpose="notification")
    first = (await shop.client.get(f"{path}/recipients", params={"limit": "3"})).json
    second = (
        await shop.client.get(f"{path}/recipients", params={"limit": "3", "cursor": first["next"]})
    ).json
    assert (len(first["items"]), len(second["items"]), second["next"]) == (3, 2, None)
    found = (await shop.client.get(f"{path}/recipients", params={"search": "451003"})).json["items"]
    assert [item["address"] for item in found] == ["+60123451003"]
    assert (await shop.client.get(f"{path}/recipients", params={"reached": "sent"})).json["items"] == []
    wrong = await shop.client.get(f"{path}/recipients", params={"status": "asleep"})
    assert (wrong.status, wrong.json["errors"][0]["field"]) == (422, "status")
    file = await shop.client.get(f"{path}/recipients.csv")
    assert file.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(file.content.decode())))
    assert len(rows) == 5
    assert {row["address"] for row in rows} == {f"+6012345{n}" for n in range(1000, 1005)}
    assert (await shop.client.get(f"{BLASTS}/{uuid4()}/recipients.csv")).status == 404


async def test_pause_resume_and_cancel(shop: Shop) -> None:
    path = await shop.sent(2, purpose="notification")
    assert (await shop.client.post(f"{path}/pause", {"reason": "wrong price"})).json["status"] == "paused"
    assert (await shop.client.get(path)).json["status_reason"] == "wrong price"
    assert (await shop.client.post(f"{path}/resume")).json["status"] == "active"
    assert (await shop.client.post(f"{path}/cancel", {})).json["status"] == "canceled"

    async def settled() -> bool:
        return (await shop.client.get(f"{path}/funnel")).json["canceled"] == 2

    await shop.work(settled)
    assert (await shop.client.post(f"{path}/resume")).code == "blast_canceled"
    made = await shop.client.post(f"{path}/follow-up", {"stage": "canceled", "text": "Once more"})
    assert (made.status, made.json["recipients"]) == (201, 2)
    closed = await shop.client.post(f"{path}/close", {"to": "012-345 1000"})
    assert closed.status == 200
    assert closed.json["closed_at"] is not None


async def test_a_campaign_is_not_found_below_blasts_and_the_other_way_round_is(shop: Shop) -> None:
    made = await shop.client.post(f"{CAMPAIGNS}/", {"sender": "Shop", "text": "Hi"})
    assert (made.status, made.json["kind"]) == (201, "campaign")
    for method, rest in [
        ("GET", ""),
        ("GET", "/preview"),
        ("POST", "/resume"),
        ("GET", "/funnel"),
        ("DELETE", ""),
    ]:
        answer = await shop.client.request(method, f"{BLASTS}/{made.json['id']}{rest}")
        assert answer.status == 404, (method, rest)
    blast = await shop.blast(0)
    assert (await shop.client.get(f"{CAMPAIGNS}/{blast['id']}")).status == 200
    assert [c["id"] for c in (await shop.client.get(f"{BLASTS}/")).json["items"]] == [blast["id"]]
    assert len((await shop.client.get(f"{CAMPAIGNS}/")).json["items"]) == 2
    only = (await shop.client.get(f"{CAMPAIGNS}/", params={"kind": "campaign"})).json["items"]
    assert [c["id"] for c in only] == [made.json["id"]]
    assert (await shop.client.delete(f"{CAMPAIGNS}/{blast['id']}")).status == 204
    assert (await shop.client.get(f"{CAMPAIGNS}/{blast['id']}")).status == 404


async def test_a_time_is_set_and_taken_back(shop: Shop) -> None:
    path = f"{BLASTS}/{(await shop.blast(1))['id']}"
    at = "2099-01-01T09:00:00+08:00"
    scheduled = await shop.client.post(f"{path}/schedule", {"at": at})
    assert (scheduled.json["status"], scheduled.json["scheduled_for"]) == (
        "scheduled",
        "2099-01-01T01:00:00Z",
    )
    assert (await shop.client.post(f"{path}/schedule", {"at": 946684800000})).json["errors"][0][
        "field"
    ] == "at"
    assert (await shop.client.post(f"{path}/unschedule")).json["status"] == "draft"


async def test_the_same_request_again_makes_one_blast(shop: Shop) -> None:
    body = {"sender": "Shop", "text": "Hi"}
    headers = {"Idempotency-Key": "one"}
    first = await shop.client.post(f"{BLASTS}/", body, headers=headers)
    second = await shop.client.post(f"{BLASTS}/", body, headers=headers)
    assert first.json["id"] == second.json["id"]
    assert len((await shop.client.get(f"{BLASTS}/")).json["items"]) == 1


async def test_another_organization_finds_nothing(shop: Shop, database: Database) -> None:
    path = await shop.sent(1)
    stranger = await base.organization(database, "Other")
    client = shop.client.signed_in(await base.token(database, stranger.id))
    assert (await client.get(f"{BLASTS}/")).json["items"] == []
    for method, rest, body in [
        ("GET", "", None), ("PATCH", "", {}), ("DELETE", "", None), ("GET", "/preview", None), ("POST", "/launch", {}),
        ("POST", "/send", {}), ("POST", "/schedule", {"at": "2099-01-01T00:00:00Z"}), ("POST", "/unschedule", None),
        ("POST", "/pause", {}), ("POST", "/resume", None), ("POST", "/cancel", {}), ("GET", "/recipients", None),
        ("POST", "/recipients/remove", {"contacts": [str(uuid4())]}), ("POST", "/test", {"to": ["+60123450001"]}),
        ("POST", "/recipients", {"recipients": [{"to": "+60123450001"}]}), ("GET", "/recipients.csv", None),
        ("POST", "/follow-up", {"stage": "sent"}), ("POST", "/close", {"to": "+60123451000"}), ("GET", "/funnel", None),
    ]:  # fmt: skip
        assert (await client.request(method, path + rest, json=body)).status == 404, (method, rest)


async def test_launching_needs_its_own_permission_and_pausing_does_not(
    shop: Shop, database: Database
) -> None:
    path = await shop.sent(1)
    scopes = [Permission.CAMPAIGNS_READ, Permission.CAMPAIGNS_WRITE]
    client = shop.client.signed_in(await base.token(database, shop.org_id, scopes))
    assert (await client.post(f"{path}/pause", {})).status == 200
    for verb in ("launch", "send", "cancel", "test"):
        assert (await client.post(f"{path}/{verb}", {})).code == "permission_missing", verb
    assert (await client.post(f"{path}/resume")).code == "permission_missing"
    assert (
        await client.post(f"{path}/schedule", {"at": "2099-01-01T00:00:00Z"})
    ).code == "permission_missing"
    reader = shop.client.signed_in(await base.token(database, shop.org_id, [Permission.CAMPAIGNS_READ]))
    assert (await reader.get(path)).status == 200
    assert (await reader.post(f"{path}/pause", {})).code == "permission_missing"


async def test_who_speaks_none_of_a_templates_languages_reads_the_default_one(shop: Shop) -> None:
    body = {"name": "Offer", "channel": "whatsapp", "text": "Hello", "language": "en"}
    template = (await shop.client.post("/api/v1/templates", body)).json
    german = {"text": "Hallo", "language": "de"}  # jsonb would have it before the English one
    assert (await shop.client.post(f"/api/v1/templates/{template['id']}/versions", german)).status == 201
    path = await shop.sent(1, purpose="notification", template="Offer", text=None)
    found = await shop.client.get("/api/v1/messages", params={"campaign_id": path.rsplit("/", 1)[1]})
    assert [message["text"] for message in found.json["items"]] == ["Hello"]


FAR_TIMES = [
    253402300799999,
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
    "1999-12-31T23:59:59Z",
    0,
]


@pytest.mark.parametrize("at", FAR_TIMES)
async def test_a_time_that_no_calendar_can_reckon_with_is_refused(shop: Shop, at: object) -> None:
    path = f"{BLASTS}/{(await shop.blast(1))['id']}"
    scheduled = await shop.client.post(f"{path}/schedule", {"at": at})
    assert (scheduled.status, scheduled.json["errors"][0]["field"]) == (422, "at")
    message = {"sender": "Shop", "to": "+60123450001", "text": "Hi", "scheduled_for": at}
    sent = await shop.client.post("/api/v1/messages", message)
    assert (sent.status, sent.json["errors"][0]["field"]) == (422, "messages[0].scheduled_for")


@pytest.mark.parametrize("path", [BLASTS, CAMPAIGNS, "/api/v1/insights/funnel"])
async def test_days_at_the_ends_of_the_calendar_narrow_nothing(shop: Shop, path: str) -> None:
    await shop.blast(0)
    found = await shop.client.get(path, params={"since": "0001-01-01", "until": "9999-12-31"})
    assert found.status == 200
    assert found.json.get("campaigns", len(found.json.get("items", []))) == 1


async def test_messages_since_before_unix_time_are_all_messages(shop: Shop) -> None:
    await shop.sent(1, purpose="notification")
    found = await shop.client.get("/api/v1/messages", params={"since": "1960-01-01T00:00:00Z"})
    assert len(found.json["items"]) == 1


async def test_a_test_is_sent_and_people_are_taken_off_the_list_over_the_api(shop: Shop) -> None:
    path = f"{BLASTS}/{(await shop.blast(2))['id']}"
    tested = await shop.client.post(f"{path}/test", {"to": ["+60123450001", "+60123450002"]})
    assert (tested.status, len(tested.json["ids"])) == (201, 2)
    for number in (0, 11):
        assert (await shop.client.post(f"{path}/test", {"to": ["+60123450001"] * number})).status == 422
    contacts = (await shop.client.get("/api/v1/contacts", params={"q": "60123451000"})).json["items"]
    body = {"contacts": [contacts[0]["id"], str(uuid4())]}
    assert (await shop.client.post(f"{path}/recipients/remove", body)).json == {"removed": 1}
    assert (await shop.client.get(f"{path}/preview")).json["recipients"] == 1
    assert (await shop.client.post(f"{path}/send", {})).status == 200
    assert (await shop.client.post(f"{path}/recipients/remove", body)).code == "blast_active"
