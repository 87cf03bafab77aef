"""Every benchmark can be run: its module imports and measures. How much is not asserted: machines differ."""

from __future__ import annotations

import importlib
import inspect

import pytest

from benchmarks.__main__ import NAMES
from tests.architecture.source import ROOT


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_has_the_face_that_the_runner_calls(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert inspect.iscoroutinefunction(module.measure)
    assert list(inspect.signature(module.measure).parameters) == ["stage", "quick"]
    assert module.__doc__


def test_every_module_with_a_measurement_is_run() -> None:
    files = (ROOT / "benchmarks").glob("*.py")
    assert {path.stem for path in files if "\nasync def measure(" in path.read_text()} == set(NAMES)
