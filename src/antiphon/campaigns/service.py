"""The verbs of campaigns and blasts. Each loads, decides (`model`), writes, and says so in the audit log and events."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, structs

from antiphon.campaigns import list_queries, model, queries, settling, written
from antiphon.campaigns.jobs import CancelRemaining, ExpandAudience, ExpandUpperHalf, key_of
from antiphon.campaigns.model import Campaign, CampaignChanges, Kind, NewCampaign, Preview, Said
from antiphon.campaigns.queries import Filter
from antiphon.campaigns.settling import complete_settled
from antiphon.contacts import audience as audiences
from antiphon.contacts.audience import Audience
from antiphon.core.channel import needs_consent, parse_channel
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, Invalid
from antiphon.core.ids import new_id
from antiphon.core.paging import Page, cut, decode_cursor
from antiphon.events import service as events
from antiphon.jobs import service as jobs
from antiphon.messages import lanes
from antiphon.organizations import audit
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.senders.model import Sender
from antiphon.templates import service as templates
from antiphon.templates.model import Content, Variable

__all__ = ["complete_settled"]  # how it is decided is in settling.py


async def get(conn: Connection, actor: Actor, campaign_id: UUID, kind: Kind | None = None) -> Campaign:
    """A campaign, of that kind if one is named. Raises NotFound."""
    return await queries.get(conn, actor.org_id, campaign_id, kind)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a list is narrowed to. Days are the organization's; both are included."""

    kind: Kind | None = None
    status: model.Status | None = None
    tag: str | None = None
    stage: str | None = None
    channel: str | None = None
    sender_id: UUID | None = None
    since: date | None = None
    until: date | None = None


async def page(
    conn: Connection, actor: Actor, wanted: Wanted, limit: int = 50, cursor: str | None = None
) -> Page[Campaign]:
    """A page of campaigns, the newest first."""
    before = decode_cursor(cursor, UUID)[0] if cursor else None
    found = await queries.page(conn, actor.org_id, await filter_of(conn, actor, wanted), before, limit + 1)
    return cut(found, limit, lambda campaign: (campaign.id,))


async def filter_of(conn: Connection, actor: Actor, wanted: Wanted) -> Filter:
    """The filter that a request means, its days as the organization's own."""
    timezone = "UTC"
    if wanted.since or wanted.until:
        timezone = (await organizations.get(conn, actor.org_id)).timezone
    since, until = written.days(wanted.since, wanted.until, timezone)
    return Filter(
        kind=wanted.kind, status=wanted.status, tag=wanted.tag, stage=wanted.stage,
        channel=parse_channel(wanted.channel) if wanted.channel else None, sender_id=wanted.sender_id,
        since=since, until=until,
    )  # fmt: skip


# ---- drafts --------------------------------------------------------------------------------------


async def create(conn: Connection, actor: Actor, new: NewCampaign, kind: Kind | None = None) -> Campaign:
    """A draft. Raises Invalid naming what is wrong, NotFound and Conflict for a sender or template not usable."""
    sender = await senders.usable_sender(conn, actor.org_id, new.sender)
    await audiences.check_audience(conn, actor.org_id, new.audience)
    variables = written.check_variables(new.variables)
    template_id, version_id = await choose_content(conn, actor, new, sender, variables)
    at, of_kind = now(), kind or new.kind or "campaign"
    campaign = Campaign(
        id=new_id(), kind=of_kind, name=written.name_of(new, of_kind, at.date()), tag=new.tag,
        follow_up_stage=new.follow_up_stage, category=new.category, priority=new.priority, purpose=new.purpose,
        status="draft", status_reason="", channel=sender.channel, sender_id=sender.id, template_id=template_id,
        template_version_id=version_id, audience=new.audience, variables=variables, rate=written.parse_rate(new.rate),
        scheduled_for=None, latest_start=None, launched_at=None, completed_at=None, canceled_at=None, planned=0,
        is_expanded=False, source_campaign_id=None, source_stage=None, tags=new.tags,
        expected_revenue=written.check_revenue(new.expected_revenue), conversion_goal=new.conversion_goal,
        created_by=actor.label, created_at=at, updated_at=at,
    )  # fmt: skip
    await add(conn, actor, campaign)
    return campaign


async def add(conn: Connection, actor: Actor, campaign: Campaign) -> None:
    """Store a draft that is made, and say so."""
    await queries.add(conn, actor.org_id, campaign)
    await audit.record(conn, actor, "campaign.created", campaign.id, kind=campaign.kind, name=campaign.name)
    await events.emit(conn, actor.org_id, "campaign_created", campaign.id, settling.told(campaign))


