"""Looking at a blast, once or as it moves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

from rich.console import Console
from rich.live import Live
from rich.text import Text

from antiphon.campaigns import results
from antiphon.campaigns import service as campaigns
from antiphon.core.db import Connection
from antiphon.entry.cli import picture
from antiphon.entry.cli.picture import Example
from antiphon.messages import funnel as funnels
from antiphon.organizations.model import Actor

if TYPE_CHECKING:
    from antiphon.entry.cli.session import Session

EVERY = 0.5  # seconds
LOOKED_AT = 50  # messages of a stage, for what providers said
ENDS = "Ctrl-C ends this view; the blast goes on."


async def look(conn: Connection, actor: Actor, campaign_id: UUID, note: str = "") -> Text:
    """The picture at this instant. Raises NotFound."""
    campaign = await campaigns.get(conn, actor, campaign_id)
    funnel = funnels.funnel_of(await funnels.read(conn, actor.org_id, campaign_id))
    examples: list[Example] = []
    for stage in ("failed", "bounced", "unknown"):
        if funnel.reasons.get(stage):
            examples += await _examples(conn, actor, campaign_id, stage)
    return picture.draw(campaign, funnel, examples, note)


async def _examples(conn: Connection, actor: Actor, campaign_id: UUID, stage: str) -> list[Example]:
    page = await results.page(conn, actor, campaign_id, results.Wanted(stage=stage), LOOKED_AT)
    said = {one.reason: one.detail for one in reversed(page.items) if one.detail}
    return [Example(stage, reason, " ".join(text.split())) for reason, text in said.items()]


async def show(found: Session, campaign_id: UUID) -> None:
    """Print the picture once."""
    console().print(await found.do(look, campaign_id))


async def watch(found: Session, campaign_id: UUID) -> None:
    """Draw the picture anew until Ctrl-C; where there is no screen, print it whenever something moved."""
    screen = console()
    if not screen.is_terminal:
        await _print_changes(found, campaign_id, screen)
        return
    with Live(console=screen, auto_refresh=False, transient=False) as live:
        while True:
            live.update(await found.do(look, campaign_id, ENDS), refresh=True)
            await asyncio.sleep(EVERY)


async def _print_changes(found: Session, campaign_id: UUID, screen: Console) -> None:
    last = ""
    while True:
        now = await found.do(look, campaign_id)
        if now.plain != last:
            last = now.plain
            screen.print(now)
            screen.print()
        if (await found.do(campaigns.get, campaign_id)).status in ("completed", "canceled"):
            return
        await asyncio.sleep(EVERY)


def console() -> Console:
    """Where pictures are drawn; as wide as they need where there is no screen."""
    found = Console(highlight=False, markup=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, markup=False, width=100)
