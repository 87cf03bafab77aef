"""All SQL of the event log and of who wants its high-volume names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.events.model import Event


async def add_new(
    conn: Connection, org_id: UUID, name: str, subject_id: UUID | None, payload: dict[str, Any]
) -> None:
    """Append without an order; the pump gives the number."""
    await db.execute(
        conn,
        """
        INSERT INTO events_new (org_id, name, subject_id, payload)
        VALUES (%(org_id)s, %(name)s, %(subject_id)s, %(payload)s)
        """,
        org_id=org_id,
        name=name,
        subject_id=subject_id,
        payload=db.json(payload),
    )


async def add_many_new(
    conn: Connection, org_id: UUID, name: str, subjects: Sequence[tuple[UUID, dict[str, Any]]]
) -> None:
    """`add_new` for many subjects."""
    await db.execute(
        conn,
        """
        INSERT INTO events_new (org_id, name, subject_id, payload)
        SELECT %(org_id)s, %(name)s, e.subject_id, e.payload
          FROM jsonb_to_recordset(%(rows)s) AS e (subject_id uuid, payload jsonb)
            ON CONFLICT DO NOTHING
        """,
        org_id=org_id,
        name=name,
        rows=db.json([{"subject_id": subject_id, "payload": payload} for subject_id, payload in subjects]),
    )


async def organizations_with_new(conn: Connection, limit: int) -> list[UUID]:
    """Organizations that wait for the pump."""
    found = await db.tuples(
        conn,
        """
        -- any organization: the pump must find who waits; it moves rows one organization at a time
        SELECT DISTINCT org_id FROM events_new LIMIT %(limit)s
        """,
        limit=limit,
    )
    return [org_id for (org_id,) in found]


async def make_head(conn: Connection, org_id: UUID) -> None:
    """The organization's head row, if this is its first event."""
    await db.execute(
        conn,
        "INSERT INTO event_heads (org_id) VALUES (%(org_id)s) ON CONFLICT DO NOTHING",
        org_id=org_id,
    )


async def lock_head(conn: Connection, org_id: UUID) -> int | None:
    """The last number given out, held until the transaction ends; None when another pump has it."""
    return await db.value(
        conn,
        "SELECT seq FROM event_heads WHERE org_id = %(org_id)s FOR NO KEY UPDATE SKIP LOCKED",
        org_id=org_id,
    )


async def number_new(conn: Connection, org_id: UUID, head: int, limit: int) -> tuple[int, int]:
    """Move up to `limit` new events, in the order of their ids, to the numbers after `head`.

    Returns how many were taken and how many were stored: the same number, unless the head is wrong.
    """
    [(taken, stored)] = await db.tuples(
        conn,
        """
        WITH moved AS (
            DELETE FROM events_new
             WHERE org_id = %(org_id)s AND id = ANY (ARRAY(
                   SELECT id FROM events_new WHERE org_id = %(org_id)s ORDER BY id LIMIT %(limit)s))
            RETURNING id, name, subject_id, payload, at
        ), stored AS (
            INSERT INTO events (org_id, seq, name, subject_id, payload, at)
            SELECT %(org_id)s, %(head)s + row_number() OVER (ORDER BY id), name, subject_id, payload, at
              FROM moved
                ON CONFLICT DO NOTHING
            RETURNING seq
        )
        SELECT (SELECT count(*) FROM moved), (SELECT count(*) FROM stored)
        """,
        org_id=org_id,
        head=head,
        limit=limit,
    )
    return taken, stored


async def move_head(conn: Connection, org_id: UUID, head: int) -> None:
    """Say which number was given out last; the head row must be locked."""
    await db.execute(
        conn,
        "UPDATE event_heads SET seq = %(head)s WHERE org_id = %(org_id)s",
        org_id=org_id,
        head=head,
    )


async def read(conn: Connection, org_id: UUID, after: int, limit: int) -> list[Event]:
    """Events after a number, in order."""
    return await db.rows(
        conn,
        Event,
        """
        SELECT seq, name, subject_id, payload, at
          FROM events
         WHERE org_id = %(org_id)s AND seq > %(after)s
         ORDER BY seq
         LIMIT %(limit)s
        """,
        org_id=org_id,
        after=after,
        limit=limit,
    )


async def head(conn: Connection, org_id: UUID) -> int:
    """The last number given out; 0 before the first event."""
    return await db.value(conn, "SELECT seq FROM event_heads WHERE org_id = %(org_id)s", org_id=org_id) or 0


async def add_subscription(
    conn: Connection, org_id: UUID, consumer: str, names: list[str], lasts: timedelta
) -> None:
    """A consumer wants these names for so long from now; asking again prolongs it."""
    await db.execute(
        conn,
        """
        INSERT INTO event_subscriptions (org_id, consumer, name, valid_until)
        SELECT %(org_id)s, %(consumer)s, name, now() + %(lasts)s::interval
          FROM unnest(%(names)s::text[]) AS name
            ON CONFLICT (org_id, consumer, name)
            DO UPDATE SET valid_until = greatest(event_subscriptions.valid_until, excluded.valid_until)
        """,
        org_id=org_id,
        consumer=consumer,
        names=names,
        lasts=lasts,
    )


async def remove_subscriptions(conn: Connection, org_id: UUID, consumer: str) -> None:
    """A consumer wants nothing any more."""
    await db.execute(
        conn,
        "DELETE FROM event_subscriptions WHERE org_id = %(org_id)s AND consumer = %(consumer)s",
        org_id=org_id,
        consumer=consumer,
    )


async def is_wanted(conn: Connection, org_id: UUID, name: str) -> bool:
    """Whether anybody has asked for this name and still may."""
    return bool(
        await db.value(
            conn,
            """
            SELECT true FROM event_subscriptions
             WHERE org_id = %(org_id)s AND name = %(name)s AND valid_until > now()
             LIMIT 1
            """,
            org_id=org_id,
            name=name,
        )
    )


async def forget_old(conn: Connection, org_id: UUID, kept: timedelta, limit: int) -> int:
    """Remove up to `limit` of the oldest events that are older than `kept`; returns how many there were."""
    return await db.execute(
        conn,
        """
        DELETE FROM events
         WHERE org_id = %(org_id)s AND seq IN (
               SELECT seq FROM events
                WHERE org_id = %(org_id)s AND at < now() - %(kept)s::interval
                ORDER BY seq
                LIMIT %(limit)s)
        """,
        org_id=org_id,
        kept=kept,
        limit=limit,
    )
