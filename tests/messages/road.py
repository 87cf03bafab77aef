"""A whole road for tests: an organization with a sender at the simulator, messages into it, and a dispatcher."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

import msgspec

from antiphon.core import db, ids
from antiphon.core.channel import Purpose
from antiphon.core.clock import now
from antiphon.core.crypto import Vault
from antiphon.core.db import Connection, Database
from antiphon.core.http import Client
from antiphon.core.smtp import MailClient
from antiphon.messages import dispatch, doctor, lane_service, lanes
from antiphon.messages.claim import Claimed, claim
from antiphon.messages.lanes import Owned
from antiphon.messages.record import Told, record
from antiphon.messages.sending import OutgoingMessage, send
from antiphon.messages.worker import Worker
from antiphon.organizations.model import Actor
from antiphon.providers.contract import Accepted, Outcome
from antiphon.senders import service as senders
from antiphon.senders.model import NewAccount, NewSender, Sender
from antiphon.templates import service as templates
from antiphon.templates.model import NewTemplate
from tests import make

VAULT = Vault(["a secret for tests that is long enough to be one"])


class Road(msgspec.Struct, frozen=True):
    """An organization that can send."""

    database: Database
    worker_database: Database
    org_id: UUID
    actor: Actor
    sender: Sender

    async def send(self, count: int, *, first: int = 0, **fields: Any) -> list[UUID]:
        """Messages to `count` people, in one call for each thousand."""
        made: list[UUID] = []
        for start in range(first, first + count, 1000):
            batch = [
                outgoing(self.sender, f"+49151{10_000_000 + n}", f"Hello {n}", **fields)
                for n in range(start, min(start + 1000, first + count))
            ]
            async with self.database.transaction(self.org_id) as conn:
                made += (await send(conn, self.actor, batch)).ids
        await self.wake()
        return made

    async def wake(self) -> None:
        """What the process's waker does."""
        async with self.database.transaction(self.org_id) as conn:
            await lanes.look_again(conn, self.org_id, self.sender.id)

    async def healthy(self) -> None:
        """The doctor finds nothing."""
        async with self.database.transaction(self.org_id, read_only=True) as conn:
            assert await doctor.examine(conn, self.org_id) == []

    async def run(self, sql: LiteralString, **params: Any) -> list[tuple[Any, ...]]:
        """A statement in a transaction of its own; `org_id` and `lane_id` are given."""
        known = {"org_id": self.org_id, "lane_id": self.sender.id, **params}
        async with self.database.transaction(self.org_id) as conn:
            cursor = await conn.execute(sql, {k: v for k, v in known.items() if f"%({k})s" in sql})
            return await cursor.fetchall() if cursor.description else []

    async def soon(self, sql: LiteralString, *, seconds: float = 20, **params: Any) -> list[tuple[Any, ...]]:
        """Wait until the statement finds something; what it finds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := await self.run(sql, **params):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {sql}; {await self.statuses()}")

    async def due_now(self) -> None:
        """What waits for its next try need not wait any longer."""
        await self.run(
            "UPDATE outbox SET due_at = now() WHERE org_id = %(org_id)s AND state = 0 AND due_at > now()"
        )
        await self.wake()

    async def consent(self, count: int) -> None:
        """The first so many people agreed to marketing."""
        await self.run(
            "INSERT INTO consent_states SELECT %(org_id)s, %(channel)s, '+49151' || 10000000 + n, true, now()"
            "  FROM generate_series(0, %(count)s - 1) n ON CONFLICT DO NOTHING",
            count=count, channel=self.sender.channel,
        )  # fmt: skip

    async def template(self, name: str, text: str) -> None:
        """A template for the sender's channel."""
        new = NewTemplate(name=name, channel=self.sender.channel, text=text)
        async with self.database.transaction(self.org_id) as conn:
            await templates.create(conn, self.actor, new)

    async def rests(self, seconds: float = 3) -> None:
        """Nobody takes the lane again and again: it is given back, and stays so."""
        await self.soon(
            "SELECT 1 FROM lanes WHERE org_id = %(org_id)s AND epoch > 0 AND lease_until <= now()"
        )
        before = await self.run("SELECT epoch FROM lanes WHERE org_id = %(org_id)s")
        await asyncio.sleep(seconds)
        assert await self.run("SELECT epoch FROM lanes WHERE org_id = %(org_id)s") == before

    async def until_sent(self, count: int, seconds: float = 20) -> None:
        """Wait until at least so many are sent."""
        await self.soon(
            "SELECT 1 FROM messages WHERE org_id = %(org_id)s AND status = 'sent' HAVING count(*) >= %(count)s",
            count=count, seconds=seconds,
        )  # fmt: skip

    async def statuses(self) -> dict[str, int]:
        """How many outbound messages stand at each status."""
        async with self.database.transaction(self.org_id) as conn:
            found = await db.tuples(
                conn,
                "SELECT status, count(*) FROM messages WHERE org_id = %(org_id)s AND direction = 'out' GROUP BY status",
                org_id=self.org_id,
            )
        return dict(found)

    async def until(self, *, seconds: float = 20, **wanted: int) -> dict[str, int]:
        """Wait for these counts; returns what there is when they came, or fails saying what there is."""
        for _ in range(int(seconds * 20)):
            found = await self.statuses()
            if all(found.get(status, 0) == n for status, n in wanted.items()):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"wanted {wanted}, there is {await self.statuses()}")


def outgoing(sender: Sender, to: str, words: str, **fields: Any) -> OutgoingMessage:
    """A message of own text, unless the fields name another or a template."""
    said: dict[str, Any] = {} if "template" in fields else {"text": words}
    fields["purpose"] = Purpose(fields.get("purpose", "transactional"))
    return OutgoingMessage(sender=str(sender.id), to=to, **{**said, **fields})


