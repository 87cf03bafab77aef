"""The verbs `group …`: contacts gathered by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from antiphon.entry.cli.options import Org
from antiphon.entry.cli.shape import verb

if TYPE_CHECKING:
    from antiphon.contacts.model import Group
    from antiphon.entry.cli.session import Session

Name = Annotated[str, typer.Argument(metavar="NAME", help="The group's name.", show_default=False)]


@verb("antiphon group create Guests")
def create(
    name: Name,
    description: Annotated[str | None, typer.Option(help="What it is for.", show_default=False)] = None,
    org: Org = None,
) -> None:
    """Make a group."""
    from antiphon.contacts import groups
    from antiphon.contacts.groups import NewGroup
    from antiphon.entry.cli import session

    async def work() -> None:
        async with session.session(org) as found:
            group = await found.do(groups.create_group, NewGroup(name=name, description=description))
        typer.echo(f"Group {group.name}: {group.id}")

    session.run(work())


@verb("antiphon group list")
def list_all(org: Org = None) -> None:
    """List the groups."""
    from antiphon.contacts import groups
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import shown
    from antiphon.entry.cli.tables import show

    async def work() -> None:
        async with session.session(org) as found:
            page = await found.do(groups.list_groups, limit=200)
            known = [await found.do(groups.get_group, group.id) for group in page.items]
        show(
            ("id", "name", "members", "state", "made"),
            [
                (str(g.id), g.name, shown(g.members), "active" if g.is_active else "inactive", shown(g.created_at))
                for g in known
            ],
            "no group yet",
        )  # fmt: skip

    session.run(work())


@verb("antiphon group add Guests +4915112345678")
def add(
    name: Name,
    contact: Annotated[
        list[str],
        typer.Argument(metavar="CONTACT...", help="Phone numbers, emails or ids; new ones become contacts."),
    ],
    channel: Annotated[str, typer.Option(help="What the addresses are for.")] = "whatsapp",
    org: Org = None,
) -> None:
    """Put contacts into a group."""
    from antiphon.contacts import groups
    from antiphon.contacts.reaching import reach
    from antiphon.core.channel import parse_channel
    from antiphon.core.errors import FieldError, Invalid
    from antiphon.entry.cli import session

    async def work() -> None:
        async with session.session(org) as found:
            group = await find(found, name)
            async with found.database.transaction(found.actor.org_id) as conn:
                people, wrong = await reach(conn, found.actor, parse_channel(channel), contact)
                if wrong:
                    errors = [FieldError("contact", text, given) for given, text in wrong.items()]
                    raise Invalid(f"{len(wrong)} of these are nobody; nobody was added", errors)
                ids = list({person.contact_id: None for person in people.values()})
                done = await groups.add_members(conn, found.actor, group.id, ids)
        already = f"; {len(ids) - done.changed} were in it" if done.changed < len(ids) else ""
        typer.echo(f"Added {done.changed} to {group.name}{already}.")

    session.run(work())


async def find(found: Session, name: str) -> Group:
    """The group that is meant by a name or an id. Raises NotFound."""
    from antiphon.contacts import groups
    from antiphon.core.errors import NotFound

    group = await found.do(groups.find_group, name)
    if group is not None:
        return group
    try:
        return await found.do(groups.get_group, UUID(name))
    except ValueError:
        raise NotFound("group", name) from None
