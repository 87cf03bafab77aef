"""Dates, times, money and languages as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from antiphon.templates import localize

DATES: list[tuple[str, str, str, str]] = [
    ("2025-03-15", "long", "de", "15. März 2025"),
    ("2025-03-15", "full", "de", "Samstag, 15. März 2025"),
    ("2025-03-15", "medium", "de", "15.03.2025"),
    ("2025-03-15", "short", "de", "15.03.25"),
    ("2025-03-15", "long", "de-AT", "15. März 2025"),
    ("2025-01-05", "long", "de-AT", "5. Jänner 2025"),
    ("2025-03-15", "long", "en", "March 15, 2025"),
    ("2025-03-15", "long", "en-GB", "15 March 2025"),
    ("2025-03-15", "long", "fr", "15 mars 2025"),
    ("2025-03-15", "long", "pl", "15 marca 2025"),
    ("2025-03-15", "long", "pt-BR", "15 de março de 2025"),
    ("2025-03-15", "long", "ja", "2025年3月15日"),
    ("2025-03-15", "long", "qq", "March 15, 2025"),
    ("2024-02-29", "long", "de", "29. Februar 2024"),
    ("2025-03-15T09:00:00+01:00", "long", "de", "15. März 2025"),
    ("2025-02-29", "long", "de", "2025-02-29"),
    ("nächste Woche", "long", "de", "nächste Woche"),
    ("20250315", "long", "de", "20250315"),
    ("09:00", "long", "de", "09:00"),
    ("", "long", "de", ""),
]

TIMES: list[tuple[str, str, str]] = [
    ("09:00", "de", "09:00 Uhr"),
    ("09:00:30", "de", "09:00 Uhr"),
    ("17:05", "de-CH", "17:05 Uhr"),
    ("09:00", "en", "9:00 AM"),
    ("21:30", "en-GB", "21:30"),
    ("21:30", "fr", "21:30"),
    ("2025-03-15T09:00:00+01:00", "de", "09:00 Uhr"),
    ("2025-03-15T09:00:00", "de", "09:00 Uhr"),
    ("09:00 Uhr", "de", "09:00 Uhr"),
    ("25:00", "de", "25:00"),
    ("mittags", "de", "mittags"),
]

MONEY: list[tuple[str, str, str, str]] = [
    ("12.5", "EUR", "de", "12,50 €"),
    ("1234567", "EUR", "de", "1.234.567,00 €"),
    ("1234.5", "USD", "en", "$1,234.50"),
    ("1000", "JPY", "ja", "￥1,000"),
    ("-3", "GBP", "en-GB", "-£3.00"),
    ("viel", "EUR", "de", "viel"),
    ("1e999999", "EUR", "de", "1e999999"),
    ("NaN", "EUR", "de", "NaN"),
]

TAGS: list[tuple[str, str | None]] = [
    ("de", "de"),
    ("DE", "de"),
    ("de_AT", "de-AT"),
    ("pt-br", "pt-BR"),
    ("zh-hant-tw", "zh-Hant-TW"),
    ("es-419", "es-419"),
    ("deutsch", None),
    ("", None),
    ("d", None),
    ("de-", None),
    ("../etc", None),
]


@pytest.mark.parametrize(("value", "style", "language", "shown"), DATES)
def test_a_date_is_written_as_its_language_does(value: str, style: str, language: str, shown: str) -> None:
    assert localize.show_date(value, style, language) == shown


@pytest.mark.parametrize(("value", "language", "shown"), TIMES)
def test_a_time_is_written_as_its_language_does(value: str, language: str, shown: str) -> None:
    assert localize.show_time(value, "short", language) == shown


@pytest.mark.parametrize(("value", "currency", "language", "shown"), MONEY)
def test_money_is_written_as_its_language_does(value: str, currency: str, language: str, shown: str) -> None:
    assert localize.show_money(value, currency, language) == shown


@pytest.mark.parametrize(("text", "tag"), TAGS)
def test_a_language_tag_has_one_spelling(text: str, tag: str | None) -> None:
    assert localize.language_tag(text) == tag


def test_a_language_falls_back_to_its_base_then_to_the_default() -> None:
    assert localize.languages_to_try("de_CH", "pt-BR") == ["de-CH", "de", "pt-BR", "pt"]
    assert localize.languages_to_try(None, "en") == ["en"]
    assert localize.languages_to_try("not a language", "en") == ["en"]


def test_days_are_counted_between_days_and_not_by_hours() -> None:
    late = datetime(2025, 3, 14, 23, 30, tzinfo=UTC)
    assert localize.days_until("2025-03-15", late) == 1
    assert localize.days_until("2025-03-15", late.astimezone(ZoneInfo("Europe/Berlin"))) == 0
    assert localize.days_until("2025-03-13", late) == -1
    assert localize.days_until("mañana", late) is None