async def choose_content(
    conn: Connection, actor: Actor, said: Said, sender: Sender, variables: dict[str, Any]
) -> tuple[UUID | None, UUID | None]:
    """The template, or the version of its own text, that says what is given; neither when nothing is given."""
    if said.template is not None and said.has_own_text:
        raise Invalid.field("text", "give either a template or a text of its own")
    if said.template is not None:
        template = await templates.usable(conn, actor.org_id, said.template)
        if template.channel != sender.channel:
            raise Invalid.field(
                "template",
                f"is for {template.channel}; the sender {sender.name!r} is for {sender.channel}",
                said.template,
            )
        return template.id, None
    if not said.has_own_text:
        return None, None
    known = {name: Variable(sample=value) for name, value in {**variables, **said.samples}.items()}
    content = Content(subject=said.subject, text=said.text, html=said.html, variables=known)
    version = await templates.own_text(conn, actor, sender.channel, content)
    return None, version.id


async def update(conn: Connection, actor: Actor, campaign_id: UUID, changes: CampaignChanges) -> Campaign:
    """Change a draft. Raises Conflict for any other, Invalid naming what is wrong."""
    before = await queries.lock(conn, actor.org_id, campaign_id)
    before.check_draft("changed")
    given = {
        name: value
        for name, value in structs.asdict(changes).items()
        if value is not UNSET and name not in (*Said.__struct_fields__, "sender", "rate")
    }
    if isinstance(changes.audience, Audience):
        await audiences.check_audience(conn, actor.org_id, changes.audience)
    if changes.rate is not UNSET:
        given["rate"] = written.parse_rate(changes.rate)
    if changes.expected_revenue is not UNSET:
        given["expected_revenue"] = written.check_revenue(changes.expected_revenue)
    if changes.variables is not UNSET:
        written.check_variables(changes.variables)
    given |= await _changed_road(conn, actor, before, changes)
    after = structs.replace(before, **given, updated_at=now())
    await queries.save(conn, actor.org_id, after)
    await audit.record(conn, actor, "campaign.updated", campaign_id, changed=sorted(given))
    await events.emit(conn, actor.org_id, "campaign_updated", campaign_id, settling.told(after))
    return after


async def _changed_road(
    conn: Connection, actor: Actor, before: Campaign, changes: CampaignChanges
) -> dict[str, Any]:
    """Sender, channel and content, as far as they change; they must fit each other."""
    name = changes.sender if changes.sender is not UNSET else str(before.sender_id)
    if changes.sender is UNSET and not changes.is_given:
        return {}
    sender = await senders.usable_sender(conn, actor.org_id, name)
    road: dict[str, Any] = {"sender_id": sender.id, "channel": sender.channel}
    if changes.is_given:
        variables = before.variables if changes.variables is UNSET else changes.variables
        template_id, version_id = await choose_content(conn, actor, changes, sender, variables)
        road |= {"template_id": template_id, "template_version_id": version_id}
    elif sender.channel != before.channel and (before.template_id or before.template_version_id):
        raise Invalid.field(
            "sender",
            f"is for {sender.channel}; what it says is for {before.channel}, so give that anew too",
            name,
        )
    return road


async def delete(conn: Connection, actor: Actor, campaign_id: UUID) -> None:
    """Put a campaign out of sight; its messages stay in the ledger. Raises Conflict while it is scheduled or runs."""
    campaign = await queries.lock(conn, actor.org_id, campaign_id)
    campaign.check_deletable()
    await queries.delete(conn, actor.org_id, campaign_id)
    await audit.record(conn, actor, "campaign.deleted", campaign_id, name=campaign.name)
    await events.emit(conn, actor.org_id, "campaign_deleted", campaign_id, settling.told(campaign))


async def preview(conn: Connection, actor: Actor, campaign_id: UUID, kind: Kind | None = None) -> Preview:
    """Whom it would reach now, and why not the others; `seconds` is how long its rate and the sender's would take."""
    campaign = await queries.get(conn, actor.org_id, campaign_id, kind)
    sender = await senders.get_sender(conn, actor.org_id, campaign.sender_id)
    counts = await queries.judge_audience(
        conn, actor.org_id, campaign, needs_consent(campaign.purpose, campaign.channel)
    )
    reachable = counts.get("", 0)
    return Preview(
        recipients=sum(counts.values()), reachable=reachable, no_address=counts.get("no_address", 0),
        inactive=counts.get("inactive", 0), suppressed=counts.get("suppressed", 0),
        no_consent=counts.get("no_consent", 0), seconds=reachable / min(sender.rate, campaign.rate or sender.rate),
    )  # fmt: skip


