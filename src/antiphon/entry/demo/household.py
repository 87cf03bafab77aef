"""`antiphon up --demo`: an organization that is there at the next start too, and three things to try with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import msgspec
import typer

from antiphon.campaigns import service as campaigns
from antiphon.campaigns.model import Campaign, NewCampaign
from antiphon.contacts.audience import Audience
from antiphon.core.db import Database
from antiphon.core.errors import Unauthorized
from antiphon.core.settings import Settings
from antiphon.entry import running
from antiphon.entry.cli import importing, session
from antiphon.entry.cli.session import Session
from antiphon.entry.demo import scene, simulator, telling
from antiphon.entry.demo.simulator import Simulator
from antiphon.entry.running import Site
from antiphon.organizations import service as organizations

ORGANIZATION = "Demo"


class Household(msgspec.Struct, frozen=True):
    """What the next start must know, kept in the data folder: the key's secret is nowhere else."""

    org_id: UUID
    token: str
    group_id: UUID


async def run(settings: Settings, stop: asyncio.Event) -> int:
    """Everything in one process, with the demo's organization in it, until `stop` is set."""
    settings = msgspec.structs.replace(settings, private_hosts=True)
    async with simulator.started(settings.data_dir / "simulator") as providers:

        async def told(site: Site) -> None:
            async with Database.connect(site.urls.app, size=2, name="antiphon demo") as database:
                home = await _find(database, settings.data_dir) or await _make(site, settings, providers)
            async with session.entered(site.settings, site.urls, home.org_id) as found:
                await scene.introduce(found, await scene.find_sender(found), providers)
                blast = await _draft(found, home)
            for line in lines(site, home, blast):
                typer.echo(line)

        await running.up(settings, stop, told, provider_of=scene.impatient)
    return 0


async def _find(database: Database, data_dir: Path) -> Household | None:
    """The household of an earlier start, if its key still opens this database."""
    try:
        home = msgspec.json.decode((data_dir / "demo.json").read_bytes(), type=Household)
        await organizations.authenticate(database, home.token)
    except (OSError, msgspec.MsgspecError, Unauthorized):
        return None
    return home


async def _make(site: Site, settings: Settings, providers: Simulator) -> Household:
    typer.echo("Making the demo's organization, with 500 guests from a file …")
    async with Database.connect(site.urls.app, size=2, name="antiphon demo") as database:
        organization, _, token = await organizations.init(
            database, ORGANIZATION, timezone=scene.TIMEZONE, country=scene.COUNTRY
        )
    async with session.entered(site.settings, site.urls, organization.id) as found:
        await scene.make_sender(found, providers)
        await scene.make_template(found)
        done = await importing.import_quietly(
            found, scene.guests(), group=scene.GROUP, consent=scene.CONSENT, mapping=scene.COLUMNS
        )
    assert done.group_id is not None
    home = Household(organization.id, token, done.group_id)
    _keep(settings.data_dir / "demo.json", home)
    return home


def _keep(path: Path, home: Household) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(msgspec.json.encode(home))


async def _draft(found: Session, home: Household) -> Campaign:
    """A blast that waits to be sent; each start has one."""
    drafts = await found.do(campaigns.page, campaigns.Wanted(kind="blast", status="draft"), 1)
    if drafts.items:
        return drafts.items[0]
    new = NewCampaign(
        kind="blast", tag=scene.TEMPLATE, follow_up_stage="Initial", sender=scene.SENDER, template=scene.TEMPLATE,
        variables={"day": scene.DAY}, audience=Audience(groups=[home.group_id]),
    )  # fmt: skip
    return await found.do(campaigns.create, new)


def lines(site: Site, home: Household, blast: Campaign) -> list[str]:
    """What is printed when all is ready; each command works as it stands."""
    key, json = f"-H 'X-API-Key: {home.token}'", "-H 'Content-Type: application/json'"
    api = f"{site.url}/api/v1"
    moved = site.sock.getsockname()[1]
    wanted = site.settings.port
    return [
        *([f"Port {wanted} is taken; this is the next free one."] if wanted and moved != wanted else []),
        f"Antiphon is at   {site.url}",
        f"API reference    {site.url}/docs",
        f"Demo API key     {home.token}",
        "",
        "Three things to try, in another terminal:",
        "",
        "1. Send one message; the simulated phone delivers it:",
        "",
        f"curl -s {key} {json} {api}/messages \\",
        f'  -d \'{{"sender":"{scene.SENDER}","to":"+60110000001","text":"Hello from Antiphon"}}\'',
        "",
        "2. Send the prepared blast to the 500 guests, then look at its funnel, again and again:",
        "",
        f"curl -s {key} {json} -X POST {api}/blasts/{blast.id}/send -d '{{}}'",
        f"curl -s {key} {api}/blasts/{blast.id}/funnel",
        telling.command(site.settings, "blast show last --watch"),
        "",
        "3. Read what people answered:",
        "",
        f"curl -s {key} '{api}/messages?direction=in&limit=5'",
        "",
        "Ctrl-C ends it; the next start goes on with the same data.",
    ]
