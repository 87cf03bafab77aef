"""All SQL of senders: provider accounts, senders, incidents."""

from __future__ import annotations

from uuid import UUID

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.senders.model import AccountRow, Incident, Sender

# ---- provider accounts ----------------------------------------------------------------------------


async def add_account(conn: Connection, row: AccountRow) -> None:
    """Insert a provider account."""
    await db.execute(
        conn,
        """
        INSERT INTO provider_accounts (org_id, id, provider, name, credentials, webhook_hash, status, created_at,
                                       updated_at)
        VALUES (%(org_id)s, %(id)s, %(provider)s, %(name)s, %(credentials)s, %(webhook_hash)s, %(status)s,
                %(created_at)s, %(created_at)s)
        """,
        org_id=row.org_id,
        id=row.id,
        provider=row.provider,
        name=row.name,
        credentials=row.credentials,
        webhook_hash=row.webhook_hash,
        status=row.status,
        created_at=row.created_at,
    )


async def find_account(conn: Connection, org_id: UUID, account_id: UUID) -> AccountRow | None:
    """An account that is not deleted."""
    return await db.find(
        conn,
        AccountRow,
        """
        SELECT org_id, id, provider, name, credentials, webhook_hash, status, created_at, updated_at
          FROM provider_accounts
         WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
        """,
        org_id=org_id,
        id=account_id,
    )


async def lock_account(conn: Connection, org_id: UUID, account_id: UUID) -> AccountRow | None:
    """`find_account`, and nobody else changes it until the end of the transaction."""
    return await db.find(
        conn,
        AccountRow,
        """
        SELECT org_id, id, provider, name, credentials, webhook_hash, status, created_at, updated_at
          FROM provider_accounts
         WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL
           FOR UPDATE
        """,
        org_id=org_id,
        id=account_id,
    )


async def list_accounts(
    conn: Connection, org_id: UUID, *, provider: str | None, before: UUID | None, limit: int
) -> list[AccountRow]:
    """Accounts that are not deleted, the newest first."""
    return await db.rows(
        conn,
        AccountRow,
        """
        SELECT org_id, id, provider, name, credentials, webhook_hash, status, created_at, updated_at
          FROM provider_accounts
         WHERE org_id = %(org_id)s AND deleted_at IS NULL
           AND (%(provider)s::text IS NULL OR provider = %(provider)s)
           AND (%(before)s::uuid IS NULL OR id < %(before)s)
         ORDER BY id DESC LIMIT %(limit)s
        """,
        org_id=org_id,
        provider=provider,
        before=before,
        limit=limit,
    )


async def save_account(conn: Connection, row: AccountRow) -> None:
    """Write what may change of an account."""
    await db.execute(
        conn,
        """
        UPDATE provider_accounts
           SET name = %(name)s, credentials = %(credentials)s, webhook_hash = %(webhook_hash)s, updated_at = now()
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=row.org_id,
        id=row.id,
        name=row.name,
        credentials=row.credentials,
        webhook_hash=row.webhook_hash,
    )


async def delete_account(conn: Connection, org_id: UUID, account_id: UUID) -> None:
    """Mark as deleted."""
    await db.execute(
        conn,
        """
        UPDATE provider_accounts SET deleted_at = now(), updated_at = now()
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=account_id,
    )


async def count_senders_of(conn: Connection, org_id: UUID, account_id: UUID) -> int:
    """How many senders use the account."""
    return await db.value(
        conn,
        """
        SELECT count(*) FROM senders
         WHERE org_id = %(org_id)s AND account_id = %(account_id)s AND deleted_at IS NULL
        """,
        org_id=org_id,
        account_id=account_id,
    )


# ---- senders --------------------------------------------------------------------------------------


