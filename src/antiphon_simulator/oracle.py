"""The log of everything received: written before it is answered, never changed. It is what the tests believe."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
from msgspec import Struct

Verdict = Literal[
    "accepted",  # taken: the recipient gets it
    "replayed",  # the key and the body are known: nothing new was taken
    "conflict",  # the key is known with another body
    "refused",  # the request is wrong, or the recipient not known
    "throttled",  # too fast
    "fault",  # refused by an injected fault
    "answered",  # a question, not a sending
]

TEXT_KEPT = 1000  # characters


class Entry(Struct, frozen=True):
    """One thing received. `at` is Unix time; `text_sha256` is of the whole text, `text` its beginning."""

    seq: int
    at: float
    provider: str
    operation: str
    verdict: Verdict
    account: str = ""
    recipient: str = ""
    text: str = ""
    text_sha256: str = ""
    body_sha256: str = ""
    reference: str = ""
    key: str = ""
    message_id: str = ""  # the id that the provider gave
    code: str = ""  # which rule a refusal stands on
    detail: str = ""
    answer: str = ""  # the fault that its answer met
    category: str = ""
    failure: str = ""


def entry(
    provider: str, operation: str, verdict: Verdict, *, body: bytes = b"", text: str = "", **fields: str
) -> Entry:
    """An entry that is not yet numbered."""
    return Entry(
        seq=0,
        at=0.0,
        provider=provider,
        operation=operation,
        verdict=verdict,
        text=text[:TEXT_KEPT],
        text_sha256=sha256(text.encode(errors="surrogateescape")) if text else "",
        body_sha256=sha256(body) if body else "",
        **fields,
    )


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@dataclass
class Oracle:
    """The log: in memory, and in a file if there is one. A restarted simulator goes on in the same file."""

    path: Path | None = None
    fsync: bool = False
    entries: list[Entry] = field(default_factory=list[Entry])
    _file: BinaryIO | None = None
    _next: int = 1

    def open(self) -> None:
        """Read what is there and go on behind it; a line that was cut short by a crash was never answered."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.entries, whole = _read(self.path)
        self._next = self.entries[-1].seq + 1 if self.entries else 1
        self._file = self.path.open("r+b" if self.path.exists() else "w+b")
        self._file.truncate(whole)
        self._file.seek(whole)

    def record(self, what: Entry) -> Entry:
        """Number it, stamp it, and have it written when this returns."""
        written = msgspec.structs.replace(what, seq=self._next, at=round(time.time(), 6))
        self._next += 1
        if self._file:
            self._file.write(msgspec.json.encode(written) + b"\n")
            self._file.flush()
            if self.fsync:
                os.fsync(self._file.fileno())
        self.entries.append(written)
        return written

    def clear(self) -> None:
        """Forget everything; numbering goes on, so that no number means two things."""
        self.entries.clear()
        if self._file:
            self._file.seek(0)
            self._file.truncate()

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
            self._file = None

    def select(self, after: int = 0, limit: int = 0, **equal: str) -> Iterator[Entry]:
        """Entries in order whose fields equal the given ones."""
        found = 0
        for one in self.entries:
            if one.seq > after and all(getattr(one, name) == value for name, value in equal.items()):
                yield one
                found += 1
                if found == limit:
                    return


def summary(entries: Iterable[Entry]) -> dict[str, Any]:
    """Counts by provider and verdict, and what was accepted more than once."""
    sends: dict[str, Counter[str]] = {}
    others: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    once: dict[str, Counter[tuple[str, ...]]] = {
        "recipient_text": Counter(),
        "reference": Counter(),
        "key": Counter(),
    }
    accepted = 0
    recipients: set[tuple[str, str]] = set()
    for one in entries:
        if one.operation != "send":
            others[f"{one.provider}.{one.operation}"] += 1
            continue
        sends.setdefault(one.provider, Counter())[one.verdict] += 1
        if one.code:
            codes[f"{one.provider}.{one.code}"] += 1
        if one.verdict != "accepted":
            continue
        accepted += 1
        recipients.add((one.provider, one.recipient))
        once["recipient_text"][one.provider, one.recipient, one.text_sha256] += 1
        if one.reference:
            once["reference"][one.provider, one.reference] += 1
        if one.key:
            once["key"][one.provider, one.key] += 1
    return {
        "accepted": accepted,
        "recipients": len(recipients),
        "sends": {provider: dict(counts) for provider, counts in sends.items()},
        "codes": dict(codes),
        "other": dict(others),
        "duplicates": {name: _repeated(counts) for name, counts in once.items()},
    }


def _repeated(counts: Counter[tuple[str, ...]]) -> list[dict[str, Any]]:
    return [{"of": list(what), "times": times} for what, times in counts.items() if times > 1]


def _read(path: Path) -> tuple[list[Entry], int]:
    """The entries of a log and the length of its whole lines, in bytes."""
    if not path.exists():
        return [], 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    decoder = msgspec.json.Decoder(Entry)
    return [decoder.decode(line) for line in content[:whole].splitlines() if line], whole
