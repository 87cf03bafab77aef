"""Single messages of one tenant while another tenant's million goes out through the same worker.

One worker process (`antiphon work`) expands and sends the campaign at full speed; beside it, five times a second, a
message to somebody else is written to the ledger as `POST /messages` does, due at once. Its time is from when it was
due to when the provider received the call: the simulator's log tells it by the same machine's clock. The ceiling is the
same on a system that has nothing else to do.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from statistics import quantiles
from uuid import UUID

from antiphon.core import ids
from antiphon.core.db import Database
from antiphon.core.waking import wakes
from antiphon.entry import loops
from antiphon.messages import sending
from antiphon.messages.sending import OutgoingMessage
from antiphon.organizations.model import Actor
from antiphon.senders.model import Sender
from benchmarks import blast
from benchmarks.processes import IN_FLIGHT, until, working
from benchmarks.stage import Figure, Stage, contacts, organization

EVERY = 0.2  # seconds between two single messages


async def measure(stage: Stage, quick: bool) -> list[Figure]:
    """First idle, then beside the campaign from its launch on."""
    crowd, singles = (200_000, 75) if quick else (1_000_000, 300)
    async with Database.connect(stage.urls.app, size=4) as app:
        big, big_sender = await organization(stage, app, in_flight=IN_FLIGHT)
        group_id = ids.new_id()
        contacts(stage, big, crowd, group_id)
        small, sender = await organization(stage, app, is_logged=True)
        contacts(stage, small, 1_000)
        async with working(stage):
            await _seconds(stage, app, small, sender, 5)  # until the worker is there
            idle = await _seconds(stage, app, small, sender, singles)
            campaign_id = await blast.draft(app, big, big_sender, group_id)
            await blast.launch(app, big, campaign_id)
            beside = await _seconds(stage, app, small, sender, singles)
            is_under_way = (await blast.get(app, big, campaign_id)).status == "active"
        [(sent, made)] = stage.sql(f"""
            SELECT count(*) FILTER (WHERE status <> 'scheduled'), count(*) FROM messages WHERE org_id = '{big}'
        """)
    assert is_under_way, "the campaign ended before the single messages did"
    return [
        Figure(
            what=f"a single message, due to call, beside a campaign of {crowd:,} ({made:,} expanded and {sent:,} sent "
                 f"in {singles * EVERY:.0f} s)",
            asked="p95 ≤ 1 s", measured=_shown(beside), ceiling=f"{_shown(idle)} idle",
            ratio=f"{_p95(beside) / _p95(idle):.1f} times",
        )
    ]  # fmt: skip


async def _seconds(stage: Stage, app: Database, org_id: UUID, sender: Sender, count: int) -> list[float]:
    """How long each of so many messages took from when it was due to its call."""
    due: dict[str, datetime] = {}
    loop = asyncio.get_running_loop()
    started = loop.time()
    for n in range(count):
        await asyncio.sleep(max(0.0, started + n * EVERY - loop.time()))
        message = OutgoingMessage(sender=str(sender.id), to=f"+4915{100_000_001 + n}", text=f"Message {n}.")
        async with app.transaction(org_id) as conn:
            queued = await sending.send(conn, Actor.operator(org_id), [message])
        due[str(queued.ids[0])] = await _due_at(app, org_id, queued.ids[0])
        await wakes.flush(loops.deliver_through(app))

    async def all_called() -> bool:
        return due.keys() <= {call["reference"] for call in await asyncio.to_thread(stage.calls)}

    await until(all_called, seconds=60, what="the call of every single message", every=0.5)
    called = {call["reference"]: float(call["at"]) for call in stage.calls()}
    return [called[id_] - at.timestamp() for id_, at in due.items()]


async def _due_at(app: Database, org_id: UUID, message_id: UUID) -> datetime:
    async with app.transaction(org_id, read_only=True) as conn:
        cursor = await conn.execute(
            "SELECT scheduled_for FROM messages WHERE org_id = %s AND id = %s", (org_id, message_id)
        )
        row = await cursor.fetchone()
    assert row is not None
    return row[0]


def _p95(seconds: list[float]) -> float:
    return quantiles(seconds, n=100, method="inclusive")[94]


def _shown(seconds: list[float]) -> str:
    middle = quantiles(seconds, n=100, method="inclusive")[49]
    return f"p50 {middle * 1000:.0f}, p95 {_p95(seconds) * 1000:.0f}, worst {max(seconds) * 1000:.0f} ms"
