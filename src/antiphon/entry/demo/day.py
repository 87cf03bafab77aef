"""`antiphon demo`: the day of a blast, from a file of guests to the funnel, in about half a minute.

It has a data folder of its own, so it touches nothing and can be run again; each run begins with an empty database.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from rich.live import Live

from antiphon.campaigns import recipients, results
from antiphon.campaigns import service as campaigns
from antiphon.campaigns.model import Campaign, Close, NewCampaign
from antiphon.contacts.audience import Audience
from antiphon.core import embedded, roles
from antiphon.core.db import Database
from antiphon.core.settings import Settings
from antiphon.core.waking import wakes
from antiphon.entry import running
from antiphon.entry.cli import importing, session, watching
from antiphon.entry.cli.session import Session
from antiphon.entry.demo import scene, simulator, telling
from antiphon.entry.demo.simulator import Simulator
from antiphon.entry.loops import deliver_through
from antiphon.entry.running import Site
from antiphon.messages import funnel as funnels
from antiphon.messages.funnel import Funnel
from antiphon.organizations import service as organizations
from antiphon.templates import preview

FOLDERS = 10
EVERY = 0.4  # seconds between two looks
LONGEST = 120.0  # seconds of a day on a busy machine
SETTLES_WITHIN = 20.0  # seconds, for the last questions after the providers have nothing more to tell
MEANWHILE = "The day plays in about half a minute."
SALES = 3  # that are closed by hand, so that the whole ladder is seen


async def run(settings: Settings, stop: asyncio.Event) -> int:
    """Play the day and print it; 1 when the funnel does not say what is true at the provider."""
    code = 1
    with _folder(settings) as place:
        settings = msgspec.structs.replace(
            settings, data_dir=place, private_hosts=True, host="127.0.0.1", port=0, environment="development"
        )
        with _fresh_database(settings):
            async with simulator.started() as providers:

                async def told(site: Site) -> None:
                    nonlocal code
                    code = await _play(site, providers, stop)
                    stop.set()

                await running.up(settings, stop, told, provider_of=scene.impatient)
    return code


# ---- a place of its own


@contextlib.contextmanager
def _folder(settings: Settings):
    """The demo's data folder; another one while a demo runs in it."""
    for number in range(1, FOLDERS + 1):
        place = settings.data_dir / ("demo" if number == 1 else f"demo-{number}")
        place.mkdir(parents=True, exist_ok=True, mode=0o711)
        with (place / "running").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield place
            return
    raise embedded.EmbeddedError(f"{FOLDERS} demos run already in {settings.data_dir}")


@contextlib.contextmanager
def _fresh_database(settings: Settings):
    """Yesterday's database is dropped; one that somebody named by a URL is used as it is."""
    if not settings.is_embedded:
        yield
        return
    server = embedded.start(settings.data_dir)
    try:
        with psycopg.connect(server.url, autocommit=True) as conn:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(roles.DATABASE))
            conn.execute(drop)
        yield
    finally:
        server.release()


# ---- the day


async def _play(site: Site, providers: Simulator, stop: asyncio.Event) -> int:
    telling.say_hello()
    async with Database.connect(site.urls.app, size=2, name="antiphon demo") as database:
        organization, _, _ = await organizations.init(
            database, "Demo", timezone=scene.TIMEZONE, country=scene.COUNTRY
        )
    async with session.entered(site.settings, site.urls, organization.id) as found:
        campaign = await _prepare(found, providers)
        await found.do(campaigns.launch, campaign.id)
        await wakes.flush(deliver_through(found.database))
        is_true = await _watch(found, providers, campaign.id, stop)
        if stop.is_set():
            return 130
        await _close_sales(found, campaign.id)
        telling.say_line()
        await watching.show(found, campaign.id)
        telling.say_replies(*await telling.read_replies(found))
        telling.say_sources(*await telling.read_sources(found, campaign.id))
        telling.say_truth(is_true)
        telling.say_next(site.settings, campaign.id, await telling.one_message(found, campaign.id))
    return 0 if is_true else 1


async def _prepare(found: Session, providers: Simulator) -> Campaign:
    """People, content, sender, and the blast as a draft."""
    done = await importing.import_quietly(
        found, scene.guests(), group=scene.GROUP, consent=scene.CONSENT, mapping=scene.COLUMNS
    )
    telling.say_import(done, await importing.refused(found, done.id, 100))
    template = await scene.make_template(found)
    shown = await found.do(preview.show, template.id, preview.PreviewWanted())
    sender = await scene.make_sender(found, providers)
    telling.say_road(sender, (shown[0].said and shown[0].said.text) or "")
    assert done.group_id is not None
    new = NewCampaign(
        kind="blast", tag=scene.TEMPLATE, follow_up_stage="Initial", sender=scene.SENDER, template=scene.TEMPLATE,
        variables={"day": scene.DAY}, audience=Audience(groups=[done.group_id]),
    )  # fmt: skip
    campaign = await found.do(campaigns.create, new)
    telling.say_preview(await found.do(campaigns.preview, campaign.id))
    return campaign


async def _watch(found: Session, providers: Simulator, campaign_id: UUID, stop: asyncio.Event) -> bool:
    """The funnel as it moves, until it says what is true at the provider; False when it does not in time."""
    clock = asyncio.get_running_loop().time
    ends, settled_by = clock() + LONGEST, None
    screen = watching.console()
    live = Live(console=screen, auto_refresh=False, transient=True) if screen.is_terminal else _Nothing()
    with live:
        while clock() < min(ends, settled_by or ends) and not stop.is_set():
            live.update(await found.do(watching.look, campaign_id, MEANWHILE), refresh=True)
            is_over = (
                await found.do(campaigns.get, campaign_id)
            ).status == "completed" and await providers.is_quiet()
            if is_over and await _is_true(found, providers, campaign_id):
                return True
            settled_by = (settled_by or clock() + SETTLES_WITHIN) if is_over else None
            await asyncio.sleep(EVERY)
    return False


class _Nothing:
    """A view without a screen."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was drawn."""

    def update(self, _: object, *, refresh: bool) -> None:
        """Nobody looks."""


async def _is_true(found: Session, providers: Simulator, campaign_id: UUID) -> bool:
    """Does our funnel say exactly what the provider knows?"""
    async with found.database.transaction(found.actor.org_id) as conn:
        funnel = funnels.funnel_of(await funnels.read(conn, found.actor.org_id, campaign_id))
    summary = await providers.summary()
    return says_the_same(funnel, summary["statuses"].get(scene.PROVIDER, {}))


def says_the_same(funnel: Funnel, truth: dict[str, int]) -> bool:
    """Each rung against the provider's own count of it. Those refused at the hand-over are failed too."""
    reached = {rung.stage: rung.reached for rung in funnel.stages}
    read = truth.get("read", 0)
    delivered = truth.get("delivered", 0) + read
    return (reached["read"], reached["delivered"], reached["sent"]) == (
        read, delivered, delivered + truth.get("sent", 0),
    )  # fmt: skip


async def _close_sales(found: Session, campaign_id: UUID) -> None:
    """Some of those who answered buy; a person says so."""
    wanted = results.Wanted(stage="replied")
    answered = (await found.do(results.page, campaign_id, wanted, 200)).items
    for result in sorted(answered, key=lambda one: one.address)[:SALES]:
        await found.do(recipients.close, campaign_id, Close(message_id=result.message_id))
