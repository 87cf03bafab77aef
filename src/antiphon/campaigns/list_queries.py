"""A campaign's own list of people, and what it and the campaign add to a staged audience page."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from msgspec import Struct

from antiphon.core import db
from antiphon.core.db import Connection


class Recipient(Struct, frozen=True, kw_only=True):
    """A row of the list: whom, and what fills the text for them, or the whole text for them."""

    contact_id: UUID
    variables: dict[str, Any]
    text: str | None


async def add_recipients(
    conn: Connection, org_id: UUID, campaign_id: UUID, recipients: list[Recipient]
) -> set[UUID]:
    """Add people; returns those who were not on the list yet. Of two rows for one person the first stays."""
    found = await db.tuples(
        conn,
        ADD_RECIPIENTS,
        org_id=org_id,
        campaign_id=campaign_id,
        contacts=[r.contact_id for r in recipients],
        variables=db.json_texts([r.variables for r in recipients]),
        texts=[r.text for r in recipients],
    )
    return {contact_id for (contact_id,) in found}


ADD_RECIPIENTS = """
    INSERT INTO campaign_recipients (org_id, campaign_id, contact_id, variables, text)
    SELECT %(org_id)s, %(campaign_id)s, r.contact_id, r.variables::jsonb, r.text
      FROM unnest(%(contacts)s::uuid[], %(variables)s::text[], %(texts)s::text[]) AS r (contact_id, variables, text)
        ON CONFLICT DO NOTHING
    RETURNING contact_id
"""


async def remove_recipients(
    conn: Connection, org_id: UUID, campaign_id: UUID, contact_ids: list[UUID]
) -> int:
    """Take people off the list; returns how many were on it."""
    return await db.execute(
        conn, REMOVE_RECIPIENTS, org_id=org_id, campaign_id=campaign_id, contacts=contact_ids
    )


REMOVE_RECIPIENTS = """
    DELETE FROM campaign_recipients
     WHERE org_id = %(org_id)s AND campaign_id = %(campaign_id)s AND contact_id = ANY (%(contacts)s::uuid[])
"""


async def has_recipients(conn: Connection, org_id: UUID, campaign_id: UUID) -> bool:
    """Whether the campaign has a list of its own."""
    return bool(await db.value(conn, HAS_RECIPIENTS, org_id=org_id, campaign_id=campaign_id))


HAS_RECIPIENTS = """
    SELECT EXISTS (SELECT FROM campaign_recipients WHERE org_id = %(org_id)s AND campaign_id = %(campaign_id)s)
"""


async def has_recipients_without_text(conn: Connection, org_id: UUID, campaign_id: UUID) -> bool:
    """Whether somebody on the list has no text of their own."""
    return bool(await db.value(conn, HAS_RECIPIENTS_WITHOUT_TEXT, org_id=org_id, campaign_id=campaign_id))


HAS_RECIPIENTS_WITHOUT_TEXT = """
    SELECT EXISTS (SELECT FROM campaign_recipients
                    WHERE org_id = %(org_id)s AND campaign_id = %(campaign_id)s AND text IS NULL)
"""


async def count_recipients(conn: Connection, org_id: UUID, campaign_id: UUID) -> int:
    """How many people are on the list."""
    return await db.value(conn, COUNT_RECIPIENTS, org_id=org_id, campaign_id=campaign_id)


COUNT_RECIPIENTS = """
    SELECT count(*) FROM campaign_recipients WHERE org_id = %(org_id)s AND campaign_id = %(campaign_id)s
"""


async def recipients_after(
    conn: Connection, org_id: UUID, campaign_id: UUID, after: UUID, limit: int
) -> list[UUID]:
    """The next people on the list, by contact id."""
    found = await db.tuples(
        conn, RECIPIENTS_AFTER, org_id=org_id, campaign_id=campaign_id, after=after, limit=limit
    )
    return [contact_id for (contact_id,) in found]


RECIPIENTS_AFTER = """
    SELECT contact_id FROM campaign_recipients
     WHERE org_id = %(org_id)s AND campaign_id = %(campaign_id)s AND contact_id > %(after)s
     ORDER BY contact_id
     LIMIT %(limit)s
