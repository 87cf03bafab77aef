"""A campaign to a group: made and launched as a person would, without the API in between."""

from __future__ import annotations

from uuid import UUID

from antiphon.campaigns import service as campaigns
from antiphon.campaigns.model import Campaign, NewCampaign
from antiphon.contacts.audience import Audience
from antiphon.core.db import Database
from antiphon.organizations.model import Actor
from antiphon.senders.model import Sender

TEXT = "Hallo {{ firstName }}, in einer Woche geht es los. " + "Wir freuen uns auf dich. " * 10


async def draft(app: Database, org_id: UUID, sender: Sender, group_id: UUID) -> UUID:
    """A draft to everybody in the group."""
    new = NewCampaign(name="bench", sender=str(sender.id), audience=Audience(groups=[group_id]), text=TEXT)
    async with app.transaction(org_id) as conn:
        return (await campaigns.create(conn, Actor.operator(org_id), new)).id


async def launch(app: Database, org_id: UUID, campaign_id: UUID) -> None:
    """Start it; a worker does the rest."""
    async with app.transaction(org_id) as conn:
        await campaigns.launch(conn, Actor.operator(org_id), campaign_id)


async def get(app: Database, org_id: UUID, campaign_id: UUID) -> Campaign:
    """How it stands."""
    async with app.transaction(org_id, read_only=True) as conn:
        return await campaigns.get(conn, Actor.operator(org_id), campaign_id)
