"""The words of the template language: its filters, its names, its limits. `syntax` reads sources by them."""

from __future__ import annotations

import re
from typing import NamedTuple

from msgspec import Struct

from antiphon.templates.localize import DATE_STYLES, TIME_STYLES

MAX_SOURCE = 262_144  # characters
MAX_TAGS = 1_000
MAX_DEPTH = 8  # {% if %} in {% if %}
MAX_VALUE = 4_096  # characters of a variable; more is cut off when sending
MAX_INNER_VALUE = 512  # characters of a value inside a list or a group
MAX_ITEMS = 50  # entries of a list
MAX_OUTPUT = 8_000_000  # characters that a template may be able to make
ESCAPED = 6  # one character in HTML: &quot;


class Fault(Exception):
    """What a source may not say, on which line, and what to write instead."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")


class Use(NamedTuple):
    """Where a variable is read first."""

    name: str
    line: int


class Parsed(Struct, frozen=True):
    """A source that keeps to the grammar, written for the engine."""

    source: str
    uses: tuple[Use, ...]
    bare: frozenset[str]  # variables that are shown whole
    is_deep: bool  # shows values from inside others
    worst: int  # characters that it can make at most
    has_tags: bool


class Argument(NamedTuple):
    """One argument of a filter."""

    kind: str  # text or number
    choices: tuple[str, ...] = ()
    pattern: str = ""
    example: str = ""


FILTERS: dict[str, tuple[tuple[Argument, ...], int]] = {
    # name: its arguments, and how many of them must be given
    "default": ((Argument("text", example='default("there")'),), 1),
    "upper": ((), 0),
    "lower": ((), 0),
    "title": ((), 0),
    "trim": ((), 0),
    "first": ((), 0),
    "last": ((), 0),
    "length": ((), 0),
    "url": ((), 0),
    "truncate": ((Argument("number", example="truncate(40)"),), 1),
    "date": ((Argument("text", choices=DATE_STYLES),), 0),
    "time": ((Argument("text", choices=TIME_STYLES),), 0),
    "money": ((Argument("text", pattern=r"[A-Z]{3}", example='money("EUR")'),), 1),
}
# The engine falls back to the attributes of Python's dict where a name is missing: {{ items }} would be its method.
# No attribute of anything begins like this, so there is nothing to fall back to.
PREFIX = "v_"
# Where a template names no filter of theirs, these are shown as the message's language writes them.
SHOWN = frozenset({"eventDate", "eventTime"})
FIRST_ARGUMENT = {"date": '"long"', "time": '"short"'}
# What our own filters are also given: how to write, and whom to name when there is no value.
ALSO_GIVEN = {
    "date": "_language, _zone, ",
    "time": "_language, _zone, ",
    "money": "_language, ",
    "truncate": "",
    "url": "",
}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_KEYWORDS = frozenset(
    {"if", "elif", "else", "endif", "for", "in", "endfor", "and", "or", "not", "is", "defined"}
)
_RESERVED = _KEYWORDS | {"true", "false", "none", "True", "False", "None", "loop", "self", "super", "caller"}


def is_name(text: str) -> bool:
    """A variable may be called so."""
    return _NAME.match(text) is not None and text not in _RESERVED
