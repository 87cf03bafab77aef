"""Routes of the funnels."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from litestar import Router, get

from antiphon.campaigns.model import Kind, Status
from antiphon.campaigns.service import Wanted
from antiphon.insights import service
from antiphon.insights.service import CombinedFunnel
from antiphon.messages.funnel import Funnel
from antiphon.organizations.access import Permission, Unit, requires


@get("/campaigns/{campaign_id:uuid}/funnel", **requires(Permission.CAMPAIGNS_READ))
async def get_campaign_funnel(unit: Unit, campaign_id: UUID) -> Funnel:
    """How many recipients reached each stage (who went further included), how many are stuck at it, and why the others
    did not get there. `delivered` is what the blast document calls received."""
    return await unit.read(service.campaign_funnel, campaign_id)


@get("/blasts/{campaign_id:uuid}/funnel", **requires(Permission.CAMPAIGNS_READ))
async def get_blast_funnel(unit: Unit, campaign_id: UUID) -> Funnel:
    """The funnel of a blast."""
    return await unit.read(service.campaign_funnel, campaign_id, "blast")


@get("/insights/funnel", **requires(Permission.CAMPAIGNS_READ))
async def get_combined_funnel(
    unit: Unit,
    kind: Kind | None = None,
    status: Status | None = None,
    tag: str | None = None,
    stage: str | None = None,
    channel: str | None = None,
    sender_id: UUID | None = None,
    since: date | None = None,
    until: date | None = None,
) -> CombinedFunnel:
    """One funnel over all campaigns and blasts that the filter means; days are the organization's, both included."""
    wanted = Wanted(
        kind=kind, status=status, tag=tag, stage=stage, channel=channel, sender_id=sender_id, since=since, until=until
    )  # fmt: skip
    return await unit.read(service.combined_funnel, wanted)


router = Router(
    "/", route_handlers=[get_campaign_funnel, get_blast_funnel, get_combined_funnel], tags=["Insights"]
)
