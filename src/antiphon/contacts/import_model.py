"""Imports as values: what is asked, what a file will do, how far it is, which lines were refused and why."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from antiphon.contacts import model
from antiphon.contacts.layout import Layout
from antiphon.core.channel import ADDRESS_KIND, Channel, parse_channel
from antiphon.core.errors import Conflict, Invalid

ImportStatus = Literal["running", "done", "failed", "canceled"]

CONSENT_CHANNELS = ("sms", "whatsapp", "email")
"""Where a consent that names no channel counts, as far as the line has an address for it."""

NO_CONSENT = (
    "no consent is recorded: without it nothing promotional may be sent to these people by SMS, WhatsApp, voice or "
    "push. Map a consent column, or say what they agreed to"
)


class ImportOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a file is to be read, and what for.

    `map` says which field a column is (`{"Nr.": "phone"}`), `country` reads national numbers, `consent` is what all of
    them agreed to. `extra` says where columns go that are no field: nowhere, into the contacts' attributes, or (with
    the column `text`) only to whoever reads `import_rows` for each recipient.
    """

    map: dict[str, str] = {}
    country: str | None = None
    group: UUID | None = None
    overwrite: bool = False
    consent: str | None = None
    consent_channels: tuple[str, ...] = CONSENT_CHANNELS
    extra: Literal["drop", "attributes", "recipients"] = "drop"
    dry_run: bool = False
    encoding: str | None = None
    separator: str | None = None
    sheet: str | None = None
    has_header: bool = True


def check_options(options: ImportOptions) -> None:
    """Raise Invalid for options that cannot be followed."""
    if options.country is not None:
        model.check_country(options.country)
    for channel in options.consent_channels:
        if parse_channel(channel, "consent_channels") is Channel.HTTP:
            raise Invalid.field("consent_channels", "nobody is reached so", channel)
    model.clean("consent", options.consent, 2000)


class Plan(Struct, frozen=True, kw_only=True):
    """What a file will do, known before it begins: its layout, the field of each column, and what to be warned of."""

    options: ImportOptions
    layout: Layout
    fields: list[str]
    unknown: list[str]
    country: str | None
    warnings: list[str]


class LineError(Struct, frozen=True, array_like=True):
    """A line that was refused: the field, a code for programs, the reason for people, and how it begins."""

    line: int
    field: str
    code: str
    reason: str
    content: str


class Import(Struct, frozen=True, kw_only=True):
    """A file on its way in. `position` is the last line whose effect is stored; the counts are of lines.

    With `is_dry_run`, the counts say what would happen, and nothing is written.
    """

    id: UUID
    file_name: str
    status: ImportStatus
    is_dry_run: bool
    group_id: UUID | None
    columns: dict[str, str]
    warnings: list[str]
    position: int
    total_bytes: int
    done_bytes: int
    rows_read: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    failure: str | None
    started_by: str
    created_at: datetime
    finished_at: datetime | None


class Stored(Struct, frozen=True, kw_only=True):
    """An import as its row keeps it."""

    id: UUID
    file_name: str
    file_digest: bytes
    file_path: str | None
    options: dict[str, Any]
    status: ImportStatus
    position: int
    total_bytes: int
    done_bytes: int
    rows_read: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    failure: str | None
    started_by: str
    created_at: datetime
    finished_at: datetime | None


class Batch(Struct, frozen=True, array_like=True):
    """Some thousand lines, read, checked, and written as COPY takes them.

    `people` fill import_rows, `addresses` import_addresses, `consents` import_consents; `position` is the last line.
    """

    position: int
    done_bytes: int
    rows_read: int
    people_count: int
    address_count: int
    people: bytes
    addresses: bytes
    consents: bytes
    errors: list[LineError]


class Outcome(Struct, frozen=True, kw_only=True):
    """What a batch did, in lines."""

    created: int
    updated: int
    unchanged: int
    rejected: int


class ImportJob(Struct, frozen=True, kw_only=True):
    """What the reading process is told."""

    path: str
    import_id: UUID
    plan: Plan
    after: int
    batch_rows: int


def refuse_changed_file(stored: Stored, digest: bytes) -> None:
    """Raise Conflict unless the file is the one that the import began with."""
    if stored.file_digest != digest:
        raise Conflict(
            "file_changed",
            f"{stored.file_name} is not the file that this import began with: its content has changed since. "
            "Import it anew; what is known already is not doubled",
        )


def kinds_of(channels: Iterable[str]) -> list[tuple[str, str]]:
    """Each channel with the kind of address that it uses."""
    return [(str(parse_channel(name)), str(ADDRESS_KIND[parse_channel(name)])) for name in channels]
