"""All SQL of imports: a batch is copied into temporary tables, then a few statements do the set.

`import_rows` stays for the rest of the transaction, so that whoever imports recipients can join what each line says:
line, coalesce(contact_id, new_id) as the contact, extra, own_text. A statement finds rows of the large tables by their
index only, whatever the planner would guess of a temporary table: by scalar sub-selects and `= ANY (ARRAY …)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from antiphon.contacts.import_model import Batch, LineError
from antiphon.core import db
from antiphon.core.db import Connection

CREATE_ROWS: LiteralString = """
    CREATE TEMP TABLE IF NOT EXISTS import_rows (
        line bigint, new_id uuid, first_name text, last_name text, company text, language text, timezone text,
        country text, preferred_channel text, attributes jsonb, extra jsonb, own_text text, search_text text,
        contact_id uuid, round int
    ) ON COMMIT DELETE ROWS
"""
CREATE_ADDRESSES: LiteralString = """
    CREATE TEMP TABLE IF NOT EXISTS import_addresses (
        line bigint, id uuid, new_id uuid, kind text, value text, is_first boolean, owner uuid
    ) ON COMMIT DELETE ROWS
"""
CREATE_CONSENTS: LiteralString = """
    CREATE TEMP TABLE IF NOT EXISTS import_consents (
        line bigint, id uuid, channel text, address text, is_given boolean, wording text
    ) ON COMMIT DELETE ROWS
"""


async def create_tables(conn: Connection) -> None:
    """Make the temporary tables unless this connection has them, and empty them."""
    for create in (CREATE_ROWS, CREATE_ADDRESSES, CREATE_CONSENTS):
        await db.execute(conn, create)
    await db.execute(conn, "DELETE FROM import_rows")
    await db.execute(conn, "DELETE FROM import_addresses")
    await db.execute(conn, "DELETE FROM import_consents")


async def stage(conn: Connection, batch: Batch) -> None:
    """Copy a batch into the temporary tables."""
    cursor = conn.cursor()
    async with cursor.copy(
        "COPY import_rows (line, new_id, first_name, last_name, company, language, timezone, country,"
        " preferred_channel, attributes, extra, own_text, search_text) FROM STDIN"
    ) as copy:
        await copy.write(batch.people)
    async with cursor.copy(
        "COPY import_addresses (line, id, new_id, kind, value, is_first) FROM STDIN"
    ) as copy:
        await copy.write(batch.addresses)
    if batch.consents:
        async with cursor.copy(
            "COPY import_consents (line, id, channel, address, is_given, wording) FROM STDIN"
        ) as copy:
            await copy.write(batch.consents)


# Who is known


async def find_owners(conn: Connection, org_id: UUID) -> int:
    """Note for each address whose it is; returns how many are somebody's."""
    await db.execute(
        conn,
        """
        UPDATE import_addresses r
           SET owner = (SELECT a.contact_id FROM addresses a
                         WHERE a.org_id = %(org_id)s AND a.kind = r.kind AND a.value = r.value
                           AND a.deleted_at IS NULL)
        """,
        org_id=org_id,
    )
    return await db.value(conn, "SELECT count(owner) FROM import_addresses")


async def take_ambiguous(conn: Connection) -> list[tuple[int, list[UUID], str]]:
    """Take out the lines whose addresses belong to more than one contact."""
    found = await db.tuples(
        conn,
        """
        WITH ambiguous AS (
            SELECT line, array_agg(DISTINCT owner) AS owners, string_agg(value, ', ' ORDER BY id) AS said
              FROM import_addresses WHERE owner IS NOT NULL
             GROUP BY line HAVING count(DISTINCT owner) > 1
        ), people AS (
            DELETE FROM import_rows WHERE line IN (SELECT line FROM ambiguous)
        ), reached AS (
            DELETE FROM import_addresses WHERE line IN (SELECT line FROM ambiguous)
        ), agreed AS (
            DELETE FROM import_consents WHERE line IN (SELECT line FROM ambiguous)
        )
        SELECT line, owners, said FROM ambiguous ORDER BY line
        """,
    )
    return [(line, owners, said) for line, owners, said in found]


async def name_owners(conn: Connection) -> int:
    """Give each known line its contact; the lines of one contact get rounds, in order. Returns how many rounds."""
    await db.execute(
        conn,
        """
        UPDATE import_rows r SET contact_id = known.owner, round = known.round
          FROM (SELECT line, owner, row_number() OVER (PARTITION BY owner ORDER BY line) AS round
                  FROM (SELECT DISTINCT line, owner FROM import_addresses WHERE owner IS NOT NULL) AS one
               ) AS known
         WHERE r.line = known.line
        """,
    )
    return await db.value(conn, "SELECT coalesce(max(round), 0) FROM import_rows")


async def lock_known(conn: Connection, org_id: UUID) -> None:
    """Lock the known contacts in id order: nobody else changes them until this transaction ends."""
    await db.execute(
        conn,
        """
        SELECT FROM contacts
         WHERE org_id = %(org_id)s AND id = ANY (ARRAY (SELECT contact_id FROM import_rows WHERE round = 1))
         ORDER BY id FOR NO KEY UPDATE
        """,
        org_id=org_id,
    )


