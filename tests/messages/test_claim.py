"""What may forbid a send: each condition has its reason, said where a person looks; and the claim's plan is narrow."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from antiphon.core import db, ids
from antiphon.core.channel import Channel
from antiphon.core.clock import now
from antiphon.core.db import Connection, Database
from antiphon.core.roles import DatabaseUrls
from antiphon.messages import doctor, explain, lanes, withdrawal
from antiphon.messages.claim import CLAIM, LOOK
from tests.messages.road import Road, Row, build, claim_all, one_message

CONDITIONS: dict[str, tuple[LiteralString, str, str]] = {
    "its time is over": (
        "UPDATE outbox SET expires_at = now() WHERE org_id = %(org_id)s",
        "expired",
        "its time was over",
    ),
    "the contact is not active": (
        "UPDATE contacts SET is_active = false WHERE org_id = %(org_id)s",
        "inactive",
        "not active",
    ),
    "the contact was deleted": (
        "UPDATE contacts SET deleted_at = now() WHERE org_id = %(org_id)s",
        "inactive",
        "not active",
    ),
    "the address is suppressed": (
        "INSERT INTO suppressions (org_id, channel, address, reason, source)"
        " VALUES (%(org_id)s, 'sms', %(address)s, 'manual', 'test')",
        "suppressed",
        "suppressed",
    ),
    "the address is suppressed for a while": (
        "INSERT INTO suppressions (org_id, channel, address, reason, source, until)"
        " VALUES (%(org_id)s, 'sms', %(address)s, 'manual', 'test', now() + interval '1 hour')",
        "suppressed",
        "suppressed",
    ),
}

PERMITTED: dict[str, LiteralString] = {
    "a suppression of another channel": "INSERT INTO suppressions (org_id, channel, address, reason, source)"
    " VALUES (%(org_id)s, 'email', %(address)s, 'manual', 'test')",
    "a suppression that was lifted": "INSERT INTO suppressions (org_id, channel, address, reason, source, lifted_at)"
    " VALUES (%(org_id)s, 'sms', %(address)s, 'manual', 'test', now())",
    "a suppression that has ended": "INSERT INTO suppressions (org_id, channel, address, reason, source, until)"
    " VALUES (%(org_id)s, 'sms', %(address)s, 'manual', 'test', now())",
    "a consent withdrawn, which matters to marketing": "INSERT INTO consent_states"
    " VALUES (%(org_id)s, 'sms', %(address)s, false, now())",
}


@pytest.mark.parametrize("case", CONDITIONS)
async def test_it_is_skipped_with_its_reason_when(conn: Connection, org_id: Any, case: str) -> None:
    row = await one_message(conn, org_id)
    sql, reason, words = CONDITIONS[case]
    await _run(conn, row, sql)
    lane, worker = await row.own(conn)
    assert await claim_all(conn, lane, worker) == []
    assert await row.stands(conn) == ("skipped", reason, None)
    assert words in await _now(conn, row)
    assert await doctor.examine(conn, org_id) == []


@pytest.mark.parametrize("case", PERMITTED)
async def test_it_goes_in_spite_of(conn: Connection, org_id: Any, case: str) -> None:
    row = await one_message(conn, org_id)
    await _run(conn, row, PERMITTED[case])
    lane, worker = await row.own(conn)
    assert len(await claim_all(conn, lane, worker)) == 1


@pytest.mark.parametrize(
    ("purpose", "given", "reason"),
    [
        ("marketing", None, "no_consent"),
        ("marketing", False, "no_consent"),
        ("marketing", True, ""),
        ("transactional", None, ""),
        ("support", None, ""),
    ],
)
async def test_marketing_needs_consent_and_the_rest_does_not(
    conn: Connection, org_id: Any, purpose: str, given: bool | None, reason: str
) -> None:
    row = await one_message(conn, org_id, purpose=purpose)
    if given is not None:
        await db.execute(
            conn, "INSERT INTO consent_states VALUES (%(org_id)s, 'sms', %(address)s, %(given)s, now())",
            org_id=org_id, address=row.address, given=given,
        )  # fmt: skip
    lane, worker = await row.own(conn)
    claimed = await claim_all(conn, lane, worker)
    assert bool(claimed) == (reason == "")
    if reason:
        assert await row.stands(conn) == ("skipped", reason, None)
        assert "no recorded consent" in await _now(conn, row)


WAITS: dict[str, tuple[LiteralString, str]] = {
    "the gate is closed": (
        "UPDATE gates SET is_open = false, reason = 'the campaign is paused' WHERE org_id = %(org_id)s",
        "the campaign is paused",
    ),
    "the sender is paused": (
        "UPDATE lanes SET paused_reason = 'paused by a person' WHERE org_id = %(org_id)s",
        "paused by a person",
    ),
    "the sender is blocked": (
        "UPDATE lanes SET blocked_until = now() + interval '1 hour', block_reason = 'throttled by the provider'"
        " WHERE org_id = %(org_id)s",
        "throttled by the provider",
    ),
    "it is not due yet": (
        "UPDATE outbox SET due_at = now() + interval '1 hour' WHERE org_id = %(org_id)s",
        "waits until",
    ),
    "the bucket is empty": (
        "UPDATE lanes SET tokens = 0, tokens_at = now() WHERE org_id = %(org_id)s",
        "at the sender's pace",
    ),
    "the day's cap is reached": (
        "UPDATE lanes SET daily_cap = 5, day = (now() AT TIME ZONE 'UTC')::date, day_count = 5"
        " WHERE org_id = %(org_id)s",
        "at the sender's pace",
    ),
}


@pytest.mark.parametrize("case", WAITS)
async def test_it_waits_and_says_why_while(conn: Connection, org_id: Any, case: str) -> None:
    row = await one_message(conn, org_id)
    sql, words = WAITS[case]
    await _run(conn, row, sql)
    lane, worker = await row.own(conn)
    assert await claim_all(conn, lane, worker) == []
    assert await row.stands(conn) == ("scheduled", "", 0)
    assert words in await _now(conn, row)
    assert await doctor.examine(conn, org_id) == []


async def test_a_lane_that_is_another_workers_gives_nothing(conn: Connection, org_id: Any) -> None:
    row = await one_message(conn, org_id)
    lane, worker = await row.own(conn)
    await row.own(conn)
    with pytest.raises(AssertionError):
        await claim_all(conn, lane, worker)
    assert await row.stands(conn) == ("scheduled", "", 0)


async def test_an_opt_out_settles_what_waits_and_nothing_of_it_is_claimed_after(
    conn: Connection, org_id: Any
) -> None:
    row = await one_message(conn, org_id)
    assert await withdrawal.suppress(conn, row.actor, Channel.SMS, row.address, "opt_out", source="test") == 1
    assert await row.stands(conn) == ("skipped", "suppressed", None)
    lane, worker = await row.own(conn)
    assert await claim_all(conn, lane, worker) == []
    assert await doctor.examine(conn, org_id) == []


async def _run(conn: Connection, row: Row, sql: LiteralString) -> None:
    known = {"org_id": row.org_id, "address": row.address}
    await conn.execute(sql, {name: value for name, value in known.items() if f"%({name})s" in sql})


async def _now(conn: Connection, row: Row) -> str:
    return (await explain.explain(conn, row.actor, row.message_id)).now


# ---- the plan

WAITING = 300_000


@pytest.fixture
async def crowded(database: Database, worker_database: Database, db_urls: DatabaseUrls) -> Road:
    """A sender with a long queue, among people of whom many are suppressed or have agreed."""
    road = await build(
        database,
        worker_database,
        "keyed",
        {"base_url": "http://127.0.0.1:9", "signing_secret": "x"},
        "+4915100000",
    )
    await road.send(1)
    for statement in CROWD:
        await road.run(statement, count=WAITING)
    async with await psycopg.AsyncConnection.connect(db_urls.owner, autocommit=True) as owner:
        await owner.execute("VACUUM ANALYZE")
    return road


CROWD: tuple[LiteralString, ...] = (
    """INSERT INTO contacts (org_id, id) SELECT %(org_id)s, uuid7() FROM generate_series(1, 20000)
           ON CONFLICT DO NOTHING""",
    """INSERT INTO outbox (org_id, message_id, lane_id, gate_id, due_at, order_at, contact_id, channel, address,
                           purpose, needs_consent)
       SELECT %(org_id)s, uuid7(), %(lane_id)s, g.id, now() - n * interval '1 ms', now(), c.id, 'sms', '+49' || n,
              'marketing', true
         FROM generate_series(1, %(count)s) n
         JOIN (SELECT id, row_number() OVER () AS k FROM contacts WHERE org_id = %(org_id)s) c ON c.k = 1 + n %% 20000
        CROSS JOIN (SELECT id FROM gates WHERE org_id = %(org_id)s LIMIT 1) g
           ON CONFLICT DO NOTHING""",
    """INSERT INTO messages (org_id, id, direction, channel, purpose, origin, caused_by, status, stage, sender_id,
                             contact_id, address, day)
       SELECT org_id, message_id, 'out', channel, purpose, 'api', 'test', 'scheduled', 'scheduled', lane_id, contact_id,
              address, '2026-01-01' FROM outbox WHERE org_id = %(org_id)s LIMIT 60000
           ON CONFLICT DO NOTHING""",
    """INSERT INTO suppressions (org_id, channel, address, reason, source)
       SELECT %(org_id)s, 'sms', '+49' || n, 'manual', 'test' FROM generate_series(1, %(count)s, 30) n
           ON CONFLICT DO NOTHING""",
    """INSERT INTO consent_states
       SELECT %(org_id)s, 'sms', '+49' || n, true, now() FROM generate_series(1, %(count)s, 10) n
           ON CONFLICT DO NOTHING""",
)


async def test_a_long_queue_is_read_by_index_only_and_costs_no_more_than_a_short_one(crowded: Road) -> None:
    worker = ids.new_id()
    async with crowded.worker_database.transaction(crowded.org_id) as conn:
        lane = await lanes.take(conn, crowded.org_id, crowded.sender.id, worker)
        assert lane is not None
    at, gates = now(), await crowded.run("SELECT id FROM gates WHERE org_id = %(org_id)s")
    given: dict[str, Any] = {
        "org_id": lane.org_id, "lane_id": lane.id, "epoch": lane.epoch, "now": at, "gates": [g for (g,) in gates],
        "quotas": [128], "order_until": at, "lease_until": at, "give_up_at": at, "replay_until": at, "tokens": 1.0,
        "gate_tokens": [None], "room": 128, "worker": worker,
    }  # fmt: skip
    async with crowded.worker_database.transaction(crowded.org_id, hot=True) as conn:
        for statement, mode in itertools.product((LOOK, CLAIM), ("force_generic_plan", "force_custom_plan")):
            scanned = await _scans(conn, statement, given, mode)
            assert len(scanned) > 2
            assert [scan for scan in scanned if scan.startswith("Seq Scan")] == [], mode
    times: list[timedelta] = []
    for _ in range(5):
        await crowded.run("UPDATE lanes SET tokens = burst, tokens_at = now() WHERE org_id = %(org_id)s")
        async with crowded.worker_database.transaction(crowded.org_id, hot=True) as conn:
            began = now()
            await claim_all(conn, lane, worker, room=128)
            times.append(now() - began)
    assert min(times) < timedelta(milliseconds=5 * 50)


async def _scans(conn: Connection, statement: LiteralString, given: dict[str, Any], mode: str) -> list[str]:
    """How a statement reads each of its tables, when planned once for all values or for these."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement)
    await conn.execute(f"SET LOCAL plan_cache_mode = {mode}".encode())
    await conn.execute(f"PREPARE measured AS {numbered}".encode())
    cursor = psycopg.AsyncClientCursor(conn)
    places = ", ".join(["%s"] * len(names))
    await cursor.execute(
        f"EXPLAIN (COSTS OFF) EXECUTE measured ({places})".encode(), [given[n] for n in names]
    )
    lines = [row[0].strip(" ->") for row in await cursor.fetchall()]
    await conn.execute("DEALLOCATE measured")
    return [line for line in lines if re.match(r"(Seq|Index|Bitmap Heap|Index Only) Scan", line)]
