"""From a group to the ledger and the queue: a launched campaign, brought in by the real jobs on the real runner.

Row-level security and the unique keys are on, each person is joined with their addresses and attributes, and ledger,
queue, once-only keys and funnel are written. The ceiling is one bare INSERT … SELECT of as many rows into one plain
table with three indexes, in one transaction.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from uuid import UUID

from antiphon.core import ids
from antiphon.core.db import Database
from antiphon.entry import wiring
from antiphon.jobs import runner
from antiphon.senders.model import Sender
from benchmarks import blast
from benchmarks.processes import until
from benchmarks.stage import Figure, Stage, contacts, organization


async def measure(stage: Stage, quick: bool) -> list[Figure]:
    """Medians of alternating runs; the ledger grows by the whole group with each."""
    count, rounds = (200_000, 1) if quick else (1_000_000, 3)
    bare: list[float] = []
    whole: list[float] = []
    stage.sql(BARE_TABLE)
    async with (
        Database.connect(stage.urls.app, size=4) as app,
        Database.connect(stage.urls.worker, size=6) as worker,
    ):
        org_id, sender = await organization(stage, app)
        group_id = ids.new_id()
        contacts(stage, org_id, count, group_id)
        for _ in range(rounds):
            bare.append(count / await asyncio.to_thread(_bare, stage, org_id, count))
            whole.append(count / await _whole(stage, app, worker, org_id, sender, group_id, count))
    ceiling, measured = statistics.median(bare), statistics.median(whole)
    return [
        Figure(
            what=f"audience to ledger + outbox, a group of {count:,}", asked="≥ 40,000/s",
            measured=f"{measured:,.0f} messages/s", ceiling=f"{ceiling:,.0f}/s bare INSERT … SELECT",
            ratio=f"{measured / ceiling:.2f}",
        )
    ]  # fmt: skip


async def _whole(
    stage: Stage, app: Database, worker: Database, org_id: UUID, sender: Sender, group_id: UUID, count: int
) -> float:
    campaign_id = await blast.draft(app, org_id, sender, group_id)

    async def is_in() -> bool:
        return (await blast.get(app, org_id, campaign_id)).is_expanded

    stop = asyncio.Event()
    started = time.perf_counter()
    await blast.launch(app, org_id, campaign_id)
    running = asyncio.create_task(runner.work(worker, wiring.HANDLERS, stop))
    await until(is_in, seconds=600, what="the expansion", every=0.02)
    seconds = time.perf_counter() - started
    stop.set()
    await running
    [(messages, queued)] = stage.sql(f"""
        SELECT (SELECT count(*) FROM messages WHERE org_id = '{org_id}' AND campaign_id = '{campaign_id}'),
               (SELECT count(*) FROM outbox o JOIN gates g ON g.org_id = o.org_id AND g.id = o.gate_id
                 WHERE o.org_id = '{org_id}' AND g.cause_id = '{campaign_id}')
    """)
    assert (messages, queued) == (count, count), (
        f"of {count}: {messages} in the ledger, {queued} in the queue"
    )
    return seconds


BARE_TABLE = """
    CREATE TABLE bare_messages (
        org_id uuid, id uuid, campaign_id uuid, contact_id uuid, address text, variables jsonb, status text,
        due_at timestamptz, PRIMARY KEY (org_id, id));
    CREATE INDEX ON bare_messages (due_at) WHERE status = 'scheduled';
    CREATE INDEX ON bare_messages (org_id, campaign_id, contact_id);
"""


def _bare(stage: Stage, org_id: UUID, count: int) -> float:
    started = time.perf_counter()
    stage.sql(f"""
        INSERT INTO bare_messages
        SELECT '{org_id}', uuid7(), '{ids.new_id()}', gen_random_uuid(), '+4915' || (100000000 + n),
               jsonb_build_object('firstName', 'Max' || n, 'lastName', 'Mustermann'), 'scheduled', now()
          FROM generate_series(1, {count}) n
    """)
    return time.perf_counter() - started
