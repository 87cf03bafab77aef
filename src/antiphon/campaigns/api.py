"""Routes of campaigns, and of blasts: the same, with kind `blast` and `send` for launch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar, cast
from uuid import UUID

from litestar import Router, delete, get, patch, post
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from litestar.response import Stream
from msgspec import Meta, Struct

from antiphon.campaigns import queries, recipients, results, service, trial
from antiphon.campaigns.model import (
    Added,
    Campaign,
    CampaignChanges,
    Close,
    FollowUp,
    Kind,
    MadeFollowUp,
    NewCampaign,
    NewRecipient,
    Preview,
    Removed,
    Status,
)
from antiphon.campaigns.trial import TestSend
from antiphon.core.db import Connection
from antiphon.core.paging import Page, check_limit
from antiphon.messages.queries import Message
from antiphon.messages.sending import Queued
from antiphon.organizations.access import Moment, Permission, StrictBody, Unit, moment, requires
from antiphon.organizations.model import Actor

T = TypeVar("T")
P = ParamSpec("P")
OfKind = NamedDependency[Kind | None]
"""Which kind the path is about: `blast` below /blasts, any below /campaigns."""


def _of(
    kind: Kind | None, fn: Callable[Concatenate[Connection, Actor, UUID, P], Awaitable[T]]
) -> Callable[Concatenate[Connection, Actor, UUID, P], Awaitable[T]]:
    """The verb, for one of this kind only: another one's id is not found below this path."""

    async def checked(
        conn: Connection, actor: Actor, campaign_id: UUID, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        await queries.get(conn, actor.org_id, campaign_id, kind)
        return await fn(conn, actor, campaign_id, *args, **kwargs)

    return checked


@post("/", **requires(Permission.CAMPAIGNS_WRITE), dto=StrictBody[NewCampaign], return_dto=None)
async def create_campaign(unit: Unit, kind: OfKind, data: NewCampaign) -> Campaign:
    """Make a draft: for whom (`audience`, or recipients added to it), from which sender, and what it says."""
    return await unit.write(service.create, data, kind)


@get("/", **requires(Permission.CAMPAIGNS_READ))
async def list_campaigns(
    unit: Unit,
    kind: OfKind,
    limit: int | None = None,
    cursor: str | None = None,
    of_kind: Annotated[Kind | None, QueryParameter(name="kind")] = None,
    status: Status | None = None,
    tag: str | None = None,
    stage: str | None = None,
    channel: str | None = None,
    sender_id: UUID | None = None,
    since: date | None = None,
    until: date | None = None,
) -> Page[Campaign]:
    """The newest first. `stage` is the follow-up stage; `since` and `until` are days in the organization's timezone,
    both included, of the launch, or the planned one, or when it was made."""
    wanted = service.Wanted(
        kind=kind or of_kind, status=status, tag=tag, stage=stage, channel=channel, sender_id=sender_id,
        since=since, until=until,
    )  # fmt: skip
    return await unit.read(service.page, wanted, check_limit(limit), cursor)


@get("/{campaign_id:uuid}", **requires(Permission.CAMPAIGNS_READ))
async def get_campaign(unit: Unit, kind: OfKind, campaign_id: UUID) -> Campaign:
    """One of them."""
    return await unit.read(service.get, campaign_id, kind)


@patch("/{campaign_id:uuid}", **requires(Permission.CAMPAIGNS_WRITE), dto=StrictBody[CampaignChanges],
       return_dto=None)  # fmt: skip
async def update_campaign(unit: Unit, kind: OfKind, campaign_id: UUID, data: CampaignChanges) -> Campaign:
    """Change a draft; what is absent stays."""
    return await unit.write(_of(kind, service.update), campaign_id, data)


@delete("/{campaign_id:uuid}", **requires(Permission.CAMPAIGNS_WRITE))
async def delete_campaign(unit: Unit, kind: OfKind, campaign_id: UUID) -> None:
    """Delete a draft, or what is over; its messages stay."""
    await unit.write(_of(kind, service.delete), campaign_id)


@get("/{campaign_id:uuid}/preview", **requires(Permission.CAMPAIGNS_READ))
async def preview_campaign(unit: Unit, kind: OfKind, campaign_id: UUID) -> Preview:
    """Whom it would reach if it were launched now, and why not the others."""
    return await unit.read(service.preview, campaign_id, kind)


@post(
    "/{campaign_id:uuid}/test",
    **requires(Permission.CAMPAIGNS_LAUNCH),
    dto=StrictBody[TestSend],
    return_dto=None,
)
async def send_test(unit: Unit, kind: OfKind, campaign_id: UUID, data: TestSend) -> Queued:
    """Send what it says to up to 10 people, by address or contact id, to see how it looks. These messages are in no
    funnel, and who gets one is still reached by the campaign itself."""
    return await unit.write(_of(kind, trial.send_test), campaign_id, data)


# ---- under way -----------------------------------------------------------------------------------


class Launch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to start: at once without `at`. After `latest_start` it does not start any more."""

    at: Moment | None = None
    latest_start: Moment | None = None


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to start. After `latest_start` it does not start any more."""

    at: Moment
    latest_start: Moment | None = None


class Reason(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why."""

    reason: Annotated[str, Meta(max_length=500)] = ""


async def _launch(unit: Unit, kind: Kind | None, campaign_id: UUID, data: Launch | Schedule) -> Campaign:
    return await unit.write(
        _of(kind, service.launch),
        campaign_id,
        _moment(data.at, "at"),
        _moment(data.latest_start, "latest_start"),
    )


def _moment(given: datetime | int | None, name: str) -> datetime | None:
    return None if given is None else moment(given, name)


@post("/{campaign_id:uuid}/launch", **requires(Permission.CAMPAIGNS_LAUNCH), status_code=200,
      dto=StrictBody[Launch], return_dto=None)  # fmt: skip
async def launch_campaign(
    unit: Unit, kind: OfKind, campaign_id: UUID, data: Launch | None = None
) -> Campaign:
    """Start it, now or at a time. The audience is counted when it starts."""
    return await _launch(unit, kind, campaign_id, data or Launch())


@post("/{campaign_id:uuid}/send", **requires(Permission.CAMPAIGNS_LAUNCH), status_code=200,
      dto=StrictBody[Launch], return_dto=None)  # fmt: skip
async def send_blast(unit: Unit, kind: OfKind, campaign_id: UUID, data: Launch | None = None) -> Campaign:
    """Send it, now or at a time: the blast document's word for launch."""
    return await _launch(unit, kind, campaign_id, data or Launch())


@post("/{campaign_id:uuid}/schedule", **requires(Permission.CAMPAIGNS_LAUNCH), status_code=200,
      dto=StrictBody[Schedule], return_dto=None)  # fmt: skip
async def schedule_campaign(unit: Unit, kind: OfKind, campaign_id: UUID, data: Schedule) -> Campaign:
    """Fix when it starts; a scheduled one gets another time."""
    return await _launch(unit, kind, campaign_id, data)


@post("/{campaign_id:uuid}/unschedule", **requires(Permission.CAMPAIGNS_WRITE), status_code=200)
async def unschedule_campaign(unit: Unit, kind: OfKind, campaign_id: UUID) -> Campaign:
    """Make a scheduled one a draft again."""
    return await unit.write(_of(kind, service.unschedule), campaign_id)


@post("/{campaign_id:uuid}/pause", **requires(Permission.CAMPAIGNS_WRITE), status_code=200,
      dto=StrictBody[Reason], return_dto=None)  # fmt: skip
async def pause_campaign(unit: Unit, kind: OfKind, campaign_id: UUID, data: Reason | None = None) -> Campaign:
    """Hold back at once what has not left yet."""
    return await unit.write(_of(kind, service.pause), campaign_id, data.reason if data else "")


@post("/{campaign_id:uuid}/resume", **requires(Permission.CAMPAIGNS_LAUNCH), status_code=200)
async def resume_campaign(unit: Unit, kind: OfKind, campaign_id: UUID) -> Campaign:
    """Go on from where it stood: nothing is lost, nothing sent twice."""
    return await unit.write(_of(kind, service.resume), campaign_id)


@post("/{campaign_id:uuid}/cancel", **requires(Permission.CAMPAIGNS_LAUNCH), status_code=200,
      dto=StrictBody[Reason], return_dto=None)  # fmt: skip
async def cancel_campaign(
    unit: Unit, kind: OfKind, campaign_id: UUID, data: Reason | None = None
) -> Campaign:
    """End it: what waits is settled as canceled."""
    return await unit.write(_of(kind, service.cancel), campaign_id, data.reason if data else "")


# ---- recipients ----------------------------------------------------------------------------------


class NewRecipients(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1,000 people, each with what fills the text for them, or with the whole text."""

    recipients: Annotated[list[NewRecipient], Meta(min_length=1, max_length=1_000)]


@post("/{campaign_id:uuid}/recipients", **requires(Permission.CAMPAIGNS_WRITE), status_code=200,
      dto=StrictBody[NewRecipients], return_dto=None)  # fmt: skip
async def add_recipients(unit: Unit, kind: OfKind, campaign_id: UUID, data: NewRecipients) -> Added:
    """Put people on a draft's own list, by address or contact id. The good ones are added; the others are named."""
    return await unit.write(_of(kind, recipients.add_recipients), campaign_id, data.recipients)


class Contacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1,000 contacts, by id."""

    contacts: Annotated[list[UUID], Meta(min_length=1, max_length=1_000)]


@post("/{campaign_id:uuid}/recipients/remove", **requires(Permission.CAMPAIGNS_WRITE), status_code=200,
      dto=StrictBody[Contacts], return_dto=None)  # fmt: skip
async def remove_recipients(unit: Unit, kind: OfKind, campaign_id: UUID, data: Contacts) -> Removed:
    """Take people off a draft's own list. Who is in one of its groups is still reached: exclude them in `audience`."""
    return await unit.write(_of(kind, recipients.remove_recipients), campaign_id, data.contacts)


@get("/{campaign_id:uuid}/recipients", **requires(Permission.CAMPAIGNS_READ))
async def list_recipients(
    unit: Unit,
    kind: OfKind,
    campaign_id: UUID,
    limit: int | None = None,
    cursor: str | None = None,
    status: list[str] | None = None,
    stage: str | None = None,
    reached: str | None = None,
    reason: str | None = None,
    search: str | None = None,
) -> Page[results.Result]:
    """What became of each recipient: `stage` is where a message is stuck, `reached` the least it has reached."""
    wanted = results.Wanted(status=status, stage=stage, reached=reached, reason=reason, search=search)
    return await unit.read(results.page, campaign_id, wanted, check_limit(limit), cursor, kind)


@get("/{campaign_id:uuid}/recipients.csv", **requires(Permission.CAMPAIGNS_READ), media_type="text/csv")
async def export_recipients(
    unit: Unit,
    kind: OfKind,
    campaign_id: UUID,
    status: list[str] | None = None,
    stage: str | None = None,
    reached: str | None = None,
    reason: str | None = None,
    search: str | None = None,
) -> Stream:
    """The same list as a CSV file, whole."""
    wanted = results.Wanted(status=status, stage=stage, reached=reached, reason=reason, search=search)

    async def read(cursor: str | None) -> Page[results.Result]:
        return await unit.read(results.page, campaign_id, wanted, results.EXPORT_PAGE, cursor, kind)

    await unit.read(
        results.page, campaign_id, wanted, 1, None, kind
    )  # what is wrong is said before the file begins
    return Stream(
        results.csv_lines(read), media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="recipients-{campaign_id}.csv"'},
    )  # fmt: skip


@post("/{campaign_id:uuid}/follow-up", **requires(Permission.CAMPAIGNS_WRITE), dto=StrictBody[FollowUp],
      return_dto=None)  # fmt: skip
async def follow_up_campaign(unit: Unit, kind: OfKind, campaign_id: UUID, data: FollowUp) -> MadeFollowUp:
    """Make the next one, a draft, from those who stand at a stage of this one: sent, delivered, read, not_read,
    not_replied, failed, skipped, unknown and others. To try just the failed once more: the stage `failed` (with
    `reasons`, only those that failed so), nothing else, and launch what is made."""
    return await unit.write(_of(kind, recipients.follow_up), campaign_id, data)


@post("/{campaign_id:uuid}/close", **requires(Permission.CAMPAIGNS_WRITE), status_code=200, dto=StrictBody[Close],
      return_dto=None)  # fmt: skip
async def close_sale(unit: Unit, kind: OfKind, campaign_id: UUID, data: Close) -> Message:
    """Say that a recipient's sale is closed: by address, contact or message."""
    return await unit.write(_of(kind, recipients.close), campaign_id, data)


_SHARED = [
    create_campaign, list_campaigns, get_campaign, update_campaign, delete_campaign, preview_campaign, send_test,
    launch_campaign, schedule_campaign, unschedule_campaign, pause_campaign, resume_campaign, cancel_campaign,
    add_recipients, remove_recipients, list_recipients, export_recipients, follow_up_campaign, close_sale,
]  # fmt: skip


def _kind(kind: Kind | None) -> dict[str, Any]:
    return {"kind": Provide(cast("Any", lambda: kind), sync_to_thread=False)}


routers = [
    Router("/campaigns", route_handlers=_SHARED, dependencies=_kind(None), tags=["Campaigns"]),
    Router("/blasts", route_handlers=[*_SHARED, send_blast], dependencies=_kind("blast"), tags=["Campaigns"]),
]
