"""For those who run it: health, figures, and the background work of an organization."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from litestar import MediaType, Request, Response, Router, get
from msgspec import Struct

from antiphon.core import db, metrics, migrate
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Problem, Unavailable
from antiphon.core.paging import Page, check_limit
from antiphon.jobs import service as jobs
from antiphon.jobs.model import Job, JobStatus
from antiphon.organizations.access import Permission, Services, Unit, public, requires
from antiphon.organizations.model import Actor

READY_WITHIN = 2.0  # seconds


class Health(Struct, frozen=True):
    """That it works, and the schema's version where the database was asked."""

    status: str
    schema_version: int | None = None


@get("/health/live", sync_to_thread=False, **public())
def get_live() -> Health:
    """The process runs. Nothing else is looked at: a database that is away is no reason to restart us."""
    return Health("ok")


@get("/health/ready", **public())
async def get_ready(request: Request[Any, Any, Any]) -> Health:
    """Requests can be served: the database answers, and its schema is this program's. 503 otherwise."""
    services: Services = request.app.state.services
    try:
        found = await asyncio.wait_for(_schema_version(services.database), READY_WITHIN)
    except TimeoutError:
        raise Unavailable("database_away", f"the database did not answer in {READY_WITHIN:g} s") from None
    except Exception as error:
        raise db.problem_of(error) or error from None
    ours = migrate.load()[-1].version
    if found != ours:
        raise Problem(
            503,
            "schema_differs",
            "Not available right now",
            f"the database's schema is {found}, this program's is {ours}; run `antiphon migrate`",
        )
    return Health("ok", found)


async def _schema_version(database: Database) -> int:
    async with database.across() as conn:
        return await db.value(
            conn,
            """
            -- any organization: the schema is everybody's
            SELECT coalesce(max(version), 0) FROM schema_versions
            """,
        )


@get("/metrics", sync_to_thread=False, media_type=MediaType.TEXT, **public())
def get_metrics() -> Response[bytes]:
    """Figures in the text format of Prometheus; no label names an organization or a person."""
    return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)


router = Router("/", route_handlers=[get_live, get_ready, get_metrics], tags=["Operations"])


@get("/", **requires(Permission.JOBS_READ))
async def list_jobs(
    unit: Unit,
    limit: int | None = None,
    cursor: str | None = None,
    status: JobStatus | None = None,
    kind: str | None = None,
) -> Page[Job]:
    """Background work, the newest first: what it is, how far it is, and why it failed."""
    return await unit.read(_list_jobs, status, kind, check_limit(limit), cursor)


@get("/{job_id:uuid}", **requires(Permission.JOBS_READ))
async def get_job(unit: Unit, job_id: UUID) -> Job:
    """One piece of background work."""
    return await unit.read(_get_job, job_id)


async def _list_jobs(
    conn: Connection, actor: Actor, status: JobStatus | None, kind: str | None, limit: int, cursor: str | None
) -> Page[Job]:
    return await jobs.page(conn, actor.org_id, limit, cursor, status=status, kind=kind)


async def _get_job(conn: Connection, actor: Actor, job_id: UUID) -> Job:
    return await jobs.get(conn, actor.org_id, job_id)


jobs_router = Router("/jobs", route_handlers=[list_jobs, get_job], tags=["Jobs"])
