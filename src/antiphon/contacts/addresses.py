"""Addresses as they are stored: one spelling for each, so that equal means equal.

A phone number becomes E.164, an email address lower case with its domain in ASCII; the other kinds are the providers'
own words and only trimmed. `normalize` explains what is wrong; `fast_phone` and `fast_email` give the same result for
text that is plain already, or None, and are what makes an import fast (tests hold both to `normalize`).
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import idna
import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata

from antiphon.core.channel import AddressKind
from antiphon.core.errors import Invalid

LONGEST_EMAIL = 254
LONGEST_LOCAL_PART = 64
LONGEST_WORD = 1000  # of a push token; every value must fit an index entry
_SURELY_A_NUMBER = 9  # digits with the calling code; a shorter one must be in the library's ranges

_SEPARATORS = str.maketrans("", "", " -()./\u00a0")
_ROUNDED = re.compile(r"[0-9](?:[.,][0-9]+)?[eE]\+?[0-9]{1,2}")
_FLOAT = re.compile(r"([0-9]{6,15})[.,]0+")
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_TOP = r"(?:[a-z]{2,63}|xn--[a-z0-9-]{1,58}[a-z0-9])"
_EMAIL = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@(?:{_LABEL}\.)+{_TOP}")
_WITH_NAME = re.compile(r"[^<>]*<([^<>]+)>\s*")


def normalize(kind: AddressKind | str, text: str, country: str | None = None) -> str:
    """The stored spelling of an address. Raises Invalid naming the kind, the value and the remedy.

    `country` (two letters) reads phone numbers written without their calling code. A number is believed if its length
    is possible in its country, and a short one only if it is in a range that is in use: ranges open faster than
    libraries learn of them.
    """
    match AddressKind(kind):
        case AddressKind.PHONE:
            return _phone(text, country)
        case AddressKind.EMAIL:
            return _email(text)
        case other:
            return _word(other, text)


def fast_phone(text: str, country: str | None) -> str | None:
    """What `normalize` gives for a number in plain digits, or None: ask `normalize`."""
    digits = text.translate(_SEPARATORS)
    if not digits.isascii():
        return None
    if digits[:1] == "+":
        digits = digits[1:]
        return _international(digits) if digits.isdigit() else None
    return _national(digits, country) if country is not None and digits.isdigit() else None


def fast_email(text: str) -> str | None:
    """What `normalize` gives for an address in plain ASCII, or None: ask `normalize`."""
    found = _EMAIL.fullmatch(text.strip().lower()) if text.isascii() else None
    if found is None or len(found[0]) > LONGEST_EMAIL or len(found[1]) > LONGEST_LOCAL_PART:
        return None
    return found[0]


# Phone numbers


def _phone(text: str, country: str | None) -> str:
    given = text.strip().removeprefix("'").strip()
    if _ROUNDED.fullmatch(given):
        raise _wrong(
            "phone",
            text,
            "a spreadsheet rounded this number; format the column as text and export it again",
        )
    if whole := _FLOAT.fullmatch(given):
        given = whole[1]
    if country is None and given.startswith("00"):
        given = "+" + given[2:]
    plain = fast_phone(given, country)
    return plain if plain is not None else _parsed(text, given, country)


def _parsed(text: str, given: str, country: str | None) -> str:
    """The library's reading: slow, and right."""
    try:
        number = phonenumbers.parse(given, country)
    except NumberParseException as error:
        if error.error_type == NumberParseException.INVALID_COUNTRY_CODE and not given.startswith("+"):
            raise _wrong(
                "phone",
                text,
                "no calling code; write it like +49 151 2345678, or name the country that such numbers belong to",
            ) from None
        raise _wrong("phone", text, _PARSE_ERRORS.get(error.error_type, "not a phone number")) from None
    reason = phonenumbers.is_possible_number_with_reason(number)
    if reason != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise _wrong("phone", text, _LENGTH_ERRORS.get(reason, "this is no length of a number there"))
    found = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if number.national_number == 0:
        raise _wrong("phone", text, "only zeros")
    if len(found) <= _SURELY_A_NUMBER and not phonenumbers.is_valid_number(number):
        raise _wrong("phone", text, "too short for a number of its country; give all of its digits")
    return found


_PARSE_ERRORS = {
    NumberParseException.INVALID_COUNTRY_CODE: "no country has this calling code; write it like +49 151 2345678",
    NumberParseException.NOT_A_NUMBER: "not a phone number; write it like +49 151 2345678, one number to a field",
    NumberParseException.TOO_SHORT_AFTER_IDD: "too short; give all digits of the number",
    NumberParseException.TOO_SHORT_NSN: "too short; give all digits of the number",
    NumberParseException.TOO_LONG: "too long for one phone number; put one number in a field",
}
_LENGTH_ERRORS = {
    phonenumbers.ValidationResult.TOO_SHORT: "too short for a number of its country; give all of its digits",
    phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "the area code is missing",
    phonenumbers.ValidationResult.TOO_LONG: "too long for a number of its country; put one number in a field",
}


class _Plan(NamedTuple):
    """What the library's metadata say of one country's numbers, as far as plain digits need it."""

    code: str
    lengths: frozenset[int]
    prefix: re.Pattern[str] | None  # the national prefix, as the library looks for it
    literal: str | None  # the same when it is only digits that are cut off
    international: re.Pattern[str] | None
    whole: re.Pattern[str] | None  # the pattern of all its numbers
    in_use: re.Pattern[str] | None  # the pattern of its mobile and fixed-line numbers
    is_main: bool  # of the regions that share its calling code


