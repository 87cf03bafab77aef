"""Help is for people in a terminal of 80 columns: one line a verb, an example under each, and at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import typer.main

from antiphon.entry.cli import tree

HEAVY = ("psycopg", "litestar", "aiohttp", "rich", "uvicorn", "structlog", "babel")


def verbs(command: Any, path: tuple[str, ...] = ("antiphon",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that reach it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, (*path, name))


VERBS = list(verbs(typer.main.get_command(tree.app)))


def help_of(path: tuple[str, ...], command: Any) -> str:
    with command.make_context(" ".join(path), ["--help"], resilient_parsing=True) as context:
        return command.get_help(context)


@pytest.mark.parametrize(("path", "command"), VERBS, ids=[" ".join(path) for path, _ in VERBS])
def test_it_fits_80_columns(path: tuple[str, ...], command: Any) -> None:
    wide = [line for line in help_of(path, command).splitlines() if len(line) > 80]
    assert wide == []


@pytest.mark.parametrize(("path", "command"), VERBS[1:], ids=[" ".join(path) for path, _ in VERBS[1:]])
def test_it_says_in_one_line_what_it_does_and_shows_how(path: tuple[str, ...], command: Any) -> None:
    about = (command.help or "").strip()
    assert about.endswith(".")
    assert "\n" not in about
    assert not command.get_short_help_str(80).endswith("..."), f"{about!r} is cut in the list of verbs"
    assert (command.epilog or "").startswith(" ".join(path))


def test_each_example_can_be_parsed() -> None:
    """An example that names an option which is gone is worse than none."""
    known = {path: command for path, command in VERBS if not hasattr(command, "commands")}
    for path, command in known.items():
        given = {
            word.partition("=")[0] for word in command.epilog.replace("\\\n", " ").split() if word[:2] == "--"
        }
        options = {name for parameter in command.params for name in parameter.opts}
        assert given <= options, f"{' '.join(path)}: the example has {given - options}"


def test_the_issue_s_verbs_are_there() -> None:
    there = {" ".join(path[1:]) for path, _ in VERBS}
    wanted = """up|serve|work|init|migrate|doctor|demo|org create|key create|sender add|template add|template preview|
        group create|contacts import|blast send|blast pause|blast resume|blast cancel|blast close|blast follow-up|
        blast show|blast list|message explain"""
    assert {verb.strip() for verb in wanted.split("|")} <= there


def test_help_loads_nothing_that_takes_time() -> None:
    code = (
        "import sys; sys.argv = ['antiphon', '--help']\n"
        "from antiphon.entry.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Verbs:" in done.stdout
