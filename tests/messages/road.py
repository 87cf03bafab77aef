"""A whole road for tests: an organization with a sender at the simulator, messages into it, and a dispatcher."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec

from antiphon.core import db, ids
from antiphon.core.crypto import Vault
from antiphon.core.db import Database
from antiphon.core.http import Client
from antiphon.core.smtp import MailClient
from antiphon.messages import dispatch, lane_service, lanes
from antiphon.messages.dispatch import Worker
from antiphon.messages.sending import OutgoingMessage, send
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.senders.model import NewAccount, NewSender, Sender
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
                OutgoingMessage(
                    sender=str(self.sender.id),
                    to=f"+49151{10_000_000 + n}",
                    **{"text": f"Hello {n}", **fields},
                )
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
