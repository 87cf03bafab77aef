"""What broke: said once, closed when it works again or by a person."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from antiphon.core import clock, ids
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict
from antiphon.core.paging import Page, cut, decode_cursor
from antiphon.organizations import audit
from antiphon.organizations.model import Actor
from antiphon.senders import queries
from antiphon.senders.model import Incident


async def open_incident(
    conn: Connection,
    org_id: UUID,
    subject: Literal["sender", "endpoint"],
    subject_id: UUID,
    kind: str,
    reason: str,
) -> bool:
    """Say once that something broke: False when an incident of this kind is open already."""
    incident = Incident(
        id=ids.new_id(),
        subject=subject,
        subject_id=subject_id,
        kind=kind,
        reason=reason[:2000].replace("\0", ""),
        opened_at=clock.now(),
        closed_at=None,
        closed_by=None,
    )
    if not await queries.open_incident(conn, org_id, incident):
        return False
    await audit.record(
        conn, Actor.system(org_id), "incident.opened", subject_id, kind=kind, reason=incident.reason
    )
    return True


async def close_incident(
    conn: Connection,
    org_id: UUID,
    subject_id: UUID,
    kind: str | None = None,
    *,
    closed_by: str = "system:worker",
) -> int:
    """Close what is open about a subject, of one kind or of every kind; says how many were."""
    closed = await queries.close_incidents(
        conn, org_id, subject_id=subject_id, kind=kind, closed_by=closed_by
    )
    if closed:
        await audit.record(
            conn, Actor.system(org_id), "incident.closed", subject_id, kind=kind, closed_by=closed_by
        )
    return len(closed)


async def close_incident_by_hand(conn: Connection, actor: Actor, incident_id: UUID) -> Incident:
    """A person says that it is over. Raises NotFound, Conflict when it was closed already."""
    incident = await queries.get_incident(conn, actor.org_id, incident_id)
    if not await queries.close_incident(conn, actor.org_id, incident_id, actor.label):
        raise Conflict("incident_closed", f"this incident was closed already, at {incident.closed_at}")
    await audit.record(conn, actor, "incident.closed", incident.subject_id, kind=incident.kind)
    return await queries.get_incident(conn, actor.org_id, incident_id)


async def list_incidents(
    conn: Connection,
    actor: Actor,
    *,
    is_open: bool | None = None,
    subject_id: UUID | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Incident]:
    """A page of incidents, the newest first."""
    before = decode_cursor(cursor, UUID)[0] if cursor else None
    found = await queries.list_incidents(
        conn, actor.org_id, is_open=is_open, subject_id=subject_id, before=before, limit=limit + 1
    )
    return cut(found, limit, lambda incident: (incident.id,))
