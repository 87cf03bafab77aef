"""A full disk. PostgreSQL answers 53100 for real: its tables are on a file system of a few megabytes, filled up.

Where mounting one is not permitted (no root, a locked container), the same error comes from a trigger on the ledger's
tables: then the server's answer is real and the disk is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from antiphon.core.db import Database
from tests import make
from tests.entry import live
from tests.faults.own_server import OwnServer, own_server, tiny_disk
from tests.faults.processes import Workers
from tests.faults.scene import build_scene
from tests.simulator_process import Simulator

COUNT = 200
MEGABYTES = 40


class Disk:
    """Where the tables are, and how to fill it and free it again."""

    def __init__(self, server: OwnServer, place: Path | None) -> None:
        self.is_real = place is not None
        if place is not None:
            server.own(place)
            server.run(sql.SQL("CREATE TABLESPACE tiny LOCATION {}").format(sql.Literal(str(place))))
        self.urls = server.create("on_a_tiny_disk", "tiny" if self.is_real else None)

    def fill(self) -> None:
        """Until not one row more fits, of whatever size."""
        with psycopg.connect(self.urls.owner, autocommit=True) as conn:
            if not self.is_real:
                conn.execute(REFUSE)
                return
            conn.execute("CREATE TABLE ballast (filler text STORAGE PLAIN)")
            for rows in (1000, 50, 1, 1, 1):
                try:
                    while True:
                        conn.execute(
                            "INSERT INTO ballast SELECT repeat('x', 7000) FROM generate_series(1, %s)",
                            (rows,),
                        )
                except psycopg.errors.DiskFull:
                    pass

    def free(self) -> None:
        """Room again."""
        with psycopg.connect(self.urls.owner, autocommit=True) as conn:
            conn.execute("DROP TABLE ballast" if self.is_real else ALLOW)


REFUSE = b"""
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse();
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON messages FOR EACH STATEMENT EXECUTE FUNCTION refuse();
"""
ALLOW = b"DROP FUNCTION refuse() CASCADE"


@pytest.fixture(scope="module")
def disk() -> Iterator[Disk]:
    with tiny_disk(MEGABYTES) as place, own_server() as server:
        yield Disk(server, place)


async def test_when_the_disk_is_full_nothing_is_half_written_and_all_goes_on_when_there_is_room(
    disk: Disk, sim: Simulator, tmp_path: Path
) -> None:
    async with Database.connect(disk.urls.app, size=4) as database, Workers(disk.urls, tmp_path) as workers:
        scene = await build_scene(database, database, sim, workers, rate=100)
        await scene.takes(0.1)
        road = scene.keyed
        token = await make.token(database, road.org_id)
        worker = await workers.start()
        await scene.send(COUNT)
        await scene.progress(40)
        disk.fill()
        async with live.serving(live.services(database)) as anonymous:
            client = anonymous.signed_in(token)
            body = {"messages": [
                {"sender": str(road.sender.id), "to": f"+49151{30_000_000 + n}", "text": "x" * 4000} for n in range(200)
            ]}  # fmt: skip
            refused = await client.post("/api/v1/messages", body, headers={"Idempotency-Key": "all of them"})
            assert (refused.status, refused.code) == (503, "database_full"), refused.content
            assert "free space" in refused.json["detail"].lower()
            assert int(refused.headers["retry-after"]) > 0
            written = await road.run(
                "SELECT count(*) FROM messages WHERE org_id = %(org_id)s AND address LIKE '+491513%%'"
            )
            assert written == [(0,)], "nothing of it is stored"
            await asyncio.sleep(2)
            assert worker.is_running
            disk.free()
            taken = await client.post("/api/v1/messages", body, headers={"Idempotency-Key": "all of them"})
            assert taken.status == 201, taken.content
        await scene.keyed.until(sent=COUNT + 200, seconds=60)
        await scene.blind.until(sent=COUNT, seconds=60)
        assert (await sim.summary())["duplicates"]["key"] == []
        for each in (scene.keyed, scene.blind):
            await each.healthy()
        print(f"the disk was {'really full' if disk.is_real else 'said to be full'}; the worker waited "
              f"{worker.said('dispatch.database_away') + worker.said('dispatch.record_waits')} times")  # fmt: skip
        await scene.ends()
