"""What follows from outcomes and receipts beyond the message itself: a blocked lane, a paused sender, an address that
must not be used any more."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from antiphon.contacts.model import SuppressionReason
from antiphon.core.channel import Channel
from antiphon.core.db import Connection
from antiphon.messages import lanes, withdrawal
from antiphon.messages.lanes import Owned
from antiphon.messages.record import Told
from antiphon.organizations.model import Actor
from antiphon.providers.contract import Accepted, AccountFault, Rejected, Throttled
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
        if isinstance(told.outcome, Rejected) and (told.outcome.suppress or told.outcome.withdraws_consent):
            await _forbid(conn, lane, told, told.outcome)


def clamped(after: timedelta | None) -> timedelta:
    """How long to be silent: what the provider said, between a second and an hour; 30 s when it did not say."""
    return USUAL_BLOCK if after is None else max(SHORTEST_BLOCK, min(after, LONGEST_BLOCK))


async def _forbid(conn: Connection, lane: Owned, told: Told, outcome: Rejected) -> None:
    await forbid_address(
        conn, lane.org_id, Channel(lane.channel), told.claimed.address, message_id=told.claimed.message_id,
        is_withdrawal=outcome.withdraws_consent, detail=f"{outcome.code}: {outcome.reason}",
    )  # fmt: skip


async def forbid_address(
    conn: Connection,
    org_id: UUID,
    channel: Channel,
    address: str,
    *,
    message_id: UUID,
    is_withdrawal: bool,
    detail: str,
) -> None:
    """The provider says that this address must not be used, or that its owner said no."""
    actor = Actor.system(org_id, "provider")
    reason: SuppressionReason = "opt_out" if is_withdrawal else "not_reachable"
    await withdrawal.suppress(
        conn,
        actor,
        channel,
        address,
        reason,
        source="provider",
        detail=detail,
        message_id=message_id,
    )


async def forbid_after_receipt(
    conn: Connection, org_id: UUID, channel: Channel, address: str, status: str, message_id: UUID, detail: str
) -> None:
    """A hard bounce, a complaint or an unsubscribe that a receipt told."""
    reasons: dict[str, SuppressionReason] = {
        "bounced": "hard_bounce",
        "complained": "complaint",
        "unsubscribed": "opt_out",
    }
    await withdrawal.suppress(
        conn, Actor.system(org_id, "provider"), channel, address, reasons.get(status, "not_reachable"),
        source="provider", detail=detail, message_id=message_id,
    )  # fmt: skip
