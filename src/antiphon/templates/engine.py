"""The engine, cut down to what `syntax` writes for it, and the filters of our own."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from datetime import tzinfo
from types import MappingProxyType
from typing import Any, cast

from minijinja import Environment

from antiphon.templates import localize

FUEL = 100_000  # steps; a table of fifty lines and ten columns needs 2,000

_REMOVED_FILTERS = (
    *("abs", "attr", "batch", "bool", "capitalize", "chain", "count", "d", "dictsort", "e", "escape"),
    *("filesizeformat", "float", "format", "groupby", "indent", "int", "items", "join", "lines", "list"),
    *("map", "max", "min", "pluralize", "pprint", "random", "reject", "rejectattr", "replace", "reverse"),
    *("round", "safe", "select", "selectattr", "slice", "sort", "split", "string", "sum", "tojson"),
    *("unique", "urlencode", "wordcount", "wordwrap", "zip"),
)
_REMOVED_TESTS = (
    *("boolean", "containing", "defined", "divisibleby", "endingwith", "eq", "equalto", "escaped", "even"),
    *("false", "filter", "float", "ge", "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan"),
    *("lower", "lt", "mapping", "ne", "none", "number", "odd", "safe", "sameas", "sequence", "startingwith"),
    *("string", "test", "true", "undefined", "upper"),
)
_LINK = re.compile(r"(?:https?://|mailto:|tel:)[^\s<>\"'`\\]+\Z", re.IGNORECASE)
_REMOVED_GLOBALS = ("cycler", "debug", "dict", "joiner", "lipsum", "namespace", "now", "randrange", "range")


class RenderError(Exception):
    """This message cannot be filled: `reason` says why and what to do, and holds no value of the contact's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def make_engine() -> Environment:
    """An engine without templates, in which only the filters of `syntax.FILTERS` are left."""
    engine = Environment(
        undefined_behavior="strict", fuel=FUEL, debug=False, pycompat=False, keep_trailing_newline=True
    )
    for name in _REMOVED_FILTERS:
        engine.remove_filter(name)
    for name in _REMOVED_TESTS:
        engine.remove_test(name)
    for name in _REMOVED_GLOBALS:
        engine.remove_global(name)
    for name, function in _OURS.items():
        engine.add_filter(name, function)
    return engine


def missing(name: str) -> str:
    """The reason when a variable has no value and the template gives no other."""
    name = name or "a variable"
    return f'{name} has no value; give the contact one, or write {{{{ {name}|default("…") }}}}'


def _truncate(value: Any, length: Any, name: str) -> str:
    """At most so many characters, cut between words where there are any, with three dots in ASCII."""
    text, most = _shown(_given(value, name)), max(int(length), 0)
    if len(text) <= most:
        return text
    cut = text[: max(most - 3, 0)]
    at = cut.rfind(" ")
    return (cut[:at] if at > most // 2 else cut).rstrip(" ,;:") + "..."[:most]


def _date(value: Any, style: str, language: str, zone: tzinfo | None, name: str) -> str:
    return localize.show_date(_shown(_given(value, name)), style, language, zone)


def _time(value: Any, style: str, language: str, zone: tzinfo | None, name: str) -> str:
    return localize.show_time(_shown(_given(value, name)), style, language, zone)


def _money(value: Any, currency: str, language: str, name: str) -> str:
    return localize.show_money(_shown(_given(value, name)), currency, language)


def _url(value: Any, name: str) -> str:
    """A link that a person may follow; what would run, or hide what it is, is refused."""
    text = _shown(_given(value, name)).strip()
    if not _LINK.match(text):
        raise RenderError(f"{name} is not a link; a link begins with https://, http://, mailto: or tel:")
    return text


def _given(value: Any, name: str) -> Any:
    """The engine hands a missing value to a filter of ours as None."""
    if value is None:
        raise RenderError(missing(name))
    return value


def only_values(value: Any) -> Any:
    """The engine's last step before a value becomes text, where a template shows values from inside others."""
    if isinstance(value, list | dict):
        raise RenderError(
            "a list or a group cannot be shown as it is; walk through it with {% for %}, or name a value inside it"
        )
    return value


def _entries(value: Any, name: str) -> list[Any]:
    if isinstance(value, list):
        return cast("list[Any]", value)
    if _given(value, name) == "":
        return []
    raise RenderError(f"{name} is not a list, and a loop needs one; give it a list of values")


def _compare(left: Any, sign: str, right: Any) -> bool:
    """By number where both are numbers, else by text; without a value nothing is less or more."""
    a, b = _number(left), _number(right)
    if a is not None and b is not None:
        return _ORDER[sign](a, b)
    one, other = _shown(left), _shown(right)
    if sign not in ("==", "!=") and not (one and other):
        return False
    return _ORDER[sign](one, other)


_ORDER: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        "==": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > 30 or not text.lstrip("+-").replace(".", "", 1).isdecimal():
        return None
    return float(text)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


_OURS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "truncate": _truncate,
        "date": _date,
        "time": _time,
        "money": _money,
        "url": _url,
        "_entries": _entries,
        "_compare": _compare,
    }
)
