"""A shop that people write to; the database is shared by all tests here, each has organizations of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from antiphon.core.db import Database
from tests.conftest import Server
from tests.receiving import shop as shops
from tests.receiving.shop import Shop


@pytest.fixture(scope="session")
async def town(postgres: Server, template: str) -> AsyncIterator[Database]:
    """The server's pool on a migrated database."""
    name = f"antiphon_test_{os.getpid()}_town"
    async with Database.connect(postgres.create(name, template).app, size=4) as database:
        yield database
    postgres.drop(name)


@pytest.fixture
async def shop(town: Database) -> Shop:
    """An organization with an account at Meta."""
    return await shops.build(town)
