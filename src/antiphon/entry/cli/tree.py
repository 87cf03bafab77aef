"""All verbs, in the order in which help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from antiphon.entry.cli import processes, schema
from antiphon.entry.cli.shape import group, verb

app = group("Every message an organization sends and every answer it gets, in one ledger.")


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"antiphon {version('antiphon')}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and end.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """Every message an organization sends and every answer it gets, in one ledger."""


verb(app, "antiphon up --demo")(processes.up)
verb(app, "antiphon serve --port 8400")(processes.serve)
verb(app, "antiphon work")(processes.work)
verb(app, "antiphon migrate --plan")(schema.migrate)
