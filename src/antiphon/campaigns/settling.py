"""How a campaign's status changes, whoever changes it, and when it is completed: once its whole audience is in the
ledger and every message is settled, those held in doubt named."""

from __future__ import annotations

from uuid import UUID

from antiphon.campaigns import queries
from antiphon.campaigns.model import Campaign
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.events import service as events
from antiphon.messages import cancelation, funnel
from antiphon.organizations import audit
from antiphon.organizations.model import Actor


async def change(conn: Connection, actor: Actor, before: Campaign, after: Campaign) -> None:
    """Store a new status, and say so in the audit log and to whoever listens."""
    await queries.save_status(conn, actor.org_id, after)
    await audit.record(
        conn, actor, f"campaign.{after.status}", after.id, was=before.status, reason=after.status_reason
    )
    payload = told(after) | {"old_status": before.status, "reason": after.status_reason}
    await events.emit(conn, actor.org_id, "campaign_status_changed", after.id, payload)


def told(campaign: Campaign) -> dict[str, object]:
    """What events say of a campaign."""
    return {
        "id": str(campaign.id),
        "kind": campaign.kind,
        "name": campaign.name,
        "tag": campaign.tag,
        "follow_up_stage": campaign.follow_up_stage,
        "channel": str(campaign.channel),
        "status": campaign.status,
    }


async def close_books(conn: Connection, org_id: UUID, campaign_id: UUID) -> None:
    """The whole audience is in the ledger: fix how many messages there are, and see whether they are settled already.

    The mark comes before the counting, and `complete_settled` locks before it counts: whichever of the two runs last
    sees what the other wrote, so the last receipt of all is never missed.
    """
    await queries.note_expanded(conn, org_id, campaign_id)
    counts = await funnel.read(conn, org_id, campaign_id)
    await queries.note_planned(conn, org_id, campaign_id, sum(count.n for count in counts))
    await complete_settled(conn, org_id, [campaign_id])


async def complete_settled(conn: Connection, org_id: UUID, campaign_ids: list[UUID]) -> list[UUID]:
    """Complete those of these whose audience is in the ledger and whose messages are all settled; returns them.

    Called with the campaigns whose counts a fold has moved, in the fold's transaction.
    """
    completed: list[UUID] = []
    for campaign in await queries.lock_running(conn, org_id, campaign_ids):
        if not campaign.is_expanded:
            continue
        stands = funnel.funnel_of(await funnel.read(conn, org_id, campaign.id))
        if stands.settled < stands.recipients:
            continue
        after = campaign.complete(stands.recipients, stands.held, now())
        await change(conn, Actor.system(org_id), campaign, after)
        if not stands.held:
            await cancelation.drop_gates(conn, org_id, "campaign", campaign.id)
        completed.append(campaign.id)
    return completed
