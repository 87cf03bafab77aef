"""People, how to reach them, what they agreed to, and what we must not use: the values and their rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import phonenumbers
from msgspec import UNSET, Struct, UnsetType

from antiphon.contacts.addresses import normalize
from antiphon.core.channel import AddressKind, parse_channel
from antiphon.core.errors import FieldError, Invalid

__all__ = ["normalize"]  # the face names it here; how it is done is addresses.py

LONGEST_NAME = 200
LONGEST_SEARCH_TEXT = 2000
MOST_AT_ONCE = 1000
MOST_ATTRIBUTES = 100
MOST_ATTRIBUTES_BYTES = 32_768

SuppressionReason = Literal[
    "opt_out", "hard_bounce", "complaint", "carrier", "not_reachable", "manual", "erased"
]


class Address(Struct, frozen=True, kw_only=True):
    """One way to reach a contact. Of each kind one is primary: the one that is used unless another is asked for."""

    id: UUID
    kind: AddressKind
    value: str
    is_primary: bool = True
    label: str | None = None


class Contact(Struct, frozen=True, kw_only=True):
    """A person we may write to."""

    id: UUID
    first_name: str | None
    last_name: str | None
    company: str | None
    language: str | None
    timezone: str | None
    country: str | None
    preferred_channel: str | None
    attributes: dict[str, Any]
    is_active: bool
    source: str
    addresses: list[Address]
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    def address(self, kind: AddressKind) -> str | None:
        """The primary address of a kind, or None."""
        found = [address for address in self.addresses if address.kind is kind]
        return next((a.value for a in found if a.is_primary), found[0].value if found else None)


class NewAddress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address as it is given: in any usual spelling."""

    kind: AddressKind
    value: str
    is_primary: bool | None = None
    label: str | None = None


class NewContact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A contact as it is given. `name` is split where first and last name are not known apart."""

    name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    company: str | None = None
    language: str | None = None
    timezone: str | None = None
    country: str | None = None
    preferred_channel: str | None = None
    attributes: dict[str, Any] = {}
    is_active: bool = True
    phone: str | None = None
    email: str | None = None
    addresses: list[NewAddress] = []
    groups: list[UUID] = []


class ContactChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may change; what is absent stays, null empties. `attributes` are merged by name, null removes one.

    `phone` and `email` replace the primary address of their kind.
    """

    first_name: str | UnsetType | None = UNSET
    last_name: str | UnsetType | None = UNSET
    company: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET
    timezone: str | UnsetType | None = UNSET
    country: str | UnsetType | None = UNSET
    preferred_channel: str | UnsetType | None = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    phone: str | UnsetType | None = UNSET
    email: str | UnsetType | None = UNSET


class Group(Struct, frozen=True, kw_only=True):
    """Contacts put together by hand. An inactive group refuses to be used. `members` is counted for one group only."""

    id: UUID
    name: str
    description: str | None
    is_active: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    members: int | None = None


class Consent(Struct, frozen=True, kw_only=True):
    """A fact that is never changed: somebody agreed or withdrew, on one channel and address, and said so there."""

    id: UUID
    contact_id: UUID
    channel: str
    address: str
    is_given: bool
    source: str
    wording: str | None
    at: datetime
    recorded_by: str


class Suppression(Struct, frozen=True, kw_only=True):
    """An address that must not be used on a channel, and why: `until` ends it by itself, `lifted_at` by decision."""

    channel: str
    address: str
    reason: SuppressionReason
    source: str
    detail: str | None
    message_id: UUID | None
    at: datetime
    until: datetime | None
    lifted_at: datetime | None
    lifted_by: str | None


# Checks: each returns the stored value and adds what is wrong to `wrong`

FIELDS = ("first_name", "last_name", "company", "language", "timezone", "country", "preferred_channel")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def check_field(name: str, value: str | None) -> str | None:
    """The stored value of one of FIELDS; None when empty. Raises Invalid naming the field, value and remedy."""
    text = clean(name, value)
    if text is None:
        return None
    match name:
        case "language":
            return _language(text)
        case "timezone":
            return _timezone(text)
        case "country":
            return check_country(text)
        case "preferred_channel":
            return text.lower() if text.lower() == "preferred" else str(parse_channel(text, name))
        case _:
            return text


def clean(name: str, value: str | None, longest: int = LONGEST_NAME) -> str | None:
    """Text on one line, trimmed, composed (NFC); None when nothing is left. Raises Invalid for control characters."""
    if value is None:
        return None
    text = " ".join(value.split())
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if not text:
        return None
    if len(text) > longest:
        raise Invalid.field(name, f"has {len(text)} characters; at most {longest} are kept", text[:80])
    if not text.isprintable() and any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in text):
        raise Invalid.field(name, "contains a control character; remove it", ascii(text[:80]))
    return text


