"""Webhooks in: Meta's shape, one signed status a request, 64 connections, one server process, answered after commit.

The ceiling is a bare application on the same server, run in turn with it: it verifies and decodes the same bodies and
commits them in groups to two bare tables, without tenants, row-level security, raw copies, accounts, order of statuses,
history keys, queues or counts.

`python -m benchmarks.webhooks DATABASE_URL [bare]` is the server's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import statistics
import sys
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import uvloop

from antiphon.core import ids, logging
from antiphon.core.crypto import Vault
from antiphon.core.db import Database
from antiphon.core.settings import Settings
from antiphon.entry import server, web
from antiphon.messages import lane_service
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.senders.model import NewAccount, NewSender
from benchmarks.stage import FOLDER, Figure, Stage

KEY = "a key for measurements that is long enough to be one"
APP_SECRET = "app-secret"
NUMBER = "5550001"
CONNECTIONS = 64
CALM = 1_000  # a second, for the percentile


async def measure(stage: Stage, quick: bool) -> list[Figure]:
    """Medians of alternating runs, then the percentile at a steady thousand a second."""
    count, rounds = (15_000, 3) if quick else (40_000, 5)
    org_id, sender_id, account_id, path = await _account(stage)
    bare, whole = list[dict[str, Any]](), list[dict[str, Any]]()
    stage.sql(BARE_TABLES)
    async with _serving(stage, "bare") as bare_port, _serving(stage) as port:
        for _ in range(rounds):
            names = _messages(stage, org_id, sender_id, account_id, count)
            requests = [_request(path, name) for name in names]
            stage.sql(FILL_BARE)
            bare.append(await _load(bare_port, 0, requests))
            whole.append(await _load(port, 0, requests))
            _check(stage, org_id, len(names))
        names = _messages(stage, org_id, sender_id, account_id, CALM * (10 if quick else 30))
        calm = await _load(port, CALM, [_request(path, name) for name in names])
        _check(stage, org_id, len(names))
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


async def _account(stage: Stage) -> tuple[UUID, UUID, UUID, str]:
    org_id = ids.new_id()
    actor, vault = Actor.operator(org_id), Vault([KEY])
    credentials = {"access_token": "t", "app_secret": APP_SECRET, "verify_token": "v"}
    async with Database.connect(stage.urls.app, size=1) as app, app.transaction(org_id) as conn:
        await organizations.create(conn, org_id, "Bench", timezone="UTC", country="MY", language="en")
        new = NewAccount(provider="meta_whatsapp", name="bench", credentials=credentials)
        account = await senders.add_account(conn, actor, vault, new)
        added = NewSender(account_id=account.id, channel="whatsapp", address=NUMBER)
        sender = await lane_service.add_sender(conn, actor, added)
        webhook = await senders.get_webhook(conn, actor, vault, account.id, "http://127.0.0.1")
    return org_id, sender.id, account.id, urlsplit(webhook.url).path


def _messages(stage: Stage, org_id: UUID, sender_id: UUID, account_id: UUID, count: int) -> list[str]:
    """Messages that were handed over, loaded past the application; the provider's names of them."""
    rows = stage.sql(f"""
        WITH made AS (
            INSERT INTO messages (org_id, id, direction, channel, purpose, origin, caused_by, status, stage, sender_id,
                                  address, attempt_no, provider_message_id, day, sent_at)
            SELECT '{org_id}', uuid7(), 'out', 'whatsapp', 'marketing', 'campaign', 'bench', 'sent', 'sent',
                   '{sender_id}', '+6011' || n, 1, 'wamid.' || gen_random_uuid(), current_date, now()
              FROM generate_series(1, {count}) n RETURNING id, provider_message_id
        )
        INSERT INTO provider_ids (org_id, account_id, provider_message_id, message_id, attempt_no)
        SELECT '{org_id}', '{account_id}', provider_message_id, id, 1 FROM made RETURNING provider_message_id
    """)
    stage.sql("ANALYZE messages, provider_ids")
    return [name for (name,) in rows]


def _check(stage: Stage, org_id: UUID, count: int) -> None:
    """Every one arrived, once: before the next round all messages are delivered, and nothing waits."""
    [(left, parked)] = stage.sql(f"""
        SELECT (SELECT count(*) FROM messages WHERE org_id = '{org_id}' AND status <> 'delivered'),
               (SELECT count(*) FROM parked_receipts WHERE org_id = '{org_id}')
    """)
    assert (left, parked) == (0, 0), (
        f"of {count} messages {left} were not delivered, {parked} receipts parked"
    )


def _request(path: str, name: str) -> bytes:
    """A POST as Meta sends it."""
    body = msgspec.json.encode(
        {"object": "whatsapp_business_account", "entry": [{"id": "1029384756", "changes": [{
            "field": "messages", "value": {
                "messaging_product": "whatsapp",
                "metadata": {"display_phone_number": "60300000000", "phone_number_id": NUMBER},
                "contacts": [{"profile": {"name": "Aina"}, "wa_id": "60111111111"}],
                "statuses": [{
                    "id": name, "status": "delivered", "timestamp": "1767225661", "recipient_id": "60111111111",
                    "conversation": {"id": "c0ffee", "origin": {"type": "utility"}},
                    "pricing": {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "utility"},
                }]}}]}]}
    )  # fmt: skip
    signature = hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: facebookexternalua\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\n\r\n"
    )
    return head.encode() + body


async def _load(port: int, rate: float, requests: list[bytes]) -> dict[str, Any]:
    path = FOLDER / "requests"
    path.write_bytes(msgspec.msgpack.encode(requests))
    arguments = [str(port), str(CONNECTIONS), str(rate), str(path)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(await process.stdout.read())
    assert found["statuses"] == {"200": len(requests)}, found["statuses"]
    return found


# ---- the server's process -------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _serving(stage: Stage, *kind: str) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.webhooks", stage.urls.app, *kind, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def serve(url: str, is_bare: bool) -> None:
    """Serve until terminated; prints the port."""
    logging.setup("warning", "console")
    settings = Settings(secret_key=KEY, data_dir=Path())
    stop = asyncio.Event()
    async with server.services(settings, url) as services:
        app: Any = Bare(services.database) if is_bare else web.application(services)
        sock = server.listen("127.0.0.1", 0)
        print(sock.getsockname()[1], flush=True)
        await server.serve(app, sock, stop)


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
        wanted = hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
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
    uvloop.run(serve(sys.argv[1], sys.argv[2:] == ["bare"]))
