"""What campaigns are made of: senders with lanes, people with phones, groups, blasts; and their jobs, run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import structs

from antiphon.campaigns import jobs, recipients, service
from antiphon.campaigns.jobs import CancelRemaining, ExpandAudience, ExpandUpperHalf
from antiphon.campaigns.model import Campaign, NewCampaign, NewRecipient
from antiphon.contacts import consent, groups
from antiphon.contacts import service as contacts
from antiphon.contacts.audience import Audience
from antiphon.contacts.groups import NewGroup
from antiphon.contacts.model import Contact, NewContact
from antiphon.core import db, ids
from antiphon.core.channel import Channel
from antiphon.core.clock import now
from antiphon.core.crypto import Vault
from antiphon.core.db import Connection
from antiphon.jobs.model import Continue, Done, Handler, Run
from antiphon.messages import lane_service, ledger
from antiphon.messages.model import Fact
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.senders.model import NewAccount, NewSender, Sender, SenderChanges

VAULT = Vault(["a secret key for tests only, 32 letters or more"])


async def sender(
    conn: Connection, actor: Actor, name: str = "Shop", address: str = "+60123456789", rate: float = 100.0
) -> Sender:
    """A WhatsApp sender at WSAPME with a lane."""
    account = await senders.add_account(
        conn, actor, VAULT, NewAccount(provider="wsapme", name=name, credentials={"token": "t0ken"})
    )
    new = NewSender(account_id=account.id, name=name, channel="whatsapp", address=address, rate=rate)
    return await lane_service.add_sender(conn, actor, new)


async def mail_sender(conn: Connection, actor: Actor, name: str = "Mail") -> Sender:
    """An email sender with a lane."""
    account = await senders.add_account(
        conn, actor, VAULT, NewAccount(provider="smtp", name=name, credentials={"host": "mail.example.com"})
    )
    new = NewSender(account_id=account.id, name=name, channel="email", address="shop@example.com")
    return await lane_service.add_sender(conn, actor, new)


async def pause_sender(conn: Connection, actor: Actor, sender_id: UUID) -> None:
    """Nothing may be sent from it."""
    await lane_service.update_sender(conn, actor, sender_id, SenderChanges(is_active=False))


async def contact(
    conn: Connection,
    actor: Actor,
    phone: str | None,
    first_name: str = "Aisha",
    *,
    agrees: bool = True,
    **more: Any,
) -> Contact:
    """Somebody with a phone, who agreed to marketing on WhatsApp."""
    made = await contacts.create(conn, actor, NewContact(phone=phone, first_name=first_name, **more))
    if agrees and phone is not None:
        await consent.record_consent(conn, actor, made.id, Channel.WHATSAPP, None, True, "test", "offers")
    return made


async def people(conn: Connection, actor: Actor, count: int, start: int = 1000) -> list[Contact]:
    """So many who agreed, with phones in a row."""
    return [await contact(conn, actor, f"+6012345{start + n:04d}", f"Name{n}") for n in range(count)]


async def group(conn: Connection, actor: Actor, members: Iterable[Contact], name: str = "Customers") -> UUID:
    """A group of these."""
    made = await groups.create_group(conn, actor, NewGroup(name=name))
    await groups.add_members(conn, actor, made.id, [member.id for member in members])
    return made.id


async def blast(
    conn: Connection, actor: Actor, from_sender: Sender, to: Iterable[UUID] = (), **changes: Any
) -> Campaign:
    """A draft of kind blast to groups, with a text of its own."""
    given: dict[str, Any] = {
        "sender": str(from_sender.id),
        "tag": "Product Launch",
        "follow_up_stage": "Initial",
        "audience": Audience(groups=list(to)),
        "text": "Hello {{ firstName }}",
    }
    return await service.create(conn, actor, NewCampaign(**(given | changes)), "blast")


async def listed(conn: Connection, actor: Actor, campaign: Campaign, *numbers: str) -> None:
    """Put phones on a draft's own list."""
    added = await recipients.add_recipients(conn, actor, campaign.id, [NewRecipient(to=n) for n in numbers])
    assert not added.wrong