# ---- under way -----------------------------------------------------------------------------------


async def launch(
    conn: Connection,
    actor: Actor,
    campaign_id: UUID,
    at: datetime | None = None,
    latest_start: datetime | None = None,
) -> Campaign:
    """Start now, or fix when to start. The audience is not counted until then, so later edits to contacts still matter.

    Raises Conflict when it is under way or over, when there is nobody to send to or nothing to say, or when the sender,
    template or a group is not usable.
    """
    before = await queries.lock(conn, actor.org_id, campaign_id)
    after = before.launch(latest_start, now()) if at is None else before.schedule(at, latest_start, now())
    await check_ready(conn, actor, after)
    await settling.change(conn, actor, before, after)
    await _enqueue_expansion(conn, actor, after)
    return after


async def check_ready(conn: Connection, actor: Actor, campaign: Campaign) -> None:
    """Raises what a person must put right before anything of it can be sent."""
    sender = await senders.usable_sender(conn, actor.org_id, str(campaign.sender_id))
    await audiences.check_audience(conn, actor.org_id, campaign.audience)
    named = bool(campaign.audience.groups or campaign.audience.contacts)
    listed = await list_queries.has_recipients(conn, actor.org_id, campaign.id)
    if not named and not listed:
        raise Conflict("nobody", "there is nobody to send to; name groups or contacts, or add recipients")
    if campaign.template_id is not None:
        template = await templates.usable(conn, actor.org_id, str(campaign.template_id))
        if template.channel != sender.channel:
            raise Conflict(
                "channel_differs", f"the template is for {template.channel}, the sender for {sender.channel}"
            )
    elif campaign.template_version_id is None and (
        named or await list_queries.has_recipients_without_text(conn, actor.org_id, campaign.id)
    ):
        raise Conflict(
            "nothing_to_say", "there is no template and no text, and not every recipient has one; give one"
        )


async def _enqueue_expansion(conn: Connection, actor: Actor, campaign: Campaign) -> None:
    """One job for each time that a campaign may start at; a repeat while it lives, or its upper half does, is none:
    the one that lives closes the books."""
    if await jobs.is_live(conn, actor.org_id, ExpandUpperHalf, str(campaign.id)):
        return
    at = campaign.scheduled_for
    await jobs.enqueue(
        conn,
        actor.org_id,
        ExpandAudience(campaign_id=campaign.id, start_at=at),
        run_at=at if campaign.status == "scheduled" else None,
        key=key_of(campaign),
    )


async def unschedule(conn: Connection, actor: Actor, campaign_id: UUID) -> Campaign:
    """Make a scheduled one a draft again. Raises Conflict for any other."""
    before = await queries.lock_against_expansion(conn, actor.org_id, campaign_id)
    after = before.unschedule(now())
    await settling.change(conn, actor, before, after)
    return after


async def pause(conn: Connection, actor: Actor, campaign_id: UUID, reason: str = "") -> Campaign:
    """After this commits nothing of it is claimed; what is on the wire ends. Raises Conflict unless active."""
    before = await queries.lock(conn, actor.org_id, campaign_id)
    after = before.pause(now(), reason)
    await settling.change(conn, actor, before, after)
    await lanes.close_gate(conn, actor.org_id, "campaign", campaign_id, "paused")
    return after


async def resume(conn: Connection, actor: Actor, campaign_id: UUID) -> Campaign:
    """Go on from where it stood; an audience that is not all in the ledger is gone on with. Raises Conflict unless
    paused, or when it lacks what it needs."""
    before = await queries.lock(conn, actor.org_id, campaign_id)
    after = before.resume(now())
    if not after.is_expanded:
        await check_ready(conn, actor, after)
        await _enqueue_expansion(conn, actor, after)
    await settling.change(conn, actor, before, after)
    await lanes.open_gate(conn, actor.org_id, "campaign", campaign_id, now())
    return after


async def cancel(conn: Connection, actor: Actor, campaign_id: UUID, reason: str = "") -> Campaign:
    """End it: after this commits nothing of it is claimed, and a job settles what waits. Raises Conflict when it is a
    draft or over."""
    before = await queries.lock_against_expansion(conn, actor.org_id, campaign_id)
    after = before.cancel(now(), reason)
    await settling.change(conn, actor, before, after)
    await lanes.close_gate(conn, actor.org_id, "campaign", campaign_id, "canceled")
    await jobs.enqueue(conn, actor.org_id, CancelRemaining(campaign_id=campaign_id), key=str(campaign_id))
    return after
