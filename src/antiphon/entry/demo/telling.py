"""What the demo says while its day plays."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from uuid import UUID

import msgspec
import typer

from antiphon.campaigns import results
from antiphon.campaigns.model import Preview
from antiphon.contacts.import_model import Import
from antiphon.contacts.imports import RefusedLine
from antiphon.core import db
from antiphon.core.settings import Settings
from antiphon.entry.cli.session import Session
from antiphon.senders.model import Sender

LABEL = 10
WIDTH = 78
REPLIES_SHOWN = 6


class Reply(msgspec.Struct, frozen=True):
    """What a person wrote back."""

    who: str
    text: str


def say_hello() -> None:
    """What is about to happen."""
    typer.echo("A day of a marketing blast: invented people, a simulated phone, real sockets.\n")


def say_line() -> None:
    """Room."""
    typer.echo()


def _say(label: str, text: str) -> None:
    lines = textwrap.wrap(text, WIDTH - LABEL) or [""]
    for i, line in enumerate(lines):
        typer.echo(f"{label if i == 0 else '':<{LABEL}}{line}")


def say_import(done: Import, refused: list[RefusedLine]) -> None:
    """How the file went in."""
    bad = [error for error in refused if error.code != "duplicate"]
    twice = [error for error in refused if error.code == "duplicate"]
    _say("File", f"{done.file_name}: {done.rows_read} lines read, {done.created} new contacts")
    typer.echo(f"{'':<{LABEL}}{len(bad)} lines with no number that could be called:")
    for error in bad:
        text = f"line {error.line}: {error.reason}"
        typer.echo(f"{'':<{LABEL}}  {textwrap.shorten(text, WIDTH - LABEL - 2, placeholder=' …')}")
    if twice:
        typer.echo(f"{'':<{LABEL}}{len(twice)} lines name somebody again; the first one counts")


def say_road(sender: Sender, text: str) -> None:
    """From whom, and what it says."""
    _say("Template", f"“{text}”")
    _say("Sender", f"{sender.name}, WhatsApp by WSAPME, {sender.rate:g} messages a second; half of the news comes by "
                   "webhook, half must be asked for")  # fmt: skip


def say_preview(preview: Preview) -> None:
    """Whom it reaches."""
    why = ", ".join(
        f"{count} {word}"
        for count, word in (
            (preview.no_consent, "gave no consent"),
            (preview.suppressed, "suppressed"),
            (preview.no_address, "without a number"),
        )
        if count
    )
    _say("Blast", f"reaches {preview.reachable} of {preview.recipients} people" + (f"; {why}" if why else ""))


async def read_replies(found: Session) -> tuple[list[Reply], int, int]:
    """The first few answers by name, how many there are, and how many of them say STOP."""
    async with found.database.transaction(found.actor.org_id, read_only=True) as conn:
        rows = await db.tuples(conn, REPLIES, org_id=found.actor.org_id)
    stops = sum(text.strip().upper() == "STOP" for _, text in rows)
    return [Reply(who, text) for who, text in rows], len(rows), stops


REPLIES = """
    SELECT coalesce(c.first_name || ' ' || coalesce(c.last_name, ''), m.address), coalesce(t.text, '')
      FROM messages m
      JOIN message_contents t ON t.org_id = %(org_id)s AND t.message_id = m.id
      LEFT JOIN contacts c ON c.org_id = %(org_id)s AND c.id = m.contact_id
     WHERE m.org_id = %(org_id)s AND m.direction = 'in'
     ORDER BY md5(m.address), m.id
"""


def say_replies(replies: list[Reply], count: int, stops: int) -> None:
    """Some of what people wrote."""
    typer.echo(f"\n{count} replies, such as")
    for reply in replies[:REPLIES_SHOWN]:
        typer.echo(f"  {reply.who.strip():<28}{reply.text}")
    if stops:
        typer.echo(f"{stops} said STOP: they are suppressed, and no blast reaches them again.")


async def read_sources(found: Session, campaign_id: UUID) -> tuple[int, int]:
    """Of how many messages the news came by webhook, and of how many only by asking."""
    async with found.database.transaction(found.actor.org_id, read_only=True) as conn:
        rows = await db.tuples(conn, SOURCES, org_id=found.actor.org_id, campaign_id=campaign_id)
    return rows[0][0], rows[0][1]


SOURCES = """
    SELECT count(*) FILTER (WHERE webhook), count(*) FILTER (WHERE NOT webhook)
      FROM (SELECT bool_or(e.source = 'webhook') AS webhook
              FROM messages m
              JOIN message_events e ON e.org_id = %(org_id)s AND e.message_id = m.id
             WHERE m.org_id = %(org_id)s AND m.campaign_id = %(campaign_id)s AND m.direction = 'out'
               AND e.source IN ('webhook', 'polling') AND e.kind IN ('sent', 'delivered', 'read', 'failed')
             GROUP BY m.id) AS told
"""


def say_sources(by_webhook: int, by_asking: int) -> None:
    """Where the news came from."""
    typer.echo(f"\nStatuses came by webhook for {by_webhook} messages, only by asking for {by_asking}.")


def say_truth(is_true: bool) -> None:
    """Whether ledger and provider agree."""
    if is_true:
        typer.echo("Every count is equal to what the simulated provider knows.")
    else:
        typer.secho(
            "The provider knows more than the ledger; the machine was too busy, or this is a defect.",
            fg="red",
        )


async def one_message(found: Session, campaign_id: UUID) -> UUID:
    """A message whose story is worth reading: a failed one, else any."""
    for wanted in (results.Wanted(stage="failed"), results.Wanted()):
        items = (await found.do(results.page, campaign_id, wanted, 1)).items
        if items:
            return items[0].message_id
    return campaign_id


def say_next(settings: Settings, campaign_id: UUID, message_id: UUID) -> None:
    """What to look at now, in commands that work as they stand."""
    antiphon = program()
    typer.echo("\nWhat next")
    typer.echo(f"  {antiphon} up --demo   # the same with an API, an address and a key")
    typer.echo("To look around in this day:")
    if settings.is_embedded:
        typer.echo(f"  export ANTIPHON_DATA_DIR={_near(settings.data_dir)}")
    typer.echo(f"  {antiphon} blast show {campaign_id}")
    typer.echo(f"  {antiphon} message explain {message_id}")
    typer.echo(f"  {antiphon} doctor")


def command(settings: Settings, words: str) -> str:
    """A command line that works in another terminal of this folder, whatever the environment there is."""
    usual = Settings.from_env({}).data_dir
    place = "" if settings.data_dir == usual or not settings.is_embedded else _near(settings.data_dir)
    return f"{f'ANTIPHON_DATA_DIR={place} ' if place else ''}{program()} {words}"


def program() -> str:
    """How this program is called from here: by its name where the shell finds it."""
    return "antiphon" if shutil.which("antiphon") else _near(Path(sys.argv[0]))


def _near(path: Path) -> str:
    """A path as short as it can be written in the working folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
