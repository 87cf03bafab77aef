"""The verbs `blast …`: one message to many, and what became of it."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from antiphon.entry.cli.options import Org, Yes
from antiphon.entry.cli.shape import verb

if TYPE_CHECKING:
    from antiphon.campaigns.model import Campaign, NewCampaign, Preview
    from antiphon.entry.cli.importing import File
    from antiphon.entry.cli.session import Session

EXAMPLE = """antiphon blast send --tag Raya --to @guests.csv \\
    --template Invite --sender Shop --rate 20/s"""

Blast = Annotated[str, typer.Argument(metavar="ID", help="The blast's id, or last.", show_default=False)]
Watch = Annotated[bool, typer.Option("--watch", help="Stay and show how it moves.")]
At = Annotated[str | None, typer.Option(help="When to start, like '2027-03-15 09:30'.", show_default=False)]
Rate = Annotated[str | None, typer.Option(help="Its own pace within the sender's, like 20/s or 600/min.")]
Template = Annotated[str | None, typer.Option(help="What it says: a template's name or id.")]
OwnText = Annotated[str | None, typer.Option("--text", help="Or a text of its own.")]
Variable = Annotated[
    list[str] | None,
    typer.Option("--variable", help="For everybody: name=value; several.", show_default=False),
]
Consent = Annotated[str | None, typer.Option(help="What the people of the file agreed to.")]
Country = Annotated[str | None, typer.Option(help="Country of the file's national numbers, like DE.")]
Map = Annotated[list[str] | None, typer.Option("--map", help="COLUMN=field of the file; several.")]


@verb(EXAMPLE)
def send(
    to: Annotated[list[str], typer.Option(help="@FILE or a group's name; several.", show_default=False)],
    sender: Annotated[str, typer.Option(help="From which sender: name or id.", show_default=False)],
    tag: Annotated[str | None, typer.Option(help="What it is about, to find it again.")] = None,
    stage: Annotated[str | None, typer.Option(help="Follow-up stage, like Initial.")] = None,
    template: Template = None,
    text: OwnText = None,
    variable: Variable = None,
    at: At = None,
    rate: Rate = None,
    purpose: Annotated[str, typer.Option(help="marketing, transactional, notification.")] = "marketing",
    consent: Consent = None,
    country: Country = None,
    map_: Map = None,
    yes: Yes = False,
    watch: Watch = False,
    org: Org = None,
) -> None:
    """Send one message to many: shows whom it reaches, asks, starts."""
    from antiphon.campaigns.model import NewCampaign
    from antiphon.core.channel import Purpose
    from antiphon.entry.cli import importing, session
    from antiphon.entry.cli.options import pairs

    if purpose not in set(Purpose):
        raise typer.BadParameter(f"{purpose!r} is none of {', '.join(Purpose)}", param_hint="--purpose")
    values, mapping = pairs(variable, "--variable"), pairs(map_, "--map")

    file = importing.File(consent=consent, country=country, mapping=mapping)
    new = NewCampaign(
        kind="blast", sender=sender, tag=tag, follow_up_stage=stage, template=template, text=text,
        variables={**values}, rate=rate, purpose=Purpose(purpose),
    )  # fmt: skip

    async def work() -> None:
        async with session.session(org) as found:
            start = await _start(found, at)
            campaign = await _draft(found, new, to, file)
            await _launch(found, campaign, start, yes=yes, watch=watch)

    session.run(work())


async def _draft(found: Session, new: NewCampaign, places: list[str], file: File) -> Campaign:
    """The blast with everybody it is for: groups, files as groups, and files that bring each line's own text."""
    from msgspec import structs

    from antiphon.campaigns import service
    from antiphon.contacts.audience import Audience
    from antiphon.entry.cli import groups, importing

    ids: list[UUID] = []
    lists: list[Path] = []
    for place in places:
        path = Path(place[1:])
        if not place.startswith("@"):
            ids.append((await groups.find(found, place)).id)
        elif await importing.has_texts(found, path, file):
            lists.append(path)
        else:
            ids.append(await importing.group_of_file(found, path, file))
    campaign = await found.do(service.create, structs.replace(new, audience=Audience(groups=ids)))
    try:
        for path in lists:
            await importing.list_of_file(found, path, file, campaign.id)
    except BaseException:
        await found.do(service.delete, campaign.id)
        raise
    return campaign


