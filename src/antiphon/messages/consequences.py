"""What follows from outcomes and receipts beyond the message itself: a blocked lane, a paused sender, an address that
must not be used any more."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta
from typing import TypedDict, Unpack
from uuid import UUID

from antiphon.contacts import consent as contacts
from antiphon.contacts.model import SuppressionReason
from antiphon.core.channel import Channel
from antiphon.core.db import Connection
from antiphon.messages import lanes, withdrawal
from antiphon.messages.lanes import Owned
from antiphon.messages.ledger import Locked
from antiphon.messages.record import Told
from antiphon.organizations.model import Actor
from antiphon.providers.contract import Accepted, AccountFault, Receipt, Rejected, Throttled
from antiphon.senders import service as senders

SHORTEST_BLOCK = timedelta(seconds=1)
LONGEST_BLOCK = timedelta(hours=1)
USUAL_BLOCK = timedelta(seconds=30)


async def of_outcomes(conn: Connection, lane: Owned, batch: list[Told]) -> None:
    """Block, pause, open or close an incident, suppress: in the transaction that records the outcomes."""
    blocks = [
        t.at + clamped(t.outcome.after)
        for t in batch
        if isinstance(t.outcome, Throttled) and t.outcome.scope == "sender"
    ]
    if blocks:
        await lanes.block_lane(conn, lane.org_id, lane.id, max(blocks), "throttled by the provider")
    fault = next((t.outcome for t in batch if isinstance(t.outcome, AccountFault)), None)
    if fault is not None:
        await lanes.pause_lane(conn, lane.org_id, lane.id, f"{fault.code}: {fault.reason}")
        await senders.open_incident(
            conn, lane.org_id, "sender", lane.id, "account", f"{fault.code}: {fault.reason}"
        )
    elif any(isinstance(t.outcome, Accepted) for t in batch):
        await senders.close_incident(conn, lane.org_id, lane.id, "account")
    for told in batch:
        if isinstance(told.outcome, Rejected):
            await _forbid(conn, lane, told, told.outcome)


def clamped(after: timedelta | None) -> timedelta:
    """How long to be silent: what the provider said, between a second and an hour; 30 s when it did not say."""
    return USUAL_BLOCK if after is None else max(SHORTEST_BLOCK, min(after, LONGEST_BLOCK))


async def _forbid(conn: Connection, lane: Owned, told: Told, outcome: Rejected) -> None:
    words = f"{outcome.code}: {outcome.reason}"
    channel, claimed = Channel(lane.channel), told.claimed
    if outcome.withdraws_consent:
        await withdraw(conn, lane.org_id, channel, claimed.address, words, claimed.message_id)
    if outcome.suppress:
        until = None if outcome.suppress_for is None else told.at + outcome.suppress_for
        await forbid(
            conn, lane.org_id, channel, claimed.address, "not_reachable",
            detail=words, message_id=claimed.message_id, until=until,
        )  # fmt: skip


REASONS: dict[str, SuppressionReason] = {
    "bounced": "hard_bounce",
    "complained": "complaint",
    "unsubscribed": "opt_out",
}
"""What a receipt says of an address by its status alone."""


async def of_receipt(conn: Connection, org_id: UUID, held: Locked, receipt: Receipt, at: datetime) -> None:
    """What a receipt says of the address beyond its message; once, when it is news: a person may lift it again."""
    channel, words = Channel(held.channel), receipt.reason or receipt.code or receipt.status
    if receipt.withdraws_consent:
        await withdraw(conn, org_id, channel, held.address, words, held.row.id)
    if receipt.suppress or receipt.status in REASONS:
        until = None if receipt.suppress_for is None else at + receipt.suppress_for
        await forbid(
            conn, org_id, channel, held.address, REASONS.get(receipt.status, "not_reachable"),
            detail=words, message_id=held.row.id, until=until,
        )  # fmt: skip


class Said(TypedDict):
    """In which words, about which message, and when it ends by itself."""

    detail: str
    message_id: UUID
    until: datetime | None


async def forbid(
    conn: Connection,
    org_id: UUID,
    channel: Channel,
    address: str,
    reason: SuppressionReason,
    **said: Unpack[Said],
) -> None:
    """The provider says that this address must not be used, for good or until a time."""
    await withdrawal.suppress(
        conn, Actor.system(org_id, "provider"), channel, address, reason, source="provider",
        detail=_line(said["detail"]), message_id=said["message_id"], until=said["until"],
    )  # fmt: skip


async def withdraw(
    conn: Connection, org_id: UUID, channel: Channel, address: str, detail: str, message_id: UUID
) -> None:
    """The contact told the provider that they want no marketing; what else is due to them still goes.

    Consent is a contact's: an address that is nobody's by now is suppressed instead, so that the word is kept.
    """
    actor = Actor.system(org_id, "provider")
    owner = await contacts.find_owner(conn, actor, channel, address)
    if owner is None:
        await forbid(
            conn, org_id, channel, address, "opt_out", detail=detail, message_id=message_id, until=None
        )
        return
    await withdrawal.record_consent(
        conn, actor, owner, channel, address, is_given=False, source="provider", wording=_line(detail)
    )


def _line(words: str) -> str:
    """A provider's words as a line that may be stored, however long and whatever they hold."""
    printable = "".join(letter if letter.isprintable() else " " for letter in words)
    return unicodedata.normalize("NFC", printable)[:500]
