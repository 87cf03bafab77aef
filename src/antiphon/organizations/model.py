"""Who asks, what they may do, and the organization in whose data they do it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from antiphon.core import ids

ActorKind = Literal["key", "user", "operator", "system", "contact"]
Role = Literal["admin", "manager", "user", "viewer"]


class Permission(StrEnum):
    """One thing that a key or a person may do. A route names exactly one."""

    CONTACTS_READ = "contacts:read"
    CONTACTS_WRITE = "contacts:write"
    GROUPS_READ = "groups:read"
    GROUPS_WRITE = "groups:write"
    IMPORTS_WRITE = "imports:write"
    TEMPLATES_READ = "templates:read"
    TEMPLATES_WRITE = "templates:write"
    SENDERS_READ = "senders:read"
    SENDERS_WRITE = "senders:write"
    MESSAGES_READ = "messages:read"
    MESSAGES_SEND = "messages:send"
    MESSAGES_WRITE = "messages:write"
    CAMPAIGNS_READ = "campaigns:read"
    CAMPAIGNS_WRITE = "campaigns:write"
    CAMPAIGNS_LAUNCH = "campaigns:launch"
    ORGANIZATION_READ = "organization:read"
    ORGANIZATION_WRITE = "organization:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    AUDIT_READ = "audit:read"
    JOBS_READ = "jobs:read"
    INCIDENTS_READ = "incidents:read"


ALL_PERMISSIONS = frozenset(Permission)
_ONLY_ADMIN = frozenset({Permission.ORGANIZATION_WRITE, Permission.KEYS_READ, Permission.KEYS_WRITE})
_ONLY_MANAGER = frozenset(
    {
        Permission.AUDIT_READ,
        Permission.TEMPLATES_WRITE,
        Permission.SENDERS_WRITE,
        Permission.CAMPAIGNS_LAUNCH,
    }
)
_MANAGER = ALL_PERMISSIONS - _ONLY_ADMIN
_USER = _MANAGER - _ONLY_MANAGER

ROLE_PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        "admin": ALL_PERMISSIONS,
        "manager": _MANAGER,
        "user": _USER,
        "viewer": frozenset(permission for permission in _USER if permission.endswith(":read")),
    }
)


class Actor(Struct, frozen=True):
    """Who does something, in one organization, and what they may do there."""

    org_id: UUID
    kind: ActorKind
    id: str
    permissions: frozenset[Permission]

    @classmethod
    def system(cls, org_id: UUID, id: str = "worker") -> Actor:  # noqa: A002 - the field's own name
        """The program itself: a job, the dispatcher, a provider's webhook."""
        return cls(org_id, "system", id, ALL_PERMISSIONS)

    @classmethod
    def operator(cls, org_id: UUID) -> Actor:
        """Whoever runs the command line on the machine."""
        return cls(org_id, "operator", "command line", ALL_PERMISSIONS)

    @property
    def label(self) -> str:
        """How rows name who made them."""
        return f"{self.kind}:{self.id}"


class Organization(Struct, frozen=True, kw_only=True):
    """The tenant."""

    id: UUID
    name: str
    timezone: str
    country: str | None
    language: str
    settings: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class ApiKey(Struct, frozen=True, kw_only=True):
    """A key as it may be shown: everything but the secret, which is told once, when the key is made."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class AuditEntry(Struct, frozen=True, kw_only=True):
    """Who did what, to which record, when."""

    id: UUID
    at: datetime
    actor_kind: ActorKind
    actor_id: str
    action: str
    subject_id: UUID | None
    detail: dict[str, Any]


KEY_MARK = "ak"
_SHOWN = 6  # letters of the secret that the prefix shows, to tell keys apart


def new_token(org_id: UUID) -> tuple[str, str]:
    """A key's token, `ak_<organization>_<256 random bits>`, and the prefix by which people recognize it."""
    start = f"{KEY_MARK}_{ids.short(org_id)}_"
    secret = secrets.token_urlsafe(32)
    return start + secret, start + secret[:_SHOWN]


def token_organization(token: str) -> UUID | None:
    """The organization that a token names in clear; None when it is no token of ours."""
    mark, _, rest = token.partition("_")
    short, _, secret = rest.partition("_")
    if mark != KEY_MARK or len(secret) < 32:
        return None
    try:
        return ids.parse_short(short)
    except ValueError:
        return None


def token_hash(token: str) -> bytes:
    """What is stored of a token. SHA-256 is enough for 256 random bits; a slow hash protects passwords, not these."""
    return hashlib.sha256(token.encode()).digest()
