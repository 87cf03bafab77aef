"""Ask for background work in the transaction of the fact that needs it, look at it, end it."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct

from antiphon.core import ids
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict
from antiphon.core.paging import Page, cut, decode_cursor
from antiphon.jobs import queries
from antiphon.jobs.model import Job, JobStatus, kind_of, payload_of


async def enqueue(
    conn: Connection, org_id: UUID, job: Struct, *, run_at: datetime | None = None, key: str | None = None
) -> UUID:
    """Have a job run after this transaction commits, not before `run_at`; its id.

    With a `key`, a job of the same kind and key that waits or runs is not doubled: its id is returned.
    """
    kind = kind_of(type(job))
    for _ in range(3):  # the job that had the key may end between the two statements
        job_id = ids.new_id()
        if await queries.add(conn, org_id, job_id, kind, payload_of(job), key=key, run_at=run_at):
            return job_id
        live = await queries.find_live(conn, org_id, kind, key or "")
        if live is not None:
            return live
    raise Conflict("job_busy", f"the job {kind} {key!r} starts and ends too often just now; try again")


async def get(conn: Connection, org_id: UUID, job_id: UUID) -> Job:
    """One job. Raises NotFound."""
    return await queries.get(conn, org_id, job_id)


async def page(
    conn: Connection,
    org_id: UUID,
    limit: int,
    cursor: str | None,
    *,
    status: JobStatus | None = None,
    kind: str | None = None,
) -> Page[Job]:
    """A page of jobs, the newest first."""
    before = decode_cursor(cursor, UUID)[0] if cursor else None
    found = await queries.list_jobs(conn, org_id, before, limit + 1, status, kind)
    return cut(found, limit, lambda job: (job.id,))


async def cancel(conn: Connection, org_id: UUID, job_id: UUID) -> bool:
    """End a job; what its committed steps did stays, and a step that runs is waited for. False when it had ended."""
    return await queries.cancel(conn, org_id, job_id)


async def is_live(conn: Connection, org_id: UUID, job: type[Struct], key: str) -> bool:
    """Whether a job of this kind and key waits or runs."""
    return await queries.find_live(conn, org_id, kind_of(job), key) is not None


async def cancel_live(conn: Connection, org_id: UUID, job: type[Struct], key: str) -> bool:
    """`cancel` for the job of this kind and key that waits or runs. False when there is none."""
    live = await queries.find_live(conn, org_id, kind_of(job), key)
    return live is not None and await queries.cancel(conn, org_id, live)


async def forget_finished(conn: Connection, org_id: UUID, kept: timedelta, limit: int = 1000) -> int:
    """Remove jobs that ended longer ago than `kept`, at most `limit`; returns how many there were."""
    return await queries.forget_finished(conn, org_id, kept, limit)