# What a batch changes


async def add_contacts(conn: Connection, org_id: UUID, source: str, now: datetime) -> int:
    """Make a contact of each line that is nobody's."""
    return await db.execute(
        conn,
        """
        INSERT INTO contacts (org_id, id, first_name, last_name, company, language, timezone, country,
                              preferred_channel, attributes, source, search_text, created_at, updated_at)
        SELECT %(org_id)s, new_id, first_name, last_name, company, language, timezone, country, preferred_channel,
               attributes, %(source)s, search_text, %(now)s, %(now)s
          FROM import_rows WHERE contact_id IS NULL
        ON CONFLICT DO NOTHING
        """,
        org_id=org_id,
        source=source,
        now=now,
    )


async def add_new_addresses(conn: Connection, org_id: UUID, now: datetime) -> int:
    """Store the addresses of a batch in which nobody is known."""
    return await db.execute(
        conn,
        """
        INSERT INTO addresses (org_id, id, contact_id, kind, value, is_primary, created_at)
        SELECT %(org_id)s, id, new_id, kind, value, is_first, %(now)s FROM import_addresses
        ON CONFLICT DO NOTHING
        """,
        org_id=org_id,
        now=now,
    )


async def add_addresses(
    conn: Connection, org_id: UUID, now: datetime, *, is_overwriting: bool
) -> tuple[int, int, list[tuple[int, UUID]]]:
    """Store the addresses that nobody has: how many there were, how many were stored, and which known contacts, on
    which lines, have more now.

    One becomes primary if its contact has none of its kind, or when overwriting.
    """
    found = await db.tuples(
        conn,
        """
        WITH wanted AS MATERIALIZED (
            SELECT a.line, a.id, coalesce(r.contact_id, r.new_id) AS contact_id, a.kind, a.value, a.is_first,
                   r.contact_id IS NOT NULL AS is_known
              FROM import_addresses a JOIN import_rows r USING (line)
             WHERE a.owner IS NULL
        ), stored AS (
            INSERT INTO addresses (org_id, id, contact_id, kind, value, is_primary, created_at)
            SELECT %(org_id)s, w.id, w.contact_id, w.kind, w.value,
                   w.is_first AND (NOT w.is_known OR %(is_overwriting)s
                                   OR NOT EXISTS (SELECT FROM addresses x
                                                   WHERE x.org_id = %(org_id)s AND x.contact_id = w.contact_id
                                                     AND x.kind = w.kind AND x.deleted_at IS NULL)),
                   %(now)s
              FROM wanted w
            ON CONFLICT DO NOTHING
            RETURNING id
        )
        SELECT (SELECT count(*) FROM wanted), (SELECT count(*) FROM stored),
               ARRAY (SELECT line FROM wanted WHERE is_known ORDER BY id),
               ARRAY (SELECT contact_id FROM wanted WHERE is_known ORDER BY id)
        """,
        org_id=org_id,
        now=now,
        is_overwriting=is_overwriting,
    )
    wanted, stored, lines, contact_ids = found[0]
    return wanted, stored, list(zip(lines, contact_ids, strict=True))


async def demote_others(conn: Connection, org_id: UUID) -> None:
    """When overwriting: a known contact's address that this batch just gave it is the only primary one of its kind."""
    await db.execute(
        conn,
        """
        UPDATE addresses old SET is_primary = false
          FROM import_addresses a JOIN import_rows r USING (line)
         WHERE a.owner IS NULL AND a.is_first AND r.contact_id IS NOT NULL
           AND old.org_id = %(org_id)s
           AND old.contact_id = ANY (ARRAY (SELECT contact_id FROM import_rows WHERE contact_id IS NOT NULL))
           AND old.contact_id = r.contact_id AND old.kind = a.kind AND old.id <> a.id AND old.deleted_at IS NULL
           AND old.is_primary
        """,
        org_id=org_id,
    )


async def fill_empty(conn: Connection, org_id: UUID, round_: int, now: datetime) -> list[tuple[int, UUID]]:
    """Known contacts take what they have not, attribute by attribute; the lines and contacts that changed."""
    found = await db.tuples(
        conn,
        """
        UPDATE contacts c
           SET first_name = coalesce(c.first_name, r.first_name), last_name = coalesce(c.last_name, r.last_name),
               company = coalesce(c.company, r.company), language = coalesce(c.language, r.language),
               timezone = coalesce(c.timezone, r.timezone), country = coalesce(c.country, r.country),
               preferred_channel = coalesce(c.preferred_channel, r.preferred_channel),
               attributes = r.attributes || c.attributes, updated_at = %(now)s
          FROM import_rows r
         WHERE c.org_id = %(org_id)s AND c.id = r.contact_id AND r.round = %(round)s
           AND c.id = ANY (ARRAY (SELECT contact_id FROM import_rows WHERE round = %(round)s))
           AND (c.first_name IS NULL AND r.first_name IS NOT NULL OR c.last_name IS NULL AND r.last_name IS NOT NULL
                OR c.company IS NULL AND r.company IS NOT NULL OR c.language IS NULL AND r.language IS NOT NULL
                OR c.timezone IS NULL AND r.timezone IS NOT NULL OR c.country IS NULL AND r.country IS NOT NULL
                OR c.preferred_channel IS NULL AND r.preferred_channel IS NOT NULL
                OR r.attributes || c.attributes <> c.attributes)
        RETURNING r.line, c.id
        """,
        org_id=org_id,
        now=now,
        round=round_,
    )
    return [(line, contact_id) for line, contact_id in found]