async def _start(found: Session, at: str | None) -> datetime | None:
    from antiphon.entry.cli.options import instant
    from antiphon.organizations import service as organizations

    if at is None:
        return None
    async with found.database.transaction(found.actor.org_id) as conn:
        timezone = (await organizations.get(conn, found.actor.org_id)).timezone
    return instant(at, timezone)


async def _launch(found: Session, campaign: Campaign, at: datetime | None, *, yes: bool, watch: bool) -> None:
    """Show whom it reaches, ask, start; a draft that is not wanted is deleted again."""
    from antiphon.campaigns import service

    try:
        _tell_preview(await found.do(service.preview, campaign.id))
        if not yes:
            typer.confirm("Send it?", abort=True)
        launched = await found.do(service.launch, campaign.id, at)
    except BaseException:
        await found.do(service.delete, campaign.id)
        raise
    if at is not None:
        typer.echo(f"Scheduled for {at:%Y-%m-%d %H:%M %Z}: antiphon blast show {launched.id}")
    else:
        typer.echo(f"Started: antiphon blast show {campaign.id} --watch")
        typer.echo("It leaves while a worker runs (antiphon up, or antiphon work).")
    if watch:
        await _flush(found)
        await _watch(found, campaign.id)


async def _flush(found: Session) -> None:
    """Lanes are told now, not when the view ends."""
    from antiphon.core.waking import wakes
    from antiphon.entry.loops import deliver_through

    await wakes.flush(deliver_through(found.database))


def _tell_preview(preview: Preview) -> None:
    typer.echo(f"It reaches {preview.reachable:,} of {preview.recipients:,} people.")
    for count, why in (
        (preview.no_consent, "gave no consent"),
        (preview.suppressed, "must not be written to: opted out, bounced or blocked"),
        (preview.no_address, "have no address for this channel"),
        (preview.inactive, "are inactive"),
    ):
        if count:
            typer.echo(f"  {count:,} {why}")
    if preview.seconds:
        typer.echo(f"That takes about {_duration(preview.seconds)}.")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


async def _watch(found: Session, campaign_id: UUID) -> None:
    from antiphon.entry.cli import watching

    await watching.watch(found, campaign_id)


@verb("antiphon blast show last --watch")
def show(blast: Blast, watch: Watch = False, org: Org = None) -> None:
    """Show a blast's funnel, once or as it moves."""
    from antiphon.entry.cli import session, watching

    async def work() -> None:
        async with session.session(org) as found:
            campaign_id = await _find(found, blast)
            await (watching.watch if watch else watching.show)(found, campaign_id)

    session.run(work())


async def _find(found: Session, wanted: str) -> UUID:
    """The blast that is meant. Raises Problem when there is none yet."""
    from antiphon.campaigns import service
    from antiphon.core.errors import NotFound
    from antiphon.entry.cli.options import identifier

    if wanted != "last":
        return identifier(wanted, "blast")
    page = await found.do(service.page, service.Wanted(kind="blast"), 1)
    if not page.items:
        raise NotFound("blast")
    return page.items[0].id