def check_country(text: str) -> str:
    """Two letters of ISO 3166, in capitals. Raises Invalid."""
    code = {"UK": "GB"}.get(text.upper(), text.upper())
    if code not in phonenumbers.SUPPORTED_REGIONS:
        raise Invalid.field("country", "is no country's two letters; write it like DE", text[:80])
    return code


def _language(text: str) -> str:
    tag = text.replace("_", "-").lower()
    if not _LANGUAGE.fullmatch(tag):
        raise Invalid.field("language", "is no language tag; write it like de or pt-BR", text[:80])
    first, *rest = tag.split("-")
    return "-".join([first, *(p.upper() if len(p) == 2 else p.title() if len(p) == 4 else p for p in rest)])


def _timezone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid.field("timezone", "is no time zone; write it like Europe/Berlin", text[:80]) from None


def check_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as they are stored: texts, numbers, booleans and lists of texts by name. Raises Invalid."""
    wrong: list[FieldError] = []
    for name, value in attributes.items():
        if not _ATTRIBUTE.fullmatch(name):
            wrong.append(
                FieldError("attributes", "a name has letters, digits and _ only, at most 64", name[:80])
            )
        if not _is_plain(value):
            wrong.append(
                FieldError(f"attributes.{name[:64]}", "must be a text, a number, true, false or texts")
            )
    if len(attributes) > MOST_ATTRIBUTES or len(msgspec.json.encode(attributes)) > MOST_ATTRIBUTES_BYTES:
        wrong.append(
            FieldError("attributes", f"at most {MOST_ATTRIBUTES} and {MOST_ATTRIBUTES_BYTES} bytes together")
        )
    if wrong:
        raise Invalid("the attributes cannot be stored; `errors` says why", wrong)
    return {name: value for name, value in attributes.items() if value is not None}


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, list):
        return all(isinstance(item, str) and "\0" not in item for item in value)  # pyright: ignore[reportUnknownVariableType]
    return value is None or isinstance(value, bool | int | float)


def check_all(prefix: str, checks: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Run each `(name, function)`; the results by name, or Invalid with every wrong field, named behind `prefix`."""
    values: dict[str, Any] = {}
    wrong: list[FieldError] = []
    for name, check in checks:
        try:
            values[name] = check()
        except Invalid as error:
            wrong += [FieldError(prefix + e.field, e.message, e.value) for e in error.errors]
    if wrong:
        raise Invalid("some fields are wrong; `errors` names each", wrong)
    return values


# Names and search


def split_name(name: str) -> tuple[str | None, str | None]:
    """First and last name of a full one: `Anna Maria Berg` and `Berg, Anna Maria` are the same person."""
    last, comma, first = name.partition(",")
    if comma and first.strip():
        return " ".join(first.split()), " ".join(last.split()) or None
    words = name.replace(",", " ").split()
    if len(words) < 2:
        return (words[0] if words else None), None
    start = next((i for i, word in enumerate(words[1:], 1) if word.lower() in _PARTICLES), len(words) - 1)
    return " ".join(words[:start]), " ".join(words[start:])


_PARTICLES = frozenset({
    "von", "van", "de", "da", "del", "della", "di", "zu", "bin", "binti", "a/l", "a/p", "al", "le", "la", "ter",
})  # fmt: skip
_MARKS = [*range(0x300, 0x1100), *range(0x1AB0, 0x1B00), *range(0x1DC0, 0x1E00), *range(0x20D0, 0x2100)]
_BARE = {mark: None for mark in _MARKS if unicodedata.combining(chr(mark))} | str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ħ": "h", "ı": "i", "ŋ": "n"}
)


def fold(text: str) -> str:
    """Lower case without accents: how texts are compared in a search. `Łukasz Müller` is `lukasz muller`."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKD", text.casefold()).translate(_BARE)


def search_text(names: Iterable[str | None], values: Iterable[str]) -> str:
    """What a search looks through: names, company and addresses."""
    return fold(" ".join([*(name for name in names if name), *values]))[:LONGEST_SEARCH_TEXT]


def search_patterns(query: str | None) -> list[str]:
    """LIKE patterns, all of which `search_text` must match: each word anywhere, a phone number by its digits."""
    if query is None:
        return []
    text = fold(query[:LONGEST_NAME])
    digits = re.sub(r"[\s()./-]", "", text)
    words = [digits.lstrip("+0")] if re.fullmatch(r"\+?[0-9]{3,}", digits) else text.split()[:8]
    escaped = (re.sub(r"([\\%_])", r"\\\1", word) for word in words if word)
    return [f"%{word}%" for word in escaped]


def one_primary(addresses: Sequence[NewAddress]) -> list[bool]:
    """Which of a new contact's addresses are primary: of each kind the one that says so, else the first."""
    chosen: dict[AddressKind, int] = {}
    for index, address in enumerate(addresses):
        if address.is_primary:
            chosen.setdefault(address.kind, index)
    for index, address in enumerate(addresses):
        chosen.setdefault(address.kind, index)
    return [chosen[address.kind] == index for index, address in enumerate(addresses)]
