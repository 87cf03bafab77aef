"""One record of a file as one person, or the reason why not. Pure: no file, no database, no other line."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

import msgspec

from antiphon.contacts import import_words, model
from antiphon.contacts.addresses import fast_email, fast_phone
from antiphon.contacts.columns import ADDRESS_FIELDS, CONSENT_FIELDS
from antiphon.contacts.import_model import Plan, kinds_of

TEXTS = ("first_name", "last_name", "company", "language", "timezone", "country", "preferred_channel")
MOST_ADDRESSES = 20
_FREE = frozenset({"first_name", "last_name", "company"})
_FORMULA = frozenset("=+-@\t\r")


class Person(NamedTuple):
    """A checked record. `texts` are in the order of TEXTS; `attributes` and `extra` are JSON; `consents` are channel,
    address, given, wording."""

    addresses: list[tuple[str, str]]
    texts: list[str | None]
    attributes: str
    extra: str
    text: str | None
    consents: list[tuple[str, str, bool, str]]
    is_plain: bool  # nothing in it needs an escape on its way into the database


class Refused(Exception):
    """This record is not imported: the field, a code for programs, the reason for people."""

    def __init__(self, field: str, code: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.code = code
        self.reason = reason


class Columns:
    """What the cells of a file mean."""

    def __init__(self, plan: Plan) -> None:
        options, columns = plan.options, list(enumerate(plan.fields))
        self.header = plan.layout.header
        self.separator = plan.layout.separator if plan.layout.kind == "csv" else "\t"
        self.width = len(columns)
        self.country = plan.country
        self.addresses = [(i, field) for i, field in columns if field in ADDRESS_FIELDS]
        self.free = [(TEXTS.index(field), i) for i, field in columns if field in _FREE]
        self.special = [(i, field) for i, field in columns if field in {"name", *TEXTS} - _FREE]
        self.attributes = [(i, field[5:]) for i, field in columns if field.startswith("attr:")]
        self.tags = next((i for i, field in columns if field == "tags"), None)
        self.text = next((i for i, field in columns if field == "text"), None)
        self.consents = sorted(
            (field.removeprefix("consent").removeprefix("_"), i)
            for i, field in columns
            if field in CONSENT_FIELDS
        )
        self.where = options.extra
        self.wording = options.consent
        self.channels = kinds_of(options.consent_channels)
        self.kinds = dict(kinds_of([*options.consent_channels, *(name for name, _ in self.consents if name)]))

    def person(self, cells: list[str]) -> Person:
        """What a record says. Raises Refused or Invalid; the first wrong field counts."""
        cells = [cell.strip() for cell in self._fitted(cells)]
        is_plain = _is_plain("".join(cells))
        if not is_plain:
            cells = [unquoted(cell) for cell in cells]
        texts: list[str | None] = [None, None, None, None, None, None, None]
        for slot, i in self.free:
            cell = cells[i]
            if cell:
                texts[slot] = cell if is_plain else model.clean(TEXTS[slot], cell)
        if self.special:
            self._fill_special(cells, texts)
        addresses = self._reach(cells, texts[5] or self.country)
        attributes, extra, text = self._more(cells)
        has_consents = self.consents or self.wording is not None
        consents = self._agreed(cells, addresses) if has_consents else []
        return Person(addresses, texts, attributes, extra, text, consents, is_plain)

    def _fitted(self, cells: list[str]) -> list[str]:
        missing = self.width - len(cells)
        if not missing:
            return cells
        if missing > 0:  # some programs leave out what is empty at the end
            return cells + [""] * missing
        if any(map(str.strip, cells[self.width :])):
            reason = f"{len(cells)} cells, but the header names {self.width}; quote a cell that contains "
            raise Refused("", "too_many_cells", f"{reason}{self.separator!r}")
        return cells[: self.width]

    def _fill_special(self, cells: list[str], texts: list[str | None]) -> None:
        for i, field in self.special:
            cell = cells[i]
            if not cell:
                continue
            if field == "name":
                first, last = model.split_name(model.clean(field, cell) or "")
                texts[0], texts[1] = texts[0] or first, texts[1] or last
            elif field == "language":
                texts[3] = import_words.language(cell)
            elif field == "country":
                texts[5] = import_words.country(cell)
            else:
                texts[TEXTS.index(field)] = model.check_field(field, cell)

    def _reach(self, cells: list[str], country: str | None) -> list[tuple[str, str]]:
        addresses: list[tuple[str, str]] = []
        for i, kind in self.addresses:
            text = cells[i]
            if not text:
                continue
            value = None
            if kind == "phone":
                value = fast_phone(text, country)
            elif kind == "email":
                value = fast_email(text)
            if value is None:
                value = model.normalize(kind, text, country)
            if (kind, value) not in addresses:
                addresses.append((kind, value))
        if not addresses:
            raise Refused("", "no_address", "neither a phone number nor another address in this line")
        if len(addresses) > MOST_ADDRESSES:
            raise Refused("", "invalid", f"{len(addresses)} addresses; at most {MOST_ADDRESSES} go in a line")
        return addresses

    def _more(self, cells: list[str]) -> tuple[str, str, str | None]:
        """The attributes, what is for each recipient only, and the recipient's own text."""
        found: dict[str, str | list[str]] = {name: cells[i] for i, name in self.attributes if cells[i]}
        if self.tags is not None and cells[self.tags]:
            found["tags"] = [tag.strip() for tag in re.split(r"[,;|]", cells[self.tags]) if tag.strip()]
        text = cells[self.text] or None if self.text is not None else None
        if text and self.where == "attributes":
            found["text"] = text
        if not found:
            return "{}", "{}", text
        encoded = msgspec.json.encode(found)
        if len(encoded) > model.MOST_ATTRIBUTES_BYTES or len(found) > model.MOST_ATTRIBUTES:
            reason = f"more than {model.MOST_ATTRIBUTES} attributes or {model.MOST_ATTRIBUTES_BYTES} bytes"
            raise Refused("attributes", "invalid", reason)
        stored = encoded.decode()
        return ("{}", stored, text) if self.where == "recipients" else (stored, "{}", text)

    def _agreed(self, cells: list[str], addresses: list[tuple[str, str]]) -> list[tuple[str, str, bool, str]]:
        """What was agreed to: the column of a channel counts more than the general one."""
        said: dict[str, tuple[bool, str]] = {}
        if not self.consents and self.wording is not None:
            said = {channel: (True, self.wording) for channel, _ in self.channels}
        for channel, i in self.consents:
            answer = import_words.answer(self.header[i], cells[i])
            if answer is None:
                continue
            wording = self.wording or f"{self.header[i]}: {cells[i]}"[:500]
            for name in [channel] if channel else [name for name, _ in self.channels]:
                said[name] = (answer, wording)
        return [
            (channel, value, given, wording)
            for kind, value in addresses
            for channel, (given, wording) in said.items()
            if self.kinds[channel] == kind
        ]


def _is_plain(text: str) -> bool:
    """Whether cells of this text together need nothing: no cleaning, no unquoting, no escaping."""
    return (
        len(text) <= model.LONGEST_NAME
        and text.isprintable()
        and "\\" not in text
        and "'" not in text
        and '"' not in text
        and "  " not in text
        and (text.isascii() or unicodedata.is_normalized("NFC", text))
    )


def unquoted(text: str) -> str:
    """Without the apostrophe that keeps a spreadsheet from calculating a cell; a formula itself is kept as text."""
    return text[1:] if text[:1] == "'" and text[1:2] in _FORMULA else text
