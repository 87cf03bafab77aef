"""Whom a campaign is for: groups and contacts, minus exclusions, a page at a time by contact id.

`stage_audience` fills the temporary table `audience_page` of the caller's transaction, so that the next statement can
join it: nothing of a million people travels through Python.
"""

from __future__ import annotations

from typing import LiteralString
from uuid import UUID

from msgspec import Struct

from antiphon.core import db
from antiphon.core.channel import ADDRESS_KIND, Channel
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, FieldError, Invalid

CREATE_AUDIENCE_PAGE: LiteralString = """
    CREATE TEMP TABLE IF NOT EXISTS audience_page (
        contact_id uuid, address text, language text, is_active boolean, variables jsonb,
        template_version_id uuid, text text
    ) ON COMMIT DELETE ROWS
"""
# An organization that the statistics do not know yet seems to have one row, so any index that begins with it seems as
# good as the right one, and what should be a probe scans all of it. A generic plan asks for the average instead.
# And what joins thousands of rows that the planner takes for ten must not become a loop in a loop.
PLAN_FOR_ANYBODY: LiteralString = (
    "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_nestloop = off"
)
LOOPS_AGAIN: LiteralString = "SET LOCAL enable_nestloop = on"


class Audience(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Groups and contacts, minus groups and contacts. Each person once, however many ways lead to them."""

    groups: list[UUID] = []
    contacts: list[UUID] = []
    exclude_groups: list[UUID] = []
    exclude_contacts: list[UUID] = []


FIRST = UUID(int=0)


async def stage_audience(
    conn: Connection,
    org_id: UUID,
    audience: Audience,
    channel: Channel,
    after: UUID | None,
    limit: int,
) -> tuple[int, UUID | None]:
    """Fill `audience_page` with the next page; returns how many rows it has and the `after` of the page that follows.

    Its columns: `contact_id`, `address` (the primary one of the channel's kind, '' when the contact has none),
    `language`, `is_active`, and `variables`: the contact's attributes and firstName, lastName, email, phone, company,
    those that it has; `template_version_id` and `text` are a campaign's to fill. Up to `limit` people are looked at;
    excluded and deleted ones leave gaps, so a page may be short or empty. The end is None, never an empty page.
    """
    await conn.execute(PLAN_FOR_ANYBODY, prepare=False)
    await db.execute(conn, CREATE_AUDIENCE_PAGE)
    await db.execute(conn, "DELETE FROM audience_page")
    found = await db.tuples(
        conn,
        STAGE,
        org_id=org_id,
        kind=ADDRESS_KIND[channel],
        after=after or FIRST,
        limit=limit,
        groups=audience.groups,
        contacts=audience.contacts,
        exclude_groups=audience.exclude_groups,
        exclude_contacts=audience.exclude_contacts,
    )
    await conn.execute(LOOPS_AGAIN, prepare=False)
    staged, last = found[0]
    return staged, last


# A page's people and addresses are found by `= ANY (ARRAY …)`, one walk along each index, and put together by a hash;
# OFFSET 0 keeps the question after exclusions a probe, however large an excluded group is.
STAGE: LiteralString = """
    WITH candidate AS MATERIALIZED (
        SELECT contact_id FROM (
            SELECT member.contact_id
              FROM unnest(%(groups)s::uuid[]) AS wanted (id)
             CROSS JOIN LATERAL (
                   SELECT m.contact_id FROM group_members m
                    WHERE m.org_id = %(org_id)s AND m.group_id = wanted.id AND m.contact_id > %(after)s
                    ORDER BY m.contact_id
                    LIMIT %(limit)s) AS member
             UNION
            SELECT named.id FROM unnest(%(contacts)s::uuid[]) AS named (id) WHERE named.id > %(after)s
        ) AS everybody
        ORDER BY contact_id
        LIMIT %(limit)s
    ), reached AS (
        SELECT x.contact_id,
               coalesce(min(x.value) FILTER (WHERE x.kind = %(kind)s AND x.is_primary),
                        min(x.value) FILTER (WHERE x.kind = %(kind)s)) AS of_channel,
               coalesce(min(x.value) FILTER (WHERE x.kind = 'email' AND x.is_primary),
                        min(x.value) FILTER (WHERE x.kind = 'email')) AS email,
               coalesce(min(x.value) FILTER (WHERE x.kind = 'phone' AND x.is_primary),
                        min(x.value) FILTER (WHERE x.kind = 'phone')) AS phone
          FROM addresses x
         WHERE x.org_id = %(org_id)s AND x.contact_id = ANY (ARRAY (SELECT contact_id FROM candidate))
           AND x.deleted_at IS NULL
         GROUP BY x.contact_id
    ), staged AS (
        INSERT INTO audience_page (contact_id, address, language, is_active, variables)
        SELECT c.id, coalesce(a.of_channel, ''), c.language, c.is_active,
               c.attributes || jsonb_strip_nulls(jsonb_build_object(
                   'firstName', c.first_name, 'lastName', c.last_name, 'company', c.company,
                   'email', a.email, 'phone', a.phone))
          FROM contacts c
          LEFT JOIN reached a ON a.contact_id = c.id
         WHERE c.org_id = %(org_id)s AND c.id = ANY (ARRAY (SELECT contact_id FROM candidate))
           AND c.deleted_at IS NULL AND c.id <> ALL (%(exclude_contacts)s::uuid[])
           AND NOT EXISTS (SELECT FROM group_members x
                            WHERE x.org_id = %(org_id)s AND x.contact_id = c.id
                              AND x.group_id = ANY (%(exclude_groups)s::uuid[])
                            OFFSET 0)
        ON CONFLICT DO NOTHING
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM staged),
           (SELECT contact_id FROM candidate ORDER BY contact_id DESC LIMIT 1)
"""


async def count_audience(conn: Connection, org_id: UUID, audience: Audience) -> int:
    """How many people `stage_audience` would stage in all, the inactive among them."""
    await conn.execute(PLAN_FOR_ANYBODY, prepare=False)
    counted = await db.value(
        conn,
        """
        SELECT count(*)
          FROM (SELECT m.contact_id FROM group_members m
                 WHERE m.org_id = %(org_id)s AND m.group_id = ANY (%(groups)s::uuid[])
                 UNION
                SELECT named.id FROM unnest(%(contacts)s::uuid[]) AS named (id)) AS everybody
          JOIN contacts c ON c.org_id = %(org_id)s AND c.id = everybody.contact_id AND c.deleted_at IS NULL
         WHERE NOT EXISTS (SELECT FROM group_members x
                            WHERE x.org_id = %(org_id)s AND x.contact_id = c.id
                              AND x.group_id = ANY (%(exclude_groups)s::uuid[]))
           AND c.id <> ALL (%(exclude_contacts)s::uuid[])
        """,
        org_id=org_id,
        groups=audience.groups,
        contacts=audience.contacts,
        exclude_groups=audience.exclude_groups,
        exclude_contacts=audience.exclude_contacts,
    )
    await conn.execute(LOOPS_AGAIN, prepare=False)
    return counted


async def check_audience(conn: Connection, org_id: UUID, audience: Audience) -> None:
    """Every group and contact exists, and every group to send to is active. Raises Invalid or Conflict."""
    groups = await db.tuples(
        conn,
        """
        SELECT id, name, is_active FROM groups
         WHERE org_id = %(org_id)s AND deleted_at IS NULL AND id = ANY (%(ids)s::uuid[])
        """,
        org_id=org_id,
        ids=[*audience.groups, *audience.exclude_groups],
    )
    known_groups = {group_id for group_id, _, _ in groups}
    contacts = await db.tuples(
        conn,
        """
        SELECT id FROM contacts
         WHERE org_id = %(org_id)s AND deleted_at IS NULL AND id = ANY (%(ids)s::uuid[])
        """,
        org_id=org_id,
        ids=[*audience.contacts, *audience.exclude_contacts],
    )
    known_contacts = {contact_id for (contact_id,) in contacts}
    wrong = [
        FieldError(f"{name}[{index}]", "does not exist in this organization", str(wanted))
        for name, known in (
            ("groups", known_groups),
            ("contacts", known_contacts),
            ("exclude_groups", known_groups),
            ("exclude_contacts", known_contacts),
        )
        for index, wanted in enumerate(getattr(audience, name))
        if wanted not in known
    ]
    if wrong:
        raise Invalid("the audience names what does not exist; `errors` says which", wrong)
    inactive = sorted(name for group_id, name, active in groups if not active and group_id in audience.groups)
    if inactive:
        raise Conflict(
            "group_inactive", f"inactive groups cannot be used: {', '.join(inactive)}; activate them first"
        )
