"""The words that files use: yes and no, countries and languages by name, in several languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from babel import Locale

from antiphon.contacts import model
from antiphon.core.errors import Invalid

_LANGUAGES = ("en", "de", "es", "fr", "it", "pt", "nl", "id", "ms")
_YES = frozenset({
    "yes", "y", "true", "1", "x", "ok", "ja", "j", "wahr", "si", "sim", "oui", "o", "vrai", "ya", "iya",
    "benar", "da", "tak", "on", "given", "granted", "subscribed", "opted-in", "opt-in", "optin", "checked",
    "agreed",
})  # fmt: skip
_NO = frozenset({
    "no", "n", "false", "0", "nein", "falsch", "nao", "non", "faux", "tidak", "bukan", "nee", "off",
    "withdrawn", "denied", "unsubscribed", "opted-out", "opt-out", "optout", "unchecked", "declined",
})  # fmt: skip
_DATE = re.compile(r"(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{2,4})(?:[T ][\d:.+Z-]*)?")
_SHORT = {"usa": "US", "u.s.": "US", "uk": "GB", "england": "GB", "uae": "AE"}


def answer(header: str, cell: str) -> bool | None:
    """What a consent column says: yes (a date counts as yes), no, or nothing. Raises Invalid for anything else."""
    text = model.fold(cell.strip())
    if not text:
        return None
    if text in _NO:
        return False
    if text in _YES or _DATE.fullmatch(text):
        return True
    reason = f"{cell[:80]!r} in {header} is neither yes nor no; write yes, no or a date"
    raise Invalid.field("consent", reason, cell[:80])


@cache
def country(cell: str) -> str:
    """A country by its two letters or its name. Raises Invalid."""
    text = " ".join(cell.split())
    return model.check_country(text if len(text) == 2 else _countries().get(model.fold(text), text))


@cache
def language(cell: str) -> str | None:
    """A language by its tag or its name. Raises Invalid."""
    return _languages().get(model.fold(" ".join(cell.split()))) or model.check_field("language", cell)


@cache
def _countries() -> dict[str, str]:
    names = {
        model.fold(name): code for code, name in _names("territories") if len(code) == 2 and code.isalpha()
    }
    return names | _SHORT


@cache
def _languages() -> dict[str, str]:
    return {model.fold(name): code for code, name in _names("languages") if len(code) == 2}


def _names(of: str) -> Iterator[tuple[str, str]]:
    for tag in _LANGUAGES:
        found: dict[Any, Any] = getattr(Locale(tag), of)
        yield from ((str(code), str(name)) for code, name in found.items())
