"""How a file of people is written: encoding, separator, header, digest. Found out before anything is read of it."""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from antiphon.core.errors import Invalid

MOST_COLUMNS = 500
SAMPLE_BYTES = 65_536
ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that were no UTF-8, as surrogateescape keeps them
_NOT_1252 = (b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d")  # bytes that Windows-1252 does not use
_SEPARATORS = (",", ";", "\t", "|")


class Layout(Struct, frozen=True, kw_only=True):
    """How a file is written. `header_line` is 0 when it has no header; `digest` is SHA-256 of all of it."""

    kind: Literal["csv", "xlsx"]
    encoding: str = "utf-8-sig"
    separator: str = ","
    sheet: str | None = None
    header: list[str]
    header_line: int
    sample: list[list[str]] = []
    total_bytes: int
    digest: bytes


def inspect_csv(path: Path, encoding: str | None, separator: str | None, has_header: bool) -> Layout:
    """Read the whole file once and say how it is written. Raises Invalid for what is no table, with the remedy."""
    scan = _Scan(path)
    written_in = _check_encoding(encoding) if encoding else scan.encoding
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
    text = head.decode(written_in, "replace") if written_in else ""
    if not written_in:
        raise unreadable("not_text", "this is no text file; save the table as CSV UTF-8 or as .xlsx")
    lines = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
    if len(head) == SAMPLE_BYTES and len(lines) > 1:
        lines.pop()
    skipped = 0
    if named := re.fullmatch(r'"?sep=(.)"?', lines[0]):
        separator, skipped = separator or named[1], 1
    chosen = _check_separator(separator) or _guess_separator(lines[skipped:])
    records = [(end, cells) for end, cells in _sample(lines[skipped:], chosen) if any(map(str.strip, cells))]
    if not records:
        raise unreadable("empty_file", "the file has no rows")
    header_end, header = records[0]
    return Layout(
        kind="csv",
        encoding=written_in,
        separator=chosen,
        header=check_header(header, has_header),
        header_line=skipped + header_end if has_header else skipped,
        sample=[cells for _, cells in records[1 if has_header else 0 :]][:5],
        total_bytes=scan.total,
        digest=scan.digest,
    )


def check_header(cells: Sequence[str], has_header: bool) -> list[str]:
    """The names of the columns; `1`, `2`, … without a header. Raises Invalid if the first row is no header."""
    if len(cells) > MOST_COLUMNS:
        raise unreadable("too_many_columns", f"{len(cells)} columns; at most {MOST_COLUMNS} are read")
    if not has_header:
        return [str(number) for number in range(1, len(cells) + 1)]
    if any(_looks_like_data(cell) for cell in cells):
        raise unreadable(
            "missing_header",
            f"the first line is no header: {', '.join(cells)[:120]!r}; put the columns' names above it, "
            "or say that there is none and map columns by number",
        )
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = " ".join(cell.split())[:100] or f"column {number}"
        again = sum(1 for other in cells[: number - 1] if " ".join(other.split())[:100] == name)
        names.append(f"{name} ({again + 1})" if again else name)
    return names


def _looks_like_data(cell: str) -> bool:
    text = cell.strip()
    return "@" in text or (len(re.sub(r"[\s()+./-]", "", text)) >= 7 and not re.search(r"[^\W\d_]", text))


def unreadable(code: str, text: str) -> Invalid:
    """A file that is no table of people, and what to do about it."""
    return Invalid(text, code=code)


def _check_encoding(name: str) -> str:
    try:
        found = codecs.lookup(name).name
        "".encode(found)  # a codec such as base64 makes no bytes of a text
    except LookupError:
        raise Invalid.field("encoding", "is no encoding; write it like windows-1252", name[:40]) from None
    return "utf-8-sig" if found == "utf-8" else found


class _Scan:
    """One pass over the file: its digest, its length, and in which encoding all of it can be read."""

    def __init__(self, path: Path) -> None:
        digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
        is_utf8, is_odd, head = True, False, b""
        self.total = 0
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                head = head or part[:4096]
                digest.update(part)
                self.total += len(part)
                if is_utf8:
                    try:
                        decoder.decode(part)
                    except UnicodeDecodeError:
                        is_utf8 = False
                is_odd = is_odd or (not is_utf8 and any(byte in part for byte in _NOT_1252))
            if is_utf8:
                try:
                    decoder.decode(b"", True)
                except UnicodeDecodeError:
                    is_utf8 = False
        self.digest = digest.digest()
        self.encoding = _encoding(path, head, is_utf8, is_odd)


def _encoding(path: Path, head: bytes, is_utf8: bool, is_odd: bool) -> str:
    """UTF-16 by its mark or its NULs, UTF-8 if all of it is or most of it (bad lines are told), else Windows-1252."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    nuls = head.count(0)
    if nuls > len(head) // 4:
        even = head[::2].count(0)
        return "utf-16-be" if even > nuls // 2 else "utf-16-le"
    if nuls > max(8, len(head) // 50):
        return ""
    if is_utf8 or _is_mostly_utf8(path):
        return "utf-8-sig"
    return "latin-1" if is_odd else "windows-1252"


def _is_mostly_utf8(path: Path) -> bool:
    """More letters beyond ASCII that are right than bytes that are wrong."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    wrong = right = 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            text = decoder.decode(part)
            escaped = len(ESCAPED.findall(text))
            wrong += escaped
            right += len(text.encode("utf-8", "replace")) - len(text)
    return right > wrong * 2


def _check_separator(separator: str | None) -> str | None:
    if separator is not None and (len(separator) != 1 or separator in '"\r\n\0'):
        raise Invalid.field("separator", "must be one character, such as ; or a tab", separator[:40])
    return separator


def _guess_separator(lines: Sequence[str]) -> str:
    """The separator under which most lines have as many cells as the first."""

    def score(separator: str) -> tuple[float, int]:
        records = [cells for _, cells in _sample(lines, separator) if any(cells)][:50]
        width = len(records[0]) if records else 1
        alike = sum(1 for cells in records if len(cells) == width) / max(1, len(records))
        return (alike if width > 1 else 0.0, width)

    return max(_SEPARATORS, key=score)


def _sample(lines: Sequence[str], separator: str) -> list[tuple[int, list[str]]]:
    """The first records, each with the number of the line on which it ends."""
    reader = csv.reader(lines[:200], delimiter=separator)
    records: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            records.append((reader.line_num, cells))  # noqa: PERF401 - what came before an error is kept
    except csv.Error:
        pass
    return records
