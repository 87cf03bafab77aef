"""Webhooks in: Meta's shape, one signed status a request, 64 connections, one server process, answered after commit.

The ceiling is a bare application on the same server, run in turn with it: it verifies and decodes the same bodies and
commits them in groups to two bare tables, without tenants, row-level security, raw copies, accounts, order of statuses,
history keys, queues or counts.

`python -m benchmarks.webhooks DATABASE_URL` is the bare application's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import signal
import statistics
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import uvloop

from antiphon.core import heap
from antiphon.core.db import Database
from antiphon.entry import server
from benchmarks import meta
from benchmarks.meta import Line
from benchmarks.processes import load, serving
from benchmarks.stage import Figure, Stage

CONNECTIONS = 64
CALM = 1_000  # a second, for the percentile


async def measure(stage: Stage, quick: bool) -> list[Figure]:
    """Medians of alternating runs, then the percentile at a steady thousand a second."""
    count, rounds = (15_000, 3) if quick else (40_000, 5)
    async with Database.connect(stage.urls.app, size=1) as app:
        line = await meta.line(app)
    bare, whole = list[dict[str, Any]](), list[dict[str, Any]]()
    stage.sql(BARE_TABLES)
    async with _serving_bare(stage) as bare_port, serving(stage) as port:
        for _ in range(rounds):
            requests = [meta.status(line, name) for name in meta.handed_over(stage, line, count)]
            stage.sql(FILL_BARE)
            bare.append(await load(bare_port, CONNECTIONS, 0, requests, "200"))
            whole.append(await load(port, CONNECTIONS, 0, requests, "200"))
            _check(stage, line)
        names = meta.handed_over(stage, line, CALM * (10 if quick else 30))
        calm = await load(port, CONNECTIONS, CALM, [meta.status(line, name) for name in names], "200")
        _check(stage, line)
    ceiling = statistics.median(run["rate"] for run in bare)
    measured = statistics.median(run["rate"] for run in whole)
    return [
        Figure(
            what=f"status webhooks, one signed status a request, {CONNECTIONS} connections, one process",
            asked="≥ 5,000/s", measured=f"{measured:,.0f}/s", ceiling=f"{ceiling:,.0f}/s bare group commit",
            ratio=f"{measured / ceiling:.2f}",
        ),
        Figure(
            what=f"the same at {CALM:,}/s: p99", asked="≤ 100 ms", measured=f"{calm['p99'] * 1000:.1f} ms",
            ceiling=f"p50 {calm['p50'] * 1000:.1f} ms, worst {calm['worst'] * 1000:.0f} ms",
        ),
    ]  # fmt: skip


def _check(stage: Stage, line: Line) -> None:
    """Every one arrived, once: before the next round all messages are delivered, and nothing waits."""
    [(left, parked)] = stage.sql(f"""
        SELECT (SELECT count(*) FROM messages WHERE org_id = '{line.org_id}' AND status <> 'delivered'),
               (SELECT count(*) FROM parked_receipts WHERE org_id = '{line.org_id}')
    """)
    assert (left, parked) == (0, 0), f"{left} messages were not delivered, {parked} receipts parked"


# ---- the bare server's process ---------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _serving_bare(stage: Stage) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.webhooks", stage.urls.app, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def serve(url: str) -> None:
    """Serve the bare application until terminated; prints the port."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sock = server.listen("127.0.0.1", 0)
    async with Database.connect(url, size=10) as database:
        heap.settle()
        print(sock.getsockname()[1], flush=True)
        await server.serve(cast("Any", Bare(database)), sock, stop)


BARE_TABLES = """
    DROP TABLE IF EXISTS bare_messages, bare_events;
    CREATE TABLE bare_messages (id text PRIMARY KEY, status text, delivered_at timestamptz) WITH (fillfactor = 75);
    CREATE TABLE bare_events (id text, status text, at timestamptz DEFAULT now(), PRIMARY KEY (id, status));
    GRANT ALL ON bare_messages, bare_events TO antiphon_app;
"""
FILL_BARE = """
    TRUNCATE bare_messages, bare_events;
    INSERT INTO bare_messages SELECT provider_message_id, 'sent' FROM messages WHERE status = 'sent';
    ANALYZE bare_messages;
"""
BARE_MOVE = """
    WITH told AS (INSERT INTO bare_events (id, status) SELECT * FROM unnest(%(ids)s::text[], %(statuses)s::text[])
                      ON CONFLICT DO NOTHING)
    UPDATE bare_messages m SET status = n.status, delivered_at = now()
      FROM unnest(%(ids)s::text[], %(statuses)s::text[]) AS n (id, status) WHERE m.id = n.id
"""


class Bare:
    """The least that keeps a status: verify, decode, commit in groups, answer."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.waiting: deque[tuple[str, str, asyncio.Future[None]]] = deque()
        self.committers: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            for stage_of_life in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage_of_life}.complete"})
            return
        body: bytes = (await receive())["body"]
        given = dict(scope["headers"])[b"x-hub-signature-256"]
        wanted = hmac.new(meta.APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(given, f"sha256={wanted}".encode())
        status = msgspec.json.decode(body)["entry"][0]["changes"][0]["value"]["statuses"][0]
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((status["id"], status["status"], committed))
        if len(self.committers) < 2:
            task = asyncio.create_task(self.commit())
            self.committers.add(task)
            task.add_done_callback(self.committers.discard)
        await committed
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def commit(self) -> None:
        """Batch after batch while any waits."""
        while self.waiting:
            await asyncio.sleep(0.001)
            batch = [self.waiting.popleft() for _ in range(min(128, len(self.waiting)))]
            if batch:
                names, words = [b[0] for b in batch], [b[1] for b in batch]
                async with self.database.pool.connection() as conn:
                    await conn.execute(BARE_MOVE, {"ids": names, "statuses": words})
            for _, _, committed in batch:
                committed.set_result(None)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
