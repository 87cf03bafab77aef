"""All SQL of organizations, their keys, what was already answered, and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.organizations.model import ApiKey, AuditEntry, Organization


async def add(conn: Connection, organization: Organization) -> None:
    """Store a new organization; the transaction must be the new organization's own."""
    await db.execute(
        conn,
        """
        INSERT INTO organizations (id, name, timezone, country, language, settings, created_at, updated_at)
        VALUES (%(id)s, %(name)s, %(timezone)s, %(country)s, %(language)s, %(settings)s, %(created_at)s, %(created_at)s)
        """,
        id=organization.id,
        name=organization.name,
        timezone=organization.timezone,
        country=organization.country,
        language=organization.language,
        settings=db.json(organization.settings),
        created_at=organization.created_at,
    )


async def get(conn: Connection, org_id: UUID) -> Organization:
    """The organization. Raises NotFound."""
    return await db.one(
        conn,
        Organization,
        """
        SELECT id, name, timezone, country, language, settings, created_at, updated_at
          FROM organizations
         WHERE id = %(id)s AND deleted_at IS NULL
        """,
        id=org_id,
    )


async def lock(conn: Connection, org_id: UUID) -> Organization:
    """The organization, held until the transaction ends. Raises NotFound."""
    return await db.one(
        conn,
        Organization,
        """
        SELECT id, name, timezone, country, language, settings, created_at, updated_at
          FROM organizations
         WHERE id = %(id)s AND deleted_at IS NULL
           FOR NO KEY UPDATE
        """,
        id=org_id,
    )


async def save(conn: Connection, organization: Organization) -> None:
    """Store what may change of an organization."""
    await db.execute(
        conn,
        """
        UPDATE organizations
           SET name = %(name)s, timezone = %(timezone)s, country = %(country)s, language = %(language)s,
               settings = %(settings)s, updated_at = %(updated_at)s
         WHERE id = %(id)s
        """,
        id=organization.id,
        name=organization.name,
        timezone=organization.timezone,
        country=organization.country,
        language=organization.language,
        settings=db.json(organization.settings),
        updated_at=organization.updated_at,
    )


async def everybody(conn: Connection) -> list[Organization]:
    """Every organization, the oldest first; for the command line, signed in as the worker or the owner."""
    return await db.rows(
        conn,
        Organization,
        """
        -- any organization: the command line must find the one that it is to work for
        SELECT id, name, timezone, country, language, settings, created_at, updated_at
          FROM organizations
         WHERE deleted_at IS NULL
         ORDER BY created_at, id
        """,
    )


async def add_key(conn: Connection, org_id: UUID, key: ApiKey, secret_hash: bytes) -> None:
    """Store a new key with the hash of its token."""
    await db.execute(
        conn,
        """
        INSERT INTO api_keys (org_id, id, name, prefix, secret_hash, scopes, created_by, created_at, expires_at)
        VALUES (%(org_id)s, %(id)s, %(name)s, %(prefix)s, %(secret_hash)s, %(scopes)s, %(created_by)s,
                %(created_at)s, %(expires_at)s)
        """,
        org_id=org_id,
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        secret_hash=secret_hash,
        scopes=key.scopes,
        created_by=key.created_by,
        created_at=key.created_at,
        expires_at=key.expires_at,
    )


class StoredKey(Struct, frozen=True, kw_only=True):
    """What signing in needs of a key that is in force."""

    id: UUID
    secret_hash: bytes
    scopes: list[str]


async def find_key(conn: Connection, org_id: UUID, secret_hash: bytes) -> StoredKey | None:
    """The key with this hash, unless it was revoked or has expired."""
    return await db.find(
        conn,
        StoredKey,
        """
        SELECT k.id, k.secret_hash, k.scopes
          FROM api_keys k
         WHERE k.org_id = %(org_id)s AND k.secret_hash = %(secret_hash)s
           AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
           AND EXISTS (SELECT 1 FROM organizations o WHERE o.id = %(org_id)s AND o.deleted_at IS NULL)
        """,
        org_id=org_id,
        secret_hash=secret_hash,
    )


def is_key_in_force(org_id: UUID, key_id: UUID) -> db.First:
    """Whether a key that signed in before still may: true, or no row. Travels with the statement that begins."""
    return (
        """
        SELECT true FROM api_keys
         WHERE org_id = %(org_id)s AND id = %(id)s
           AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
        """,
        {"org_id": org_id, "id": key_id},
    )


async def touch_key(conn: Connection, org_id: UUID, key_id: UUID) -> None:
    """Note that a key was used, at most once a minute however many processes serve it."""
    await db.execute(
        conn,
        """
        UPDATE api_keys SET last_used_at = now()
         WHERE org_id = %(org_id)s AND id = %(id)s
           AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
        """,
        org_id=org_id,
        id=key_id,
    )


async def list_keys(conn: Connection, org_id: UUID, before: UUID | None, limit: int) -> list[ApiKey]:
    """Keys, the newest first, revoked ones too."""
    return await db.rows(
        conn,
        ApiKey,
        """
        SELECT id, name, prefix, scopes, created_by, created_at, expires_at, last_used_at, revoked_at
          FROM api_keys
         WHERE org_id = %(org_id)s AND (%(before)s::uuid IS NULL OR id < %(before)s)
         ORDER BY id DESC
         LIMIT %(limit)s
        """,
        org_id=org_id,
        before=before,
        limit=limit,
    )


