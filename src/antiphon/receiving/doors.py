"""Whose webhook it is: the account that a path names, remembered for a few seconds.

A webhook's path carries organization, account and secret, so the hot path costs no transaction. What is remembered is
looked up again after `FRESH` seconds, and sooner (after `DOUBTED`) when a request does not fit it: a new secret, new
credentials or a new sender work within a second, and what was revoked ends within three. How much is remembered is
bounded, and so is how many look-ups run at once: a flood of invented paths waits for itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from uuid import UUID

from msgspec import Struct

from antiphon.core.crypto import Vault
from antiphon.core.db import Connection, Database
from antiphon.organizations.model import Actor
from antiphon.providers import registry
from antiphon.receiving.model import Door, OurSender
from antiphon.senders import queries as sender_queries
from antiphon.senders import service as senders

FRESH = 3.0  # seconds
DOUBTED = 1.0  # seconds, for what a request does not fit
MOST = 10_000  # doors
MOST_SENDERS = 10_000  # of one account
AT_ONCE = 2  # look-ups

Name = tuple[UUID, UUID]  # organization, account


class _Known(Struct, frozen=True):
    """What was found, when; no door means that there is no such account."""

    door: Door | None
    at: float


class Doors:
    """The doors that this process has seen lately."""

    def __init__(self, database: Database, vault: Vault, public_url: str) -> None:
        self._database = database
        self._vault = vault
        self._public_url = public_url
        self._known: OrderedDict[Name, _Known] = OrderedDict()
        self._looking: dict[Name, asyncio.Task[_Known]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def find(self, name: Name, provider: str, secret_hash: bytes) -> Door | None:
        """The door that the path opens, or None; nothing says whether account or secret was wrong."""
        known = self._known.get(name)
        if known is None or time.monotonic() - known.at > FRESH:
            known = await self._look(name)
        if known.door is not None and known.door.opens_to(provider, secret_hash):
            return known.door
        again = await self.renewed(name)
        return again if again is not None and again.opens_to(provider, secret_hash) else None

    async def renewed(self, name: Name) -> Door | None:
        """The door looked up again, unless that was done within the last second."""
        known = self._known.get(name)
        if known is None or time.monotonic() - known.at > DOUBTED:
            known = await self._look(name)
        return known.door

    async def _look(self, name: Name) -> _Known:
        """One look-up at a time for each door, however many wait for it."""
        task = self._looking.get(name)
        if task is None:
            task = self._looking[name] = asyncio.create_task(self._look_up(name))
            task.add_done_callback(lambda _: self._looking.pop(name, None))
        return await asyncio.shield(task)

    async def _look_up(self, name: Name) -> _Known:
        org_id, account_id = name
        asked_at = time.monotonic()
        async with self._turn, self._database.transaction(org_id, read_only=True) as conn:
            found = await read(conn, org_id, account_id, self._vault, self._public_url)
        known = self._known[name] = _Known(found, asked_at)
        self._known.move_to_end(name)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return known


async def read(
    conn: Connection, org_id: UUID, account_id: UUID, vault: Vault, public_url: str
) -> Door | None:
    """An account's door as it is now; None when there is no such account, or its provider has no webhooks."""
    row = await sender_queries.find_account(conn, org_id, account_id)
    if row is None:
        return None
    provider = registry.get(row.provider)
    if provider.parse_webhook is None or provider.verify_webhook is None:
        return None
    account = await senders.open_account(conn, org_id, account_id, vault, public_url)
    actor = Actor.system(org_id, "receiving")
    page = await senders.list_senders(conn, actor, account_id=account_id, limit=MOST_SENDERS)
    ours = tuple(OurSender(sender.id, sender.channel, sender.address) for sender in page.items)
    return Door(row=row, provider=provider, account=account, senders=ours)
