"""Due to recorded: the whole protocol through a local HTTP provider, beside a bare loop on the same two tables.

The bare loop claims, sends and records with the same HTTP client to the same sink, on a queue table and a wide table of
its own, without row-level security, consent, suppression, attempts, history, order, lanes or counts.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import minijinja
import msgspec

from antiphon.contacts.audience import Audience, stage_audience
from antiphon.core import db, ids
from antiphon.core.channel import Channel, Purpose
from antiphon.core.clock import now
from antiphon.core.db import Database
from antiphon.core.http import Client
from antiphon.core.smtp import MailClient
from antiphon.core.wire import Request
from antiphon.messages import dispatch, enqueue, lanes
from antiphon.messages.worker import Worker
from antiphon.organizations.model import Actor
from antiphon.senders.model import Sender
from antiphon.templates import service as templates
from benchmarks import ledger
from benchmarks.processes import IN_FLIGHT, until
from benchmarks.stage import VAULT, Figure, Stage, contacts, organization

TEXT = "Hallo {{ firstName }}, in einer Woche geht es los. " + "Wir freuen uns auf dich. " * 10


async def measure(stage: Stage, quick: bool) -> list[Figure]:
    """Medians of alternating runs, on a small ledger and then on a large one."""
    count, rounds = (20_000, 3) if quick else (60_000, 5)
    small, large = 100_000, 1_000_000 if quick else 10_000_000
    async with (
        Database.connect(stage.urls.app, size=4) as app,
        Database.connect(stage.urls.worker, size=6) as worker,
        Client(connections=IN_FLIGHT) as http,
        MailClient() as mail,
    ):
        org_id, sender = await organization(stage, app, in_flight=IN_FLIGHT)
        contacts(stage, org_id, count, group_id := ids.new_id())
        road = Road(
            stage, app, Worker(ids.new_id(), worker, http, mail, VAULT), org_id, sender, group_id,
            await _template(app, org_id), count,
        )  # fmt: skip
        await asyncio.to_thread(ledger.grow, stage, org_id, sender.id, small)
        ceiling, measured = await _alternating(road, rounds)
        await asyncio.to_thread(ledger.grow, stage, org_id, sender.id, large - small)
        ceiling_then, measured_then = await _alternating(road, rounds)
    return [
        Figure(
            what=f"due to recorded, whole protocol, {IN_FLIGHT} in flight, {small:,} messages in the ledger",
            asked="≥ 10,000/s and ≥ 0.6 (aim 0.75)", measured=f"{measured:,.0f} messages/s",
            ceiling=f"{ceiling:,.0f}/s bare loop", ratio=f"{measured / ceiling:.2f}",
        ),
        Figure(
            what=f"the same, {large:,} messages in the ledger", asked="flat: ±15 % of the line above",
            measured=f"{measured_then:,.0f} messages/s, {measured_then / measured - 1:+.0%}",
            ceiling=f"{ceiling_then:,.0f}/s bare loop, {ceiling_then / ceiling - 1:+.0%}",
            ratio=f"{measured_then / ceiling_then:.2f}",
        ),
    ]  # fmt: skip


@dataclass(frozen=True)
class Road:
    """Who sends what to whom, and how many."""

    stage: Stage
    app: Database
    worker: Worker
    org_id: UUID
    sender: Sender
    group_id: UUID
    version_id: UUID
    count: int


async def _alternating(road: Road, rounds: int) -> tuple[float, float]:
    """Medians of the bare loop and of the whole protocol, run in turn, in messages a second."""
    bare: list[float] = []
    whole: list[float] = []
    for _ in range(rounds):
        bare.append(road.count / await _bare(road))
        whole.append(road.count / await _whole(road))
    return statistics.median(bare), statistics.median(whole)


async def _template(app: Database, org_id: UUID) -> UUID:
    async with app.transaction(org_id) as conn:
        version = await templates.own_text(conn, Actor.operator(org_id), Channel.SMS, TEXT)
    return version.id


async def _whole(road: Road) -> float:
    org_id, campaign_id = road.org_id, ids.new_id()
    async with road.app.transaction(org_id) as conn:
        gate_id = await lanes.add_gate(
            conn, org_id, road.sender.id, cause="campaign", cause_id=campaign_id, traffic="bulk"
        )
        await stage_audience(conn, org_id, Audience(groups=[road.group_id]), Channel.SMS, None, road.count)
        plan = enqueue.Plan(
            org_id=org_id, channel=Channel.SMS, purpose=Purpose.MARKETING, origin="campaign", caused_by="bench",
            lane_id=road.sender.id, gate_id=gate_id, campaign_id=campaign_id, due_at=now(),
            template_version_id=road.version_id,
        )  # fmt: skip
        made = await enqueue.enqueue_page(conn, plan)
        assert made.made == road.count
    async with road.app.transaction(org_id) as conn:
        await lanes.look_again(conn, org_id, road.sender.id)

    async def all_recorded() -> bool:
        async with road.app.transaction(org_id, read_only=True) as conn:
            return not await db.value(conn, LEFT, org_id=org_id)

    stop = asyncio.Event()
    started = time.perf_counter()
    running = asyncio.create_task(dispatch.run(road.worker, stop))
    await until(all_recorded, seconds=600, what="the last message's record")
    seconds = time.perf_counter() - started
    stop.set()
    await running
    return seconds


LEFT = "SELECT EXISTS (SELECT FROM outbox WHERE org_id = %(org_id)s)"


BARE_TABLES = """
    DROP TABLE IF EXISTS bare_queue, bare_ledger;
    CREATE TABLE bare_ledger (
        id uuid PRIMARY KEY, address text, variables jsonb, status text, provider_id text, sent_at timestamptz)
        WITH (fillfactor = 75);
    CREATE TABLE bare_queue (id uuid PRIMARY KEY, due_at timestamptz, state smallint) WITH (fillfactor = 70);
    CREATE INDEX ON bare_queue (due_at) WHERE state = 0;
    GRANT ALL ON bare_queue, bare_ledger TO antiphon_worker;
    INSERT INTO bare_ledger SELECT uuid7(), '+49151' || g, jsonb_build_object('firstName', 'Max' || g), 'scheduled'
      FROM generate_series(1, {count}) g;
    INSERT INTO bare_queue SELECT id, now(), 0 FROM bare_ledger;
    ANALYZE bare_queue; ANALYZE bare_ledger;
