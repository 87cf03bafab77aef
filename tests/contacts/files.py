"""Files of people as they really come, and an import of one."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import openpyxl

from antiphon.contacts import importer, imports
from antiphon.contacts.import_model import Import, ImportOptions
from antiphon.core.db import Database
from antiphon.organizations.model import Actor


def csv_text(*rows: Sequence[str], separator: str = ",") -> str:
    """Rows as a plain CSV file."""
    return "".join(separator.join(row) + "\n" for row in rows)


def workbook(rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows as an XLSX file."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(list(row))
    content = BytesIO()
    book.save(content)
    return content.getvalue()


def people(count: int, *, start: int = 0) -> str:
    """A CSV file of people, all different."""
    lines = [
        f"Person {i},Number {i},+49151{i:08},p{i}@example.com,City {i % 7}"
        for i in range(start, start + count)
    ]
    return "First name,Last name,Phone,Email,City\n" + "\n".join(lines) + "\n"


async def run(
    database: Database, actor: Actor, path: Path, content: str | bytes | None = None, **options: Any
) -> Import:
    """Write the file unless it exists, and import it to its end."""
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return await importer.run(database, actor, path, ImportOptions(**options))


async def refused(database: Database, actor: Actor, done: Import) -> dict[int, tuple[str, str]]:
    """Line to field and code."""
    async with database.transaction(actor.org_id) as conn:
        page = await imports.list_errors(conn, actor, done.id, 200)
    return {error.line: (error.field, error.code) for error in page.items}
