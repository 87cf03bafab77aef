"""Events get dense numbers, and a reader who resumes after n never misses one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from antiphon.core import db
from antiphon.core.db import Connection, Database
from antiphon.core.roles import DatabaseUrls
from antiphon.events import pump, service
from tests import make


@pytest.fixture
async def org(database: Database) -> UUID:
    return (await make.organization(database)).id


async def emit(database: Database, org: UUID, *numbers: int) -> None:
    async with database.transaction(org) as conn:
        for number in numbers:
            await service.emit(conn, org, "contact_created", uuid4(), {"n": number})


async def read(database: Database, org: UUID, after: int = 0, limit: int = 10_000) -> list[tuple[int, int]]:
    async with database.transaction(org, read_only=True) as conn:
        return [(event.seq, event.payload["n"]) for event in await service.read(conn, org, after, limit)]


async def test_numbers_are_dense_and_in_the_order_of_writing(
    database: Database, worker_database: Database, org: UUID
) -> None:
    await emit(database, org, 10, 11)
    await emit(database, org, 12)
    assert await read(database, org) == []
    assert await pump.pump(worker_database) == 3
    await emit(database, org, 13)
    assert await pump.pump(worker_database) == 1
    assert await pump.pump(worker_database) == 0
    assert await read(database, org) == [(1, 10), (2, 11), (3, 12), (4, 13)]
    assert await read(database, org, after=2, limit=1) == [(3, 12)]
    async with database.transaction(org) as conn:
        assert await service.head(conn, org) == 4


async def test_each_organization_counts_for_itself(
    database: Database, worker_database: Database, org: UUID
) -> None:
    other = (await make.organization(database)).id
    await emit(database, org, 1)
    await emit(database, other, 2)
    await emit(database, org, 3)
    await pump.pump(worker_database)
    assert await read(database, org) == [(1, 1), (2, 3)]
    assert await read(database, other) == [(1, 2)]


async def test_an_event_that_rolls_back_leaves_no_gap(
    database: Database, worker_database: Database, org: UUID
) -> None:
    await emit(database, org, 1)
    with pytest.raises(ValueError, match="no"):
        async with database.transaction(org) as conn:
            await service.emit(conn, org, "contact_created", None, {"n": 2})
            raise ValueError("no")
    await emit(database, org, 3)
    await pump.pump(worker_database)
    assert await read(database, org) == [(1, 1), (2, 3)]


async def test_a_reader_misses_nothing_that_commits_late(
    database: Database, worker_database: Database, org: UUID, db_urls: DatabaseUrls
) -> None:
    """Eight writers with slow commits, two pumps, and a reader that always resumes after the last number it saw."""
    seen: list[int] = []
    stop = asyncio.Event()
    dice = random.Random(7)

    async def write(writer: int) -> None:
        for number in range(60):
            async with wide.transaction(org) as conn:
                await service.emit(conn, org, "contact_created", None, {"n": writer * 1000 + number})
                await asyncio.sleep(dice.random() * 0.01)

    async def follow() -> None:
        after = 0
        while len(seen) < 8 * 60:
            for seq, number in await read(database, org, after, limit=50):
                assert seq == after + 1, "a gap"
                after = seq
                seen.append(number)
            await asyncio.sleep(0.002)

    async with Database.connect(db_urls.app, size=8) as wide:
        pumps = [asyncio.create_task(pump.run(worker_database, stop, look_every=0.003)) for _ in range(2)]
        async with asyncio.timeout(60):
            await asyncio.gather(follow(), *(write(writer) for writer in range(8)))
        stop.set()
        await asyncio.gather(*pumps)
    assert sorted(seen) == sorted(writer * 1000 + number for writer in range(8) for number in range(60))
    for writer in range(8):  # one writer's events keep their order
        own = [number for number in seen if number // 1000 == writer]
        assert own == sorted(own)


async def test_a_pump_that_another_one_holds_back_moves_nothing(
    database: Database, worker_database: Database, org: UUID
) -> None:
    await emit(database, org, 1)
    await pump.pump(worker_database)
    await emit(database, org, 2)
    async with worker_database.transaction(org) as conn:
        await db.value(
            conn, "SELECT seq FROM event_heads WHERE org_id = %(org_id)s FOR NO KEY UPDATE", org_id=org
        )
        assert await pump.pump(worker_database) == 0
    assert await pump.pump(worker_database) == 1


async def test_more_than_a_batch_is_moved_in_several(
    database: Database, worker_database: Database, org: UUID
) -> None:
    async with database.transaction(org) as conn:
        await db.execute(
            conn,
            """
            INSERT INTO events_new (org_id, name, payload)
            SELECT %(org_id)s, 'contact_created', jsonb_build_object('n', n) FROM generate_series(1, 7000) AS n
                ON CONFLICT DO NOTHING
            """,
            org_id=org,
        )
    assert await pump.pump(worker_database) == pump.BATCH
    assert await pump.pump(worker_database) == 7000 - pump.BATCH
    assert await read(database, org) == [(n, n) for n in range(1, 7001)]


async def test_a_pump_killed_after_its_commit_neither_repeats_nor_skips(
    database: Database, worker_database: Database, org: UUID, db_urls: DatabaseUrls
) -> None:
    await emit(database, org, 1, 2, 3)
    code = (
        "import asyncio; from antiphon.core import failpoints; from antiphon.core.db import Database\n"
        "from antiphon.events import pump\n"
        "failpoints.arm('events_pumped=kill')\n"
        "async def main():\n"
        f"    async with Database.connect({db_urls.worker!r}, size=2) as database:\n"
        "        await pump.pump(database)\n"
        "asyncio.run(main())"
    )
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], env=dict(os.environ), timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    await emit(database, org, 4)
    await pump.pump(worker_database)
    assert await read(database, org) == [(1, 1), (2, 2), (3, 3), (4, 4)]


async def test_a_head_that_lies_stops_the_pump_instead_of_losing_events(
    database: Database, worker_database: Database, org: UUID
) -> None:
    await emit(database, org, 1, 2)
    await pump.pump(worker_database)
    async with database.transaction(org) as conn:
        await db.execute(conn, "UPDATE event_heads SET seq = 0 WHERE org_id = %(org_id)s", org_id=org)
    await emit(database, org, 3)
    with pytest.raises(RuntimeError, match="head is wrong"):
        await pump.pump(worker_database)
    async with database.transaction(org) as conn:
        left = await db.value(conn, "SELECT count(*) FROM events_new WHERE org_id = %(org_id)s", org_id=org)
    assert left == 1


async def test_high_volume_names_are_wanted_while_somebody_asks_for_them(
    conn: Connection, org_id: UUID
) -> None:
    assert not await service.wants(conn, org_id, "message_status_changed")
    await service.subscribe(conn, org_id, "stream:1", ["message_status_changed", "message_received"])
    assert await service.wants(conn, org_id, "message_status_changed")
    assert not await service.wants(conn, org_id, "contact_created")
    await service.unsubscribe(conn, org_id, "stream:1")
    assert not await service.wants(conn, org_id, "message_status_changed")
    await service.subscribe(conn, org_id, "stream:2", ["message_received"], timedelta(seconds=-1))
    assert not await service.wants(conn, org_id, "message_received")
    await service.subscribe(conn, org_id, "stream:2", ["message_received"])
    assert await service.wants(conn, org_id, "message_received")


async def test_old_events_are_forgotten_and_their_numbers_are_not_used_again(
    database: Database, worker_database: Database, org: UUID
) -> None:
    await emit(database, org, 1, 2)
    await pump.pump(worker_database)
    async with database.transaction(org) as conn:
        assert await service.forget_old(conn, org, timedelta(days=1), 100) == 0
        assert await service.forget_old(conn, org, timedelta(seconds=-5), 100) == 2
    await emit(database, org, 3)
    await pump.pump(worker_database)
    assert await read(database, org) == [(3, 3)]
