"""What a file of people is read into, however it is written."""

from __future__ import annotations

from typing import NamedTuple

LONGEST_CELL = 32_768
LONGEST_LINE = 1_048_576


class Row(NamedTuple):
    """The cells of one record, and the line on which it begins."""

    line: int
    cells: list[str]


class Broken(NamedTuple):
    """A record that cannot be read, and why; `content` is its beginning."""

    line: int
    code: str
    reason: str
    content: str


class Chunk(NamedTuple):
    """Some records in order; `done_bytes` says how far into the file they reach."""

    records: list[Row | Broken]
    done_bytes: int
