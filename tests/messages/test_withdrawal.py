"""Whoever forbids settles what waits, through the API too: nothing is left for a claim that looked a moment before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from antiphon.core import db
from antiphon.core.clock import now
from antiphon.core.db import Connection, Database
from antiphon.messages import doctor
from tests import make
from tests.entry import live
from tests.entry.live import Client
from tests.messages.road import Row, one_message

ADDRESS = "+49 151 10000000"
"""As a person writes it; it is stored as +4915110000000."""


@pytest.fixture
async def org(database: Database) -> UUID:
    return (await make.organization(database)).id


@pytest.fixture
async def client(database: Database, org: UUID) -> AsyncIterator[Client]:
    async with live.serving(live.services(database)) as anonymous:
        yield anonymous.signed_in(await make.token(database, org))


async def waiting(database: Database, org: UUID, purpose: str) -> Row:
    async with database.transaction(org) as conn:
        await agree(conn, org)
        return await one_message(conn, org, purpose=purpose)


async def agree(conn: Connection, org: UUID) -> None:
    await db.execute(
        conn,
        "INSERT INTO consent_states VALUES (%(org_id)s, 'sms', '+4915110000000', true, now())",
        org_id=org,
    )


async def stands(database: Database, row: Row) -> tuple[str, str, int | None]:
    async with database.transaction(row.org_id) as conn:
        assert await doctor.examine(conn, row.org_id) == []
        return await row.stands(conn)


@pytest.mark.parametrize("until", [None, timedelta(days=1)], ids=["for good", "for a day"])
@pytest.mark.parametrize("purpose", ["marketing", "transactional"])
async def test_a_suppression_skips_what_waits_for_the_address(
    database: Database, org: UUID, client: Client, purpose: str, until: timedelta | None
) -> None:
    row = await waiting(database, org, purpose)
    body: dict[str, Any] = {"channel": "sms", "address": ADDRESS}
    if until is not None:
        body["until"] = (now() + until).isoformat()
    answer = await client.post("/api/v1/suppressions", body)
    assert (answer.status, answer.json["until"] is None) == (201, until is None)
    assert await stands(database, row) == ("skipped", "suppressed", None)


@pytest.mark.parametrize(
    ("purpose", "is_given", "becomes"),
    [
        ("marketing", False, ("skipped", "no_consent", None)),
        ("transactional", False, ("scheduled", "", 0)),
        ("marketing", True, ("scheduled", "", 0)),
    ],
)
async def test_a_withdrawal_skips_the_marketing_that_waits(
    database: Database,
    org: UUID,
    client: Client,
    purpose: str,
    is_given: bool,
    becomes: tuple[str, str, int | None],
) -> None:
    row = await waiting(database, org, purpose)
    [contact] = (await client.get("/api/v1/contacts")).json["items"]
    body = {"channel": "sms", "is_given": is_given, "source": "phone call"}
    answer = await client.post(f"/api/v1/contacts/{contact['id']}/consents", body)
    assert answer.status == 201
    assert await stands(database, row) == becomes
    told = (await client.get(f"/api/v1/contacts/{contact['id']}/consents")).json["items"]
    assert [one["is_given"] for one in told] == [is_given]