"""
BARE_CLAIM = """
    WITH due AS (SELECT id FROM bare_queue WHERE state = 0 AND due_at <= now() ORDER BY due_at LIMIT 256
                    FOR UPDATE SKIP LOCKED),
         open AS (UPDATE bare_queue q SET state = 1 FROM due WHERE q.id = due.id)
    SELECT l.id, l.address, l.variables FROM due JOIN bare_ledger l ON l.id = due.id
"""
BARE_RECORD = """
    WITH done AS (SELECT * FROM unnest(%(ids)s::uuid[], %(names)s::text[]) AS d (id, name)),
         gone AS (DELETE FROM bare_queue q USING done WHERE q.id = done.id)
    UPDATE bare_ledger l SET status = 'sent', provider_id = done.name, sent_at = now() FROM done WHERE l.id = done.id
"""


async def _bare(road: Road) -> float:
    road.stage.sql(BARE_TABLES.format(count=road.count))
    env = minijinja.Environment(templates={"t": TEXT})
    url = f"{road.stage.simulator['fast_url']}/fast/messages"
    pool, http = road.worker.database.pool, road.worker.http

    async def send(row: tuple[Any, ...]) -> tuple[UUID, str]:
        text = env.render_template("t", **row[2])
        body = msgspec.json.encode({"to": row[1], "text": text})
        answer = await http.send(Request(url=url, headers={"content-type": "application/json"}, body=body))
        return row[0], msgspec.json.decode(answer.body)["id"]

    async def work() -> None:
        async with pool.connection() as conn:
            while rows := await (await conn.execute(BARE_CLAIM)).fetchall():
                done = await asyncio.gather(*map(send, rows))
                await conn.execute(BARE_RECORD, {"ids": [d[0] for d in done], "names": [d[1] for d in done]})

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(3)))
    return time.perf_counter() - started