def _international(digits: str) -> str | None:
    plan = _plan_of_code(digits[:2]) or _plan_of_code(digits[:1]) or _plan_of_code(digits[:3])
    if plan is None or len(digits) < _SURELY_A_NUMBER:
        return None
    rest = digits[len(plan.code) :]
    if len(rest) not in plan.lengths or not rest.strip("0"):
        return None
    if plan.prefix is not None and plan.prefix.match(rest):
        return None
    return "+" + digits


def _national(digits: str, country: str) -> str | None:
    plan = _plan_of_region(country)
    if plan is None or not plan.is_main:
        return None
    if digits.startswith(plan.code):
        return _without_plus(plan, digits)
    if plan.international is not None and plan.international.match(digits):
        return None
    if plan.prefix is not None and plan.prefix.match(digits):
        if plan.literal is None or plan.whole is None or plan.whole.fullmatch(digits):
            return None
        digits = digits[len(plan.literal) :]
    if len(digits) not in plan.lengths or not digits.strip("0"):
        return None
    return f"+{plan.code}{digits}" if len(plan.code) + len(digits) >= _SURELY_A_NUMBER else None


def _without_plus(plan: _Plan, digits: str) -> str | None:
    """62 812…, as spreadsheets leave it: the library would read 62 as an area code of the country itself.

    Where national numbers are written with a prefix, one without it that starts with the calling code and goes on as
    a number in use is international.
    """
    if plan.literal is None or plan.in_use is None or digits.startswith(plan.literal):
        return None
    return _international(digits) if plan.in_use.fullmatch(digits[len(plan.code) :]) else None


@cache
def _plan_of_code(code: str) -> _Plan | None:
    if (
        not code.isdigit()
        or code.startswith("0")
        or int(code) not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    ):
        return None
    region = phonenumbers.region_code_for_country_code(int(code))
    return _plan(PhoneMetadata.metadata_for_region_or_calling_code(int(code), region))


@cache
def _plan_of_region(country: str) -> _Plan | None:
    return _plan(PhoneMetadata.metadata_for_region(country, None))


def _plan(metadata: PhoneMetadata | None) -> _Plan | None:
    if metadata is None or metadata.general_desc is None or metadata.country_code is None:
        return None
    prefix = metadata.national_prefix_for_parsing
    is_literal = prefix is not None and prefix.isdigit() and not metadata.national_prefix_transform_rule
    whole = metadata.general_desc.national_number_pattern
    return _Plan(
        code=str(metadata.country_code),
        lengths=frozenset(metadata.general_desc.possible_length),
        prefix=re.compile(prefix) if prefix else None,
        literal=prefix if is_literal else None,
        international=re.compile(metadata.international_prefix) if metadata.international_prefix else None,
        whole=re.compile(whole) if whole else None,
        in_use=_in_use(metadata),
        is_main=phonenumbers.region_code_for_country_code(metadata.country_code) == metadata.id,
    )


def _in_use(metadata: PhoneMetadata) -> re.Pattern[str] | None:
    patterns = [
        kind.national_number_pattern
        for kind in (metadata.mobile, metadata.fixed_line)
        if kind is not None and kind.national_number_pattern
    ]
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None


# Email addresses


def _email(text: str) -> str:
    given = text.strip().removeprefix("'")
    if given[:7].lower() == "mailto:":
        given = given[7:]
    if named := _WITH_NAME.fullmatch(given):
        given = named[1]
    given = given.strip().lower()
    local, at, domain = given.rpartition("@")
    if not at or not local or not domain:
        raise _wrong("email", text, "not an email address; it is written like anna@example.com")
    if "@" in local or any(separator in given for separator in ",; \t\r\n"):
        raise _wrong("email", text, "more than one address, or a space in it; put one address in a field")
    whole = f"{local}@{_domain(text, domain)}"
    if fast_email(whole) is None:
        raise _wrong("email", text, _why_no_email(local, whole))
    return whole


def _domain(text: str, domain: str) -> str:
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode().lower()
    except idna.IDNAError:
        raise _wrong("email", text, f"{domain[:80]!r} cannot be the name of a domain") from None


def _why_no_email(local: str, whole: str) -> str:
    if len(local) > LONGEST_LOCAL_PART or len(whole) > LONGEST_EMAIL:
        return f"too long; at most {LONGEST_LOCAL_PART} characters before the @ and {LONGEST_EMAIL} in all"
    if not local.isascii():
        return "letters such as ä before the @ cannot be delivered; use the address's ASCII spelling"
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return "a dot cannot stand first, last or beside another one before the @"
    return "not an email address; it is written like anna@example.com"


# The providers' own words


def _word(kind: AddressKind, text: str) -> str:
    given = text.strip()
    if not given or len(given.encode(errors="replace")) > LONGEST_WORD:
        raise _wrong(kind, text, f"must have 1 to {LONGEST_WORD} characters")
    if not given.isprintable() or any(letter.isspace() for letter in given):
        raise _wrong(kind, text, "must be one word without spaces, exactly as the provider gave it")
    return given


def _wrong(kind: str, text: str, message: str) -> Invalid:
    return Invalid.field(kind, f"{text[:80]!r} is wrong: {message}", text[:80])
