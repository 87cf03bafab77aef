"""All SQL of the job queue. What is chosen across organizations is chosen without a lock and leased one at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.jobs.model import Job, JobStatus, Leased


async def add(
    conn: Connection,
    org_id: UUID,
    job_id: UUID,
    kind: str,
    payload: dict[str, Any],
    *,
    key: str | None,
    run_at: datetime | None,
) -> bool:
    """Store a job; False when a live one has the same kind and key."""
    return bool(
        await db.execute(
            conn,
            """
            INSERT INTO jobs (org_id, id, kind, payload, key, run_at)
            VALUES (%(org_id)s, %(id)s, %(kind)s, %(payload)s, %(key)s, coalesce(%(run_at)s, now()))
                ON CONFLICT (org_id, kind, key) WHERE key IS NOT NULL AND status IN ('waiting', 'running') DO NOTHING
            """,
            org_id=org_id,
            id=job_id,
            kind=kind,
            payload=db.json(payload),
            key=key,
            run_at=run_at,
        )
    )


async def find_live(conn: Connection, org_id: UUID, kind: str, key: str) -> UUID | None:
    """The job that waits or runs under this key."""
    return await db.value(
        conn,
        """
        SELECT id FROM jobs
         WHERE org_id = %(org_id)s AND kind = %(kind)s AND key = %(key)s AND status IN ('waiting', 'running')
        """,
        org_id=org_id,
        kind=kind,
        key=key,
    )


async def due(conn: Connection, kinds: list[str], limit: int) -> list[tuple[UUID, UUID]]:
    """Organization and id of jobs that nobody holds, the organizations in turn, the longest due first."""
    found = await db.tuples(
        conn,
        """
        -- any organization: a runner must find work; it leases one organization's job at a time
        SELECT org_id, id
          FROM (SELECT org_id, id, run_at, row_number() OVER (PARTITION BY org_id ORDER BY run_at, id) AS turn
                  FROM jobs
                 WHERE status IN ('waiting', 'running') AND run_at <= now()
                   AND (lease_until IS NULL OR lease_until < now())
                   AND kind = ANY (%(kinds)s)) AS waiting
         ORDER BY turn, run_at
         LIMIT %(limit)s
        """,
        kinds=kinds,
        limit=limit,
    )
    return [(org_id, job_id) for org_id, job_id in found]


async def lease(conn: Connection, org_id: UUID, job_id: UUID, owner: UUID, lasts: timedelta) -> Leased | None:
    """Take a due job; None when somebody else was faster or a step of it still runs."""
    return await db.find(
        conn,
        Leased,
        """
        UPDATE jobs
           SET status = 'running', owner = %(owner)s, lease_until = now() + %(lasts)s::interval
         WHERE org_id = %(org_id)s AND id = (
               SELECT id FROM jobs
                WHERE org_id = %(org_id)s AND id = %(id)s
                  AND status IN ('waiting', 'running') AND run_at <= now()
                  AND (lease_until IS NULL OR lease_until < now())
                  FOR UPDATE SKIP LOCKED)
        RETURNING org_id, id, kind, payload, failures
        """,
        org_id=org_id,
        id=job_id,
        owner=owner,
        lasts=lasts,
    )


async def lock_mine(conn: Connection, org_id: UUID, job_id: UUID, owner: UUID) -> dict[str, Any] | None:
    """The progress of a job that is still this runner's, held until the step commits; None when it is not."""
    return await db.value(
        conn,
        """
        SELECT progress FROM jobs
         WHERE org_id = %(org_id)s AND id = %(id)s AND owner = %(owner)s AND status = 'running'
           FOR UPDATE
        """,
        org_id=org_id,
        id=job_id,
        owner=owner,
    )


async def keep_going(
    conn: Connection, org_id: UUID, job_id: UUID, progress: dict[str, Any], lasts: timedelta
) -> None:
    """After a step with another to follow at once: its progress, and the lease anew."""
    await db.execute(
        conn,
        """
        UPDATE jobs SET progress = %(progress)s, lease_until = now() + %(lasts)s::interval, failures = 0
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=job_id,
        progress=db.json(progress),
        lasts=lasts,
    )


async def put_back(
    conn: Connection, org_id: UUID, job_id: UUID, progress: dict[str, Any], run_at: datetime | None
) -> None:
    """After a step with another to follow later: free for any runner, from `run_at` on (None: at once)."""
    await db.execute(
        conn,
        """
        UPDATE jobs
           SET progress = %(progress)s, status = 'waiting', owner = NULL, lease_until = NULL, failures = 0,
               run_at = greatest(run_at, %(run_at)s::timestamptz)
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=job_id,
        progress=db.json(progress),
        run_at=run_at,
    )


