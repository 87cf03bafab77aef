"""The verbs `message …`: one message's story, and the newest ones."""

from __future__ import annotations

from typing import Annotated

import typer

from antiphon.entry.cli.options import Org
from antiphon.entry.cli.shape import verb


@verb("antiphon message explain 0191d2c4-…")
def explain(
    message: Annotated[str, typer.Argument(metavar="ID", help="The message's id.", show_default=False)],
    org: Org = None,
) -> None:
    """Tell what became of a message, and why."""
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import identifier
    from antiphon.messages import explain as explaining

    message_id = identifier(message, "message")

    async def work() -> None:
        async with session.session(org) as found:
            story = await found.do(explaining.explain, message_id)
        typer.echo(f"Message {story.message_id}: {story.status}")
        for line in story.lines:
            typer.echo(f"  {line.at.astimezone():%Y-%m-%d %H:%M:%S}  {line.text}")
        typer.echo(f"Now: {story.now}")

    session.run(work())


@verb("antiphon message list --status failed")
def list_newest(
    status: Annotated[
        list[str] | None, typer.Option("--status", help="Only these: failed, READ_ACK, …; several.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Only with this number or email address.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=200)] = 20,
    org: Org = None,
) -> None:
    """List the newest messages, out and in."""
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import shown
    from antiphon.entry.cli.tables import show
    from antiphon.messages import service
    from antiphon.messages.queries import Filter

    wanted = Filter(statuses=service.statuses(status), address=to)

    async def work() -> None:
        async with session.session(org) as found:
            page = await found.do(service.page, wanted, limit, None)
        show(
            ("id", "made", "", "address", "status", "text"),
            [
                (str(m.id), shown(m.created_at), "→" if m.direction == "out" else "←", m.address, m.status,
                 " ".join((m.text or m.reason).split())[:60])
                for m in page.items
            ],
            "no such message",
        )  # fmt: skip

    session.run(work())
