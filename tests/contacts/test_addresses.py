"""One spelling for each address; the fast readings give what the library gives."""

from __future__ import annotations

import random

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.contacts import addresses
from antiphon.contacts.model import normalize
from antiphon.core.errors import Invalid

PHONES: list[tuple[str, str, str | None, str]] = [
    ("international with spaces", "+49 151 2345 6789", None, "+4915123456789"),
    ("a trunk zero in parentheses", "+49 (0)151 23456789", None, "+4915123456789"),
    ("two zeros in place of the plus", "0049 151 23456789", None, "+4915123456789"),
    ("two zeros, read in a country", "0049 151 23456789", "FR", "+4915123456789"),
    ("national with its country", "0151 2345 6789", "DE", "+4915123456789"),
    ("national of Malaysia", "012-345 6789", "MY", "+60123456789"),
    ("national of Indonesia", "0812 3456 7890", "ID", "+6281234567890"),
    ("the plus lost in a spreadsheet", "6281234567890", "ID", "+6281234567890"),
    ("the plus lost, in a country whose numbers may start so", "4915123456789", "DE", "+4915123456789"),
    ("the apostrophe that keeps a spreadsheet from calculating", "'+4915123456789", None, "+4915123456789"),
    ("a number that became a decimal", "4915123456789.0", "DE", "+4915123456789"),
    ("zeros that belong to an Italian number", "06 6982 1234", "IT", "+390669821234"),
    ("without national prefix", "612 34 56 78", "ES", "+34612345678"),
    ("North America", "(415) 555-0132", "US", "+14155550132"),
    ("North America with its own prefix", "1-415-555-0132", "US", "+14155550132"),
    ("an extension, which no message can dial", "+49 30 1234567 ext. 12", None, "+49301234567"),
    ("digits of another script", "+٤٩ ١٥١ ٢٣٤٥٦٧٨٩", None, "+4915123456789"),
    ("a link", "tel:+49-151-23456789", None, "+4915123456789"),
    ("a number without a break", "+33\u00a06\u00a012\u00a034\u00a056\u00a078", None, "+33612345678"),
    ("a valid number of seven digits", "+683 4002", None, "+6834002"),
]


@pytest.mark.parametrize(("text", "country", "stored"), [c[1:] for c in PHONES], ids=[c[0] for c in PHONES])
def test_reads_a_phone_number_as_people_write_it(text: str, country: str | None, stored: str) -> None:
    assert normalize("phone", text, country) == stored


NO_PHONES: list[tuple[str, str, str | None, str]] = [
    ("no calling code and no country", "0151 23456789", None, "name the country"),
    ("nothing but letters", "call me", "DE", "not a phone number"),
    ("empty", "  ", None, "not a phone number"),
    ("rounded by a spreadsheet", "4.91512E+12", None, "format the column as text"),
    ("rounded with a comma", "4,91512E+12", None, "format the column as text"),
    ("a calling code that nobody has", "+999 123456789", None, "no country has this calling code"),
    ("only zeros", "0000000000", "DE", "only zeros"),
    ("only zeros behind the code", "+49 000000000", None, "only zeros"),
    ("too short to be one", "1234", "DE", "too short"),
    ("too long for its country", "+1 415 555 0132 999", None, "too long"),
    ("the area code missing", "555-0132", "US", "the area code is missing"),
    ("two numbers in one field", "+49 151 23456789, +49 160 1234567", None, "one number to a field"),
    ("an address", "anna@example.com", "DE", "not a phone number"),
    ("a formula", "=1+1", "DE", "not a phone number"),
    ("a NUL", "+4915123\0456789", None, "not a phone number"),
]