"""


async def recipients_of(
    conn: Connection, org_id: UUID, campaign_id: UUID, contact_ids: list[UUID]
) -> dict[UUID, Recipient]:
    """Those of these who are on the list, by contact id."""
    found = await db.rows(
        conn, Recipient, RECIPIENTS_OF, org_id=org_id, campaign_id=campaign_id, contacts=contact_ids
    )
    return {recipient.contact_id: recipient for recipient in found}


RECIPIENTS_OF = """
    SELECT contact_id, variables, text FROM campaign_recipients
     WHERE org_id = %(org_id)s AND campaign_id = %(campaign_id)s AND contact_id = ANY (%(contacts)s::uuid[])
"""


async def middle_of_audience(
    conn: Connection, org_id: UUID, campaign_id: UUID, groups: list[UUID]
) -> UUID | None:
    """The contact id that has half of the list and of the groups' members up to it; None where there is nobody."""
    return await db.value(conn, MIDDLE_OF_AUDIENCE, org_id=org_id, campaign_id=campaign_id, groups=groups)


MIDDLE_OF_AUDIENCE = """
    SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY everybody.contact_id)
      FROM (SELECT m.contact_id FROM group_members m
             WHERE m.org_id = %(org_id)s AND m.group_id = ANY (%(groups)s::uuid[])
             UNION ALL
            SELECT r.contact_id FROM campaign_recipients r
             WHERE r.org_id = %(org_id)s AND r.campaign_id = %(campaign_id)s) everybody
"""


async def copy_from_stage(
    conn: Connection,
    org_id: UUID,
    campaign_id: UUID,
    source_id: UUID,
    stages: list[str],
    *,
    reasons: list[str],
    with_text: bool,
) -> int:
    """Put those on the list whose message from another campaign stands at these stages (and, if any is named, for one
    of these reasons), with the variables that its list had for them, and its texts if asked; returns how many."""
    return await db.execute(
        conn, COPY_FROM_STAGE, org_id=org_id, campaign_id=campaign_id, source_id=source_id, stages=stages,
        reasons=reasons, with_text=with_text,
    )  # fmt: skip


COPY_FROM_STAGE = """
    INSERT INTO campaign_recipients (org_id, campaign_id, contact_id, variables, text)
    SELECT %(org_id)s, %(campaign_id)s, m.contact_id, coalesce(r.variables, '{}'),
           CASE WHEN %(with_text)s THEN r.text END
      FROM messages m
      JOIN contacts c ON c.org_id = %(org_id)s AND c.id = m.contact_id AND c.deleted_at IS NULL
      LEFT JOIN campaign_recipients r
        ON r.org_id = %(org_id)s AND r.campaign_id = %(source_id)s AND r.contact_id = m.contact_id
     WHERE m.org_id = %(org_id)s AND m.campaign_id = %(source_id)s AND m.direction = 'out'
       AND m.stage = ANY (%(stages)s::text[])
       AND (cardinality(%(reasons)s::text[]) = 0 OR m.reason = ANY (%(reasons)s::text[]))
        ON CONFLICT DO NOTHING
"""


# ---- the audience page, between contacts and messages --------------------------------------------


async def fill_page(conn: Connection, variables: dict[str, Any], versions: dict[str, UUID]) -> None:
    """Give each staged person the campaign's variables, and the version of their language where there are several."""
    if variables or len(versions) > 1:
        await db.execute(
            conn, FILL_PAGE, variables=db.json(variables),
            versions=db.json({language: str(id_) for language, id_ in versions.items()}),
        )  # fmt: skip


FILL_PAGE = """
    UPDATE audience_page p
       SET variables = p.variables || %(variables)s::jsonb,
           template_version_id = coalesce(%(versions)s::jsonb ->> p.language,
                                          %(versions)s::jsonb ->> split_part(p.language, '-', 1))::uuid
"""


async def fill_page_from_list(conn: Connection, org_id: UUID, campaign_id: UUID) -> None:
    """Give each staged person what the campaign's own list says of them: variables, and the whole text."""
    await db.execute(conn, FILL_PAGE_FROM_LIST, org_id=org_id, campaign_id=campaign_id)


FILL_PAGE_FROM_LIST = """
    UPDATE audience_page p SET variables = p.variables || r.variables, text = r.text
      FROM campaign_recipients r
     WHERE r.org_id = %(org_id)s AND r.campaign_id = %(campaign_id)s AND r.contact_id = p.contact_id
"""
