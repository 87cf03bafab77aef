"""Whoever forbids also settles what waits, in the same transaction.

An opt-out that only wrote a suppression would race a claim with an older snapshot. The queue rows of the address are
settled here, so the row lock orders the two: once this has committed, nothing is claimed for the address any more.
"""

from __future__ import annotations

from typing import Unpack
from uuid import UUID

from antiphon.contacts import consent
from antiphon.contacts.consent import Evidence
from antiphon.contacts.model import Consent, SuppressionReason
from antiphon.core import db
from antiphon.core.channel import ADDRESS_KIND, Channel, Purpose
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.messages import ledger
from antiphon.messages.model import Fact
from antiphon.organizations.model import Actor


async def suppress(
    conn: Connection,
    actor: Actor,
    channel: Channel,
    address: str,
    reason: SuppressionReason,
    **evidence: Unpack[Evidence],
) -> int:
    """Do not write to this address on this channel again, or not before the evidence's `until`; returns how many
    waiting messages were skipped."""
    suppression = await consent.suppress(conn, actor, channel, address, reason, **evidence)
    return await settle_waiting(conn, actor.org_id, channel, suppression.address, "suppressed", list(Purpose))


async def record_consent(
    conn: Connection,
    actor: Actor,
    contact_id: UUID,
    channel: Channel,
    address: str | None,
    is_given: bool,
    source: str,
    wording: str | None = None,
) -> Consent:
    """Append that a contact agreed, or withdrew: then the marketing that waits for the address is skipped. Raises as
    `contacts.consent.record_consent` does."""
    recorded = await consent.record_consent(
        conn, actor, contact_id, channel, address, is_given, source, wording
    )
    if not is_given:
        await settle_waiting(conn, actor.org_id, channel, recorded.address, "no_consent", [Purpose.MARKETING])
    return recorded


async def settle_waiting(
    conn: Connection, org_id: UUID, channel: Channel, address: str, reason: str, purposes: list[Purpose]
) -> int:
    """Skip what waits for this address; a message whose call is under way cannot be called back.

    What waits for an address that its contact has no more is skipped by the claim, which asks the same question.
    """
    found = await db.tuples(
        conn, WAITING, org_id=org_id, channel=channel, kind=ADDRESS_KIND[channel], address=address,
        purposes=[str(purpose) for purpose in purposes],
    )  # fmt: skip
    locked = await ledger.lock(conn, org_id, (row[0] for row in found))
    doubted = await db.tuples(conn, DOUBT_WAITING, org_id=org_id, ids=sorted(locked), at=(at := now()))
    taken = await db.tuples(conn, TAKE_WAITING, org_id=org_id, ids=sorted(locked))
    facts = [
        Fact(message_id=id_, kind="skipped", key="skipped", at=at, source="dispatch", reason=reason)
        for (id_,) in taken
    ]
    facts += [
        Fact(
            message_id=id_, kind="unknown", key=f"{reason}:{attempt_no}", at=at, source="dispatch", reason=reason,
            detail="it may have been sent before, and may not be sent again to find out",
        )
        for id_, attempt_no in doubted
    ]  # fmt: skip
    await ledger.write(conn, org_id, ledger.settle(locked, facts))
    return len(taken)


WAITING = """
    SELECT o.message_id
      FROM addresses a
      JOIN messages m ON m.org_id = a.org_id AND m.contact_id = a.contact_id AND m.status IN ('scheduled', 'unknown')
      JOIN outbox o ON o.org_id = m.org_id AND o.message_id = m.id
     WHERE a.org_id = %(org_id)s AND a.kind = %(kind)s AND a.value = %(address)s AND a.deleted_at IS NULL
       AND o.state = 0 AND o.channel = %(channel)s AND o.address = %(address)s
       AND o.purpose = ANY(%(purposes)s::text[])
"""

# What is tried again because nobody knows whether it was sent: it is not, and so it stays in doubt.
DOUBT_WAITING = """
    UPDATE outbox o SET state = 2, due_at = %(at)s, wait_reason = 'unknown', resends = o.resends + 1
     WHERE o.org_id = %(org_id)s AND o.state = 0 AND o.message_id = ANY(%(ids)s::uuid[])
       AND o.attempt_no > 0
       AND EXISTS (SELECT FROM attempts a WHERE a.org_id = %(org_id)s AND a.message_id = o.message_id
                      AND (a.outcome IS NULL OR a.outcome = 'unknown'))
    RETURNING o.message_id, o.attempt_no
"""

TAKE_WAITING = """
    DELETE FROM outbox o
     WHERE o.org_id = %(org_id)s AND o.state = 0 AND o.message_id = ANY(%(ids)s::uuid[])
    RETURNING o.message_id
"""
