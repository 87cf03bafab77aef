"""Run the benchmarks: `python -m benchmarks [--quick] [NAME …]`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import platform
import signal
import sys
import traceback

import psutil
import uvloop

from antiphon.core import heap
from benchmarks import stage
from benchmarks.stage import Figure

NAMES = (
    "audience", "dispatch", "webhooks", "api", "funnel", "imports", "neighbours", "crash", "start",
)  # fmt: skip
HEAD = "| what | asked | measured | ceiling | ratio |\n|---|---|---|---|---|"


async def run(names: list[str], quick: bool) -> int:
    """Every benchmark on a stage of its own, so that none measures what another left; returns how many failed."""
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)  # leave nothing behind
    failed = 0
    for name in names:
        try:
            figures = await _measure(name, quick)
        except Exception as error:
            failed += 1
            traceback.print_exc()
            told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            figures = [Figure(what=name, asked="", measured=f"not measured: {told}")]
        for figure in figures:
            print(line(figure), flush=True)
    return failed


async def _measure(name: str, quick: bool) -> list[Figure]:
    module = importlib.import_module(f"benchmarks.{name}")
    heap.settle()  # as server and worker do
    async with stage.build() as built:
        return await module.measure(built, quick)


def line(figure: Figure) -> str:
    """A row of the table in README.md."""
    return f"| {figure.what} | {figure.asked} | {figure.measured} | {figure.ceiling} | {figure.ratio} |"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which ({', '.join(NAMES)}); all unless said"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and rows")
    options = parser.parse_args()
    memory = psutil.virtual_memory().total / 2**30
    load = psutil.getloadavg()[0]
    print(
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, load {load:.1f} before\n"
    )
    print(HEAD, flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failed = runner.run(run(options.names or list(NAMES), options.quick))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
