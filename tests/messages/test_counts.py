"""The counts are exact while outcomes, receipts, opt-outs and folds run at once, and nobody waits in a circle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal

import psycopg

from antiphon.core import ids
from antiphon.core.channel import Channel
from antiphon.core.clock import now
from antiphon.core.db import Connection, Database
from antiphon.core.roles import DatabaseUrls
from antiphon.messages import funnel, receipts, withdrawal
from antiphon.messages.claim import Claimed, claim
from antiphon.messages.lanes import Owned, take
from antiphon.messages.record import Told, record
from antiphon.providers.contract import Accepted, NotSent, Outcome, Receipt, Rejected, Unknown
from tests.messages.road import Road, build, dispatcher
from tests.simulator_process import Simulator

COUNT = 600


class Crowd:
    """Everybody who moves the same messages at once; whose transaction was taken back tries again, and is noted."""

    def __init__(self, road: Road, pool: Database, lane: Owned) -> None:
        self.road, self.pool, self.lane = road, pool, lane
        self.chance = random.Random(11)
        self.taken_back: list[str] = []

    async def outcomes(self, conn: Connection, batch: list[Claimed]) -> None:
        tolds = [Told(claimed=c, outcome=_outcome(c), at=now()) for c in batch]
        await record(conn, self.lane, tolds, poll=None, doubt_after=self.lane.doubt_after)

    async def heard(self, conn: Connection, batch: list[Claimed]) -> None:
        said = [_receipt(c, "delivered") for c in batch if c.message_id.int % 3]
        said += [_receipt(c, "read") for c in batch if c.message_id.int % 3 == 1]
        await receipts.apply(conn, self.road.org_id, self.road.sender.account_id, said, "webhook")

    async def opted_out(self, conn: Connection, batch: list[Claimed]) -> None:
        for c in batch[:4]:
            await withdrawal.suppress(
                conn, self.road.actor, Channel.WHATSAPP, c.address, "opt_out", source="test"
            )

    async def folded(self, conn: Connection, _: list[Claimed]) -> None:
        await funnel.fold(conn, self.road.org_id, 50)

    async def does(
        self, what: Callable[[Connection, list[Claimed]], Awaitable[None]], batch: list[Claimed]
    ) -> None:
        await asyncio.sleep(self.chance.uniform(0, 0.4))
        for _ in range(20):
            try:
                async with self.pool.transaction(self.road.org_id) as conn:
                    await what(conn, batch)
                return
            except psycopg.errors.DeadlockDetected as error:
                self.taken_back.append(f"{what.__name__}: {error}")
        raise AssertionError(f"{what.__name__} never got through")


async def test_counts_are_exact_after_outcomes_receipts_and_opt_outs_at_once(
    database: Database, db_urls: DatabaseUrls
) -> None:
    credentials, worker = {"base_url": "http://127.0.0.1:9", "token": "any"}, ids.new_id()
    road = await build(
        database,
        database,
        "wsapme",
        credentials,
        "device-1",
        "whatsapp",
        rate=1000,
        in_flight=1000,
        daily_cap=None,
    )
    await road.send(COUNT)
    await road.send(40, text="the second to the same people")
    await road.run("UPDATE lanes SET tokens = 1000, burst = 1000 WHERE org_id = %(org_id)s")
    async with Database.connect(db_urls.worker, size=8) as pool:
        async with pool.transaction(road.org_id) as conn:
            lane = await take(conn, road.org_id, road.sender.id, worker, 120)
            assert lane is not None
            _, claimed = await claim(
                conn, lane, worker, room=1000, call_timeout=timedelta(seconds=60), lease=120, replay=None
            )
        assert len(claimed) == COUNT
        crowd = Crowd(road, pool, lane)
        batches = [claimed[n : n + 60] for n in range(0, COUNT, 60)]
        crowd.chance.shuffle(batches)
        shuffled = [crowd.chance.sample(claimed, 60) for _ in range(12)]
        await asyncio.gather(
            *(crowd.does(crowd.outcomes, batch) for batch in batches),
            *(crowd.does(crowd.heard, batch) for batch in [*batches, *shuffled]),
            *(crowd.does(crowd.opted_out, batch) for batch in batches),
            *(crowd.does(crowd.folded, []) for _ in range(20)),
        )
    assert crowd.taken_back == [], "locks are taken in one order: ledger rows by id, then queue rows"
    await road.healthy()
    async with road.database.transaction(road.org_id) as conn:
        await funnel.fold(conn, road.org_id)
    assert await road.run("SELECT FROM funnel_deltas WHERE org_id = %(org_id)s") == []
    await road.healthy()


def _outcome(c: Claimed) -> Outcome:
    """Mostly accepted, and some of everything else."""
    match c.message_id.int % 10:
        case 0:
            return Rejected(code="no", reason="not there")
        case 1:
            return Unknown(reason="timeout")
        case 2:
            return NotSent(reason="refused")
        case _:
            return Accepted(provider_message_id=f"name of {c.message_id}")


def _receipt(c: Claimed, status: Literal["delivered", "read"]) -> Receipt:
    return Receipt(
        status=status, dedupe_key=f"{c.message_id}:{status}", reference=str(c.message_id),
        provider_message_id=f"name of {c.message_id}", at=now(),
    )  # fmt: skip


async def test_an_outcome_that_cannot_be_recorded_is_its_own_messages_doubt(
    database: Database, worker_database: Database, db_urls: DatabaseUrls, sim: Simulator
) -> None:
    """As if one provider's answer could not be stored: its neighbours are recorded, and the lane goes on."""
    credentials = {"base_url": f"{sim.url}/v1", "token": "any"}
    road = await build(
        database, worker_database, "wsapme", credentials, "device-1", "whatsapp", rate=1000, in_flight=16,
        daily_cap=None,
    )  # fmt: skip
    poisoned, *_ = await road.send(60)
    async with await psycopg.AsyncConnection.connect(db_urls.owner, autocommit=True) as owner:
        await owner.execute(REFUSE)
        await owner.execute("INSERT INTO poisoned VALUES (%s)", (poisoned,))
    async with dispatcher(worker_database):
        await road.until(sent=59)
        await road.send(40, first=100)
        await road.until(sent=99)
    [(state,)] = await road.run("SELECT state FROM outbox WHERE org_id = %(org_id)s")
    assert state == 1, "recovery decides about it when its time has come"
    assert len(await sim.log(provider="wsapme", operation="send", verdict="accepted")) == 100
    await road.healthy()


REFUSE = """
    CREATE TABLE poisoned (id uuid);
    GRANT SELECT ON poisoned TO PUBLIC;
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF new.outcome IS NOT NULL AND EXISTS (SELECT FROM poisoned WHERE id = new.message_id) THEN
            RAISE EXCEPTION 'this cannot be stored' USING ERRCODE = '22P05';
        END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON attempts FOR EACH ROW EXECUTE FUNCTION refuse();
"""