async def get_key(conn: Connection, org_id: UUID, key_id: UUID) -> ApiKey:
    """One key. Raises NotFound."""
    return await db.one(
        conn,
        ApiKey,
        """
        SELECT id, name, prefix, scopes, created_by, created_at, expires_at, last_used_at, revoked_at
          FROM api_keys
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=key_id,
    )


async def revoke_key(conn: Connection, org_id: UUID, key_id: UUID) -> bool:
    """End a key; False when it had already ended."""
    return bool(
        await db.execute(
            conn,
            """
            UPDATE api_keys SET revoked_at = now()
             WHERE org_id = %(org_id)s AND id = %(id)s AND revoked_at IS NULL
            """,
            org_id=org_id,
            id=key_id,
        )
    )


async def add_audit_entry(conn: Connection, org_id: UUID, entry: AuditEntry) -> None:
    """Append to the audit log."""
    await db.execute(
        conn,
        """
        INSERT INTO audit_log (org_id, id, actor_kind, actor_id, action, subject_id, detail)
        VALUES (%(org_id)s, %(id)s, %(actor_kind)s, %(actor_id)s, %(action)s, %(subject_id)s, %(detail)s)
        """,
        org_id=org_id,
        id=entry.id,
        actor_kind=entry.actor_kind,
        actor_id=entry.actor_id,
        action=entry.action,
        subject_id=entry.subject_id,
        detail=db.json(entry.detail),
    )


async def add_audit_entries(conn: Connection, org_id: UUID, entries: list[AuditEntry]) -> None:
    """Append several to the audit log."""
    await db.execute(
        conn,
        """
        INSERT INTO audit_log (org_id, id, actor_kind, actor_id, action, subject_id, detail)
        SELECT %(org_id)s, e.id, e.actor_kind, e.actor_id, e.action, e.subject_id, e.detail
          FROM jsonb_to_recordset(%(entries)s) AS e (
               id uuid, actor_kind text, actor_id text, action text, subject_id uuid, detail jsonb)
            ON CONFLICT DO NOTHING
        """,
        org_id=org_id,
        entries=db.json(entries),
    )


class AuditFilter(Struct, frozen=True, kw_only=True):
    """Which entries to show; None shows all."""

    action: str | None = None
    actor_id: str | None = None
    subject_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


async def list_audit_entries(
    conn: Connection, org_id: UUID, wanted: AuditFilter, before: UUID | None, limit: int
) -> list[AuditEntry]:
    """Entries, the newest first."""
    return await db.rows(
        conn,
        AuditEntry,
        """
        SELECT id, at, actor_kind, actor_id, action, subject_id, detail
          FROM audit_log
         WHERE org_id = %(org_id)s
           AND (%(action)s::text IS NULL OR action = %(action)s)
           AND (%(actor_id)s::text IS NULL OR actor_id = %(actor_id)s)
           AND (%(subject_id)s::uuid IS NULL OR subject_id = %(subject_id)s)
           AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
           AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
           AND (%(before)s::uuid IS NULL OR id < %(before)s)
         ORDER BY id DESC
         LIMIT %(limit)s
        """,
        org_id=org_id,
        action=wanted.action,
        actor_id=wanted.actor_id,
        subject_id=wanted.subject_id,
        since=wanted.since,
        until=wanted.until,
        before=before,
        limit=limit,
    )


class Stored(Struct, frozen=True):
    """What the first statement of a write found: the key that signed in, and what its Idempotency-Key stands for."""

    is_key_in_force: bool
    is_first: bool
    route: str | None
    body_hash: bytes | None
    status: int | None
    response: bytes | None
    is_fresh: bool | None


def begin_write(org_id: UUID, key_id: UUID | None, key: str, lock: str) -> db.First:
    """A Stored: is the API key in force, is nobody else at work with this Idempotency-Key, was it answered?

    It travels with the statement that begins. The three share a snapshot, so an answer committed a moment ago may be
    missed; its primary key then refuses ours.
    """
    return (
        """
        SELECT (%(key_id)s::uuid IS NULL OR EXISTS (
                    SELECT 1 FROM api_keys
                     WHERE org_id = %(org_id)s AND id = %(key_id)s
                       AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))) AS is_key_in_force,
               pg_try_advisory_xact_lock(hashtextextended(%(lock)s, 0)) AS is_first,
               stored.route, stored.body_hash, stored.status, stored.response,
               stored.created_at > now() - interval '24 hours' AS is_fresh
          FROM (SELECT 1) AS always
          LEFT JOIN idempotency_keys stored ON stored.org_id = %(org_id)s AND stored.key = %(key)s
        """,
        {"org_id": org_id, "key_id": key_id, "key": key, "lock": lock},
    )


async def forget_answer(conn: Connection, org_id: UUID, key: str) -> None:
    """Remove an answer that is older than a day, so that its key can be used again."""
    await db.execute(
        conn,
        """
        DELETE FROM idempotency_keys
         WHERE org_id = %(org_id)s AND key = %(key)s AND created_at <= now() - interval '24 hours'
        """,
        org_id=org_id,
        key=key,
    )


async def forget_old_answers(conn: Connection, org_id: UUID, limit: int) -> int:
    """Remove up to `limit` answers that are older than a day; returns how many there were."""
    return await db.execute(
        conn,
        """
        DELETE FROM idempotency_keys
         WHERE org_id = %(org_id)s AND key IN (
               SELECT key FROM idempotency_keys
                WHERE org_id = %(org_id)s AND created_at <= now() - interval '24 hours'
                LIMIT %(limit)s)
        """,
        org_id=org_id,
        limit=limit,
    )


async def add_answer(conn: Connection, org_id: UUID, key: str, answer: dict[str, Any]) -> None:
    """Keep an answer for those who repeat the request."""
    await db.execute(
        conn,
        """
        INSERT INTO idempotency_keys (org_id, key, route, body_hash, status, response)
        VALUES (%(org_id)s, %(key)s, %(route)s, %(body_hash)s, %(status)s, %(response)s)
        """,
        org_id=org_id,
        key=key,
        **answer,
    )
