"""The providers' side of the wire, for the tests that send."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.simulator_process import Simulator


@pytest.fixture
async def sim(tmp_path: Path) -> AsyncIterator[Simulator]:
    """A simulator that tells no statuses: what is looked at here is the road out."""
    async with Simulator.start(tmp_path) as sim:
        await sim.scenario({"keyed": {"statuses": "none"}, "wsapme": {"statuses": "none"}})
        yield sim
