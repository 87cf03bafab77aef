"""Which addresses a file had on an earlier line, in little memory."""

from __future__ import annotations

from array import array


class Seen:
    """Which addresses the file had before, and on which line: 12 bytes an address, by a 64-bit hash.

    Two addresses of a million share a hash once in ten million files; the second would be called a duplicate.
    """

    def __init__(self, expected: int) -> None:
        self._make(1 << max(12, (expected * 2 - 1).bit_length()))
        self.count = 0

    def _make(self, size: int) -> None:
        self.mask = size - 1
        self.keys = array("Q", bytes(8 * size))
        self.lines = array("I", bytes(4 * size))

    def find(self, key: int) -> int | None:
        """The line that has this key, or None."""
        keys, mask = self.keys, self.mask
        at = key & mask
        while held := keys[at]:
            if held == key:
                return self.lines[at]
            at = (at + 1) & mask
        return None

    def add(self, key: int, line: int) -> None:
        """Remember a key that `find` did not find."""
        if self.count * 5 > self.mask * 3:
            self._grow()
        keys, mask = self.keys, self.mask
        at = key & mask
        while keys[at]:
            at = (at + 1) & mask
        keys[at] = key
        self.lines[at] = line & 0xFFFFFFFF
        self.count += 1

    def _grow(self) -> None:
        keys, lines = self.keys, self.lines
        self._make(2 * len(keys))
        self.count = 0
        for key, line in zip(keys, lines, strict=True):
            if key:
                self.add(key, line)
