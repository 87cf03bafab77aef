"""What the worker does for campaigns: bring the audience into the ledger, and give up what a canceled one left.

A step is one transaction together with its progress; a message is made once per campaign and contact, so a step that
is repeated, or a second job for the same people, does no harm. That is also why the steps need not wait for the disk:
a crash loses the last of them together with their progress. A large audience is brought in by two jobs at once, each
with one half; the last to end closes the books.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from antiphon.campaigns import list_queries, queries, settling
from antiphon.campaigns.model import RUNNING, Campaign
from antiphon.contacts import audience as audiences
from antiphon.contacts.audience import Audience
from antiphon.core import db, failpoints
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.core.errors import NotFound, Problem
from antiphon.jobs import service as jobs
from antiphon.jobs.model import Continue, Done, Run
from antiphon.messages import cancelation, lanes
from antiphon.messages.enqueue import Enqueued, Plan, enqueue_page
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.templates import service as templates

PAGE = 5_000
CANCEL_PAGE = 2_000
LARGE = 20_000
"""From how many people on two jobs share them: below, one page or four are no work."""
FIRST = UUID(int=0)


class ExpandAudience(Struct, frozen=True, kw_only=True):
    """Write one message for each person of the audience. One whose `start_at` is not the campaign's time any more does
    nothing."""

    campaign_id: UUID
    start_at: datetime | None = None
    page: int = PAGE
    large: int = LARGE


def key_of(campaign: Campaign) -> str:
    """An expansion's key: one for each time that a campaign may start at. The upper half's is the campaign's id."""
    at = campaign.scheduled_for
    return f"{campaign.id}@{at.isoformat()}" if at else str(campaign.id)


class Progress(Struct, frozen=True, kw_only=True):
    """How far an expansion is: first the campaign's own list, then groups and contacts, each from `since` up to the
    page that passes `until`. `versions` are the template's as they were at the start, by language; `default_version`
    is for whom none of them is. (Of the order of `versions` nothing is left once the progress was stored: jsonb has
    its own.)"""

    part: Literal["list", "audience", "done"]
    after: UUID = FIRST
    since: UUID = FIRST
    until: UUID | None = None
    gate_id: UUID
    versions: dict[str, UUID]
    default_version: UUID | None
    has_list: bool
    total: int
    looked: int = 0
    made: int = 0
    skipped: int = 0


class ExpandUpperHalf(Struct, frozen=True, kw_only=True):
    """Write the messages of the upper half of a large audience, beside the job that writes the lower one."""

    campaign_id: UUID
    begin: Progress
    page: int = PAGE


class CancelRemaining(Struct, frozen=True, kw_only=True):
    """Settle as canceled what a canceled campaign left in the queue."""

    campaign_id: UUID


async def expand_audience(conn: Connection, job: ExpandAudience, run: Run) -> Continue | Done:
    """One page of the audience into the ledger; the first step starts the campaign, the last one closes the books."""
    if not run.progress:
        return await _begin(conn, job, run)
    return await _expand(conn, job, run.org_id, msgspec.convert(run.progress, Progress))


async def expand_upper_half(conn: Connection, job: ExpandUpperHalf, run: Run) -> Continue | Done:
    """One page of the upper half into the ledger."""
    progress = msgspec.convert(run.progress, Progress) if run.progress else job.begin
    return await _expand(conn, job, run.org_id, progress)


async def _expand(
    conn: Connection, job: ExpandAudience | ExpandUpperHalf, org_id: UUID, progress: Progress
) -> Continue | Done:
    await db.execute(conn, "SET LOCAL synchronous_commit = off")
    campaign = await queries.hold(conn, org_id, job.campaign_id)
    if campaign.status not in RUNNING:
        return Done({"stopped": campaign.status})
    after = None
    if progress.until is None or progress.after < progress.until:
        after = await _stage(conn, org_id, campaign, progress, job.page)
    if after is None:
        return await _next_part(conn, org_id, campaign, progress)
    await _fill(conn, org_id, campaign, progress)
    enqueued = await enqueue_page(conn, _plan(org_id, campaign, progress))
    conn.after_commit["expansion"] = _page_committed
    return Continue(msgspec.to_builtins(_further(progress, after, job.page, enqueued)))


async def _begin(conn: Connection, job: ExpandAudience, run: Run) -> Continue | Done:
    try:
        campaign = await queries.lock_against_expansion(conn, run.org_id, job.campaign_id)
    except NotFound:
        return Done({"stopped": "deleted"})
    if campaign.scheduled_for != job.start_at:
        return Done({"stopped": "another time was set"})
    if campaign.is_expanded or campaign.status not in ("scheduled", "active", "paused"):
        return Done({"stopped": campaign.status})
    actor = Actor.system(run.org_id)
    started = campaign.start(now())
    if started.status != campaign.status:
        await settling.change(conn, actor, campaign, started)
    if started.status == "canceled":
        await lanes.close_gate(conn, run.org_id, "campaign", campaign.id, "canceled")
        return Done({"stopped": "latest start"})
    try:
        progress = await _first_progress(conn, run.org_id, started)
    except Problem as problem:  # the group, sender or template that was there at the launch is not any more
        if started.status == "active":
            await settling.change(conn, actor, started, started.pause(now(), problem.detail))
            await lanes.close_gate(conn, run.org_id, "campaign", campaign.id, "paused")
        return Done({"stopped": problem.detail})
    return Continue(msgspec.to_builtins(await _share(conn, job, run.org_id, started, progress)))


