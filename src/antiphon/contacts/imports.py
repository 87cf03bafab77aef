"""The verbs of imports: plan a file, begin or continue, look, cancel, list what was refused.

An import goes on where it stopped: its position is stored with each batch. The file must be the same to the byte.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from antiphon.contacts import columns, group_queries, import_records, import_words, reading
from antiphon.contacts.import_model import (
    NO_CONSENT,
    Import,
    ImportOptions,
    ImportStatus,
    LineError,
    Plan,
    Stored,
    check_options,
    refuse_changed_file,
)
from antiphon.core import clock, ids
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Conflict, NotFound
from antiphon.core.paging import Page, check_limit, cut, decode_cursor
from antiphon.events import service as events
from antiphon.organizations import audit
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor

_LAST = UUID(int=(1 << 128) - 1)
_ERRORS_AT_ONCE = 1000


def plan_file(path: Path, options: ImportOptions, country: str | None) -> Plan:
    """What the file will do: reads all of it once, so call it in a thread. `country` is the organization's.

    Raises Invalid for options that cannot be followed and for a file that is no table of people, with the remedy.
    """
    check_options(options)
    layout = reading.inspect(
        path,
        encoding=options.encoding,
        separator=options.separator,
        has_header=options.has_header,
        sheet=options.sheet,
    )
    mapped = columns.map_columns(layout.header, options.map, keep_unknown=options.extra != "drop")
    warnings: list[str] = []
    if options.consent is None and not any(field in columns.CONSENT_FIELDS for field in mapped.fields):
        warnings.append(NO_CONSENT)
    if mapped.unknown and options.extra == "drop":
        warnings.append(f"these columns are not known and left out: {', '.join(mapped.unknown)[:300]}")
    if "text" in mapped.fields and options.extra == "drop":
        warnings.append(
            "the column with each recipient's text is left out: an import keeps people, not messages"
        )
    return Plan(
        options=options,
        layout=layout,
        fields=mapped.fields,
        unknown=mapped.unknown,
        country=import_words.country(options.country) if options.country else country,
        warnings=warnings,
    )


async def begin(
    conn: Connection, actor: Actor, plan: Plan, file_name: str, file_path: Path | None = None
) -> Stored:
    """Note a new import. `file_path` is where a job finds an uploaded file. Raises NotFound for an unknown group."""
    if plan.options.group is not None:
        await group_queries.get(conn, actor.org_id, plan.options.group)
    stored = Stored(
        id=ids.new_id(),
        file_name=file_name[:200],
        file_digest=plan.layout.digest,
        file_path=None if file_path is None else str(file_path),
        options=msgspec.to_builtins(_without_people(plan)),
        status="running",
        position=plan.layout.header_line,
        total_bytes=plan.layout.total_bytes,
        done_bytes=0,
        rows_read=0,
        created=0,
        updated=0,
        unchanged=0,
        rejected=0,
        failure=None,
        started_by=actor.label,
        created_at=clock.now(),
        finished_at=None,
    )
    await import_records.add(conn, actor.org_id, stored)
    await audit.record(conn, actor, "import.started", stored.id, file_name=stored.file_name)
    return await import_records.get(conn, actor.org_id, stored.id)


def _without_people(plan: Plan) -> Plan:
    return structs.replace(plan, layout=structs.replace(plan.layout, sample=[]))


async def find_unfinished(
    conn: Connection, actor: Actor, plan: Plan, file_name: str, *, must_exist: bool = False
) -> Stored | None:
    """The import of this file, with these options, that stopped before its end; None if there is none.

    `must_exist` raises instead: NotFound, or Conflict when the file of that name has changed since.
    """
    found = await import_records.find_unfinished(conn, actor.org_id, file_name, plan.layout.digest)
    for stored in found:
        before = plan_of(stored)
        if (
            stored.file_digest == plan.layout.digest
            and before.options == plan.options
            and not before.options.dry_run
        ):
            return stored
    if not must_exist:
        return None
    if not found:
        raise NotFound("unfinished import of", file_name)
    refuse_changed_file(found[0], plan.layout.digest)
    raise Conflict(
        "other_options", f"{file_name} was imported with other options before; use the same to continue"
    )


def plan_of(stored: Stored) -> Plan:
    """The plan that an import began with."""
    return msgspec.convert(stored.options, Plan)


def shown(stored: Stored) -> Import:
    """An import as people see it."""
    plan = plan_of(stored)
    return Import(
        id=stored.id,
        file_name=stored.file_name,
        status=stored.status,
        is_dry_run=plan.options.dry_run,
        group_id=plan.options.group,
        columns=dict(zip(plan.layout.header, plan.fields, strict=True)),
        warnings=plan.warnings,
        position=stored.position,
        total_bytes=stored.total_bytes,
        done_bytes=stored.done_bytes,
        rows_read=stored.rows_read,
        created=stored.created,
        updated=stored.updated,
        unchanged=stored.unchanged,
        rejected=stored.rejected,
        failure=stored.failure,
        started_by=stored.started_by,
        created_at=stored.created_at,
        finished_at=stored.finished_at,
    )


async def finish(
    conn: Connection, actor: Actor, import_id: UUID, status: ImportStatus, failure: str | None = None
) -> Import:
    """End a running import, and say so. One that has ended stays as it is."""
    ended = await import_records.finish(conn, actor.org_id, import_id, status, failure, clock.now())
    stored = await import_records.get(conn, actor.org_id, import_id)
    if ended:
        counts = {
            name: getattr(stored, name)
            for name in ("rows_read", "created", "updated", "unchanged", "rejected")
        }
        await audit.record(conn, actor, f"import.{status}", import_id, **counts)
        payload = {"id": str(import_id), "status": status, **counts}
        await events.emit(conn, actor.org_id, "import_status_changed", import_id, payload)
    return shown(stored)


async def get(conn: Connection, actor: Actor, import_id: UUID) -> Import:
    """An import and how far it is. Raises NotFound."""
    return shown(await import_records.get(conn, actor.org_id, import_id))


async def list_imports(
    conn: Connection,
    actor: Actor,
    status: ImportStatus | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Page[Import]:
    """Imports, the newest first."""
    count = check_limit(limit)
    (before,) = decode_cursor(cursor, UUID) if cursor else (_LAST,)
    found = await import_records.list_imports(conn, actor.org_id, status, before, count + 1)
    return cut([shown(stored) for stored in found], count, lambda one: (one.id,))


async def cancel(conn: Connection, actor: Actor, import_id: UUID) -> Import:
    """Stop an import after the batch that is being stored. What is stored stays. Raises Conflict when it has ended."""
    stored = await import_records.get(conn, actor.org_id, import_id)
    if stored.status != "running":
        raise Conflict("import_ended", f"this import is {stored.status} already")
    return await finish(conn, actor, import_id, "canceled")


# What was refused


class RefusedLine(Struct, frozen=True, kw_only=True):
    """A line that was not imported: the field, a code for programs, the reason for people, and how it begins."""

    line: int
    field: str
    code: str
    reason: str
    content: str


async def list_errors(
    conn: Connection, actor: Actor, import_id: UUID, limit: int | None = None, cursor: str | None = None
) -> Page[RefusedLine]:
    """The lines that were refused, in the order of the file, each with its reason. Raises NotFound."""
    await import_records.get(conn, actor.org_id, import_id)
    count = check_limit(limit)
    line, field = decode_cursor(cursor, int, str) if cursor else (0, "")
    found = await import_records.list_errors(conn, actor.org_id, import_id, (line, field), count + 1)
    lines = [RefusedLine(**structs.asdict(error)) for error in found]
    return cut(lines, count, lambda error: (error.line, error.field))


async def error_file(database: Database, org_id: UUID, import_id: UUID) -> AsyncIterator[bytes]:
    """All refused lines as CSV for a spreadsheet, a thousand at a time; no cell of it is calculated there.

    Each thousand is read in a transaction of its own, so that a slow reader holds none open.
    """
    yield "\ufeffline,field,code,reason,content\r\n".encode()
    after = (0, "")
    while True:
        async with database.transaction(org_id, read_only=True) as conn:
            found = await import_records.list_errors(conn, org_id, import_id, after, _ERRORS_AT_ONCE)
        if not found:
            return
        yield "".join(_csv_line(error) for error in found).encode()
        after = (found[-1].line, found[-1].field)


def _csv_line(error: LineError) -> str:
    cells = (error.field, error.code, error.reason, error.content)
    return f"{error.line},{','.join(_csv_cell(cell) for cell in cells)}\r\n"


def _csv_cell(text: str) -> str:
    """In quotes; what a spreadsheet would calculate begins with an apostrophe, which an import takes off again."""
    safe = f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
    return '"' + safe.replace('"', '""') + '"'


async def country_of(conn: Connection, actor: Actor) -> str | None:
    """The country in which the organization's national numbers are read."""
    return (await organizations.get(conn, actor.org_id)).country
