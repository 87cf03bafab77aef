"""Who is on a campaign's own list: people of a file or a call, or who stand at a stage of an earlier campaign."""

from __future__ import annotations

from uuid import UUID

from msgspec import structs

from antiphon.campaigns import list_queries, model, queries, service, written
from antiphon.campaigns.list_queries import Recipient
from antiphon.campaigns.model import Added, Campaign, Close, FollowUp, MadeFollowUp, NewRecipient, Removed
from antiphon.contacts.addresses import normalize
from antiphon.contacts.audience import Audience
from antiphon.contacts.reaching import Reachable, reach
from antiphon.core.channel import ADDRESS_KIND
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, FieldError, Invalid, NotFound, TooLarge
from antiphon.core.ids import new_id
from antiphon.messages import service as messages
from antiphon.messages.queries import Message
from antiphon.organizations import audit
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders


async def add_recipients(
    conn: Connection, actor: Actor, campaign_id: UUID, people: list[NewRecipient]
) -> Added:
    """Put up to 1,000 people on a draft's list; an address that nobody has becomes a contact.

    Good ones are added though others are wrong; these are named. Of two for one person the first stays.
    """
    if len(people) > model.MOST_AT_ONCE:
        raise TooLarge(f"{len(people)} recipients are too many for one call; at most {model.MOST_AT_ONCE}")
    campaign = await queries.lock(conn, actor.org_id, campaign_id)
    campaign.check_draft("given recipients")
    wrong = {i: error for i, person in enumerate(people) if (error := _wrong(i, person))}
    names = list(dict.fromkeys(person.to for i, person in enumerate(people) if i not in wrong))
    found, refused = await _reach_the_good(conn, actor, campaign, names)
    rows: dict[UUID, Recipient] = {}
    repeated = 0
    for i, person in enumerate(people):
        if i in wrong:
            continue
        if person.to in refused:
            wrong[i] = FieldError(f"recipients[{i}].to", refused[person.to], person.to)
            continue
        contact_id = found[person.to].contact_id
        repeated += contact_id in rows
        rows.setdefault(
            contact_id, Recipient(contact_id=contact_id, variables=person.variables, text=person.text)
        )
    added = await list_queries.add_recipients(conn, actor.org_id, campaign_id, list(rows.values()))
    await audit.record(
        conn, actor, "campaign.recipients_added", campaign_id, added=len(added), wrong=len(wrong)
    )
    return Added(
        added=len(added), repeated=repeated + len(rows) - len(added), wrong=[wrong[i] for i in sorted(wrong)]
    )


def _wrong(i: int, person: NewRecipient) -> FieldError | None:
    try:
        written.check_variables(person.variables)
    except Invalid as error:
        return FieldError(f"recipients[{i}].variables", error.errors[0].message)
    if "\0" in (person.text or "") or "\0" in person.to:
        return FieldError(f"recipients[{i}]", "contains the character NUL; remove it")
    return None


async def _reach_the_good(
    conn: Connection, actor: Actor, campaign: Campaign, names: list[str]
) -> tuple[dict[str, Reachable], dict[str, str]]:
    """Contacts by name, and what is wrong with the other names. As long as one is wrong nobody is made, so those that
    are good are asked for again."""
    if not names:
        return {}, {}
    found, wrong = await reach(conn, actor, campaign.channel, names)
    if wrong:
        good = [name for name in names if name not in wrong]
        found = (await reach(conn, actor, campaign.channel, good))[0] if good else {}
    return found, wrong


async def remove_recipients(
    conn: Connection, actor: Actor, campaign_id: UUID, contact_ids: list[UUID]
) -> Removed:
    """Take people off a draft's list. Who is not on it is passed over. Raises Conflict unless it is a draft."""
    campaign = await queries.lock(conn, actor.org_id, campaign_id)
    campaign.check_draft("relieved of recipients")
    removed = await list_queries.remove_recipients(conn, actor.org_id, campaign_id, contact_ids)
    await audit.record(conn, actor, "campaign.recipients_removed", campaign_id, removed=removed)
    return Removed(removed=removed)


