"""The funnel of a million recipients through the API, while receipts arrive at 1,000 a second and a worker folds.

In the database means what PostgreSQL says of the request's own two statements (`EXPLAIN ANALYZE`, planning included,
under row-level security); whole means the request over HTTP. Beside each stands the reading of one row by its key,
measured the same way: the campaign's row, and `GET /campaigns/{id}`. At the end the funnel is compared with a count
of the ledger.
"""

from __future__ import annotations

import asyncio
import time
from statistics import quantiles
from typing import Any, LiteralString
from uuid import UUID

import aiohttp
import msgspec
import psycopg

from antiphon.campaigns import queries as campaign_queries
from antiphon.campaigns import service as campaigns
from antiphon.campaigns.model import NewCampaign
from antiphon.core.db import Connection, Database
from antiphon.messages import funnel
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor, Permission
from benchmarks import meta
from benchmarks.meta import Line
from benchmarks.processes import load, serving, working
from benchmarks.stage import Figure, Stage

RATE = 1_000  # receipts a second
CONNECTIONS = 64


class Times(msgspec.Struct):
    """Milliseconds, one of each kind for each look."""

    funnel: list[float] = []
    row: list[float] = []
    whole_funnel: list[float] = []
    whole_row: list[float] = []


async def measure(stage: Stage, quick: bool) -> list[Figure]:
    """Looks twenty times a second while receipts arrive."""
    recipients, seconds = (200_000, 10) if quick else (1_000_000, 60)
    async with Database.connect(stage.urls.app, size=4) as app:
        line = await meta.line(app)
        campaign_id, token = await _prepare(app, line)
        names = meta.handed_over(stage, line, recipients, campaign_id)
        requests = [meta.status(line, name) for name in names[:: len(names) // (RATE * seconds)]][
            : RATE * seconds
        ]
        times = Times()
        async with serving(stage) as port, working(stage), aiohttp.ClientSession() as http:
            get = _Get(http, f"http://127.0.0.1:{port}/api/v1/campaigns/{campaign_id}", token)
            arriving = asyncio.create_task(load(port, CONNECTIONS, RATE, requests, "200"))
            while not arriving.done():
                await _look(app, line.org_id, campaign_id, get, times)
                await asyncio.sleep(0.02)
            receipts = await arriving
            told = await get.json("/funnel")
        _check(stage, line, campaign_id, told)
    return [
        Figure(
            what=f"funnel of {recipients:,} recipients at {receipts['rate']:,.0f} receipts/s, in the database",
            asked="≤ 5 ms, equal to a recount", measured=f"{_shown(times.funnel)}, equal",
            ceiling=f"{_shown(times.row)} one row by key", ratio=_ratio(times.funnel, times.row),
        ),
        Figure(
            what="the same, the whole request", asked="", measured=_shown(times.whole_funnel),
            ceiling=f"{_shown(times.whole_row)} one row", ratio=_ratio(times.whole_funnel, times.whole_row),
        ),
    ]  # fmt: skip


async def _prepare(app: Database, line: Line) -> tuple[UUID, str]:
    actor = Actor.operator(line.org_id)
    async with app.transaction(line.org_id) as conn:
        new = NewCampaign(name="bench", sender=str(line.sender_id), text="Hallo {{ firstName }}.")
        campaign = await campaigns.create(conn, actor, new)
        _, token = await organizations.create_key(conn, actor, "bench", [Permission.CAMPAIGNS_READ])
    return campaign.id, token


class _Get:
    """Requests for one campaign with one key, over one kept connection."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self.http, self.url, self.headers = http, url, {"Authorization": f"Bearer {token}"}

    async def json(self, path: str) -> dict[str, Any]:
        """The answer, read to its end."""
        async with self.http.get(self.url + path, headers=self.headers) as answer:
            content = await answer.read()
            assert answer.status == 200, content
            return msgspec.json.decode(content)

    async def milliseconds(self, path: str) -> float:
        """How long it took."""
        started = time.perf_counter()
        await self.json(path)
        return (time.perf_counter() - started) * 1000


async def _look(app: Database, org_id: UUID, campaign_id: UUID, get: _Get, times: Times) -> None:
    of_one: dict[str, Any] = {"org_id": org_id, "id": campaign_id, "kind": None, "campaign_id": campaign_id}
    async with app.transaction(org_id, read_only=True) as conn:
        row = await _explained(conn, campaign_queries.GET, of_one)
        times.row.append(row)
        times.funnel.append(row + await _explained(conn, funnel.READ, of_one))
    times.whole_row.append(await get.milliseconds(""))
    times.whole_funnel.append(await get.milliseconds("/funnel"))


async def _explained(conn: Connection, statement: LiteralString, values: dict[str, Any]) -> float:
    cursor = psycopg.AsyncClientCursor(conn)
    await cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, values)
    row = await cursor.fetchone()
    assert row is not None
    plan = row[0][0]
    return plan["Planning Time"] + plan["Execution Time"]


def _check(stage: Stage, line: Line, campaign_id: UUID, told: dict[str, Any]) -> None:
    """The funnel says what a count of the ledger says."""
    counted = dict(
        stage.sql(f"""
        SELECT stage, count(*) FROM messages
         WHERE org_id = '{line.org_id}' AND campaign_id = '{campaign_id}' GROUP BY stage
    """)
    )
    stuck = {rung["stage"]: rung["stuck"] for rung in told["stages"] if rung["stuck"]}
    assert stuck == counted, f"the funnel says {stuck}, the ledger {counted}"
    assert told["recipients"] == sum(counted.values())


def _shown(milliseconds: list[float]) -> str:
    return f"p50 {_percentile(milliseconds, 50):.2f}, p99 {_percentile(milliseconds, 99):.2f} ms"


def _ratio(measured: list[float], ceiling: list[float]) -> str:
    return f"{_percentile(measured, 50) / _percentile(ceiling, 50):.1f} times"


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]
