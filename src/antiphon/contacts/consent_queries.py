"""All SQL of consent and suppressions."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from antiphon.contacts.model import Consent, Suppression
from antiphon.core import db
from antiphon.core.db import Connection


async def add_consent(conn: Connection, org_id: UUID, consent: Consent) -> None:
    """Append the fact; it becomes the address's state unless a later fact is known."""
    await db.execute(
        conn,
        """
        WITH fact AS (
            INSERT INTO consents (org_id, id, contact_id, channel, address, is_given, source, wording, at, recorded_by)
            VALUES (%(org_id)s, %(id)s, %(contact_id)s, %(channel)s, %(address)s, %(is_given)s, %(source)s,
                    %(wording)s, %(at)s, %(recorded_by)s)
        )
        INSERT INTO consent_states (org_id, channel, address, is_given, at)
        VALUES (%(org_id)s, %(channel)s, %(address)s, %(is_given)s, %(at)s)
        ON CONFLICT (org_id, channel, address) DO UPDATE SET is_given = excluded.is_given, at = excluded.at
         WHERE consent_states.at <= excluded.at
        """,
        org_id=org_id,
        id=consent.id,
        contact_id=consent.contact_id,
        channel=consent.channel,
        address=consent.address,
        is_given=consent.is_given,
        source=consent.source,
        wording=consent.wording,
        at=consent.at,
        recorded_by=consent.recorded_by,
    )


async def list_consents(
    conn: Connection, org_id: UUID, contact_id: UUID, before: datetime, before_id: UUID, limit: int
) -> list[Consent]:
    """A contact's facts, the newest first."""
    return await db.rows(
        conn,
        Consent,
        """
        SELECT id, contact_id, channel, address, is_given, source, wording, at, recorded_by
          FROM consents
         WHERE org_id = %(org_id)s AND contact_id = %(contact_id)s AND (at, id) < (%(before)s, %(before_id)s)
         ORDER BY at DESC, id DESC
         LIMIT %(limit)s
        """,
        org_id=org_id,
        contact_id=contact_id,
        before=before,
        before_id=before_id,
        limit=limit,
    )


async def find_suppression(conn: Connection, org_id: UUID, channel: str, address: str) -> Suppression | None:
    """The row of an address, lifted or not."""
    return await db.find(
        conn,
        Suppression,
        """
        SELECT channel, address, reason, source, detail, message_id, at, until, lifted_at, lifted_by
          FROM suppressions
         WHERE org_id = %(org_id)s AND channel = %(channel)s AND address = %(address)s
        """,
        org_id=org_id,
        channel=channel,
        address=address,
    )


async def add_suppression(conn: Connection, org_id: UUID, suppression: Suppression) -> bool:
    """Suppress an address; True if that is news. One that is suppressed for as long already keeps its first reason."""
    changed = await db.execute(
        conn,
        """
        INSERT INTO suppressions (org_id, channel, address, reason, source, detail, message_id, at, until)
        VALUES (%(org_id)s, %(channel)s, %(address)s, %(reason)s, %(source)s, %(detail)s, %(message_id)s, %(at)s,
                %(until)s)
        ON CONFLICT (org_id, channel, address) DO UPDATE
           SET reason = excluded.reason, source = excluded.source, detail = excluded.detail,
               message_id = excluded.message_id, at = excluded.at, until = excluded.until, lifted_at = NULL,
               lifted_by = NULL
         WHERE suppressions.lifted_at IS NOT NULL
            OR excluded.until IS NULL AND suppressions.until IS NOT NULL
            OR excluded.until > suppressions.until
        """,
        org_id=org_id,
        channel=suppression.channel,
        address=suppression.address,
        reason=suppression.reason,
        source=suppression.source,
        detail=suppression.detail,
        message_id=suppression.message_id,
        at=suppression.at,
        until=suppression.until,
    )
    return changed == 1


async def lift(
    conn: Connection, org_id: UUID, channel: str, address: str, lifted_by: str, at: datetime
) -> bool:
    """Free an address; False if it was not suppressed."""
    changed = await db.execute(
        conn,
        """
        UPDATE suppressions SET lifted_at = %(at)s, lifted_by = %(lifted_by)s
         WHERE org_id = %(org_id)s AND channel = %(channel)s AND address = %(address)s AND lifted_at IS NULL
        """,
        org_id=org_id,
        channel=channel,
        address=address,
        lifted_by=lifted_by,
        at=at,
    )
    return changed == 1


async def list_suppressions(
    conn: Connection,
    org_id: UUID,
    channel: str | None,
    reason: str | None,
    now: datetime | None,
    before: tuple[datetime, str, str],
    limit: int,
) -> list[Suppression]:
    """Suppressions in force at `now` (without it, all there ever were), the newest first."""
    at, before_channel, before_address = before
    return await db.rows(
        conn,
        Suppression,
        """
        SELECT channel, address, reason, source, detail, message_id, at, until, lifted_at, lifted_by
          FROM suppressions
         WHERE org_id = %(org_id)s
           AND (%(now)s::timestamptz IS NULL OR lifted_at IS NULL AND (until IS NULL OR until > %(now)s))
           AND (%(channel)s::text IS NULL OR channel = %(channel)s)
           AND (%(reason)s::text IS NULL OR reason = %(reason)s)
           AND (at, channel, address) < (%(at)s, %(before_channel)s, %(before_address)s)
         ORDER BY at DESC, channel DESC, address DESC
         LIMIT %(limit)s
        """,
        org_id=org_id,
        channel=channel,
        reason=reason,
        now=now,
        at=at,
        before_channel=before_channel,
        before_address=before_address,
        limit=limit,
    )
