"""XLSX files, read a row at a time: their sheets are never held in memory."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from antiphon.contacts.layout import Layout, check_header, unreadable
from antiphon.contacts.records import LONGEST_CELL, Broken, Chunk, Row
from antiphon.core.errors import Invalid

MOST_FILES = 1000
MOST_BYTES = 400 << 20  # unpacked
MOST_SHARED = 64 << 20  # the table of texts, which is held in memory
_CHUNK = 1000
_BAD = (
    zipfile.BadZipFile,
    InvalidFileException,
    KeyError,
    ParseError,
    EOFError,
    ValueError,
    TypeError,
    OSError,
)


def inspect(path: Path, sheet: str | None, has_header: bool) -> Layout:
    """What the workbook's sheet holds: the named one, or the first. Raises Invalid with the remedy."""
    _check_size(path)
    digest, total = hashlib.sha256(), 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
            total += len(part)
    name, header_line, header, sample = _look(path, sheet, has_header)
    return Layout(
        kind="xlsx",
        sheet=name,
        header=check_header(header, has_header),
        header_line=header_line if has_header else 0,
        sample=sample,
        total_bytes=total,
        digest=digest.digest(),
    )


def _check_size(path: Path) -> None:
    """Refuse an archive that unpacks to more than a table of people would, before anything is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile:
        raise _damaged() from None
    names = {entry.filename for entry in entries}
    if "xl/workbook.xml" not in names:
        raise unreadable("not_xlsx", "this is no Excel workbook; save the table as .xlsx or as CSV UTF-8")
    shared = sum(entry.file_size for entry in entries if entry.filename == "xl/sharedStrings.xml")
    if (
        len(entries) > MOST_FILES
        or sum(entry.file_size for entry in entries) > MOST_BYTES
        or shared > MOST_SHARED
    ):
        raise unreadable("workbook_too_large", "this workbook is too large; save the sheet as CSV UTF-8")


def _damaged() -> Invalid:
    return unreadable(
        "damaged", "this workbook is damaged; open it in a spreadsheet program and save it again"
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The workbook, with the values that its formulas had when it was saved. Raises Invalid when it is damaged."""
    try:
        with path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            try:
                yield book
            finally:
                book.close()
    except _BAD as error:
        raise _damaged() from error


def _look(path: Path, sheet: str | None, has_header: bool) -> tuple[str, int, list[str], list[list[str]]]:
    with _opened(path) as book:
        name = _sheet_name(book, sheet)
        rows: list[tuple[int, list[str]]] = []
        for number, values in enumerate(book[name].iter_rows(values_only=True), 1):
            cells = [cell_text(value) for value in values]
            if any(cells):
                rows.append((number, cells))
            if len(rows) > 5 or number > 10_000:
                break
    if not rows:
        raise unreadable("empty_file", f"the sheet {name!r} has no rows")
    header_line, header = rows[0]
    while header and not header[-1]:
        header.pop()
    return name, header_line, header, [cells for _, cells in rows[1 if has_header else 0 :]][:5]


def _sheet_name(book: Any, sheet: str | None) -> str:
    names: list[str] = [found.title for found in book.worksheets if found.sheet_state == "visible"]
    if sheet is None and names:
        return names[0]
    if sheet is None or sheet not in names:
        raise Invalid.field("sheet", f"there is no such sheet; there are {', '.join(names)[:200]}", sheet)
    return sheet


def read(path: Path, layout: Layout) -> Iterator[Chunk]:
    """The rows after the header, in chunks; `done_bytes` is a share by rows. Raises Invalid when damaged."""
    with _opened(path) as book:
        yield from _chunks(book[layout.sheet or ""], layout)


def _chunks(sheet: Any, layout: Layout) -> Iterator[Chunk]:
    promised = max(1, sheet.max_row or 1)
    records: list[Row | Broken] = []
    for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
        if number <= layout.header_line:
            continue
        record = _record(number, values, len(layout.header))
        if record is not None:
            records.append(record)
        if len(records) >= _CHUNK:
            yield Chunk(records, layout.total_bytes * min(number, promised) // promised)
            records = []
    yield Chunk(records, layout.total_bytes)


def _record(number: int, values: tuple[Any, ...], width: int) -> Row | Broken | None:
    cells = [cell_text(value) for value in values]
    while len(cells) > width and not cells[-1]:
        cells.pop()
    if not any(cells):
        return None
    if any(len(cell) > LONGEST_CELL for cell in cells):
        reason = f"a cell has more than {LONGEST_CELL} characters"
        return Broken(number, "cell_too_long", reason, " ".join(cells)[:LONGEST_CELL])
    if any("\0" in cell for cell in cells):
        return Broken(number, "nul", "the row contains a NUL character", " ".join(cells))
    return Row(number, cells)


def cell_text(value: Any) -> str:
    """A spreadsheet's value as the text that a person sees in it."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "yes" if value else "no"
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case datetime() | date() | time():
            return value.isoformat().removesuffix("T00:00:00")
        case _:
            return str(value)
