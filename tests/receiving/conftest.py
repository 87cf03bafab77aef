"""A shop that takes webhooks, and a live server in front of its database.

The database and the server are shared by all tests here: each has organizations of its own.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from antiphon.core.db import Database
from antiphon.core.roles import DatabaseUrls
from tests.conftest import Server
from tests.entry import live
from tests.entry.live import Client
from tests.receiving import shop as shops
from tests.receiving.shop import Shop


@pytest.fixture(scope="session")
def street_urls(postgres: Server, template: str) -> Iterator[DatabaseUrls]:
    """A migrated database in which every shop here is."""
    name = f"antiphon_test_{os.getpid()}_street"
    yield postgres.create(name, template)
    postgres.drop(name)


@pytest.fixture(scope="session")
async def street(street_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """The server's pool on it."""
    async with Database.connect(street_urls.app, size=8) as database:
        yield database


@pytest.fixture(scope="session")
async def street_worker(street_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """The worker's pool on it."""
    async with Database.connect(street_urls.worker, size=2) as database:
        yield database


@pytest.fixture(scope="session")
async def client(street: Database) -> AsyncIterator[Client]:
    """A client of a live server, without a key."""
    async with live.serving(live.services(street)) as client:
        yield client


@pytest.fixture
async def shop(street: Database) -> Shop:
    """An organization with an account at Meta."""
    return await shops.build(street)