@verb("antiphon blast list --tag Raya --since 2027-03-01")
def list_all(
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only of this follow-up stage.")] = None,
    status: Annotated[str | None, typer.Option(help="Only draft, active, completed, …")] = None,
    since: Annotated[str | None, typer.Option(help="Not before this day, like 2027-03-01.")] = None,
    until: Annotated[str | None, typer.Option(help="Not after this day.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=200)] = 20,
    org: Org = None,
) -> None:
    """List blasts with their funnels, the newest first."""
    from typing import get_args

    from antiphon.campaigns import service
    from antiphon.campaigns.model import Status
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import shown
    from antiphon.entry.cli.tables import show as show_table
    from antiphon.messages import funnel

    known: dict[str, Status] = {word: word for word in get_args(Status)}
    if status is not None and status not in known:
        raise typer.BadParameter(f"{status!r} is none of {', '.join(known)}", param_hint="--status")
    wanted = service.Wanted(
        kind="blast", tag=tag, stage=stage, status=known[status] if status else None,
        since=_day(since, "--since"), until=_day(until, "--until"),
    )  # fmt: skip

    async def work() -> None:
        rows: list[tuple[str, ...]] = []
        async with session.session(org) as found, found.database.transaction(found.actor.org_id) as conn:
            for c in (await service.page(conn, found.actor, wanted, limit)).items:
                stands = funnel.funnel_of(await funnel.read(conn, found.actor.org_id, c.id))
                at = {rung.stage: rung.reached for rung in stands.stages}
                numbers = [
                    stands.recipients,
                    *(at[name] for name in ("sent", "delivered", "read", "replied")),
                ]
                when = shown(c.launched_at or c.scheduled_for or c.created_at)
                rows.append(
                    (str(c.id), when, c.tag or c.name, c.follow_up_stage or "", c.status, *map(str, numbers))
                )
        heads = ("id", "when", "tag", "stage", "status", "people", "sent", "received", "read", "replied")
        show_table(heads, rows, "no such blast")

    session.run(work())


def _day(text: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day like 2027-03-01", param_hint=option) from None


@verb("antiphon blast pause last")
def pause(blast: Blast, org: Org = None) -> None:
    """Pause a blast: what has not left yet, waits."""
    _change(blast, "pause", org)


@verb("antiphon blast resume last")
def resume(blast: Blast, org: Org = None) -> None:
    """Go on with a paused blast."""
    _change(blast, "resume", org)


@verb("antiphon blast cancel last")
def cancel(blast: Blast, yes: Yes = False, org: Org = None) -> None:
    """End a blast: what has not left yet, never leaves."""
    if not yes:
        typer.confirm("What has not left yet will never leave. Cancel it?", abort=True)
    _change(blast, "cancel", org)


def _change(blast: str, verb: str, org: str | None) -> None:
    from antiphon.campaigns import service
    from antiphon.entry.cli import session

    verbs = {"pause": service.pause, "resume": service.resume, "cancel": service.cancel}

    async def work() -> None:
        async with session.session(org) as found:
            campaign = await found.do(verbs[verb], await _find(found, blast))
        typer.echo(f"{campaign.name} is {campaign.status}.")

    session.run(work())


@verb("antiphon blast close last --to +60123456789")
def close(
    blast: Blast,
    to: Annotated[
        str, typer.Option(help="Who bought: phone number, email or message id.", show_default=False)
    ],
    reason: Annotated[str, typer.Option(help="How it is known.")] = "sale closed",
    org: Org = None,
) -> None:
    """Mark a recipient's sale as closed."""
    from antiphon.campaigns import recipients
    from antiphon.campaigns.model import Close
    from antiphon.entry.cli import session

    async def work() -> None:
        async with session.session(org) as found:
            campaign_id = await _find(found, blast)
            message = await found.do(recipients.close, campaign_id, _whose(to, reason, Close))
        typer.echo(f"Closed: message {message.id} to {message.address}.")

    session.run(work())


def _whose(to: str, reason: str, kind: Any) -> Any:
    try:
        return kind(message_id=UUID(to), reason=reason)
    except ValueError:
        return kind(to=to, reason=reason)


@verb("antiphon blast follow-up last --from not_read --text 'Still on?'")
def follow_up(
    blast: Blast,
    from_: Annotated[
        str, typer.Option("--from", help="Who: not_read, not_replied, failed, …", show_default=False)
    ],
    template: Template = None,
    text: OwnText = None,
    variable: Variable = None,
    tag: Annotated[str | None, typer.Option(help="Its tag, if another.")] = None,
    stage: Annotated[str | None, typer.Option(help="Its follow-up stage, if not the next.")] = None,
    at: At = None,
    rate: Rate = None,
    yes: Yes = False,
    watch: Watch = False,
    org: Org = None,
) -> None:
    """Send the next one to those who stand at a stage of this one."""
    from antiphon.campaigns import recipients
    from antiphon.campaigns.model import FollowUp
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import pairs

    values = pairs(variable, "--variable")
    wanted = FollowUp(
        stage=from_, template=template, text=text, variables={**values} or None, tag=tag, follow_up_stage=stage,
        rate=rate,
    )  # fmt: skip

    async def work() -> None:
        async with session.session(org) as found:
            start = await _start(found, at)
            made = await found.do(recipients.follow_up, await _find(found, blast), wanted)
            await _launch(found, made.campaign, start, yes=yes, watch=watch)

    session.run(work())
