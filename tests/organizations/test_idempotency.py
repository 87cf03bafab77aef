"""Idempotency-Key: once, however often it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from litestar import post
from msgspec import Struct

from antiphon.core import db
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Conflict
from antiphon.jobs.model import Continue, Run
from antiphon.organizations import audit
from antiphon.organizations.access import Permission, StrictBody, Unit, requires
from antiphon.organizations.jobs import TidyUp, tidy_up
from antiphon.organizations.model import Actor
from tests import make
from tests.entry import live
from tests.entry.live import Answer, Client

KEYS = "/api/v1/keys"


class Deed(Struct, frozen=True):
    text: str
    takes: float = 0
    fails: bool = False


@post("/deeds", **requires(Permission.ORGANIZATION_WRITE), dto=StrictBody[Deed], return_dto=None)
async def do_deed(unit: Unit, data: Deed) -> Deed:
    """Leaves one audit entry, slowly if told so."""
    return await unit.write(_do, data)


async def _do(conn: Connection, actor: Actor, deed: Deed) -> Deed:
    await audit.record(conn, actor, "deed.done", None, text=deed.text)
    await asyncio.sleep(deed.takes)
    if deed.fails:
        raise Conflict("deed_failed", "told to fail")
    return deed


@pytest.fixture
async def org(database: Database) -> UUID:
    return (await make.organization(database)).id


@pytest.fixture
async def client(database: Database, org: UUID) -> AsyncIterator[Client]:
    async with live.serving(live.services(database), [do_deed]) as anonymous:
        yield anonymous.signed_in(await make.token(database, org))


async def deeds(database: Database, org: UUID) -> int:
    async with database.transaction(org) as conn:
        return await db.value(
            conn,
            "SELECT count(*) FROM audit_log WHERE org_id = %(org_id)s AND action = 'deed.done'",
            org_id=org,
        )


async def do(client: Client, key: str, text: str = "x", takes: float = 0, fails: bool = False) -> Answer:
    deed = {"text": text, "takes": takes, "fails": fails}
    return await client.post("/deeds", deed, headers={"Idempotency-Key": key})


async def test_the_same_request_again_gets_the_first_answer(
    client: Client, database: Database, org: UUID
) -> None:
    first, again = await do(client, "k1"), await do(client, "k1")
    assert first.status == again.status == 201
    assert first.content == again.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert await deeds(database, org) == 1


async def test_the_same_key_for_another_body_is_refused(
    client: Client, database: Database, org: UUID
) -> None:
    await do(client, "k1")
    other = await do(client, "k1", text="y")
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    elsewhere = await client.post(
        KEYS, {"name": "x", "scopes": ["jobs:read"]}, headers={"Idempotency-Key": "k1"}
    )
    assert (elsewhere.status, elsewhere.code) == (422, "idempotency_key_reused")
    assert await deeds(database, org) == 1


async def test_another_organization_may_use_the_same_key(client: Client, database: Database) -> None:
    await do(client, "k1", text="ours")
    other = (await make.organization(database)).id
    answer = await do(client.signed_in(await make.token(database, other)), "k1", text="theirs")
    assert (answer.status, answer.json["text"]) == (201, "theirs")


async def test_a_request_beside_one_that_runs_is_told_so_at_once(
    client: Client, database: Database, org: UUID
) -> None:
    slow = asyncio.create_task(do(client, "k1", takes=0.6))
    await asyncio.sleep(0.2)
    beside = await asyncio.wait_for(do(client, "k1", takes=0.6), 0.3)
    assert (beside.status, beside.code) == (409, "idempotency_in_flight")
    assert (await slow).status == 201
    assert (await do(client, "k1", takes=0.6)).headers["idempotency-replayed"] == "true"
    assert await deeds(database, org) == 1


async def test_twenty_at_once_have_one_effect(client: Client, database: Database, org: UUID) -> None:
    answers = await asyncio.gather(*(do(client, "k1") for _ in range(20)))
    assert {answer.status for answer in answers} <= {201, 409}
    assert any(answer.status == 201 for answer in answers)
    assert await deeds(database, org) == 1


async def test_a_failed_request_may_be_tried_again_with_its_key(
    client: Client, database: Database, org: UUID
) -> None:
    failed = await do(client, "k1", fails=True)
    assert (failed.status, failed.code) == (409, "deed_failed")
    assert (await do(client, "k1")).status == 201
    assert await deeds(database, org) == 1


BAD_KEYS = [("too long", "k" * 256), ("with a tab", "a\tb")]


@pytest.mark.parametrize(("what", "key"), BAD_KEYS, ids=[case[0] for case in BAD_KEYS])
async def test_refuses_a_key_that_is(client: Client, what: str, key: str) -> None:
    answer = await do(client, key)
    assert (answer.status, answer.code) == (400, "idempotency_key_unreadable"), what


async def test_a_token_is_not_kept_for_the_second_answer(
    client: Client, database: Database, org: UUID
) -> None:
    body = {"name": "x", "scopes": ["jobs:read"]}
    first = await client.post(KEYS, body, headers={"Idempotency-Key": "k1"})
    again = await client.post(KEYS, body, headers={"Idempotency-Key": "k1"})
    assert again.json == first.json | {"token": None}
    async with database.transaction(org) as conn:
        kept = await db.value(
            conn, "SELECT response FROM idempotency_keys WHERE org_id = %(org_id)s", org_id=org
        )
    assert first.json["token"].encode() not in bytes(kept)


async def test_after_a_day_the_key_is_new_again(
    client: Client, database: Database, org: UUID, db_urls: object
) -> None:
    await do(client, "k1")
    await do(client, "k2")
    await _age(db_urls, org)
    assert "idempotency-replayed" not in (await do(client, "k1", text="another day")).headers
    async with database.transaction(org) as conn:
        run = Run(id=org, org_id=org, progress={})
        outcome = await tidy_up(conn, TidyUp(), run)
        left = await db.tuples(conn, "SELECT key FROM idempotency_keys WHERE org_id = %(org_id)s", org_id=org)
    assert isinstance(outcome, Continue)
    assert outcome.run_at is not None
    assert left == [("k1",)]


async def _age(db_urls: object, org: UUID) -> None:
    """The owner moves the rows into the past: neither role of the program may."""
    owner = await Connection.connect(getattr(db_urls, "owner"), autocommit=True)  # noqa: B009
    async with owner:
        await owner.execute("ALTER TABLE idempotency_keys NO FORCE ROW LEVEL SECURITY")
        await owner.execute("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")
        await owner.execute("ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY")
