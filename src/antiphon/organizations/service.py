"""The verbs of organizations: make one, change it, make and end its keys, and say who a key belongs to."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from msgspec import UNSET, Struct, UnsetType, structs
from psycopg_pool import PoolTimeout

from antiphon.core import clock, ids
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Conflict, Forbidden, Invalid, Unauthorized
from antiphon.core.paging import Page, cut, decode_cursor
from antiphon.events import service as events
from antiphon.jobs import service as jobs
from antiphon.organizations import audit, model, queries
from antiphon.organizations.jobs import TidyUp
from antiphon.organizations.model import Actor, ApiKey, AuditEntry, Organization, Permission

NO_SUCH_KEY = "this API key is not known, has been revoked or has expired"


async def create(
    conn: Connection,
    org_id: UUID,
    name: str,
    *,
    timezone: str = "UTC",
    country: str | None = None,
    language: str = "en",
) -> Organization:
    """A new organization. The caller chooses the id and opens the transaction for it: nobody sees two at a time."""
    organization = model.check_organization(
        Organization(
            id=org_id,
            name=name,
            timezone=timezone,
            country=country,
            language=language,
            settings={},
            created_at=(now := clock.now()),
            updated_at=now,
        )
    )
    await queries.add(conn, organization)
    await jobs.enqueue(conn, org_id, TidyUp(), key="hourly")
    await audit.record(conn, Actor.operator(org_id), "organization.created", org_id, name=name)
    return organization


async def get(conn: Connection, org_id: UUID) -> Organization:
    """The organization. Raises NotFound."""
    return await queries.get(conn, org_id)


class OrganizationChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may change; what is absent stays. `settings` are merged by name, null removes one."""

    name: str | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    country: str | UnsetType | None = UNSET
    language: str | UnsetType = UNSET
    settings: dict[str, Any] | UnsetType = UNSET


async def update(conn: Connection, actor: Actor, changes: OrganizationChanges) -> Organization:
    """Change the organization. Raises Invalid naming every wrong field."""
    before = await queries.lock(conn, actor.org_id)
    given = {name: value for name, value in structs.asdict(changes).items() if value is not UNSET}
    if isinstance(changes.settings, dict):
        merged = before.settings | changes.settings
        given["settings"] = {name: value for name, value in merged.items() if value is not None}
    after = model.check_organization(structs.replace(before, **given, updated_at=clock.now()))
    await queries.save(conn, after)
    await audit.record(conn, actor, "organization.updated", actor.org_id, changed=sorted(given))
    await events.emit(conn, actor.org_id, "organization_updated", actor.org_id, {"changed": sorted(given)})
    return after


async def init(
    database: Database, name: str, *, timezone: str = "UTC", country: str | None = None, language: str = "en"
) -> tuple[Organization, ApiKey, str]:
    """A new organization with its first key, which may do everything; the token is told this once."""
    org_id = ids.new_id()
    async with database.transaction(org_id) as conn:
        organization = await create(conn, org_id, name, timezone=timezone, country=country, language=language)
        key, token = await create_key(conn, Actor.operator(org_id), "first key", list(Permission))
    return organization, key, token


async def create_key(
    conn: Connection,
    actor: Actor,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its token, which nobody can read again. No key may do more than who makes it.

    Raises Invalid for unknown scopes or a past expiry, Forbidden for scopes that the maker has not.
    """
    now = clock.now()
    wrong = model.wrong_key_fields(name, scopes, expires_at, now)
    if wrong:
        raise Invalid("the key cannot be made so; `errors` says why", wrong)
    missing = sorted(set(scopes) - {str(permission) for permission in actor.permissions})
    if missing:
        raise Forbidden(
            "scope_not_yours", f"you cannot give what you do not have: {', '.join(missing)}; leave them out"
        )
    token, prefix = model.new_token(actor.org_id)
    key = ApiKey(
        id=ids.new_id(),
        name=name,
        prefix=prefix,
        scopes=sorted(set(scopes)),
        created_by=actor.label,
        created_at=now,
        expires_at=expires_at,
        last_used_at=None,
        revoked_at=None,
    )
    await queries.add_key(conn, actor.org_id, key, model.token_hash(token))
    await audit.record(conn, actor, "key.created", key.id, name=name, scopes=key.scopes)
    return key, token


async def list_keys(conn: Connection, actor: Actor, limit: int, cursor: str | None) -> Page[ApiKey]:
    """A page of keys, the newest first, ended ones too."""
    before = decode_cursor(cursor, UUID)[0] if cursor else None
    found = await queries.list_keys(conn, actor.org_id, before, limit + 1)
    return cut(found, limit, lambda key: (key.id,))


async def get_key(conn: Connection, actor: Actor, key_id: UUID) -> ApiKey:
    """One key. Raises NotFound."""
    return await queries.get_key(conn, actor.org_id, key_id)


async def revoke_key(conn: Connection, actor: Actor, key_id: UUID) -> ApiKey:
    """End a key: its next request is refused. Raises NotFound, or Conflict for one that had ended."""
    key = await queries.get_key(conn, actor.org_id, key_id)
    if not await queries.revoke_key(conn, actor.org_id, key_id):
        raise Conflict("key_revoked", f"the key {key.name!r} was revoked already, at {key.revoked_at}")
    await audit.record(conn, actor, "key.revoked", key_id, name=key.name)
    return await queries.get_key(conn, actor.org_id, key_id)


async def authenticate(database: Database, token: str) -> Actor:
    """Whose key this is and what it may do; a transaction of its own. Raises Unauthorized."""
    org_id = model.token_organization(token)
    if org_id is None:
        raise Unauthorized(NO_SUCH_KEY)
    hashed = model.token_hash(token)
    async with database.transaction(org_id, read_only=True) as conn:
        key = await queries.find_key(conn, org_id, hashed)
    if key is None or not hmac.compare_digest(key.secret_hash, hashed):
        raise Unauthorized(NO_SUCH_KEY)
    return Actor(org_id, "key", str(key.id), model.permissions_of(key.scopes))


async def note_use(database: Database, actor: Actor) -> None:
    """Write down that a key was used: a hint, in a transaction of its own, whose failure is nobody's."""
    with contextlib.suppress(psycopg.OperationalError, PoolTimeout):
        async with database.transaction(actor.org_id) as conn:
            await queries.touch_key(conn, actor.org_id, UUID(actor.id))


async def list_audit_entries(
    conn: Connection, actor: Actor, wanted: queries.AuditFilter, limit: int, cursor: str | None
) -> Page[AuditEntry]:
    """A page of the audit log, the newest first."""
    before = decode_cursor(cursor, UUID)[0] if cursor else None
    found = await queries.list_audit_entries(conn, actor.org_id, wanted, before, limit + 1)
    return cut(found, limit, lambda entry: (entry.id,))