async def _share(
    conn: Connection, job: ExpandAudience, org_id: UUID, campaign: Campaign, progress: Progress
) -> Progress:
    """Give the upper half of a large audience to a second job; what is left for this one."""
    middle = None
    if progress.total >= job.large:
        middle = await list_queries.middle_of_audience(conn, org_id, campaign.id, campaign.audience.groups)
    if middle is None:
        await queries.note_parts(conn, org_id, campaign.id, 1)
        return progress
    half = progress.total // 2
    upper = msgspec.structs.replace(progress, since=middle, after=middle, total=half)
    await jobs.enqueue(
        conn,
        org_id,
        ExpandUpperHalf(campaign_id=campaign.id, begin=upper, page=job.page),
        key=str(campaign.id),
    )
    await queries.note_parts(conn, org_id, campaign.id, 2)
    return msgspec.structs.replace(progress, until=middle, total=progress.total - half)


async def _first_progress(conn: Connection, org_id: UUID, campaign: Campaign) -> Progress:
    """Look for all that it needs, make its gate, fix the template's versions, count. Raises what is missing."""
    sender = await senders.get_sender(conn, org_id, campaign.sender_id)
    await audiences.check_audience(conn, org_id, campaign.audience)
    versions = await _versions(conn, org_id, campaign)
    gate_id = await lanes.add_gate(
        conn, org_id, sender.id, cause="campaign", cause_id=campaign.id,
        traffic="bulk" if campaign.purpose == "marketing" else "transactional",
        priority=campaign.priority, rate=campaign.rate,
    )  # fmt: skip
    if campaign.status == "paused":
        await lanes.close_gate(conn, org_id, "campaign", campaign.id, "paused")
    listed = await list_queries.count_recipients(conn, org_id, campaign.id)
    counted = await audiences.count_audience(conn, org_id, campaign.audience)
    return Progress(
        part="list" if listed else "audience", gate_id=gate_id, versions=versions,
        default_version=next(iter(versions.values()), None), has_list=listed > 0, total=listed + counted,
    )  # fmt: skip


async def _versions(conn: Connection, org_id: UUID, campaign: Campaign) -> dict[str, UUID]:
    """The versions by language, the default one first."""
    if campaign.template_id is None:
        return {"": campaign.template_version_id} if campaign.template_version_id else {}
    found = await templates.active_versions(conn, org_id, campaign.template_id)
    return {language: version.id for language, version in found.items()}


async def _stage(
    conn: Connection, org_id: UUID, campaign: Campaign, progress: Progress, size: int
) -> UUID | None:
    """Fill `audience_page` with the next page; where the one after begins, or None when this part has ended."""
    audience = campaign.audience
    if progress.part == "list":
        ids = await list_queries.recipients_after(conn, org_id, campaign.id, progress.after, size)
        if not ids:
            return None
        page = Audience(
            contacts=ids, exclude_groups=audience.exclude_groups, exclude_contacts=audience.exclude_contacts
        )
        await audiences.stage_audience(conn, org_id, page, campaign.channel, None, size)
        return ids[-1]
    _, after = await audiences.stage_audience(conn, org_id, audience, campaign.channel, progress.after, size)
    return after


async def _fill(conn: Connection, org_id: UUID, campaign: Campaign, progress: Progress) -> None:
    await list_queries.fill_page(conn, campaign.variables, progress.versions)
    if progress.has_list:
        await list_queries.fill_page_from_list(conn, org_id, campaign.id)


def _plan(org_id: UUID, campaign: Campaign, progress: Progress) -> Plan:
    return Plan(
        org_id=org_id, channel=campaign.channel, purpose=campaign.purpose, origin="campaign",
        caused_by=f"{campaign.kind}:{campaign.id}", lane_id=campaign.sender_id, gate_id=progress.gate_id,
        campaign_id=campaign.id, due_at=campaign.launched_at or now(),
        template_version_id=progress.default_version,
    )  # fmt: skip


def _further(progress: Progress, after: UUID, size: int, enqueued: Enqueued) -> Progress:
    return msgspec.structs.replace(
        progress, after=after, looked=min(progress.looked + size, progress.total),
        made=progress.made + enqueued.made, skipped=progress.skipped + enqueued.skipped,
    )  # fmt: skip


async def _next_part(
    conn: Connection, org_id: UUID, campaign: Campaign, progress: Progress
) -> Continue | Done:
    if progress.part == "list":
        following = msgspec.structs.replace(progress, part="audience", after=progress.since)
        return Continue(msgspec.to_builtins(following))
    if await queries.end_part(conn, org_id, campaign.id) <= 0:
        await settling.close_books(conn, org_id, campaign.id)
    return Done(msgspec.to_builtins(msgspec.structs.replace(progress, part="done", looked=progress.total)))


async def _page_committed() -> None:
    await failpoints.reach("expansion_page_committed")


async def cancel_remaining(conn: Connection, job: CancelRemaining, run: Run) -> Continue | Done:
    """One page of what waits; then again while something is on the wire that may come back to wait."""
    canceled = run.progress.get("canceled", 0)
    page = await cancelation.cancel_page(conn, run.org_id, "campaign", job.campaign_id, CANCEL_PAGE)
    if page:
        return Continue({"canceled": canceled + page})
    left = await cancelation.unfinished(conn, run.org_id, "campaign", job.campaign_id)
    if left.waiting or left.open:
        return Continue({"canceled": canceled}, run_at=now() + timedelta(seconds=1))
    if left.in_doubt:
        return Continue({"canceled": canceled}, run_at=now() + timedelta(minutes=1))
    return Done({"canceled": canceled})
