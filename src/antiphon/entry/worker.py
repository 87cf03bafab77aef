"""The worker: sends what is due and does the background work, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from antiphon.core import ids, logging, roles
from antiphon.core.crypto import Vault
from antiphon.core.db import Database
from antiphon.core.http import Client
from antiphon.core.public_address import is_public_address
from antiphon.core.settings import Settings
from antiphon.core.smtp import MailClient
from antiphon.entry import loops, wiring
from antiphon.entry.loops import Working
from antiphon.messages.worker import Worker
from antiphon.providers import registry
from antiphon.providers.contract import Provider

log = logging.get(__name__)

ProviderOf = Callable[[str], Provider[Any]]
"""The provider of a name; the demo's are more impatient than the registry's."""

ENDS_WITHIN = 29.0  # seconds after it was told to stop; what is on the wire then is decided by recovery


@contextlib.asynccontextmanager
async def working(
    settings: Settings, url: str, provider_of: ProviderOf = registry.get
) -> AsyncIterator[Working]:
    """What the loops use, on a database that we enter as antiphon_worker. Raises RoleError for anybody privileged."""
    async with (
        Database.connect(
            url, size=settings.worker_pool_size, pooler=settings.pooler, name="antiphon work"
        ) as database,
        _http(settings) as http,
        _mail(settings) as mail,
    ):
        async with database.across() as conn:
            await roles.refuse_privileged(conn)
        dispatcher = Worker(
            id=ids.new_id(), database=database, http=http, mail=mail, vault=Vault.of(settings),
            public_url=settings.public_url, lease=settings.lease_seconds, provider_of=provider_of,
        )  # fmt: skip
        yield Working(database, dispatcher, wiring.HANDLERS)


def _http(settings: Settings) -> Client:
    """Accounts name the provider's address, so a customer could name one of ours: only the demo may go there."""
    if settings.private_hosts:
        return Client(connections=settings.provider_connections)
    return Client.guarded(connections=settings.provider_connections)


def _mail(settings: Settings) -> MailClient:
    return MailClient(check_address=None if settings.private_hosts else is_public_address)


async def run(
    settings: Settings, url: str, stop: asyncio.Event, provider_of: ProviderOf = registry.get
) -> None:
    """The worker of `antiphon work` and `antiphon up`, until `stop` is set; it has ended 30 seconds later."""
    async with working(settings, url, provider_of) as ready:
        await run_loops(ready, stop)


async def run_loops(ready: Working, stop: asyncio.Event) -> None:
    """All of wiring's loops until `stop` is set; those that have not ended in time are broken off."""
    running = [
        asyncio.create_task(loops.keep(loop, ready, stop), name=f"worker {loop.name}")
        for loop in wiring.LOOPS
    ]
    try:
        await stop.wait()
        _, late = await asyncio.wait(running, timeout=ENDS_WITHIN)
        if late:
            log.warning("worker_broken_off", loops=sorted(task.get_name() for task in late))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for close in wiring.AT_THE_END:
            await close()
