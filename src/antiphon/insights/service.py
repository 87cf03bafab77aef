"""Funnels: of one campaign, and of all that a filter means together."""

from __future__ import annotations

from uuid import UUID

import msgspec

from antiphon.campaigns import service as campaigns
from antiphon.campaigns.model import Kind
from antiphon.campaigns.service import Wanted
from antiphon.core.db import Connection
from antiphon.insights import queries
from antiphon.messages import funnel
from antiphon.messages.funnel import Funnel
from antiphon.organizations.model import Actor


class CombinedFunnel(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the recipients of several campaigns. Who is in two of them counts twice."""

    campaigns: int
    funnel: Funnel


async def campaign_funnel(
    conn: Connection, actor: Actor, campaign_id: UUID, kind: Kind | None = None
) -> Funnel:
    """How far a campaign's messages have got at this instant, and why not further. Raises NotFound."""
    await campaigns.get(conn, actor, campaign_id, kind)
    return funnel.funnel_of(await funnel.read(conn, actor.org_id, campaign_id))


async def combined_funnel(conn: Connection, actor: Actor, wanted: Wanted) -> CombinedFunnel:
    """The same over all campaigns that the filter means."""
    filtered = await campaigns.filter_of(conn, actor, wanted)
    return CombinedFunnel(
        campaigns=await queries.count_campaigns(conn, actor.org_id, filtered),
        funnel=funnel.funnel_of(await queries.counts(conn, actor.org_id, filtered)),
    )
