"""kill -9 of a worker in the middle of a blast, with production's lease; another worker is there and goes on.

Several senders share the blast, so that every lane has to be taken over: half of them at a provider that takes an
idempotency key, half at one that takes none (WSAPME). The simulator's log, written before each answer, is the oracle:
resumed is the time from the kill to the first call of the last sender to go on. Lost is a message that the provider
never got and that the ledger does not show as in doubt; silently doubled is one that somebody got twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any
from uuid import UUID

from antiphon.core import ids
from antiphon.core.db import Database
from antiphon.messages import lane_service
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.senders.model import NewAccount, NewSender, Sender
from benchmarks import blast
from benchmarks.processes import IN_FLIGHT, start_worker, until
from benchmarks.stage import VAULT, Figure, Stage, contacts

SENDERS = 4
RATE = 100  # a second and sender: it is the oracle's log that must keep up


async def measure(stage: Stage, quick: bool) -> list[Figure]:
    """One kill; quick has no less to do, only fewer people."""
    count = 4_000 if quick else 12_000
    async with Database.connect(stage.urls.app, size=4) as app:
        org_id = ids.new_id()
        await _prepare(stage, app, org_id, count // SENDERS)
        first = await start_worker(stage)
        try:
            await until(
                lambda: _calls(stage, count // 4), seconds=120, what="a quarter of the calls", every=0.1
            )
            second = await start_worker(stage)
            killed = time.time()
            first.kill()
            try:
                resumed = await _resumed(stage, killed, count // SENDERS)
                await until(
                    lambda: _settled(stage, org_id), seconds=240, what="the end of the blast", every=0.5
                )
                settled = time.time() - killed
            finally:
                second.terminate()
                await second.wait()
        finally:
            if first.returncode is None:
                first.kill()
            await first.wait()
        lost, doubled, doubts = _judge(stage, org_id)
    return [
        Figure(
            what=f"kill -9 of a worker among {count:,} messages of {SENDERS} senders, {IN_FLIGHT} in flight at most, "
                 "lease 15 s",
            asked="0 lost, 0 silent duplicates", measured=f"{lost} lost, {doubled} silent duplicates",
            ceiling=f"{doubts} in doubt, all shown",
        ),
        Figure(
            what="the same: from the kill until every sender sends again", asked="≤ 20 s",
            measured=f"{resumed:.1f} s", ceiling="15 s lease", ratio=f"{resumed / 15:.2f}",
        ),
        Figure(
            what="the same: until nothing waits and every doubt is shown", asked="", measured=f"{settled:.0f} s",
            ceiling="lease + call time-out + 5 s (80 s without a key)",
        ),
    ]  # fmt: skip


async def _prepare(stage: Stage, app: Database, org_id: UUID, each: int) -> None:
    """An organization with the senders, a group for each, and its blast, launched."""
    actor = Actor.operator(org_id)
    async with app.transaction(org_id) as conn:
        await organizations.create(conn, org_id, "Bench", timezone="UTC", country="DE", language="en")
    made: list[UUID] = []
    for n in range(SENDERS):
        group_id = ids.new_id()
        contacts(stage, org_id, each, group_id, first=n * each)
        sender = await _sender(stage, app, actor, n)
        made.append(await blast.draft(app, org_id, sender, group_id))
    for campaign_id in made:
        await blast.launch(app, org_id, campaign_id)


async def _sender(stage: Stage, app: Database, actor: Actor, n: int) -> Sender:
    url = stage.simulator["url"]
    account, channel, address = (
        (NewAccount(provider="keyed", name=f"keyed {n}", credentials={
            "base_url": f"{url}/keyed", "signing_secret": "bench"}), "sms", f"+49151000000{n}")
        if n % 2
        else (NewAccount(provider="wsapme", name=f"wsapme {n}", credentials={
            "base_url": f"{url}/v1", "token": "bench"}), "whatsapp", f"device-{n}")
    )  # fmt: skip
    async with app.transaction(actor.org_id) as conn:
        account_id = (await senders.add_account(conn, actor, VAULT, account)).id
        new = NewSender(
            account_id=account_id, channel=channel, address=address, rate=RATE, in_flight=IN_FLIGHT
        )
        return await lane_service.add_sender(conn, actor, new)


def _accepted(stage: Stage) -> list[dict[str, Any]]:
    return [call for call in stage.calls() if call["operation"] == "send" and call["verdict"] == "accepted"]


def _number(call: dict[str, Any]) -> int:
    """Which of the contacts was called, counted from 0."""
    return int(call["recipient"].lstrip("+").split("@")[0].removeprefix("4915")) - 100_000_001


async def _calls(stage: Stage, count: int) -> bool:
    return len(await asyncio.to_thread(_accepted, stage)) >= count


async def _resumed(stage: Stage, killed: float, each: int) -> float:
    """Seconds from the kill to the first call of the last sender to go on."""
    first: dict[int, float] = {}

    async def all_send() -> bool:
        for call in await asyncio.to_thread(_accepted, stage):
            if call["at"] > killed + 0.5:  # what was on the wire has arrived by then
                first.setdefault(_number(call) // each, call["at"])
        return len(first) == SENDERS

    await until(all_send, seconds=60, what="a call of every sender", every=0.2)
    return max(first.values()) - killed


async def _settled(stage: Stage, org_id: UUID) -> bool:
    """Nothing waits or is on the wire: sent, or shown as in doubt."""
    [(left,)] = await asyncio.to_thread(
        stage.sql, f"SELECT count(*) FROM outbox WHERE org_id = '{org_id}' AND state IN (0, 1)"
    )
    return left == 0


def _judge(stage: Stage, org_id: UUID) -> tuple[int, int, int]:
    """Lost, silently doubled, in doubt."""
    times = Counter(
        (call["provider"], call["recipient"].lstrip("+").split("@")[0]) for call in _accepted(stage)
    )
    lost = doubts = 0
    for address, channel, status in stage.sql(
        f"SELECT address, channel, status FROM messages WHERE org_id = '{org_id}'"
    ):
        provider = "keyed" if channel == "sms" else "wsapme"
        doubts += status == "unknown"
        lost += not times[provider, address.lstrip("+")] and status != "unknown"
    return lost, sum(n - 1 for n in times.values() if n > 1), doubts