async def expand(
    conn: Connection,
    campaign: Campaign,
    org_id: UUID,
    steps: int = 100,
    *,
    page: int = 5_000,
    large: int = 20_000,
) -> dict[str, Any]:
    """Run the expansion, at most so many steps of it; returns the progress it left."""
    job = ExpandAudience(campaign_id=campaign.id, start_at=campaign.scheduled_for, page=page, large=large)
    return await _steps(conn, jobs.expand_audience, job, org_id, steps)


async def expand_upper_half(conn: Connection, org_id: UUID) -> dict[str, Any]:
    """Run the job that a large audience's expansion has asked for."""
    payload = await db.value(
        conn,
        "SELECT payload FROM jobs WHERE org_id = %(org_id)s AND kind = 'expand_upper_half' ORDER BY id DESC LIMIT 1",
        org_id=org_id,
    )
    return await _steps(conn, jobs.expand_upper_half, msgspec.convert(payload, ExpandUpperHalf), org_id, 100)


async def go_on(
    conn: Connection, job: ExpandAudience, org_id: UUID, progress: dict[str, Any]
) -> dict[str, Any]:
    """Run an expansion to its end from where it stood."""
    return await _steps(conn, jobs.expand_audience, job, org_id, 100, progress)


async def _steps(
    conn: Connection,
    handler: Handler,
    job: object,
    org_id: UUID,
    steps: int,
    progress: dict[str, Any] | None = None,
) -> dict[str, Any]:
    progress = progress or {}
    for _ in range(steps):
        outcome = await handler(conn, job, Run(id=ids.new_id(), org_id=org_id, progress=progress))
        if isinstance(outcome, Done):
            return progress | outcome.progress
        progress = outcome.progress
    return progress


async def cancel_rest(conn: Connection, campaign: Campaign, org_id: UUID) -> dict[str, Any]:
    """Run the job that settles what a canceled campaign left, until it ends or wants to wait."""
    progress: dict[str, Any] = {}
    while True:
        run = Run(id=ids.new_id(), org_id=org_id, progress=progress)
        outcome = await jobs.cancel_remaining(conn, CancelRemaining(campaign_id=campaign.id), run)
        if isinstance(outcome, Continue) and outcome.run_at is None:
            progress = outcome.progress
            continue
        return outcome.progress


async def launched(
    conn: Connection, actor: Actor, count: int = 3, **changes: Any
) -> tuple[Campaign, list[UUID]]:
    """A blast to so many, all in the ledger; the ids of its messages in the order of their contacts."""
    shop = await sender(conn, actor)
    members = await people(conn, actor, count)
    draft = await blast(conn, actor, shop, [await group(conn, actor, members)], **changes)
    campaign = await service.launch(conn, actor, draft.id)
    await expand(conn, campaign, actor.org_id)
    return await service.get(conn, actor, campaign.id), await messages_of(conn, actor.org_id, campaign.id)


async def messages_of(conn: Connection, org_id: UUID, campaign_id: UUID) -> list[UUID]:
    """The ids of a campaign's messages, in the order of their contacts."""
    found = await db.tuples(
        conn,
        "SELECT id FROM messages WHERE org_id = %(org_id)s AND campaign_id = %(id)s ORDER BY contact_id",
        org_id=org_id,
        id=campaign_id,
    )
    return [row[0] for row in found]


async def learn(conn: Connection, org_id: UUID, message_id: UUID, *kinds: str, reason: str = "") -> None:
    """Let these facts be known of a message, and let it leave the queue if it was handed over or given up."""
    facts = [
        Fact(message_id=message_id, kind=kind, key=f"{kind}:test", at=now(), source="manual", reason=reason)
        for kind in kinds
    ]
    await ledger.learn(conn, org_id, facts)
    if set(kinds) & {"sent", "failed", "bounced"}:
        await db.execute(
            conn,
            "DELETE FROM outbox WHERE org_id = %(org_id)s AND message_id = %(id)s",
            org_id=org_id,
            id=message_id,
        )


def at_status(campaign: Campaign, status: Any, **changes: Any) -> Campaign:
    """The same campaign, as if it stood there."""
    return structs.replace(campaign, status=status, **changes)


def later(minutes: float) -> datetime:
    """So many minutes from now."""
    return now() + timedelta(minutes=minutes)
