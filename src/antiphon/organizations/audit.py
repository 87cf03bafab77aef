"""The audit log: who did what, in the same transaction as the deed. Nobody but the owner can change or remove it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from antiphon.core import clock, ids
from antiphon.core.db import Connection
from antiphon.organizations import queries
from antiphon.organizations.model import Actor, AuditEntry


async def record(
    conn: Connection, actor: Actor, action: str, subject_id: UUID | None = None, **detail: Any
) -> None:
    """Append one entry: `record(conn, actor, "contact.created", contact.id, source="api")`. No secrets in it."""
    await queries.add_audit_entry(conn, actor.org_id, _entry(actor, action, subject_id, detail))


async def record_each(
    conn: Connection, actor: Actor, action: str, subject_ids: Sequence[UUID], **detail: Any
) -> None:
    """The same entry for each of several subjects."""
    entries = [_entry(actor, action, subject_id, detail) for subject_id in subject_ids]
    await queries.add_audit_entries(conn, actor.org_id, entries)


def _entry(actor: Actor, action: str, subject_id: UUID | None, detail: dict[str, Any]) -> AuditEntry:
    return AuditEntry(
        id=ids.new_id(),
        at=clock.now(),
        actor_kind=actor.kind,
        actor_id=actor.id,
        action=action,
        subject_id=subject_id,
        detail=detail,
    )
