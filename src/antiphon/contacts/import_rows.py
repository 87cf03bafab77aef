"""Records of a file as batches of checked people: the part of an import that is Python, and must be fast.

It runs in a process of its own (import_process.py) and touches no database. Every id follows from the import and the
line, so a batch that is tried again is the same batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from uuid import UUID

from antiphon.contacts import model
from antiphon.contacts.columns import ADDRESS_FIELDS
from antiphon.contacts.import_model import Batch, ImportJob, LineError
from antiphon.contacts.import_person import Columns, Person, Refused
from antiphon.contacts.records import Broken, Chunk, Row
from antiphon.contacts.seen import Seen
from antiphon.core.errors import Invalid

MOST_BATCH_BYTES = 8 << 20
_SHOWN = 200  # characters of a refused line that are kept
_64_BITS = 0xFFFF_FFFF_FFFF_FFFF
_SALT = {kind: hash(kind) for kind in ADDRESS_FIELDS}


class RowReader:
    """Makes batches of records, in order; knows which addresses the lines before had."""

    def __init__(self, job: ImportJob) -> None:
        self.after = job.after
        self.batch_rows = job.batch_rows
        self.prefix = f"{job.import_id.int >> 40:022x}"
        self.columns = Columns(job.plan)
        self.seen = Seen(min(job.plan.layout.total_bytes // 60, 4_000_000))
        self._start()

    def _start(self) -> None:
        self.people: list[str] = []
        self.addresses: list[str] = []
        self.consents: list[str] = []
        self.errors: list[LineError] = []
        self.rows = self.size = self.position = 0

    def batches(self, chunks: Iterable[Chunk]) -> Iterator[Batch]:
        """All batches; lines up to `after` are read again only to know what they had."""
        done_bytes = 0
        for chunk in chunks:
            for record in chunk.records:
                self._take(record)
                if self.rows >= self.batch_rows or self.size > MOST_BATCH_BYTES:
                    yield self._batch(done_bytes)
            done_bytes = chunk.done_bytes
        if self.rows:
            yield self._batch(done_bytes)

    def _batch(self, done_bytes: int) -> Batch:
        batch = Batch(
            position=self.position,
            done_bytes=done_bytes,
            rows_read=self.rows,
            people_count=len(self.people),
            address_count=len(self.addresses),
            people="".join(self.people).encode(),
            addresses="".join(self.addresses).encode(),
            consents="".join(self.consents).encode(),
            errors=self.errors,
        )
        self._start()
        return batch

    def _take(self, record: Row | Broken) -> None:
        line = record.line
        if line <= self.after:
            self._remember(record)
            return
        if isinstance(record, Broken):
            self._refuse(line, "", record.code, record.reason, record.content)
        elif any(map(str.strip, record.cells)):
            self._add_or_refuse(line, record.cells)
        else:
            return
        self.rows += 1
        self.position = line

    def _add_or_refuse(self, line: int, cells: list[str]) -> None:
        try:
            self._add(line, cells)
        except Refused as refused:
            content = self.columns.separator.join(cells)
            self._refuse(line, refused.field, refused.code, refused.reason, content)
        except Invalid as error:
            content, wrong = self.columns.separator.join(cells), error.errors[0]
            self._refuse(line, wrong.field, "invalid", wrong.message, content)

    def _remember(self, record: Row | Broken) -> None:
        if isinstance(record, Row):
            with contextlib.suppress(Refused, Invalid):
                self._add(record.line, record.cells)
            self._start()

    def _refuse(self, line: int, field: str, code: str, reason: str, content: str) -> None:
        shown = "".join(c if c.isprintable() else "\ufffd" for c in content[:_SHOWN].replace("\n", " "))
        self.errors.append(LineError(line, field, code, reason[:500], shown))
        self.size += 500

    def _add(self, line: int, cells: list[str]) -> None:
        """Write a person down, or raise; only then are the addresses remembered."""
        person = self.columns.person(cells)
        seen = self.seen
        keys = [(hash(value) ^ _SALT[kind]) & _64_BITS or 1 for kind, value in person.addresses]
        for (kind, value), key in zip(person.addresses, keys, strict=True):
            if earlier := seen.find(key):
                raise Refused(kind, "duplicate", f"{value} is on line {earlier} already; that line counts")
        for key in keys:
            seen.add(key, line)
        self._write(line, person)

    def _write(self, line: int, person: Person) -> None:
        first_id, prefix = line << 8, self.prefix
        contact_id = f"{prefix}{first_id:010x}"
        texts = person.texts
        found = " ".join([*filter(None, texts[:3]), *(value for _, value in person.addresses)])
        search = model.fold(found)[: model.LONGEST_SEARCH_TEXT]
        values = ["\\N" if text is None else text for text in texts]
        own = person.text
        if not person.is_plain:
            values = ["\\N" if text is None else escaped(text) for text in texts]
            own, search = own and escaped(own), escaped(search)
        row = (
            f"{line}\t{contact_id}\t{values[0]}\t{values[1]}\t{values[2]}\t{values[3]}\t{values[4]}\t{values[5]}\t"
            f"{values[6]}\t{escaped(person.attributes)}\t{escaped(person.extra)}\t{own or _NULL}\t"
            f"{search}\n"
        )
        self.people.append(row)
        self.size += len(row)
        before = ""
        for n, (kind, value) in enumerate(person.addresses, 1):
            first = "f" if kind in before else "t"
            before += kind
            self.addresses.append(
                f"{line}\t{prefix}{first_id + n:010x}\t{contact_id}\t{kind}\t{escaped(value)}\t{first}\n"
            )
        for n, (channel, value, is_given, wording) in enumerate(person.consents, 1):
            given = "t" if is_given else "f"
            self.consents.append(
                f"{line}\t{prefix}{first_id + n:010x}\t{channel}\t{escaped(value)}\t{given}\t{escaped(wording)}\n"
            )


_NULL = "\\N"


def escaped(text: str) -> str:
    """As COPY reads it."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if text.isprintable():
        return text
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def contact_id_of(import_id: UUID, line: int) -> UUID:
    """The id that a new contact of this line has."""
    return UUID(int=import_id.int >> 40 << 40 | line << 8)
