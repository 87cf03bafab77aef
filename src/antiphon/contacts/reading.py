"""Files of people as rows of cells: CSV in any usual spelling, and XLSX.

`inspect` finds out how a file is written and refuses what is no table. `read` yields its rows in order, each with the
number of its line, and never stops at a bad one: that comes as `Broken` with the reason. Memory stays bounded whatever
a line holds: a cell has at most 32 KB, a line 1 MB, and what is longer is not kept.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from antiphon.contacts import layout as layouts
from antiphon.contacts import workbook
from antiphon.contacts.layout import ESCAPED, Layout
from antiphon.contacts.records import LONGEST_CELL, LONGEST_LINE, Broken, Chunk, Row

_CHUNK = 262_144
_LONGEST_SEARCH = 16_777_216  # how far the end of a quoted cell is looked for


def inspect(
    path: Path,
    *,
    encoding: str | None = None,
    separator: str | None = None,
    has_header: bool = True,
    sheet: str | None = None,
) -> Layout:
    """Read the whole file once and say how it is written. Raises Invalid for what is no table, with the remedy."""
    with path.open("rb") as file:
        head = file.read(layouts.SAMPLE_BYTES)
    if not head.strip():
        raise layouts.unreadable("empty_file", "the file is empty")
    if head.startswith(b"PK\x03\x04"):
        return workbook.inspect(path, sheet, has_header)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise layouts.unreadable("old_excel", "this is an old Excel file; save it as .xlsx or as CSV UTF-8")
    return layouts.inspect_csv(path, encoding, separator, has_header)


def read(path: Path, layout: Layout) -> Iterator[Chunk]:
    """The records after the header, in order, in chunks of some thousand. Blank lines are left out."""
    if layout.kind == "xlsx":
        yield from workbook.read(path, layout)
        return
    with path.open("rb") as file:
        yield from _Csv(file, layout).chunks()


class _Csv:
    """A CSV file being read, a chunk of lines at a time: by `split` where no quote stands, else by csv."""

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        self.file = file
        self.layout = layout
        self.separator = layout.separator
        self.lines = self._read_lines()
        self.cut: set[int] = set()  # numbers of lines longer than may be

    def chunks(self) -> Iterator[Chunk]:
        number = 1
        for lines in self.lines:
            records = self._plain(number, lines)
            if records is None:
                records = self._careful(number, lines)  # may take more lines
            number += len(lines)
            header = self.layout.header_line
            yield Chunk([r for r in records if r.line > header], self.file.tell())

    def _plain(self, first: int, lines: list[str]) -> list[Row | Broken] | None:
        """The records of lines in which nothing is out of the ordinary, one a line; None if anything is."""
        if self.cut or max(map(len, lines)) > LONGEST_CELL:
            return None
        text = "\n".join(lines)
        if "\0" in text or (not text.isascii() and ESCAPED.search(text)):
            return None
        separator = self.separator
        if '"' not in text:
            return [Row(n, line.split(separator)) for n, line in enumerate(lines, first) if line]
        try:
            records = list(csv.reader(lines, delimiter=separator, strict=True))
        except csv.Error:
            return None
        if len(records) != len(lines):
            return None
        return [Row(n, cells) for n, cells in enumerate(records, first) if cells]

    def _careful(self, first: int, lines: list[str]) -> list[Row | Broken]:
        records: list[Row | Broken] = []
        at = 0
        while at < len(lines):
            used, record = self._record(first + at, lines, at)
            at += used
            if record is not None:
                records.append(record)
        self.cut -= set(range(first, first + len(lines)))
        return records

    def _record(self, number: int, lines: list[str], at: int) -> tuple[int, Row | Broken | None]:
        """The record that begins at `lines[at]`, and how many lines it takes; more are fetched when it needs them."""
        line = lines[at]
        if not line:
            return 1, None
        if number in self.cut:
            reason = f"the line has more than {LONGEST_LINE} characters"
            return 1, Broken(number, "line_too_long", reason, line)
        if '"' not in line:
            return 1, self._check(number, line, line.split(self.separator))
        used, text = 1, line
        while True:
            try:
                (cells,) = list(csv.reader([text], delimiter=self.separator, strict=True))
            except csv.Error as error:
                if "unexpected end of data" not in str(error):
                    return 1, Broken(number, *_why(str(error), used), line)
            else:
                return used, self._check(number, text, cells)
            # a quoted cell goes on: up to the next line in which a quote stands
            used, more = self._until_quote(lines, at, used, len(text))
            if more is None:
                return self._unclosed(number, lines, at, used)
            text = f"{text}\n{more}"

    def _until_quote(self, lines: list[str], at: int, used: int, length: int) -> tuple[int, str | None]:
        """The lines up to and with the next quote; None if the cell or the file ends before."""
        taken: list[str] = []
        while length <= LONGEST_CELL * 2 and self._has(lines, at + used):
            line = lines[at + used]
            taken.append(line)
            used, length = used + 1, length + len(line) + 1
            if '"' in line:
                return used, "\n".join(taken)
        return used, None

    def _unclosed(self, number: int, lines: list[str], at: int, used: int) -> tuple[int, Broken]:
        """A quoted cell without an end nearby: longer than may be, or never closed. The next quote in the file tells:
        one that ends a cell means the first, one that begins a cell (or none) the second; then only its line is bad."""
        separator = re.escape(self.separator)
        opening = re.compile(rf'(?:^|{separator})"(?!{separator}|$)')
        searched = sum(map(len, lines[at : at + used]))
        while self._has(lines, at + used) and searched < _LONGEST_SEARCH:
            line = lines[at + used].replace('""', "")
            used, searched = used + 1, searched + len(line)
            if '"' in line:
                if opening.search(line[: line.index('"') + 2]):
                    break
                reason = f"a cell has more than {LONGEST_CELL} characters"
                return used, Broken(number, "cell_too_long", reason, lines[at])
        reason = "a cell begins with a quote that is never closed; close it, or double quotes within a cell"
        return 1, Broken(number, "quote_not_closed", reason, lines[at])

    def _has(self, lines: list[str], index: int) -> bool:
        if index >= len(lines):
            lines += next(self.lines, list[str]())
        return index < len(lines)

    def _check(self, number: int, text: str, cells: list[str]) -> Row | Broken:
        if "\0" in text:
            return Broken(number, "nul", "the line contains a NUL character; the file may be damaged", text)
        if not text.isascii() and ESCAPED.search(text):
            reason = "bytes that are not UTF-8; save the whole file in one encoding"
            return Broken(number, "encoding", reason, ESCAPED.sub("\ufffd", text))
        if len(text) > LONGEST_CELL and any(len(cell) > LONGEST_CELL for cell in cells):
            return Broken(number, "cell_too_long", f"a cell has more than {LONGEST_CELL} characters", text)
        return Row(number, cells)

    def _read_lines(self) -> Iterator[list[str]]:
        """Lines without their ends, a chunk at a time. Of one that is too long, the beginning is kept."""
        is_utf8 = self.layout.encoding == "utf-8-sig"
        decoder = codecs.getincrementaldecoder(self.layout.encoding)(
            "surrogateescape" if is_utf8 else "replace"
        )
        rest, number, is_cut = "", 1, False
        while part := self.file.read(_CHUNK):
            text = decoder.decode(part)
            held = text.endswith("\r")  # its line feed may follow
            lines = _split(rest + text[:-1] if held else rest + text)
            rest = lines.pop() + ("\r" if held else "")
            if is_cut and lines:
                self.cut.add(number)
                is_cut = False
            if len(rest) > LONGEST_LINE:
                rest, is_cut = rest[:LONGEST_LINE] + ("\r" if held else ""), True
            if lines:
                number += len(lines)
                yield lines
        last = _split(rest + decoder.decode(b"", True))
        if is_cut:
            self.cut.add(number)
        if any(last):
            yield last


def _split(text: str) -> list[str]:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.split("\n")


def _why(error: str, lines: int) -> tuple[str, str]:
    if "field larger" in error:
        return "cell_too_long", f"a cell has more than {LONGEST_CELL} characters"
    if lines > 1:
        return (
            "quote_not_closed",
            "a cell begins with a quote that is not closed; close it, or double quotes within a cell",
        )
    return "quote", "text follows a closing quote; double the quotes within a quoted cell"
