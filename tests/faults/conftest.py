"""A scene for each fault test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.core.db import Database
from antiphon.core.roles import DatabaseUrls
from tests.faults.processes import Workers
from tests.faults.scene import Scene, build_scene
from tests.simulator_process import Simulator


@pytest.fixture
async def sim(tmp_path: Path) -> AsyncIterator[Simulator]:
    """The providers' side, whose log is the oracle."""
    async with Simulator.start(tmp_path) as sim:
        await sim.scenario({"keyed": {"statuses": "none"}, "wsapme": {"statuses": "none"}})
        yield sim


@pytest.fixture
async def workers(db_urls: DatabaseUrls, tmp_path: Path) -> AsyncIterator[Workers]:
    """The processes of this test."""
    async with Workers(db_urls, tmp_path) as workers:
        yield workers


@pytest.fixture
async def scene(database: Database, worker_database: Database, sim: Simulator, workers: Workers) -> Scene:
    """Two senders with nothing sent yet."""
    return await build_scene(database, worker_database, sim, workers)
