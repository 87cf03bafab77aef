"""What becomes of a campaign whose background work is given up: it says so, and what can go on does."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from msgspec import structs

from antiphon.campaigns import queries, settling
from antiphon.campaigns.jobs import CancelRemaining, ExpandAudience, ExpandUpperHalf, key_of
from antiphon.campaigns.model import Campaign
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.core.errors import NotFound
from antiphon.jobs import service as jobs
from antiphon.jobs.model import Leased, kind_of
from antiphon.messages import lanes
from antiphon.organizations.model import Actor

SETTLE_AGAIN_AFTER = timedelta(minutes=10)


async def pause_campaign(conn: Connection, job: Leased, error: str) -> None:
    """Pause the campaign whose audience could not be brought into the ledger, with the error as its reason. Resumed,
    it begins anew, and makes what is missing: so the other half ends too."""
    campaign = await _campaign_of(conn, job)
    if campaign is None or _is_superseded(job, campaign):
        return
    for half, key in ((ExpandAudience, key_of(campaign)), (ExpandUpperHalf, str(campaign.id))):
        await jobs.cancel_live(
            conn, job.org_id, half, key
        )  # waits for its step, so before the campaign is locked
    campaign = await queries.lock(conn, job.org_id, campaign.id)
    after = campaign.give_up_start(
        f"its audience could not be prepared; resume it to try again: {error}", now()
    )
    if after == campaign:
        return
    await settling.change(conn, Actor.system(job.org_id), campaign, after)
    await lanes.close_gate(conn, job.org_id, "campaign", campaign.id, "paused")


def _is_superseded(job: Leased, campaign: Campaign) -> bool:
    """Was this an expansion for another time than the campaign's?"""
    if job.kind != kind_of(ExpandAudience):
        return False
    return msgspec.convert(job.payload.get("start_at"), datetime | None) != campaign.scheduled_for


async def settle_later(conn: Connection, job: Leased, error: str) -> None:
    """Say that what a canceled campaign left is not settled yet, and try again in a while. Nothing of it leaves
    meanwhile: its gate is closed."""
    campaign = await _campaign_of(conn, job)
    if campaign is None:
        return
    before = await queries.lock(conn, job.org_id, campaign.id)
    reason = f"what waited is not settled as canceled yet; it is tried again every 10 minutes: {error}"
    await settling.change(
        conn,
        Actor.system(job.org_id),
        before,
        structs.replace(before, status_reason=reason, updated_at=now()),
    )
    again = CancelRemaining(campaign_id=campaign.id)
    await jobs.enqueue(conn, job.org_id, again, run_at=now() + SETTLE_AGAIN_AFTER, key=str(campaign.id))


async def _campaign_of(conn: Connection, job: Leased) -> Campaign | None:
    """The campaign that a job is for; None when it was deleted."""
    try:
        return await queries.get(conn, job.org_id, UUID(str(job.payload["campaign_id"])))
    except NotFound:
        return None
