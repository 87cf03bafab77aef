"""Whoever forbids also settles what waits, in the same transaction.

An opt-out that only wrote a suppression would race a claim with an older snapshot. The queue rows of the address are
settled here, so the row lock orders the two: once this has committed, nothing is claimed for the address any more.
"""

from __future__ import annotations

from uuid import UUID

from antiphon.contacts import consent
from antiphon.contacts.model import SuppressionReason
from antiphon.core import db
from antiphon.core.channel import Channel
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
    *,
    source: str,
    detail: str | None = None,
    message_id: UUID | None = None,
) -> int:
    """Never write to this address on this channel again; returns how many waiting messages
    were skipped."""
    await consent.suppress(
        conn,
        actor,
        channel,
        address,
        reason,
        source=source,
        detail=detail,
        message_id=message_id,
    )
    return await settle_waiting(conn, actor.org_id, channel, address, "suppressed")


async def settle_waiting(conn: Connection, org_id: UUID, channel: Channel, address: str, reason: str) -> int:
    """Skip what waits for this address; a message whose call is under way cannot be called back."""
    found = await db.tuples(conn, TAKE_WAITING, org_id=org_id, channel=channel, address=address)
    at = now()
    facts = [
        Fact(message_id=id_, kind="skipped", key="skipped", at=at, source="dispatch", reason=reason)
        for (id_,) in found
    ]
    await ledger.learn(conn, org_id, facts)
    return len(found)


TAKE_WAITING = """
    DELETE FROM outbox o
     WHERE o.org_id = %(org_id)s AND o.state = 0 AND o.channel = %(channel)s AND o.address = %(address)s
       AND o.message_id = ANY (ARRAY(
           SELECT m.id FROM addresses a JOIN messages m ON m.org_id = a.org_id AND m.contact_id = a.contact_id
            WHERE a.org_id = %(org_id)s AND a.value = %(address)s AND m.status IN ('scheduled', 'unknown')))
    RETURNING o.message_id
"""
