"""A live server per test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from antiphon.core.db import Database
from tests import make
from tests.entry import live
from tests.entry.live import Client


@pytest.fixture
async def org(database: Database) -> UUID:
    """A committed organization."""
    return (await make.organization(database)).id


@pytest.fixture
async def client(database: Database, org: UUID) -> AsyncIterator[Client]:
    """A client of a live server, with a key of `org` that may do everything."""
    async with live.serving(live.services(database)) as anonymous:
        yield anonymous.signed_in(await make.token(database, org))
