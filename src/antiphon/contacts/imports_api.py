"""Routes of imports: send a file, see how far it is, cancel it, fetch what was refused."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Request, get, post
from litestar.params import QueryParameter
from litestar.response import Stream

from antiphon.contacts import imports
from antiphon.contacts.import_model import CONSENT_CHANNELS, Import, ImportOptions, ImportStatus
from antiphon.contacts.jobs import ImportContacts
from antiphon.core import ids
from antiphon.core.errors import Invalid, Unavailable
from antiphon.core.paging import Page
from antiphon.jobs import service as jobs
from antiphon.organizations.access import Permission, Unit, requires

MOST_FILE_BYTES = 1 << 30


@post(
    "/imports", **requires(Permission.IMPORTS_WRITE), request_max_body_size=MOST_FILE_BYTES, status_code=202
)
async def import_contacts(
    unit: Unit,
    request: Request[Any, Any, Any],
    file_name: str = "upload.csv",
    mapping: Annotated[
        list[str] | None, QueryParameter(name="map", description="column=field, may be given several times")
    ] = None,
    country: str | None = None,
    group: UUID | None = None,
    overwrite: bool = False,
    consent: Annotated[str | None, QueryParameter(description="What all of them agreed to, in words")] = None,
    consent_channels: list[str] | None = None,
    extra: Annotated[
        Literal["drop", "attributes"], QueryParameter(description="Where columns go that are no field")
    ] = "drop",
    dry_run: bool = False,
    encoding: str | None = None,
    separator: str | None = None,
    sheet: str | None = None,
    has_header: bool = True,
) -> Import:
    """Import a CSV or XLSX file, sent as the body. The answer says which column is what, and what to be warned of.

    The same file with the same options, while it is being imported, is the same import.
    """
    options = ImportOptions(
        map=_map(mapping or []), country=country, group=group, overwrite=overwrite, consent=consent,
        consent_channels=tuple(consent_channels or CONSENT_CHANNELS), extra=extra, dry_run=dry_run,
        encoding=encoding, separator=separator, sheet=sheet, has_header=has_header,
    )  # fmt: skip
    return await _import(unit, request.stream(), Path(file_name).name[:200] or "upload", options)


async def _import(unit: Unit, content: AsyncIterator[bytes], name: str, options: ImportOptions) -> Import:
    folder = unit.services.settings.data_dir / "imports"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{ids.new_id()}.upload"
    try:
        await _receive(content, path)
        async with unit.transaction(read_only=True) as conn:
            country = await imports.country_of(conn, unit.actor)
        plan = await asyncio.to_thread(imports.plan_file, path, options, country)
        async with unit.transaction() as conn:
            found = await imports.find_unfinished(conn, unit.actor, plan, name)
            if found is not None and found.file_path is not None:
                path.unlink()
                return imports.shown(found)
            stored = await imports.begin(conn, unit.actor, plan, name, path)
            job = ImportContacts(import_id=stored.id)
            await jobs.enqueue(conn, unit.actor.org_id, job, key=str(stored.id))
        return imports.shown(stored)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise


async def _receive(content: AsyncIterator[bytes], path: Path) -> None:
    """Write the body to disk as it comes. Raises Unavailable when the disk is full."""
    try:
        with path.open("xb") as file:
            async for part in content:
                await asyncio.to_thread(file.write, part)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        text = (
            "the disk that takes uploads is full; nothing was imported. Free space, then send the file again"
        )
        raise Unavailable("disk_full", text) from error


def _map(said: Sequence[str]) -> dict[str, str]:
    pairs = [text.rpartition("=") for text in said]
    for (column, _, field), text in zip(pairs, said, strict=True):
        if not column or not field:
            raise Invalid.field("map", "must be written column=field, as in Mobile=phone", text[:80])
    return {column: field for column, _, field in pairs}


@get("/imports", **requires(Permission.CONTACTS_READ))
async def list_imports(
    unit: Unit, limit: int | None = None, cursor: str | None = None, status: ImportStatus | None = None
) -> Page[Import]:
    """Imports, the newest first."""
    return await unit.read(imports.list_imports, status, limit, cursor)


@get("/imports/{import_id:uuid}", **requires(Permission.CONTACTS_READ))
async def get_import(unit: Unit, import_id: UUID) -> Import:
    """An import, and how far it is. With `is_dry_run` the counts say what would happen."""
    return await unit.read(imports.get, import_id)


@post("/imports/{import_id:uuid}/cancel", **requires(Permission.IMPORTS_WRITE), status_code=200)
async def cancel_import(unit: Unit, import_id: UUID) -> Import:
    """Stop an import. What is stored stays."""
    return await unit.write(imports.cancel, import_id)


@get("/imports/{import_id:uuid}/errors", **requires(Permission.CONTACTS_READ))
async def list_import_errors(
    unit: Unit, import_id: UUID, limit: int | None = None, cursor: str | None = None
) -> Page[imports.RefusedLine]:
    """The lines that were refused, in the order of the file, each with its reason."""
    return await unit.read(imports.list_errors, import_id, limit, cursor)


@get("/imports/{import_id:uuid}/errors.csv", **requires(Permission.CONTACTS_READ), media_type="text/csv")
async def get_error_file(unit: Unit, import_id: UUID) -> Stream:
    """All refused lines as a CSV file for a spreadsheet, in which no cell is calculated."""
    found = await unit.read(imports.get, import_id)
    content = imports.error_file(unit.services.database, unit.actor.org_id, import_id)
    disposition = f'attachment; filename="errors-{found.id}.csv"'
    return Stream(content, media_type="text/csv", headers={"Content-Disposition": disposition})


handlers = (
    import_contacts,
    list_imports,
    get_import,
    cancel_import,
    list_import_errors,
    get_error_file,
)
