"""The verbs `template …`: what messages say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from antiphon.entry.cli.options import Org
from antiphon.entry.cli.shape import verb

if TYPE_CHECKING:
    from antiphon.templates.model import Template

Name = Annotated[str, typer.Argument(metavar="NAME", help="The template's name.", show_default=False)]


@verb("antiphon template add Welcome --text 'Hello {{firstName}}'")
def add(
    name: Name,
    text: Annotated[
        str | None, typer.Option(help="What it says; @FILE reads it, @- from standard input.")
    ] = None,
    channel: Annotated[str, typer.Option(help="whatsapp, email or sms.")] = "whatsapp",
    subject: Annotated[str | None, typer.Option(help="An email's subject.")] = None,
    html: Annotated[str | None, typer.Option(help="An email's HTML, or @FILE.")] = None,
    language: Annotated[str | None, typer.Option(help="The language of this text, like en.")] = None,
    variable: Annotated[
        list[str] | None, typer.Option("--variable", help="A variable of its own: name=sample; several.")
    ] = None,
    org: Org = None,
) -> None:
    """Add a template, or its next version."""
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import pairs
    from antiphon.templates import service
    from antiphon.templates.model import NewTemplate, NewVersion, Variable

    samples = pairs(variable, "--variable")
    said: dict[str, Any] = {
        "subject": subject, "text": _text(text), "html": _text(html), "language": language,
        "variables": {name: Variable(sample=sample) for name, sample in samples.items()},
    }  # fmt: skip

    async def work() -> None:
        async with session.session(org) as found:
            async with found.database.transaction(found.actor.org_id) as conn:
                known = await service.find_named(conn, found.actor.org_id, name)
            if known is None:
                made = await found.do(service.create, NewTemplate(name=name, channel=channel, **said))
                typer.echo(f"Template {made.name} for {made.channel}: {made.id}")
                return
            version = await found.do(service.add_version, known.id, NewVersion(**said))
            typer.echo(f"Template {known.name}, version {version.version} in {version.language}: {known.id}")

    session.run(work())


def _text(given: str | None) -> str | None:
    if given is None or not given.startswith("@"):
        return given
    return sys.stdin.read() if given == "@-" else Path(given[1:]).read_text("utf-8")


@verb("antiphon template preview Welcome --contact +4915112345678")
def preview(
    name: Name,
    contact: Annotated[
        str | None, typer.Option(help="For this contact: a phone number, email or id.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Only this language.")] = None,
    variable: Annotated[list[str] | None, typer.Option("--variable", help="name=value; several.")] = None,
    org: Org = None,
) -> None:
    """Show what a template would say."""
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import pairs
    from antiphon.templates import preview as previews
    from antiphon.templates.preview import PreviewWanted

    values = pairs(variable, "--variable")

    async def work() -> None:
        async with session.session(org) as found:
            template = await _find(found, name)
            contact_id = await _find_contact(found, template, contact) if contact else None
            wanted = PreviewWanted(contact_id=contact_id, variables={**values}, language=language)
            shown = await found.do(previews.show, template.id, wanted)
        for one in shown:
            typer.echo(f"{template.name}, {one.language}, version {one.version}:")
            if one.said is None:
                typer.echo(f"  cannot be sent: {one.problem}")
                continue
            for part in (one.said.subject, one.said.text, one.said.html):
                if part is not None:
                    typer.echo("\n".join(f"  {line}" for line in part.splitlines()))
            if one.missing:
                typer.echo(f"  without a value: {', '.join(one.missing)}")

    session.run(work())


async def _find(found: Any, name: str) -> Template:
    from uuid import UUID

    from antiphon.core.errors import NotFound
    from antiphon.templates import service

    async with found.database.transaction(found.actor.org_id) as conn:
        template = await service.find_named(conn, found.actor.org_id, name)
        if template is None:
            try:
                return await service.get(conn, found.actor, UUID(name))
            except ValueError:
                raise NotFound("template", name) from None
        return template


async def _find_contact(found: Any, template: Template, contact: str) -> Any:
    from antiphon.contacts.reaching import reach
    from antiphon.core.errors import Invalid

    async with found.database.transaction(found.actor.org_id) as conn:
        people, wrong = await reach(conn, found.actor, template.channel, [contact])
    if wrong:
        raise Invalid.field("contact", wrong[contact], contact)
    return people[contact].contact_id


@verb("antiphon template list")
def list_all(org: Org = None) -> None:
    """List the templates."""
    from antiphon.entry.cli import session
    from antiphon.entry.cli.tables import show
    from antiphon.templates import service

    async def work() -> None:
        async with session.session(org) as found:
            page = await found.do(service.list_templates, limit=200)
        show(
            ("id", "name", "channel", "languages", "state"),
            [(str(t.id), t.name, t.channel, ", ".join(t.languages), t.status) for t in page.items],
            "no template yet",
        )

    session.run(work())
