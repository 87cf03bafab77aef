"""All SQL of the imports themselves: their rows, their progress, and the lines they refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from antiphon.contacts.import_model import Batch, ImportStatus, LineError, Outcome, Stored
from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.core.errors import NotFound


async def add(conn: Connection, org_id: UUID, stored: Stored) -> None:
    """Store a new import."""
    await db.execute(
        conn,
        """
        INSERT INTO imports (org_id, id, file_name, file_digest, file_path, options, status, total_bytes, started_by,
                             created_at)
        VALUES (%(org_id)s, %(id)s, %(file_name)s, %(file_digest)s, %(file_path)s, %(options)s, %(status)s,
                %(total_bytes)s, %(started_by)s, %(created_at)s)
        """,
        org_id=org_id,
        id=stored.id,
        file_name=stored.file_name,
        file_digest=stored.file_digest,
        file_path=stored.file_path,
        options=db.json(stored.options),
        status=stored.status,
        total_bytes=stored.total_bytes,
        started_by=stored.started_by,
        created_at=stored.created_at,
    )


async def get(conn: Connection, org_id: UUID, import_id: UUID) -> Stored:
    """An import. Raises NotFound."""
    found = await db.find(
        conn,
        Stored,
        """
        SELECT id, file_name, file_digest, file_path, options, status, position, total_bytes, done_bytes, rows_read,
               created, updated, unchanged, rejected, failure, started_by, created_at, finished_at
          FROM imports
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=import_id,
    )
    if found is None:
        raise NotFound("import", import_id)
    return found


async def list_imports(
    conn: Connection, org_id: UUID, status: ImportStatus | None, before: UUID, limit: int
) -> list[Stored]:
    """Imports, the newest first."""
    return await db.rows(
        conn,
        Stored,
        """
        SELECT id, file_name, file_digest, file_path, options, status, position, total_bytes, done_bytes, rows_read,
               created, updated, unchanged, rejected, failure, started_by, created_at, finished_at
          FROM imports
         WHERE org_id = %(org_id)s AND id < %(before)s AND (%(status)s::text IS NULL OR status = %(status)s)
         ORDER BY id DESC
         LIMIT %(limit)s
        """,
        org_id=org_id,
        status=status,
        before=before,
        limit=limit,
    )


async def find_unfinished(conn: Connection, org_id: UUID, file_name: str, digest: bytes) -> list[Stored]:
    """Imports that stopped before their end, of a file with this name or this content, the newest first."""
    return await db.rows(
        conn,
        Stored,
        """
        SELECT id, file_name, file_digest, file_path, options, status, position, total_bytes, done_bytes, rows_read,
               created, updated, unchanged, rejected, failure, started_by, created_at, finished_at
          FROM imports
         WHERE org_id = %(org_id)s AND status = 'running'
           AND (file_digest = %(digest)s OR file_name = %(file_name)s)
         ORDER BY id DESC
        """,
        org_id=org_id,
        digest=digest,
        file_name=file_name,
    )


async def advance(conn: Connection, org_id: UUID, before: Stored, batch: Batch, outcome: Outcome) -> bool:
    """Note what a batch did; False if the import is not where `before` was, or not running."""
    changed = await db.execute(
        conn,
        """
        UPDATE imports
           SET position = %(position)s, done_bytes = %(done_bytes)s, rows_read = rows_read + %(rows_read)s,
               created = created + %(created)s, updated = updated + %(updated)s,
               unchanged = unchanged + %(unchanged)s, rejected = rejected + %(rejected)s
         WHERE org_id = %(org_id)s AND id = %(id)s AND position = %(before)s AND status = 'running'
        """,
        org_id=org_id,
        id=before.id,
        before=before.position,
        position=batch.position,
        done_bytes=batch.done_bytes,
        rows_read=batch.rows_read,
        created=outcome.created,
        updated=outcome.updated,
        unchanged=outcome.unchanged,
        rejected=outcome.rejected,
    )
    return changed == 1


async def finish(
    conn: Connection, org_id: UUID, import_id: UUID, status: ImportStatus, failure: str | None, at: datetime
) -> bool:
    """End a running import; False if it was not running."""
    changed = await db.execute(
        conn,
        """
        UPDATE imports
           SET status = %(status)s, failure = %(failure)s, finished_at = %(at)s, file_path = NULL,
               done_bytes = CASE WHEN %(status)s = 'done' THEN total_bytes ELSE done_bytes END
         WHERE org_id = %(org_id)s AND id = %(id)s AND status = 'running'
        """,
        org_id=org_id,
        id=import_id,
        status=status,
        failure=failure,
        at=at,
    )
    return changed == 1


async def list_errors(
    conn: Connection, org_id: UUID, import_id: UUID, after: tuple[int, str], limit: int
) -> list[LineError]:
    """Refused lines in the order of the file."""
    found: list[tuple[Any, ...]] = await db.tuples(
        conn,
        """
        SELECT line, field, code, reason, content
          FROM import_errors
         WHERE org_id = %(org_id)s AND import_id = %(import_id)s AND (line, field) > (%(line)s, %(field)s)
         ORDER BY line, field
         LIMIT %(limit)s
        """,
        org_id=org_id,
        import_id=import_id,
        line=after[0],
        field=after[1],
        limit=limit,
    )
    return [LineError(*row) for row in found]
