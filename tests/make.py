"""Makers of real things with defaults: `await make.contact(conn, actor, email=…)`. One section a feature."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from antiphon.core import ids
from antiphon.core.db import Connection, Database
from antiphon.organizations import service as organizations
from antiphon.organizations.model import ROLE_PERMISSIONS, Actor, ApiKey, Organization, Permission, Role

# ---- organizations


async def organization(
    database: Database,
    name: str = "Lakeside Hotels",
    *,
    timezone: str = "Europe/Berlin",
    country: str | None = "DE",
    language: str = "en",
) -> Organization:
    """A committed organization, in a transaction of its own."""
    org_id = ids.new_id()
    async with database.transaction(org_id) as conn:
        return await organizations.create(
            conn, org_id, name, timezone=timezone, country=country, language=language
        )


def actor(org_id: UUID, role: Role = "admin") -> Actor:
    """Somebody who may do what the role may; a key by kind, as the API's callers are."""
    return Actor(org_id, "key", str(ids.new_id()), ROLE_PERMISSIONS[role])


async def key(
    conn: Connection,
    org_id: UUID,
    scopes: Iterable[str] = tuple(Permission),
    *,
    name: str = "test key",
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A key and its token."""
    return await organizations.create_key(conn, Actor.operator(org_id), name, list(scopes), expires_at)


async def token(database: Database, org_id: UUID, scopes: Iterable[str] = tuple(Permission)) -> str:
    """The token of a committed key with these scopes."""
    async with database.transaction(org_id) as conn:
        return (await key(conn, org_id, scopes))[1]