async def follow_up(conn: Connection, actor: Actor, campaign_id: UUID, wanted: FollowUp) -> MadeFollowUp:
    """The next one, as a draft: its list is who stands at a stage of this one now.

    Raises Invalid for a word that means no stage, Conflict before the launch and when nobody stands there.
    """
    source = await queries.get(conn, actor.org_id, campaign_id)
    stages = model.follow_up_stages(wanted.stage)
    if source.status in ("draft", "scheduled"):
        raise Conflict(
            f"{source.kind}_{source.status}",
            f"the {source.kind} {source.name!r} has not started; launch it first",
        )
    campaign = await _draft_after(conn, actor, source, wanted)
    await service.add(conn, actor, campaign)
    count = await list_queries.copy_from_stage(
        conn, actor.org_id, campaign.id, source.id, stages,
        reasons=wanted.reasons, with_text=not wanted.is_given,
    )  # fmt: skip
    if not count:
        raise Conflict("nobody", f"nobody stands at {wanted.stage!r} of the {source.kind} {source.name!r}")
    await audit.record(
        conn,
        actor,
        "campaign.followed_up",
        source.id,
        by=str(campaign.id),
        stage=wanted.stage,
        recipients=count,
    )
    return MadeFollowUp(campaign=campaign, recipients=count)


async def _draft_after(conn: Connection, actor: Actor, source: Campaign, wanted: FollowUp) -> Campaign:
    sender = await senders.usable_sender(conn, actor.org_id, wanted.sender or str(source.sender_id))
    variables = source.variables if wanted.variables is None else written.check_variables(wanted.variables)
    content = source.template_id, source.template_version_id
    if wanted.is_given:
        content = await service.choose_content(conn, actor, wanted, sender, variables)
    elif sender.channel != source.channel:
        raise Invalid.field(
            "sender", f"is for {sender.channel}; what was said is for {source.channel}, so give that anew too"
        )
    at = now()
    return structs.replace(
        source, id=new_id(), name=wanted.name or f"{source.name[:150]}: {wanted.stage[:40]}",
        tag=wanted.tag or source.tag,
        follow_up_stage=wanted.follow_up_stage or model.next_follow_up_stage(source.follow_up_stage),
        status="draft", status_reason="", sender_id=sender.id, channel=sender.channel, template_id=content[0],
        template_version_id=content[1], variables=variables,
        rate=source.rate if wanted.rate is None else written.parse_rate(wanted.rate),
        audience=Audience(
            exclude_groups=source.audience.exclude_groups, exclude_contacts=source.audience.exclude_contacts
        ),
        scheduled_for=None, latest_start=None, launched_at=None, completed_at=None, canceled_at=None, planned=0,
        is_expanded=False, source_campaign_id=source.id, source_stage=wanted.stage, created_by=actor.label,
        created_at=at, updated_at=at,
    )  # fmt: skip


async def close(conn: Connection, actor: Actor, campaign_id: UUID, whose: Close) -> Message:
    """A recipient's sale is closed: a fact like any other, on their message. Raises NotFound, Invalid."""
    campaign = await queries.get(conn, actor.org_id, campaign_id)
    if sum(x is not None for x in (whose.contact_id, whose.to, whose.message_id)) != 1:
        raise Invalid.field("to", "name the recipient by one of `to`, `contact_id` and `message_id`")
    if whose.message_id is not None:
        message = await messages.get(conn, actor, whose.message_id)
        message_id = message.id if message.campaign_id == campaign.id else None
    else:
        address = None if whose.to is None else await _normalized(conn, actor, campaign, whose.to)
        message_id = await queries.find_message(
            conn, actor.org_id, campaign, contact_id=whose.contact_id, address=address
        )
    if message_id is None:
        raise NotFound(f"recipient of this {campaign.kind}", whose.to or whose.contact_id or whose.message_id)
    return await messages.mark(conn, actor, message_id, "closed", whose.reason)


async def _normalized(conn: Connection, actor: Actor, campaign: Campaign, address: str) -> str:
    country = (await organizations.get(conn, actor.org_id)).country
    return normalize(ADDRESS_KIND[campaign.channel], address, country)
