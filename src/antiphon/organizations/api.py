"""Routes of the organization that the key belongs to: itself, its keys, its audit log."""

from __future__ import annotations

from uuid import UUID

from litestar import Router, get, patch, post
from msgspec import Struct, structs

from antiphon.core.db import Connection
from antiphon.core.paging import Page, check_limit
from antiphon.organizations import queries, service
from antiphon.organizations.access import Moment, Permission, StrictBody, Unit, moment, requires
from antiphon.organizations.model import Actor, ApiKey, AuditEntry, Organization
from antiphon.organizations.service import OrganizationChanges


@get("/organization", **requires(Permission.ORGANIZATION_READ))
async def get_organization(unit: Unit) -> Organization:
    """The organization that the key belongs to."""
    return await unit.read(_get)


@patch(
    "/organization",
    **requires(Permission.ORGANIZATION_WRITE),
    dto=StrictBody[OrganizationChanges],
    return_dto=None,
)
async def update_organization(unit: Unit, data: OrganizationChanges) -> Organization:
    """Change what is given; what is absent stays. Settings are merged by name, null removes one."""
    return await unit.write(service.update, data)


async def _get(conn: Connection, actor: Actor) -> Organization:
    return await service.get(conn, actor.org_id)


class NewApiKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made: what it may do, and until when."""

    name: str
    scopes: list[str]
    expires_at: Moment | None = None


class CreatedApiKey(Struct, frozen=True, kw_only=True):
    """The key and its token. The token is shown this once (null when the request is repeated): keep it safe."""

    key: ApiKey
    token: str | None

    def without_secret(self) -> CreatedApiKey:
        """What a repeated request gets."""
        return structs.replace(self, token=None)


@post("/keys", **requires(Permission.KEYS_WRITE), dto=StrictBody[NewApiKey], return_dto=None)
async def create_key(unit: Unit, data: NewApiKey) -> CreatedApiKey:
    """Make an API key. It can do no more than the key that makes it."""
    return await unit.write(_create_key, data)


async def _create_key(conn: Connection, actor: Actor, data: NewApiKey) -> CreatedApiKey:
    expires_at = None if data.expires_at is None else moment(data.expires_at, "expires_at")
    key, token = await service.create_key(conn, actor, data.name, data.scopes, expires_at)
    return CreatedApiKey(key=key, token=token)


@get("/keys", **requires(Permission.KEYS_READ))
async def list_keys(unit: Unit, limit: int | None = None, cursor: str | None = None) -> Page[ApiKey]:
    """API keys, the newest first, revoked ones too."""
    return await unit.read(service.list_keys, check_limit(limit), cursor)


@get("/keys/{key_id:uuid}", **requires(Permission.KEYS_READ))
async def get_key(unit: Unit, key_id: UUID) -> ApiKey:
    """One API key, without its secret."""
    return await unit.read(service.get_key, key_id)


@post("/keys/{key_id:uuid}/revoke", status_code=200, **requires(Permission.KEYS_WRITE))
async def revoke_key(unit: Unit, key_id: UUID) -> ApiKey:
    """End a key. Its next request is refused."""
    return await unit.write(service.revoke_key, key_id)


@get("/audit-log", **requires(Permission.AUDIT_READ))
async def list_audit_log(
    unit: Unit,
    limit: int | None = None,
    cursor: str | None = None,
    action: str | None = None,
    actor_id: str | None = None,
    subject_id: UUID | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> Page[AuditEntry]:
    """Who did what, the newest first. `since` is included, `until` is not."""
    wanted = queries.AuditFilter(
        action=action,
        actor_id=actor_id,
        subject_id=subject_id,
        since=None if since is None else moment(since, "since"),
        until=None if until is None else moment(until, "until"),
    )
    return await unit.read(service.list_audit_entries, wanted, check_limit(limit), cursor)


router = Router(
    "/",
    route_handlers=[
        get_organization,
        update_organization,
        create_key,
        list_keys,
        get_key,
        revoke_key,
        list_audit_log,
    ],
    tags=["Organization"],
)