async def add_sender(conn: Connection, org_id: UUID, sender: Sender, name_key: str) -> bool:
    """Insert a sender; False when its name, or its address at this account, is taken."""
    return bool(
        await db.execute(
            conn,
            """
            INSERT INTO senders (org_id, id, account_id, channel, name, name_key, address, rate, daily_cap, in_flight,
                                 is_active, created_at, updated_at)
            VALUES (%(org_id)s, %(id)s, %(account_id)s, %(channel)s, %(name)s, %(name_key)s, %(address)s, %(rate)s,
                    %(daily_cap)s, %(in_flight)s, %(is_active)s, %(created_at)s, %(created_at)s)
            ON CONFLICT DO NOTHING
            """,
            org_id=org_id,
            id=sender.id,
            account_id=sender.account_id,
            channel=sender.channel,
            name=sender.name,
            name_key=name_key,
            address=sender.address,
            rate=sender.rate,
            daily_cap=sender.daily_cap,
            in_flight=sender.in_flight,
            is_active=sender.is_active,
            created_at=sender.created_at,
        )
    )


async def get_sender(conn: Connection, org_id: UUID, sender_id: UUID) -> Sender:
    """A sender that is not deleted. Raises NotFound."""
    return await db.one(
        conn,
        Sender,
        """
        SELECT s.id, s.account_id, a.provider, s.channel, s.name, s.address, s.rate, s.daily_cap, s.in_flight,
               s.is_active, s.created_at, s.updated_at
          FROM senders s JOIN provider_accounts a ON a.org_id = s.org_id AND a.id = s.account_id
         WHERE s.org_id = %(org_id)s AND s.id = %(id)s AND s.deleted_at IS NULL
        """,
        org_id=org_id,
        id=sender_id,
    )


async def lock_sender(conn: Connection, org_id: UUID, sender_id: UUID) -> Sender:
    """`get_sender`, and nobody else changes it until the end of the transaction."""
    return await db.one(
        conn,
        Sender,
        """
        SELECT s.id, s.account_id, a.provider, s.channel, s.name, s.address, s.rate, s.daily_cap, s.in_flight,
               s.is_active, s.created_at, s.updated_at
          FROM senders s JOIN provider_accounts a ON a.org_id = s.org_id AND a.id = s.account_id
         WHERE s.org_id = %(org_id)s AND s.id = %(id)s AND s.deleted_at IS NULL
           FOR UPDATE OF s
        """,
        org_id=org_id,
        id=sender_id,
    )


async def find_sender(
    conn: Connection, org_id: UUID, *, name_key: str | None, account_id: UUID | None, address: str | None
) -> UUID | None:
    """The newest sender of that name, or of that address at that account; what is None does not narrow."""
    return await db.value(
        conn,
        """
        SELECT id FROM senders
         WHERE org_id = %(org_id)s AND deleted_at IS NULL
           AND (%(name_key)s::text IS NULL OR name_key = %(name_key)s)
           AND (%(account_id)s::uuid IS NULL OR account_id = %(account_id)s)
           AND (%(address)s::text IS NULL OR address = %(address)s)
         ORDER BY id DESC LIMIT 1
        """,
        org_id=org_id,
        name_key=name_key,
        account_id=account_id,
        address=address,
    )


async def list_senders(
    conn: Connection,
    org_id: UUID,
    *,
    channel: str | None,
    account_id: UUID | None,
    is_active: bool | None,
    before: UUID | None,
    limit: int,
) -> list[Sender]:
    """Senders that are not deleted, the newest first."""
    return await db.rows(
        conn,
        Sender,
        """
        SELECT s.id, s.account_id, a.provider, s.channel, s.name, s.address, s.rate, s.daily_cap, s.in_flight,
               s.is_active, s.created_at, s.updated_at
          FROM senders s JOIN provider_accounts a ON a.org_id = s.org_id AND a.id = s.account_id
         WHERE s.org_id = %(org_id)s AND s.deleted_at IS NULL
           AND (%(channel)s::text IS NULL OR s.channel = %(channel)s)
           AND (%(account_id)s::uuid IS NULL OR s.account_id = %(account_id)s)
           AND (%(is_active)s::boolean IS NULL OR s.is_active = %(is_active)s)
           AND (%(before)s::uuid IS NULL OR s.id < %(before)s)
         ORDER BY s.id DESC LIMIT %(limit)s
        """,
        org_id=org_id,
        channel=channel,
        account_id=account_id,
        is_active=is_active,
        before=before,
        limit=limit,
    )


