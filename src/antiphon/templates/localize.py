"""Dates, times and money as people of a language write them: "15. März 2025", "09:00 Uhr", "12,50 €".

What is not a date, a time or a number is shown as it is: somebody has already written it out.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from babel.core import Locale, UnknownLocaleError
from babel.dates import format_date, format_time
from babel.numbers import format_currency

DATE_STYLES = ("full", "long", "medium", "short")
TIME_STYLES = ("short", "medium")

_FALLBACK = "en"
_AFTER_A_TIME = {"de": " Uhr"}  # Unicode's locale data leave it out; the queue document writes it
_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " "})  # one of them doubles the price of an SMS
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:-([a-z]{4}))?(?:-([a-z]{2}|[0-9]{3}))?\Z", re.IGNORECASE)


def language_tag(text: str) -> str | None:
    """`de`, `pt-BR`, `zh-Hant-TW` in this spelling, from any case, with `_` or `-`; None if it is no language tag."""
    found = _LANGUAGE.match(text.strip().replace("_", "-"))
    if found is None:
        return None
    language, script, region = found.groups()
    parts = [language.lower(), script.title() if script else "", region.upper() if region else ""]
    return "-".join(part for part in parts if part)


def languages_to_try(wanted: str | None, default: str) -> list[str]:
    """The contact's language, its base language, the default one, that one's base: without repetition."""
    tags = [tag for tag in (language_tag(wanted or ""), language_tag(default) or default) if tag]
    return list(dict.fromkeys(word for tag in tags for word in (tag, tag.partition("-")[0])))


@lru_cache(maxsize=4096)
def show_date(value: str, style: str, language: str, zone: tzinfo | None = None) -> str:
    """A date or an instant in ISO 8601 as a date. An instant in UTC is shown in `zone`, another as it is written."""
    day = _day(value, zone)
    if day is None:
        return value
    return format_date(day, style, locale(language)).translate(_SPACES)


@lru_cache(maxsize=4096)
def show_time(value: str, style: str, language: str, zone: tzinfo | None = None) -> str:
    """A time of day or an instant in ISO 8601 as a time of day."""
    when = read_moment(value)
    if when is None or not isinstance(when, datetime | time):
        return value
    clock = _in_zone(when, zone).time() if isinstance(when, datetime) else when.replace(tzinfo=None)
    where = locale(language)
    shown = format_time(clock, style, locale=where)
    return shown.translate(_SPACES) + _AFTER_A_TIME.get(where.language, "")


@lru_cache(maxsize=4096)
def show_money(value: str, currency: str, language: str) -> str:
    """An amount in a currency; `value` is a number in digits with a point."""
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return value
    if not amount.is_finite() or amount.adjusted() > 15:
        return value
    return format_currency(amount, currency, locale=locale(language)).translate(_SPACES)


def days_until(value: str, at: datetime) -> int | None:
    """Whole days from the day of `at` (in its own timezone) to a date in ISO 8601; None for anything else."""
    day = _day(value, at.tzinfo)
    return None if day is None else (day - at.date()).days


@lru_cache(maxsize=4096)
def _day(value: str, zone: tzinfo | None) -> date | None:
    when = read_moment(value)
    if when is None or isinstance(when, time):
        return None
    return _in_zone(when, zone).date() if isinstance(when, datetime) else when


def read_moment(value: str) -> date | datetime | time | None:
    """A date, an instant or a time of day written in ISO 8601; None for anything else."""
    text = value.strip()
    if not 4 < len(text) <= 40 or not text[0].isdigit():
        return None
    for read in (date.fromisoformat, datetime.fromisoformat, time.fromisoformat):
        try:
            # digits alone are an order number more often than a date in the basic format
            return read(text) if not text.isdigit() else None
        except ValueError:
            continue
    return None


@lru_cache(maxsize=256)
def locale(language: str) -> Locale:
    """What is known of a language; English for one that nobody knows."""
    try:
        return Locale.parse(language, sep="-")
    except (UnknownLocaleError, ValueError):
        base = language.partition("-")[0]
        return locale(base) if base != language else Locale.parse(_FALLBACK)


def _in_zone(when: datetime, zone: tzinfo | None) -> datetime:
    if zone is not None and when.tzinfo is not None and when.utcoffset() == UTC.utcoffset(None):
        return when.astimezone(zone)
    return when
