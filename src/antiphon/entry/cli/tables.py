"""Lists for people: plain columns that fit the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def show(heads: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    """A table on standard output; the sentence when there are no rows. Ids are never cut: people copy them."""
    if not rows:
        typer.echo(f"There is {nothing}.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, no_wrap=head == "id", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=200)
    console.print(table)
