"""Messages from people: once each in the ledger, with the contact they came from and the message that they answer.

Which message a reply answers: the one that the provider names; else the newest one handed over to that address on
that channel in the last 14 days. Only the first reply sets `replied_at`; automatic replies do not.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import msgspec

from antiphon.core import db
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.core.ids import new_id
from antiphon.messages import ledger
from antiphon.messages.model import Fact
from antiphon.providers.contract import Inbound, bounded_name

ANSWERS_WITHIN = timedelta(days=14)


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """An inbound message as it is in the ledger."""

    message_id: UUID
    contact_id: UUID
    answers: UUID | None


def _name(inbound: Inbound) -> str:
    return bounded_name(inbound.provider_message_id or inbound.dedupe_key)


NAME = """
    INSERT INTO provider_ids (org_id, account_id, provider_message_id, message_id)
    VALUES (%(org_id)s, %(account_id)s, %(name)s, %(message_id)s)
        ON CONFLICT DO NOTHING
"""


async def record(
    conn: Connection,
    org_id: UUID,
    account_id: UUID,
    sender_id: UUID | None,
    contact_id: UUID,
    inbound: Inbound,
) -> Received | None:
    """Write an inbound message and say what it answers; None when it has been received before."""
    message_id = new_id()
    named = await db.execute(
        conn, NAME, org_id=org_id, account_id=account_id, name=_name(inbound), message_id=message_id
    )
    if not named:
        return None
    answers = await _answers(conn, org_id, account_id, contact_id, inbound)
    at = min(inbound.at or now(), now())
    await db.execute(
        conn, RECEIVE,
        org_id=org_id, id=message_id, channel=inbound.channel, sender_id=sender_id, contact_id=contact_id,
        address=inbound.sender_address, reply_to_id=answers, is_automatic=inbound.is_automatic,
        provider_message_id=inbound.provider_message_id, at=at, text=inbound.text,
        media=db.json(inbound.media) if inbound.media else None, payload=db.json(inbound.payload),
        metadata=db.json({"kind": inbound.kind}),
    )  # fmt: skip
    if answers is not None and not inbound.is_automatic:
        fact = Fact(
            message_id=answers, kind="replied", key="replied", at=now(), source="webhook", provider_at=inbound.at,
            payload={"reply": str(message_id)},
        )  # fmt: skip
        await ledger.learn(conn, org_id, [fact])
    return Received(message_id=message_id, contact_id=contact_id, answers=answers)


RECEIVE = """
WITH received AS (
    INSERT INTO messages (org_id, id, direction, channel, purpose, origin, caused_by, status, stage, sender_id,
                          contact_id, address, reply_to_id, is_automatic, provider_message_id, day, received_at)
    VALUES (%(org_id)s, %(id)s, 'in', %(channel)s, 'support', 'inbound', 'contact', 'received', 'received',
            %(sender_id)s, %(contact_id)s, %(address)s, %(reply_to_id)s, %(is_automatic)s, %(provider_message_id)s,
            (now() AT TIME ZONE 'UTC')::date, %(at)s)
)
INSERT INTO message_contents (org_id, message_id, text, media, payload, metadata)
VALUES (%(org_id)s, %(id)s, %(text)s, %(media)s, %(payload)s, %(metadata)s)
"""


async def _answers(
    conn: Connection, org_id: UUID, account_id: UUID, contact_id: UUID, inbound: Inbound
) -> UUID | None:
    if inbound.reply_to_provider_id:
        named = await db.value(
            conn, NAMED, org_id=org_id, account_id=account_id, name=inbound.reply_to_provider_id
        )
        if named is not None:
            return named
    return await db.value(
        conn, NEWEST, org_id=org_id, contact_id=contact_id, channel=inbound.channel,
        address=inbound.sender_address, since=now() - ANSWERS_WITHIN,
    )  # fmt: skip


NAMED = """
    SELECT p.message_id
      FROM provider_ids p JOIN messages m ON m.org_id = p.org_id AND m.id = p.message_id AND m.direction = 'out'
     WHERE p.org_id = %(org_id)s AND p.account_id = %(account_id)s AND p.provider_message_id = %(name)s
     ORDER BY p.part LIMIT 1
"""

NEWEST = """
    SELECT m.id FROM messages m
     WHERE m.org_id = %(org_id)s AND m.contact_id = %(contact_id)s AND m.direction = 'out'
       AND m.channel = %(channel)s AND m.address = %(address)s
       AND coalesce(m.sent_at, m.delivered_at, m.read_at) >= %(since)s
     ORDER BY coalesce(m.sent_at, m.delivered_at, m.read_at) DESC LIMIT 1
"""
