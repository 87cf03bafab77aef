"""`antiphon doctor`: what this installation stands on, what is broken, and whether the ledger keeps its promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from antiphon.entry.cli.options import Org
from antiphon.entry.cli.shape import verb

if TYPE_CHECKING:
    from antiphon.core.roles import DatabaseUrls
    from antiphon.core.settings import Settings
    from antiphon.entry.cli.session import Session

LEAST_SPACE = 1024 * 1024 * 1024  # bytes


class Report:
    """What was looked at, line by line, and how much of it is not well."""

    def __init__(self, is_brief: bool) -> None:
        self.troubles = 0
        self._is_brief = is_brief

    def well(self, what: str, text: str) -> None:
        """Something that is as it should be."""
        if not self._is_brief:
            typer.echo(f"  ok    {what}: {text}")

    def trouble(self, what: str, text: str, remedy: str) -> None:
        """Something that is not, and what to do."""
        self.troubles += 1
        typer.echo(typer.style("  WRONG ", fg="red", bold=True) + f"{what}: {text}")
        if remedy:
            typer.echo(f"        {remedy}")


@verb("antiphon doctor --brief")
def doctor(
    brief: Annotated[bool, typer.Option("--brief", help="Only what is wrong.")] = False, org: Org = None
) -> None:
    """Check the installation and the ledger; exit code 1 for trouble."""
    from antiphon.entry.cli import session

    report = Report(brief)
    session.run(_examine(report, org))
    if report.troubles:
        typer.echo(f"{report.troubles} {'thing is' if report.troubles == 1 else 'things are'} not well.")
        raise typer.Exit(1)
    typer.echo("All is well.")


async def _examine(report: Report, org: str | None) -> None:
    from antiphon.core.settings import Settings
    from antiphon.entry.cli import session

    settings = Settings.from_env()
    _look_at_folder(report, settings)
    async with session.opened(settings) as (
        _,
        urls,
    ):  # raises when away, or of another schema: nothing to examine
        report.well("schema", "it is this program's")
        await _look_at_database(report, settings, urls)
        wanted = org or settings.organization
        only = await session.find_organization(urls.worker, wanted) if wanted else None
        for org_id, name in await session.organizations(urls.worker):
            if only in (None, org_id):
                async with session.entered(settings, urls, org_id) as found:
                    await _look_at_organization(report, found, name)


def _look_at_folder(report: Report, settings: Settings) -> None:
    import shutil

    from antiphon.core.crypto import SealError, Vault

    try:
        Vault.of(settings)
        report.well(
            "key", "ANTIPHON_SECRET_KEY" if settings.secret_key else str(settings.data_dir / "secret.key")
        )
    except (SealError, OSError) as error:
        report.trouble("key", str(error), "Without it no provider account can be opened.")
    free = shutil.disk_usage(settings.data_dir).free
    text = f"{settings.data_dir}, {free / LEAST_SPACE:,.1f} GB free"
    if free < LEAST_SPACE:
        report.trouble("data folder", text, "Free some space: what cannot be stored is refused.")
    else:
        report.well("data folder", text)
    if settings.is_production and not settings.public_url.startswith("https://"):
        report.trouble(
            "public address",
            settings.public_url,
            "Set ANTIPHON_PUBLIC_URL to the https address of this server.",
        )


async def _look_at_database(report: Report, settings: Settings, urls: DatabaseUrls) -> None:
    from antiphon.core import db, roles
    from antiphon.core.db import Database
    from antiphon.entry.cli.session import WAIT

    where = "embedded" if settings.is_embedded else "your own"
    for role, url in (("antiphon_app", urls.app), ("antiphon_worker", urls.worker)):
        async with (
            Database.connect(url, size=1, name="antiphon doctor", wait=WAIT) as database,
            database.across() as conn,
        ):
            try:
                await roles.refuse_privileged(conn)
            except roles.RoleError as error:
                report.trouble("role", str(error), "")
                continue
            version = await db.value(conn, "SHOW server_version")
        report.well("database", f"PostgreSQL {version} ({where}), signed in as {role}")


async def _look_at_organization(report: Report, found: Session, name: str) -> None:
    from antiphon.messages import doctor as ledger
    from antiphon.senders import service as senders

    typer.echo(f"{name} ({found.actor.org_id})")
    for incident in (await found.do(senders.list_incidents, is_open=True, limit=200)).items:
        subject = await _sender_name(found, incident.subject_id)
        report.trouble(f"{incident.subject} {subject}", f"{incident.kind}: {incident.reason}",
                       f"Put it right, then: antiphon sender resume {subject!r}")  # fmt: skip
    await _look_at_lanes(report, found)
    async with found.database.transaction(found.actor.org_id, read_only=True) as conn:
        findings = await ledger.examine(conn, found.actor.org_id)
    for finding in findings:
        shown = "; ".join(finding.examples)
        report.trouble(finding.invariant, f"{finding.count:,} cases, such as {shown}", finding.remedy)
    if not findings:
        report.well("ledger", f"all {len(ledger.CHECKS)} invariants hold")


async def _look_at_lanes(report: Report, found: Session) -> None:
    from antiphon.core import clock
    from antiphon.messages import lane_service
    from antiphon.senders import service as senders

    for sender in (await found.do(senders.list_senders, limit=200)).items:
        lane = await found.do(lane_service.view, sender.id)
        waits = f"{lane.waiting:,} wait, {lane.in_doubt:,} in doubt, {lane.held:,} held"
        if lane.paused_reason:
            report.trouble(f"sender {sender.name}", f"paused: {lane.paused_reason} ({waits})",
                           f"When it should send again: antiphon sender resume {sender.name!r}")  # fmt: skip
        elif lane.blocked_until is not None and lane.blocked_until > clock.now():
            silence = f"silent until {lane.blocked_until:%H:%M:%S %Z}: {lane.block_reason}"
            report.trouble(
                f"sender {sender.name}", silence, "The provider asked for it; it goes on by itself."
            )
        else:
            report.well(f"sender {sender.name}", waits)


async def _sender_name(found: Session, sender_id: UUID) -> str:
    from antiphon.core.errors import NotFound
    from antiphon.senders import service as senders

    async with found.database.transaction(found.actor.org_id) as conn:
        try:
            return (await senders.get_sender(conn, found.actor.org_id, sender_id)).name
        except NotFound:
            return str(sender_id)
