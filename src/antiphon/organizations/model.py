"""Who asks, what they may do, and the organization in whose data they do it."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Struct

from antiphon.core import ids
from antiphon.core.errors import FieldError, Invalid

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


_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z")
_COUNTRY = re.compile(r"[A-Z]{2}\Z")
LONGEST_NAME = 200
MOST_SETTINGS_BYTES = 16_384


def check_organization(organization: Organization) -> Organization:
    """The same organization. Raises Invalid naming every field that cannot be so."""
    wrong: list[FieldError] = []
    if not organization.name.strip() or len(organization.name) > LONGEST_NAME:
        wrong.append(FieldError("name", f"must have 1 to {LONGEST_NAME} characters", organization.name[:80]))
    if not _is_timezone(organization.timezone):
        wrong.append(
            FieldError(
                "timezone", "is not a time zone; use a name like Europe/Berlin", organization.timezone[:80]
            )
        )
    if organization.country is not None and not _COUNTRY.match(organization.country):
        wrong.append(FieldError("country", "must be two capital letters, like DE", organization.country[:80]))
    if not _LANGUAGE.match(organization.language):
        wrong.append(
            FieldError("language", "must be a language tag, like en or pt-BR", organization.language[:80])
        )
    if len(msgspec.json.encode(organization.settings)) > MOST_SETTINGS_BYTES:
        wrong.append(FieldError("settings", f"must have at most {MOST_SETTINGS_BYTES} bytes as JSON"))
    if wrong:
        raise Invalid("the organization cannot be so; `errors` says why", wrong)
    return organization


def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (
        ZoneInfoNotFoundError,
        ValueError,
        OSError,
    ):  # OSError: the name of a folder of zones, such as Europe
        return False
    return True


def wrong_key_fields(
    name: str, scopes: Sequence[str], expires_at: datetime | None, now: datetime
) -> list[FieldError]:
    """Everything that is wrong with a key to be made; empty when it may be."""
    wrong: list[FieldError] = []
    if not name.strip() or len(name) > LONGEST_NAME:
        wrong.append(FieldError("name", f"must have 1 to {LONGEST_NAME} characters", name[:80]))
    if not scopes:
        wrong.append(FieldError("scopes", "must name at least one permission"))
    wrong.extend(
        FieldError(f"scopes[{index}]", f"is not a permission; there are {', '.join(Permission)}", scope[:80])
        for index, scope in enumerate(scopes)
        if scope not in _SCOPES
    )
    if expires_at is not None and expires_at <= now:
        wrong.append(FieldError("expires_at", "must be in the future", expires_at.isoformat()))
    return wrong


def permissions_of(scopes: Sequence[str]) -> frozenset[Permission]:
    """The permissions that scopes name; a word that we no longer know gives nothing."""
    return frozenset(Permission(scope) for scope in scopes if scope in _SCOPES)


_SCOPES = frozenset(str(permission) for permission in Permission)

KEY_MARK = "ak"
SHOWN = 6  # letters of the secret that the prefix shows, to tell keys apart


def new_token(org_id: UUID) -> tuple[str, str]:
    """A key's token, `ak_<organization>_<256 random bits>`, and the prefix by which people recognize it."""
    start = f"{KEY_MARK}_{ids.short(org_id)}_"
    secret = secrets.token_urlsafe(32)
    return start + secret, start + secret[:SHOWN]


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