async def build(
    database: Database,
    worker_database: Database,
    provider: str,
    credentials: dict[str, Any],
    address: str,
    channel: str = "sms",
    **pace: Any,
) -> Road:
    """An organization with one account and one sender."""
    organization = await make.organization(database)
    actor = Actor.operator(organization.id)
    async with database.transaction(organization.id) as conn:
        account = await senders.add_account(
            conn, actor, VAULT, NewAccount(provider=provider, name="test", credentials=credentials)
        )
        sender = await lane_service.add_sender(
            conn,
            actor,
            NewSender(account_id=account.id, channel=channel, address=address, name="test", **pace),
        )
    return Road(database, worker_database, organization.id, actor, sender)


@contextlib.asynccontextmanager
async def dispatcher(worker_database: Database, **options: Any) -> AsyncIterator[Worker]:
    """A worker that owns lanes while the block runs, and drains at its end."""
    stop = asyncio.Event()
    async with Client() as http, MailClient() as mail:
        worker = Worker(
            id=ids.new_id(), database=worker_database, http=http, mail=mail, vault=VAULT, **options
        )
        running = asyncio.create_task(dispatch.run(worker, stop))
        try:
            yield worker
        finally:
            stop.set()
            await running


# ---- one message inside a transaction that is rolled back


class Row(msgspec.Struct, frozen=True):
    """One message in the ledger and the queue, and what moves it without a provider."""

    org_id: UUID
    actor: Actor
    lane_id: UUID
    message_id: UUID
    address: str

    async def own(
        self, conn: Connection, worker: UUID | None = None, lease: float = 15
    ) -> tuple[Owned, UUID]:
        """The message's lane, taken from whoever has it."""
        worker = worker or ids.new_id()
        await db.execute(
            conn, "UPDATE lanes SET lease_until = '-infinity' WHERE org_id = %(org_id)s", org_id=self.org_id
        )
        lane = await lanes.take(conn, self.org_id, self.lane_id, worker, lease)
        assert lane is not None
        return lane, worker

    async def claim(
        self, conn: Connection, lane: Owned, worker: UUID, *, replay: timedelta | None = None
    ) -> Claimed:
        """Its next attempt."""
        [claimed] = await claim_all(conn, lane, worker, replay=replay)
        assert claimed.message_id == self.message_id
        return claimed

    async def handed_over(self, conn: Connection, outcome: Outcome | None = None) -> tuple[Owned, Claimed]:
        """Claimed by a worker, sent, and recorded."""
        lane, worker = await self.own(conn)
        claimed = await self.claim(conn, lane, worker)
        await tell(
            conn, lane, claimed, outcome or Accepted(provider_message_id=f"name of {claimed.attempt_no}")
        )
        return lane, claimed

    async def stands(self, conn: Connection) -> tuple[str, str, int | None]:
        """Status, reason, and the state of the queue row (None: it is gone)."""
        [found] = await db.tuples(
            conn,
            "SELECT m.status, m.reason, o.state FROM messages m"
            "  LEFT JOIN outbox o ON o.org_id = m.org_id AND o.message_id = m.id"
            " WHERE m.org_id = %(org_id)s AND m.id = %(id)s",
            org_id=self.org_id, id=self.message_id,
        )  # fmt: skip
        return found[0], found[1], found[2]


async def claim_all(
    conn: Connection, lane: Owned, worker: UUID, *, room: int = 100, replay: timedelta | None = None
) -> list[Claimed]:
    """What may leave now."""
    view, found = await claim(
        conn, lane, worker, room=room, call_timeout=timedelta(seconds=10), lease=15, replay=replay
    )
    assert view is not None
    return found


async def tell(conn: Connection, lane: Owned, claimed: Claimed, outcome: Outcome) -> list[UUID]:
    """Record what came of an attempt."""
    return await record(
        conn,
        lane,
        [Told(claimed=claimed, outcome=outcome, at=now())],
        poll=None,
        doubt_after=lane.doubt_after,
    )


async def sender_in(conn: Connection, org_id: UUID, provider: str = "keyed", **pace: Any) -> Sender:
    """A sender in this transaction: of the provider that takes a key, or of one that takes none."""
    credentials: dict[str, Any] = {"base_url": "http://127.0.0.1:9", "signing_secret": "shhh"}
    channel = "sms"
    if provider == "wsapme":
        credentials, channel = {"base_url": "http://127.0.0.1:9", "token": "any"}, "whatsapp"
    actor = Actor.operator(org_id)
    account = await senders.add_account(
        conn, actor, VAULT,
        NewAccount(provider=provider, name=f"account {ids.new_id()}", credentials=credentials),
    )  # fmt: skip
    wanted: dict[str, Any] = {"rate": 1000.0, **pace}
    return await lane_service.add_sender(
        conn, actor, NewSender(account_id=account.id, channel=channel, address="+4915100000", **wanted)
    )


async def one_message(conn: Connection, org_id: UUID, provider: str = "keyed", **fields: Any) -> Row:
    """An organization's sender with one message that waits."""
    actor, address = Actor.operator(org_id), "+4915110000000"
    sender = await sender_in(conn, org_id, provider)
    [message_id] = (await send(conn, actor, [outgoing(sender, address, "Hello", **fields)])).ids
    await db.execute(  # a transaction's now() is its beginning, and the message was made after it
        conn,
        "UPDATE outbox SET due_at = now(), order_at = now() WHERE org_id = %(org_id)s AND message_id = %(id)s",
        org_id=org_id, id=message_id,
    )  # fmt: skip
    return Row(org_id, actor, sender.id, message_id, address)
