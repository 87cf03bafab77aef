"""What went wrong, as a person reads it: the sentence, every wrong field, and what to do."""

from __future__ import annotations

import os
import sys
import traceback

import msgspec
import psycopg

from antiphon.core import db, logging
from antiphon.core.crypto import SealError
from antiphon.core.embedded import EmbeddedError
from antiphon.core.errors import Problem
from antiphon.core.migrate import MigrationError
from antiphon.core.roles import RoleError
from antiphon.core.settings import SettingsError

EXPLAINED = (SettingsError, RoleError, MigrationError, EmbeddedError, SealError)
MOST_FIELDS = 20


def tell(error: Exception) -> int:
    """Write it to standard error; the exit code."""
    for line in lines(error):
        print(line, file=sys.stderr)
    if os.environ.get("ANTIPHON_LOG_LEVEL", "").lower() == "debug":
        traceback.print_exception(error)
    return 1


def lines(error: BaseException) -> list[str]:
    """The failure in words."""
    problem = error if isinstance(error, Problem) else db.problem_of(error)
    if isinstance(error, Problem):
        return _problem_lines(error)
    if isinstance(error, psycopg.OperationalError):
        said = logging.scrub(str(error).strip()).splitlines()
        return [f"The database cannot be reached: {' '.join(said)[:400]}",
                "Start it, or look at ANTIPHON_DATABASE_URL and the variables beside it."]  # fmt: skip
    if problem is not None:
        return _problem_lines(problem)
    if isinstance(error, EXPLAINED) or type(error).__name__ == "ServerError":
        return _sentence(logging.scrub(str(error))).splitlines()
    if isinstance(error, OSError) and error.filename is not None:
        return [f"{error.filename}: {error.strerror}"]
    if isinstance(error, msgspec.ValidationError):
        return _sentence(str(error)).splitlines()
    return [
        f"This is a defect of Antiphon: {type(error).__name__}: {logging.scrub(str(error))[:400]}",
        "Run it again with ANTIPHON_LOG_LEVEL=debug to see where, and report that.",
    ]


def _problem_lines(problem: Problem) -> list[str]:
    said = [_sentence(problem.detail)]
    told = [error for error in problem.errors if f"{error.field}: {error.message}" != problem.detail]
    for error in told[:MOST_FIELDS]:
        value = "" if error.value is None else f" (given: {error.value!r})"
        said.append(f"  {error.field}: {error.message}{value}")
    if len(told) > MOST_FIELDS:
        said.append(f"  and {len(told) - MOST_FIELDS} more")
    return said


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."
