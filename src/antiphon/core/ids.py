"""Identifiers: UUID version 7 (RFC 9562), and their short spelling for people and links."""

from __future__ import annotations

import os
import threading
import time
from uuid import UUID

_RANDOM_BITS = 74
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGIT = {letter: value for value, letter in enumerate(_ALPHABET)}
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHORT_LENGTH = 22  # 62**22 > 2**128

_lock = threading.Lock()
_last = (0, 0)  # milliseconds, the 74 bits after them


def new_id() -> UUID:
    """A new UUIDv7, greater than every one this process made before. Between processes there is no order."""
    global _last  # noqa: PLW0603 - the one piece of state: what was given out last
    with _lock:
        millisecond, rest = time.time_ns() // 1_000_000, _random_bits()
        if millisecond <= _last[0]:
            millisecond, rest = _last[0], _last[1] + 1 + (rest & 0xFFFF_FFFF)
            if rest >> _RANDOM_BITS:
                millisecond, rest = millisecond + 1, _random_bits()
        _last = (millisecond, rest)
    return _assemble(millisecond, rest)


def uuid7_at(milliseconds: int) -> UUID:
    """The smallest UUIDv7 of this Unix millisecond: the lower bound of everything made then or later."""
    return _assemble(milliseconds, 0)


def short(identifier: UUID) -> str:
    """The identifier as 22 letters and digits, in the same order as the identifiers themselves."""
    rest, pairs = identifier.int, list[str]()
    for _ in range(_SHORT_LENGTH // 2):
        rest, pair = divmod(rest, len(_PAIRS))
        pairs.append(_PAIRS[pair])
    pairs.reverse()
    return "".join(pairs)


def parse_short(text: str) -> UUID:
    """The identifier that `short` spelled so. Raises ValueError for anything else."""
    value = 0
    if len(text) == _SHORT_LENGTH and all(letter in _DIGIT for letter in text):
        for letter in text:
            value = value * len(_ALPHABET) + _DIGIT[letter]
        if value < 1 << 128:
            return UUID(int=value)
    raise ValueError(f"{text[:40]!r} is not a short identifier: 22 letters and digits are expected")


def _random_bits() -> int:
    return int.from_bytes(os.urandom(10), "big") >> (80 - _RANDOM_BITS)


def _assemble(millisecond: int, rest: int) -> UUID:
    high, low = rest >> 62, rest & ((1 << 62) - 1)
    return UUID(int=(millisecond & ((1 << 48) - 1)) << 80 | 7 << 76 | high << 64 | 2 << 62 | low)
