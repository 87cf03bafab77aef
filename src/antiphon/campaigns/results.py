"""What became of each recipient of a campaign: lists by key, and the same as CSV that a spreadsheet can open safely."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import msgspec
from msgspec import Struct

from antiphon.campaigns import queries
from antiphon.campaigns.model import Kind
from antiphon.contacts.model import search_patterns
from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.core.errors import Invalid
from antiphon.core.paging import Page, cut, decode_cursor
from antiphon.messages import service as messages
from antiphon.messages.model import FUNNEL_STAGES
from antiphon.organizations.model import Actor

EXPORT_PAGE = 2_000


class Result(Struct, frozen=True, kw_only=True):
    """One recipient: their message's status, the stage it is stuck at, why, and when each thing happened."""

    message_id: UUID
    contact_id: UUID | None
    first_name: str | None
    last_name: str | None
    address: str
    status: str
    stage: str
    reason: str
    code: str | None
    detail: str | None
    attempts: int
    scheduled_for: datetime | None
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    clicked_at: datetime | None
    replied_at: datetime | None
    closed_at: datetime | None
    failed_at: datetime | None
    bounced_at: datetime | None


class Wanted(Struct, frozen=True, kw_only=True):
    """What the list is narrowed to. `stage` is where a message is stuck, `reached` the least it has reached; `search`
    is a part of the name or address."""

    status: list[str] | None = None
    stage: str | None = None
    reached: str | None = None
    reason: str | None = None
    search: str | None = None


async def page(
    conn: Connection,
    actor: Actor,
    campaign_id: UUID,
    wanted: Wanted,
    limit: int = 50,
    cursor: str | None = None,
    kind: Kind | None = None,
) -> Page[Result]:
    """A page of a campaign's recipients, in the order in which their messages were made. Raises NotFound, Invalid."""
    await queries.get(conn, actor.org_id, campaign_id, kind)
    found = await db.rows(
        conn,
        Result,
        RESULTS,
        org_id=actor.org_id,
        campaign_id=campaign_id,
        after=decode_cursor(cursor, UUID)[0] if cursor else None,
        statuses=messages.statuses(wanted.status),
        stage=wanted.stage,
        stages=stages_from(wanted.reached),
        reason=wanted.reason,
        patterns=search_patterns(wanted.search),
        limit=limit + 1,
    )
    return cut(found, limit, lambda result: (result.message_id,))


def stages_from(reached: str | None) -> list[str] | None:
    """The stages of those who reached a funnel stage: it and all beyond. Raises Invalid."""
    if reached is None:
        return None
    if reached not in FUNNEL_STAGES:
        raise Invalid.field(
            "reached", f"is no funnel stage; use one of {', '.join(FUNNEL_STAGES)}", reached[:80]
        )
    return list(FUNNEL_STAGES[FUNNEL_STAGES.index(reached) :])


RESULTS: LiteralString = """
    SELECT m.id AS message_id, m.contact_id, c.first_name, c.last_name, m.address,
           CASE WHEN o.state = 1 AND m.status = 'scheduled' THEN 'sending' ELSE m.status END AS status, m.stage,
           m.reason, m.code, m.detail, m.attempt_no AS attempts, coalesce(o.due_at, m.scheduled_for) AS scheduled_for,
           m.sent_at, m.delivered_at, m.read_at, m.clicked_at, m.replied_at, m.closed_at, m.failed_at, m.bounced_at
      FROM messages m
      LEFT JOIN contacts c ON c.org_id = %(org_id)s AND c.id = m.contact_id
      LEFT JOIN outbox o ON o.org_id = %(org_id)s AND o.message_id = m.id
     WHERE m.org_id = %(org_id)s AND m.campaign_id = %(campaign_id)s AND m.direction = 'out'
       AND (%(after)s::uuid IS NULL OR m.id > %(after)s)
       AND (%(statuses)s::text[] IS NULL
            OR CASE WHEN o.state = 1 AND m.status = 'scheduled' THEN 'sending' ELSE m.status END = ANY (%(statuses)s))
       AND (%(stage)s::text IS NULL OR m.stage = %(stage)s)
       AND (%(stages)s::text[] IS NULL OR m.stage = ANY (%(stages)s))
       AND (%(reason)s::text IS NULL OR m.reason = %(reason)s)
       AND (cardinality(%(patterns)s::text[]) = 0
            OR (c.search_text || ' ' || m.address) LIKE ALL (%(patterns)s::text[]))
     ORDER BY m.id
     LIMIT %(limit)s
"""


# ---- as CSV --------------------------------------------------------------------------------------


async def csv_lines(read: Callable[[str | None], Awaitable[Page[Result]]]) -> AsyncIterator[bytes]:
    """The header and then a part for each page that `read` gives; each page may be a transaction of its own."""
    yield _lines([list(Result.__struct_fields__)])
    cursor: str | None = None
    while True:
        found = await read(cursor)
        if found.items:
            yield _lines([[safe_cell(value) for value in msgspec.structs.astuple(r)] for r in found.items])
        cursor = found.next
        if cursor is None:
            return


def _lines(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def safe_cell(value: object) -> str:
    """A value as a cell that no spreadsheet takes for a formula: what could begin one gets an apostrophe in front. A
    phone number stays as it is."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    text = str(value)
    if text[:1] in {"=", "+", "-", "@", "\t", "\r", "\n"} and not (text[0] == "+" and text[1:].isdigit()):
        return "'" + text
    return text
