"""The road out: claimed, sent over a socket, recorded; and what each answer of a provider does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.core.db import Database
from tests.messages.road import Road, build, dispatcher
from tests.simulator_process import Simulator


@pytest.fixture
async def sim(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator.start(tmp_path) as sim:
        yield sim


@pytest.fixture
async def road(database: Database, worker_database: Database, sim: Simulator) -> Road:
    credentials = {"base_url": f"{sim.url}/keyed", "signing_secret": "shhh"}
    return await build(
        database, worker_database, "keyed", credentials, "+4915100000", rate=1000, in_flight=32
    )


async def test_messages_are_sent_once_each_and_recorded(road: Road, sim: Simulator) -> None:
    await road.send(300)
    async with dispatcher(road.worker_database):
        await road.until(sent=300)
    summary = await sim.summary()
    assert summary["duplicates"]["key"] == []
    assert len(await sim.messages(provider="keyed")) == 300