async def overwrite(conn: Connection, org_id: UUID, round_: int, now: datetime) -> list[tuple[int, UUID]]:
    """Known contacts take all that the lines say; what a line leaves empty stays."""
    found = await db.tuples(
        conn,
        """
        UPDATE contacts c
           SET first_name = coalesce(r.first_name, c.first_name), last_name = coalesce(r.last_name, c.last_name),
               company = coalesce(r.company, c.company), language = coalesce(r.language, c.language),
               timezone = coalesce(r.timezone, c.timezone), country = coalesce(r.country, c.country),
               preferred_channel = coalesce(r.preferred_channel, c.preferred_channel),
               attributes = c.attributes || r.attributes, updated_at = %(now)s
          FROM import_rows r
         WHERE c.org_id = %(org_id)s AND c.id = r.contact_id AND r.round = %(round)s
           AND c.id = ANY (ARRAY (SELECT contact_id FROM import_rows WHERE round = %(round)s))
           AND (r.first_name <> coalesce(c.first_name, '') OR r.last_name <> coalesce(c.last_name, '')
                OR r.company <> coalesce(c.company, '') OR r.language <> coalesce(c.language, '')
                OR r.timezone <> coalesce(c.timezone, '') OR r.country <> coalesce(c.country, '')
                OR r.preferred_channel <> coalesce(c.preferred_channel, '')
                OR c.attributes || r.attributes <> c.attributes)
        RETURNING r.line, c.id
        """,
        org_id=org_id,
        now=now,
        round=round_,
    )
    return [(line, contact_id) for line, contact_id in found]


async def join_group(conn: Connection, org_id: UUID, group_id: UUID, now: datetime) -> None:
    """Everybody of the batch is in the group."""
    await db.execute(
        conn,
        """
        INSERT INTO group_members (org_id, group_id, contact_id, added_at)
        SELECT %(org_id)s, %(group_id)s, coalesce(r.contact_id, r.new_id), %(now)s FROM import_rows r
        ON CONFLICT DO NOTHING
        """,
        org_id=org_id,
        group_id=group_id,
        now=now,
    )


async def record_consents(
    conn: Connection, org_id: UUID, source: str, recorded_by: str, now: datetime
) -> None:
    """Append what is news: a yes where nothing is known, a no where nothing or a yes is. A withdrawal stays one."""
    await db.execute(
        conn,
        """
        WITH news AS (
            INSERT INTO consent_states (org_id, channel, address, is_given, at)
            SELECT %(org_id)s, channel, address, is_given, %(now)s FROM import_consents
            ON CONFLICT (org_id, channel, address) DO UPDATE SET is_given = false, at = excluded.at
             WHERE consent_states.is_given AND NOT excluded.is_given
            RETURNING channel, address
        )
        INSERT INTO consents (org_id, id, contact_id, channel, address, is_given, source, wording, at, recorded_by)
        SELECT %(org_id)s, c.id, coalesce(r.contact_id, r.new_id), c.channel, c.address, c.is_given, %(source)s,
               c.wording, %(now)s, %(recorded_by)s
          FROM import_consents c
          JOIN news ON news.channel = c.channel AND news.address = c.address
          JOIN import_rows r ON r.line = c.line
        ON CONFLICT DO NOTHING
        """,
        org_id=org_id,
        source=source,
        recorded_by=recorded_by,
        now=now,
    )


async def add_errors(conn: Connection, org_id: UUID, import_id: UUID, errors: Sequence[LineError]) -> None:
    """List refused lines; one that is listed already stays as it is."""
    await db.execute(
        conn,
        """
        INSERT INTO import_errors (org_id, import_id, line, field, code, reason, content)
        SELECT %(org_id)s, %(import_id)s, x.line, x.field, x.code, x.reason, x.content
          FROM unnest(%(lines)s::bigint[], %(fields)s::text[], %(codes)s::text[], %(reasons)s::text[],
                      %(contents)s::text[]) AS x (line, field, code, reason, content)
        ON CONFLICT DO NOTHING
        """,
        org_id=org_id,
        import_id=import_id,
        lines=[error.line for error in errors],
        fields=[error.field for error in errors],
        codes=[error.code for error in errors],
        reasons=[error.reason for error in errors],
        contents=[error.content for error in errors],
    )
