"""Run the benchmarks: `python -m benchmarks [--quick] [NAME …]`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import platform

import psutil
import uvloop

from antiphon.core import heap
from benchmarks import stage
from benchmarks.stage import Figure

NAMES = ("dispatch",)


async def run(names: list[str], quick: bool) -> list[Figure]:
    """Every benchmark on a stage of its own, so that none measures what another left."""
    figures: list[Figure] = []
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        heap.settle()  # as server and worker do
        async with stage.build() as built:
            found = await module.measure(built, quick)
        for figure in found:
            print(line(figure), flush=True)
        figures += found
    return figures


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
    print(f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}\n")
    print("| what | asked | measured | ceiling | ratio |\n|---|---|---|---|---|")
    uvloop.run(run(options.names or list(NAMES), options.quick))


if __name__ == "__main__":
    main()