async def save_sender(conn: Connection, org_id: UUID, sender: Sender, name_key: str) -> None:
    """Write what may change of a sender."""
    await db.execute(
        conn,
        """
        UPDATE senders
           SET name = %(name)s, name_key = %(name_key)s, rate = %(rate)s, daily_cap = %(daily_cap)s,
               in_flight = %(in_flight)s, is_active = %(is_active)s, updated_at = %(updated_at)s
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=sender.id,
        name=sender.name,
        name_key=name_key,
        rate=sender.rate,
        daily_cap=sender.daily_cap,
        in_flight=sender.in_flight,
        is_active=sender.is_active,
        updated_at=sender.updated_at,
    )


async def delete_sender(conn: Connection, org_id: UUID, sender_id: UUID) -> None:
    """Mark as deleted; messages that it sent keep their link."""
    await db.execute(
        conn,
        """
        UPDATE senders SET deleted_at = now(), updated_at = now(), is_active = false
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=sender_id,
    )


# ---- incidents ------------------------------------------------------------------------------------


async def open_incident(conn: Connection, org_id: UUID, incident: Incident) -> bool:
    """Insert an incident; False when one of its kind is open already."""
    return bool(
        await db.execute(
            conn,
            """
            INSERT INTO incidents (org_id, id, subject, subject_id, kind, reason, opened_at)
            VALUES (%(org_id)s, %(id)s, %(subject)s, %(subject_id)s, %(kind)s, %(reason)s, %(opened_at)s)
            ON CONFLICT (org_id, subject_id, kind) WHERE closed_at IS NULL DO NOTHING
            """,
            org_id=org_id,
            id=incident.id,
            subject=incident.subject,
            subject_id=incident.subject_id,
            kind=incident.kind,
            reason=incident.reason,
            opened_at=incident.opened_at,
        )
    )


async def close_incidents(
    conn: Connection, org_id: UUID, *, subject_id: UUID, kind: str | None, closed_by: str
) -> list[UUID]:
    """Close what is open about a subject, of one kind or of all; says which."""
    found = await db.tuples(
        conn,
        """
        UPDATE incidents SET closed_at = now(), closed_by = %(closed_by)s
         WHERE org_id = %(org_id)s AND subject_id = %(subject_id)s AND closed_at IS NULL
           AND (%(kind)s::text IS NULL OR kind = %(kind)s)
        RETURNING id
        """,
        org_id=org_id,
        subject_id=subject_id,
        kind=kind,
        closed_by=closed_by,
    )
    return [incident_id for (incident_id,) in found]


async def close_incident(conn: Connection, org_id: UUID, incident_id: UUID, closed_by: str) -> bool:
    """Close one; False when it was closed already."""
    return bool(
        await db.execute(
            conn,
            """
            UPDATE incidents SET closed_at = now(), closed_by = %(closed_by)s
             WHERE org_id = %(org_id)s AND id = %(id)s AND closed_at IS NULL
            """,
            org_id=org_id,
            id=incident_id,
            closed_by=closed_by,
        )
    )


async def get_incident(conn: Connection, org_id: UUID, incident_id: UUID) -> Incident:
    """One incident. Raises NotFound."""
    return await db.one(
        conn,
        Incident,
        """
        SELECT id, subject, subject_id, kind, reason, opened_at, closed_at, closed_by
          FROM incidents WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=incident_id,
    )


async def list_incidents(
    conn: Connection,
    org_id: UUID,
    *,
    is_open: bool | None,
    subject_id: UUID | None,
    before: UUID | None,
    limit: int,
) -> list[Incident]:
    """Incidents, the newest first."""
    return await db.rows(
        conn,
        Incident,
        """
        SELECT id, subject, subject_id, kind, reason, opened_at, closed_at, closed_by
          FROM incidents
         WHERE org_id = %(org_id)s
           AND (%(is_open)s::boolean IS NULL OR (closed_at IS NULL) = %(is_open)s)
           AND (%(subject_id)s::uuid IS NULL OR subject_id = %(subject_id)s)
           AND (%(before)s::uuid IS NULL OR id < %(before)s)
         ORDER BY id DESC LIMIT %(limit)s
        """,
        org_id=org_id,
        is_open=is_open,
        subject_id=subject_id,
        before=before,
        limit=limit,
    )
