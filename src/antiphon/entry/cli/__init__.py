"""The command line. Nothing heavy is imported here, so that `antiphon --help` answers at once."""

from __future__ import annotations

import io
import sys
from typing import NoReturn


def main() -> NoReturn:
    """The program `antiphon`. Exit code 1: it could not be done, and standard error says what to do; 2: wrong usage."""
    from antiphon.entry.cli import tree

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a letter shows another
            stream.reconfigure(errors="replace")
    try:
        tree.app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # whatever it is, a person reads a sentence and never a traceback
        from antiphon.entry.cli import failures

        sys.exit(failures.tell(error))
    raise AssertionError("typer ends by itself")
