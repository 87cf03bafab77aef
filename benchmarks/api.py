"""`POST /messages` on one server process: one message a request over 64 kept connections, and a thousand a request.

Each request names a template, fills it, and goes to a contact who is known by a phone number; it is authenticated,
checked, rendered once, written to ledger, queue, audit log and funnel, committed, and answered. The ceiling is a route
of the same server, over the same connections, that inserts one bare row and does nothing else; for the bulk it is one
INSERT of a thousand bare rows a request, sent by the driver without a server.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any
from uuid import UUID

import msgspec

from antiphon.core.db import Database
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor, Permission
from antiphon.senders.model import Sender
from antiphon.templates import service as templates
from antiphon.templates.model import NewTemplate, Variable
from benchmarks.processes import BARE_TABLE, load, request, serving
from benchmarks.stage import Figure, Stage, contacts, organization

CONNECTIONS = 64
BULK_CONNECTIONS = 4
MANY = 1_000
PEOPLE = 100_000
MESSAGES = "/api/v1/messages"


async def measure(stage: Stage, quick: bool) -> list[Figure]:
    """Medians of alternating runs."""
    singles, bulks, rounds = (5_000, 40, 3) if quick else (20_000, 100, 5)
    async with Database.connect(stage.urls.app, size=BULK_CONNECTIONS) as app:
        org_id, sender = await organization(stage, app)
        contacts(stage, org_id, PEOPLE)
        stage.sql(BARE_TABLE)
        token = await _prepare(app, org_id)
        bare_one = [request("/bare", token, _message(sender, n)) for n in range(singles)]
        single: list[dict[str, Any]] = []
        bare_single, keyed, bulk = single.copy(), single.copy(), single.copy()
        bare_bulk: list[float] = []
        async with serving(stage) as port:
            plain = [request(MESSAGES, token, _message(sender, n)) for n in range(singles)]
            for turn in range(rounds):
                once = [
                    request(MESSAGES, token, _message(sender, n), Idempotency_Key=f"{turn}-{n}")
                    for n in range(singles)
                ]
                many = [request(MESSAGES, token, _messages(sender, n)) for n in range(bulks)]
                bare_single.append(await load(port, CONNECTIONS, 0, bare_one, "201"))
                single.append(await load(port, CONNECTIONS, 0, plain, "201"))
                keyed.append(await load(port, CONNECTIONS, 0, once, "201"))
                bulk.append(await load(port, BULK_CONNECTIONS, 0, many, "201"))
                bare_bulk.append(await _bare_bulk(app, sender, bulks))
        _check(stage, org_id, rounds * (2 * singles + bulks * MANY))
    ceiling = _rate(bare_single)
    bulk_rate, bulk_ceiling = _rate(bulk) * MANY, statistics.median(bare_bulk)
    return [
        *(
            Figure(
                what=what, asked="≥ 1,500/s", measured=f"{rate:,.0f}/s",
                ceiling=f"{ceiling:,.0f}/s one bare row a request", ratio=f"{rate / ceiling:.2f}",
            )
            for what, rate in (
                (f"single POST /messages, {CONNECTIONS} connections, one process", _rate(single)),
                ("the same, each with an Idempotency-Key", _rate(keyed)),
            )
        ),
        Figure(
            what=f"POST /messages of {MANY:,}, {BULK_CONNECTIONS} connections", asked="≥ 20,000 messages/s",
            measured=f"{bulk_rate:,.0f} messages/s", ceiling=f"{bulk_ceiling:,.0f}/s bare rows, no server",
            ratio=f"{bulk_rate / bulk_ceiling:.2f}",
        ),
    ]  # fmt: skip


def _rate(runs: list[dict[str, Any]]) -> float:
    return statistics.median(run["rate"] for run in runs)


async def _prepare(app: Database, org_id: UUID) -> str:
    """A template and a key."""
    actor = Actor.operator(org_id)
    async with app.transaction(org_id) as conn:
        text = "Hallo {{ firstName }}, Ihr Termin ist am {{ day }}."
        variables = {"firstName": Variable(sample="Max"), "day": Variable(sample="Montag")}
        new = NewTemplate(name="welcome", channel="sms", language="de", text=text, variables=variables)
        await templates.create(conn, actor, new)
        _, token = await organizations.create_key(conn, actor, "bench", [Permission.MESSAGES_SEND])
    return token


def _message(sender: Sender, n: int) -> dict[str, object]:
    to = f"+4915{100_000_001 + n % PEOPLE}"
    return {"sender": str(sender.id), "to": to, "template": "welcome", "variables": {"day": "Montag"}}


def _messages(sender: Sender, n: int) -> dict[str, object]:
    return {"messages": [_message(sender, n * MANY + i) for i in range(MANY)]}


def _check(stage: Stage, org_id: UUID, count: int) -> None:
    [(messages, queued)] = stage.sql(f"""
        SELECT (SELECT count(*) FROM messages WHERE org_id = '{org_id}'),
               (SELECT count(*) FROM outbox WHERE org_id = '{org_id}')
    """)
    assert (messages, queued) == (count, count), (
        f"of {count}: {messages} in the ledger, {queued} in the queue"
    )


async def _bare_bulk(app: Database, sender: Sender, count: int) -> float:
    """The same contents, decoded and inserted as bare rows, a thousand a transaction, over as many connections."""
    bodies = [msgspec.json.encode(_messages(sender, n)) for n in range(count)]
    waiting = iter(bodies)

    async def insert() -> None:
        async with app.pool.connection() as conn:
            for body in waiting:
                rows = [msgspec.json.encode(m).decode() for m in msgspec.json.decode(body)["messages"]]
                await conn.execute(
                    "INSERT INTO bare_rows (content) SELECT unnest(%s::text[])::jsonb", (rows,)
                )

    started = time.perf_counter()
    await asyncio.gather(*(insert() for _ in range(BULK_CONNECTIONS)))
    return count * MANY / (time.perf_counter() - started)