@pytest.mark.parametrize(
    ("text", "country", "says"), [c[1:] for c in NO_PHONES], ids=[c[0] for c in NO_PHONES]
)
def test_says_why_a_phone_number_is_none(text: str, country: str | None, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        normalize("phone", text, country)
    (error,) = refused.value.errors
    assert error.field == "phone"
    assert says in error.message
    assert repr(text[:80]) in error.message


EMAILS: list[tuple[str, str, str]] = [
    ("capitals and spaces around", "  Anna.Berg@Example.COM ", "anna.berg@example.com"),
    ("a tag", "anna+news@example.com", "anna+news@example.com"),
    ("an umlaut in the domain", "anna@müller.de", "anna@xn--mller-kva.de"),
    ("a sharp s in the domain, which is a letter of its own", "a@straße.de", "a@xn--strae-oqa.de"),
    ("a name around it", "Anna Berg <anna@example.com>", "anna@example.com"),
    ("a link", "mailto:anna@example.com", "anna@example.com"),
    ("a quote mark in the name", "o'neil@example.ie", "o'neil@example.ie"),
    ("a top level in ASCII letters of another script", "a@b.xn--p1ai", "a@b.xn--p1ai"),
]


@pytest.mark.parametrize(("text", "stored"), [c[1:] for c in EMAILS], ids=[c[0] for c in EMAILS])
def test_reads_an_email_address_as_people_write_it(text: str, stored: str) -> None:
    assert normalize("email", text) == stored


NO_EMAILS: list[tuple[str, str, str]] = [
    ("no at sign", "anna.example.com", "written like anna@example.com"),
    ("no dot in the domain", "anna@localhost", "written like"),
    ("nothing before the at sign", "@example.com", "written like"),
    ("a space inside", "anna berg@example.com", "one address in a field"),
    ("two addresses", "a@example.com;b@example.com", "one address in a field"),
    ("two dots", "anna..berg@example.com", "a dot cannot stand"),
    ("a dot first", ".anna@example.com", "a dot cannot stand"),
    ("a number as top level", "anna@example.123", "written like"),
    ("a hyphen at the edge of a label", "anna@-example.com", "written like"),
    ("too long before the at sign", "a" * 65 + "@example.com", "too long"),
    ("too long in all", "a@" + "b." * 130 + "com", "too long"),
    ("an umlaut before the at sign", "änne@example.com", "ASCII spelling"),
    (
        "a line break, as headers are attacked",
        "a@example.com\r\nbcc: b@example.com",
        "one address in a field",
    ),
    ("a NUL", "a\0@example.com", "written like"),
    (
        "a domain that cannot be written in ASCII",
        "a@exa☃\u200bmple\ud800.com",
        "cannot be the name of a domain",
    ),
]


@pytest.mark.parametrize(("text", "says"), [c[1:] for c in NO_EMAILS], ids=[c[0] for c in NO_EMAILS])
def test_says_why_an_email_address_is_none(text: str, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        normalize("email", text)
    (error,) = refused.value.errors
    assert error.field == "email"
    assert says in error.message


def test_keeps_the_providers_own_words_exactly() -> None:
    assert normalize("push_token", " dGhpcw:APA91b_x-y ") == "dGhpcw:APA91b_x-y"
    for wrong in ("", "two words", "a\0b", "x" * 1001):
        with pytest.raises(Invalid):
            normalize("messenger_id", wrong)


@given(st.text(max_size=40), st.sampled_from([None, "DE", "US"]))
def test_any_text_is_an_address_or_a_clear_refusal(text: str, country: str | None) -> None:
    for kind in ("phone", "email", "visitor"):
        try:
            stored = normalize(kind, text, country)
        except Invalid as refused:
            assert refused.errors[0].field == kind
        else:
            assert normalize(kind, stored) == stored


def _library(text: str, country: str | None) -> str | None:
    try:
        return addresses._parsed(text, text, country)  # pyright: ignore[reportPrivateUsage]
    except Invalid:
        return None


def _written(chance: random.Random, text: str) -> str:
    """The same digits with the punctuation that people use."""
    return "".join(letter + chance.choice(["", "", "", " ", "-", ".", "/", ")"]) for letter in text)


def test_the_fast_reading_of_international_numbers_is_the_librarys() -> None:
    chance = random.Random(7)
    codes = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
    fast = 0
    for _ in range(15_000):
        digits = "".join(chance.choice("0123456789") for _ in range(chance.randint(2, 14)))
        text = "+" + _written(chance, f"{chance.choice(codes)}{chance.choice(['', '', '0', '8'])}{digits}")
        found = addresses.fast_phone(text, None)
        if found is not None:
            fast += 1
            assert found == _library(text, None), text
    assert fast > 1_500


def test_the_fast_reading_of_national_numbers_is_the_librarys() -> None:
    chance = random.Random(11)
    regions = sorted(phonenumbers.SUPPORTED_REGIONS)
    fast = 0
    for _ in range(15_000):
        region = chance.choice(regions)
        number = phonenumbers.example_number_for_type(region, chance.choice([0, 1, 2]))
        text = phonenumbers.national_significant_number(number) if number else "12345678"
        if chance.random() < 0.5:
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice("0123456789") + text[at + 1 :]
        text = _written(chance, chance.choice(["", "0", "0", "1", "8", "00"]) + text)
        found = addresses.fast_phone(text, region)
        if found is None:
            continue
        fast += 1
        # the one difference that is meant: a lost plus is put back
        is_lost_plus = found == "+" + "".join(filter(str.isdigit, text))
        assert is_lost_plus or found == _library(text, region), (text, region)
    assert fast > 1_500
