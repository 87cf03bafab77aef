"""A shop that takes webhooks, and a live server in front of its database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from antiphon.core.db import Database
from tests.entry import live
from tests.entry.live import Client
from tests.receiving import shop as shops
from tests.receiving.shop import Shop


@pytest.fixture
async def shop(database: Database) -> Shop:
    """An organization with an account at Meta."""
    return await shops.build(database)


@pytest.fixture
async def client(database: Database) -> AsyncIterator[Client]:
    """A client of a live server, without a key."""
    async with live.serving(live.services(database)) as client:
        yield client
