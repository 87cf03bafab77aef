"""How help looks: one line a verb, an example under each, at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

F = TypeVar("F", bound=Callable[..., Any])

WIDTH = 80
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH, "terminal_width": WIDTH}


class Verb(TyperCommand):
    """A command whose epilog is its example, shown as it is typed."""

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The example, not wrapped: it can be copied."""
        if self.epilog:
            formatter.write(f"\nExample:\n{textwrap.indent(self.epilog, '  ')}\n")


class Verbs(TyperGroup):
    """A group that lists its verbs in the order of their definition, each with an example."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As they were defined: the first ones are what a newcomer needs first."""
        return list(self.commands)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One line a verb, its example under it."""
        known = {name: self.commands[name] for name in self.list_commands(ctx)}
        wide = max(map(len, known), default=0) + 2
        formatter.write("\nVerbs:\n")
        for name, command in known.items():
            formatter.write(f"  {name:<{wide}}{command.get_short_help_str(WIDTH - wide - 2)}\n")
            if command.epilog:
                first, _, more = command.epilog.partition(" \\\n")
                formatter.write(f"  {'':<{wide}}$ {first}{' …' if more else ''}\n")

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A group's example is for the list above it."""


def group(about: str, example: str = "") -> typer.Typer:
    """A command that has verbs of its own."""
    return typer.Typer(
        help=about,
        epilog=example or None,
        cls=Verbs,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings=_SETTINGS,
    )


_examples: dict[Callable[..., Any], str] = {}


def verb(example: str) -> Callable[[F], F]:
    """A function that is a verb: its parameters are its options, its docstring its help; this shows its use."""

    def keep(function: F) -> F:
        _examples[function] = example
        return function

    return keep


def register(app: typer.Typer, function: Callable[..., Any], name: str | None = None) -> None:
    """Make a verb one of a group's."""
    app.command(name, epilog=_examples[function], cls=Verb, context_settings=_SETTINGS)(function)
