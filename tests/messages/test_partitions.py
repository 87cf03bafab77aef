"""The ledger's months: made ahead, and again after a row was caught outside of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from antiphon.core.db import Database
from tests.messages.road import Road, build


async def test_a_row_that_was_caught_moves_into_its_month_when_that_is_made(
    database: Database, worker_database: Database
) -> None:
    road: Road = await build(
        database,
        worker_database,
        "keyed",
        {"base_url": "http://127.0.0.1:9", "signing_secret": "s"},
        "+4915100000",
    )
    later = datetime.now(UTC) + timedelta(days=200)
    await road.run(
        "INSERT INTO messages (org_id, id, direction, channel, purpose, origin, caused_by, status, stage, address, day)"
        " VALUES (%(org_id)s, uuid7_from(%(later)s), 'in', 'sms', 'support', 'inbound', 'contact', 'received',"
        " 'received', '+491', now()::date)",
        later=later,
    )
    found = "SELECT tableoid::regclass::text FROM messages WHERE org_id = %(org_id)s"
    assert await road.run(found) == [("messages_other",)]
    async with worker_database.across() as conn:
        await conn.execute("SELECT ensure_partitions(8)")
    assert await road.run(found) == [(f"messages_{later:%Y%m}",)]
    async with worker_database.across() as conn:
        cursor = await conn.execute("SELECT ensure_partitions(8)")
        assert await cursor.fetchone() == (0,), "a second time there is nothing to make"