async def finish(conn: Connection, org_id: UUID, job_id: UUID, progress: dict[str, Any]) -> None:
    """The job is done."""
    await db.execute(
        conn,
        """
        UPDATE jobs
           SET progress = %(progress)s, status = 'done', owner = NULL, lease_until = NULL, finished_at = now()
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=job_id,
        progress=db.json(progress),
    )


async def give_back(conn: Connection, org_id: UUID, job_id: UUID, owner: UUID) -> None:
    """A runner that stops leaves its job to the others."""
    await db.execute(
        conn,
        """
        UPDATE jobs SET status = 'waiting', owner = NULL, lease_until = NULL
         WHERE org_id = %(org_id)s AND id = %(id)s AND owner = %(owner)s AND status = 'running'
        """,
        org_id=org_id,
        id=job_id,
        owner=owner,
    )


async def note_failure(conn: Connection, job: Leased, owner: UUID, error: str, wait: timedelta) -> bool:
    """A step failed: tried again after `wait`. False when the job is no longer this runner's."""
    return bool(
        await db.execute(
            conn,
            """
            UPDATE jobs
               SET failures = %(failures)s, last_error = %(error)s, status = 'waiting', owner = NULL,
                   lease_until = NULL, run_at = now() + %(wait)s::interval
             WHERE org_id = %(org_id)s AND id = %(id)s AND owner = %(owner)s AND status = 'running'
            """,
            org_id=job.org_id,
            id=job.id,
            owner=owner,
            failures=job.failures + 1,
            error=error,
            wait=wait,
        )
    )


async def give_up(conn: Connection, job: Leased, owner: UUID, error: str) -> bool:
    """A step failed for the last time. False when the job is no longer this runner's."""
    return bool(
        await db.execute(
            conn,
            """
            UPDATE jobs
               SET failures = %(failures)s, last_error = %(error)s, status = 'failed', owner = NULL,
                   lease_until = NULL, finished_at = now()
             WHERE org_id = %(org_id)s AND id = %(id)s AND owner = %(owner)s AND status = 'running'
            """,
            org_id=job.org_id,
            id=job.id,
            owner=owner,
            failures=job.failures + 1,
            error=error,
        )
    )


async def cancel(conn: Connection, org_id: UUID, job_id: UUID) -> bool:
    """End a job between two steps; waits for the one that runs. False when it had ended."""
    return bool(
        await db.execute(
            conn,
            """
            UPDATE jobs
               SET status = 'canceled', owner = NULL, lease_until = NULL, finished_at = now()
             WHERE org_id = %(org_id)s AND id = %(id)s AND status IN ('waiting', 'running')
            """,
            org_id=org_id,
            id=job_id,
        )
    )


async def get(conn: Connection, org_id: UUID, job_id: UUID) -> Job:
    """One job. Raises NotFound."""
    return await db.one(
        conn,
        Job,
        """
        SELECT id, kind, key, status, progress, run_at, failures, last_error, created_at, finished_at
          FROM jobs
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=job_id,
    )


async def list_jobs(
    conn: Connection,
    org_id: UUID,
    before: UUID | None,
    limit: int,
    status: JobStatus | None,
    kind: str | None,
) -> list[Job]:
    """Jobs, the newest first."""
    return await db.rows(
        conn,
        Job,
        """
        SELECT id, kind, key, status, progress, run_at, failures, last_error, created_at, finished_at
          FROM jobs
         WHERE org_id = %(org_id)s
           AND (%(status)s::text IS NULL OR status = %(status)s)
           AND (%(kind)s::text IS NULL OR kind = %(kind)s)
           AND (%(before)s::uuid IS NULL OR id < %(before)s)
         ORDER BY id DESC
         LIMIT %(limit)s
        """,
        org_id=org_id,
        status=status,
        kind=kind,
        before=before,
        limit=limit,
    )


async def forget_finished(conn: Connection, org_id: UUID, kept: timedelta, limit: int) -> int:
    """Remove up to `limit` jobs that ended longer ago than `kept`; returns how many there were."""
    return await db.execute(
        conn,
        """
        DELETE FROM jobs
         WHERE org_id = %(org_id)s AND id IN (
               SELECT id FROM jobs
                WHERE org_id = %(org_id)s AND finished_at < now() - %(kept)s::interval
                LIMIT %(limit)s)
        """,
        org_id=org_id,
        kept=kept,
        limit=limit,
    )
