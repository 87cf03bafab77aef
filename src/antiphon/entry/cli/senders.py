"""The verbs `sender …`: provider accounts and what is sent from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from antiphon.entry.cli.options import Org

if TYPE_CHECKING:
    from antiphon.entry.cli.session import Session


def add(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the sender is called.", show_default=False)
    ],
    address: Annotated[
        str, typer.Option(help="Number, device or email address that it sends from.", show_default=False)
    ],
    provider: Annotated[
        str | None, typer.Option(help="wsapme, meta_whatsapp or smtp: makes an account.", show_default=False)
    ] = None,
    credential: Annotated[
        list[str] | None,
        typer.Option("--credential", "-c", help="name=value, several; name=- reads it from standard input."),
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Use this account, by id or name.", show_default=False)
    ] = None,
    channel: Annotated[str | None, typer.Option(help="Where the provider carries several.")] = None,
    rate: Annotated[float | None, typer.Option(help="Messages a second.")] = None,
    daily_cap: Annotated[int | None, typer.Option(help="Messages a day.")] = None,
    org: Org = None,
) -> None:
    """Add a sender, with an account at its provider."""
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import pairs

    if (provider is None) == (account is None):
        raise typer.BadParameter("give either --provider with its credentials, or --account")
    given = pairs(credential, "--credential")
    for field in [field for field, value in given.items() if value == "-"]:
        given[field] = sys.stdin.readline().rstrip("\r\n")

    async def work() -> None:
        async with session.session(org) as found:
            await _add(found, name, address, provider or "", given, account, channel, (rate, daily_cap))

    session.run(work())


async def _add(
    found: Session,
    name: str,
    address: str,
    provider: str,
    given: dict[str, str],
    account: str | None,
    channel: str | None,
    pace: tuple[float | None, int | None],
) -> None:
    from msgspec import UNSET

    from antiphon.messages import lane_service
    from antiphon.providers import registry
    from antiphon.senders import service
    from antiphon.senders.model import NewAccount, NewSender

    async with found.database.transaction(found.actor.org_id) as conn:
        if account is None:
            made = await service.add_account(
                conn,
                found.actor,
                found.vault,
                NewAccount(provider=provider, name=name, credentials={**given}),
            )
            account_id, carrier = made.id, made.provider
        else:
            account_id, carrier = await _find_account(found, account)
        carried = sorted(registry.get(carrier).channels)
        sender = await lane_service.add_sender(
            conn, found.actor,
            NewSender(
                account_id=account_id, channel=channel or carried[0], address=address, name=name, rate=pace[0],
                daily_cap=UNSET if pace[1] is None else pace[1],
            ),
        )  # fmt: skip
        webhook = await service.get_webhook(
            conn, found.actor, found.vault, account_id, found.settings.public_url
        )
    typer.echo(
        f"Sender {sender.name} ({sender.channel} from {sender.address}, {sender.rate:g}/s): {sender.id}"
    )
    if registry.get(carrier).parse_webhook is not None:
        typer.echo(f"Webhook address for the provider (it is a secret):\n{webhook.url}\n{webhook.help}")


async def _find_account(found: Session, wanted: str) -> tuple[UUID, str]:
    from antiphon.core.errors import NotFound
    from antiphon.senders import service

    page = await found.do(service.list_accounts, found.vault, limit=200)
    for account in page.items:
        if wanted in (str(account.id), account.name):
            return account.id, account.provider
    raise NotFound("provider account", wanted)


def list_all(org: Org = None) -> None:
    """List the senders with their queues."""
    from antiphon.entry.cli import session
    from antiphon.entry.cli.tables import show
    from antiphon.messages import lane_service
    from antiphon.senders import service

    async def work() -> None:
        rows: list[tuple[str, ...]] = []
        async with session.session(org) as found:
            for sender in (await found.do(service.list_senders, limit=200)).items:
                lane = await found.do(lane_service.view, sender.id)
                stands = lane.paused_reason or lane.block_reason or "sends"
                pace = f"{sender.rate:g}/s"
                rows.append((str(sender.id), sender.name, sender.channel, sender.provider, sender.address, pace,
                             str(lane.waiting), stands))  # fmt: skip
        show(
            ("id", "name", "channel", "provider", "address", "rate", "waiting", "state"),
            rows,
            "no sender yet",
        )

    session.run(work())


def pause(
    sender: Annotated[str, typer.Argument(metavar="SENDER", help="Id or name.", show_default=False)],
    org: Org = None,
) -> None:
    """Pause a sender: what waits, waits."""
    _set_active(sender, False, org)


def resume(
    sender: Annotated[str, typer.Argument(metavar="SENDER", help="Id or name.", show_default=False)],
    org: Org = None,
) -> None:
    """Let a sender go on, also after a fault of its account."""
    _set_active(sender, True, org)


def _set_active(wanted: str, is_active: bool, org: str | None) -> None:
    from antiphon.core.errors import NotFound
    from antiphon.entry.cli import session
    from antiphon.messages import lane_service
    from antiphon.senders import service
    from antiphon.senders.model import SenderChanges

    async def work() -> None:
        async with session.session(org) as found:
            page = await found.do(service.list_senders, limit=200)
            meant = [s for s in page.items if wanted in (str(s.id), s.name)]
            if not meant:
                raise NotFound("sender", wanted)
            changed = await found.do(
                lane_service.update_sender, meant[0].id, SenderChanges(is_active=is_active)
            )
        typer.echo(f"Sender {changed.name} {'sends' if is_active else 'is paused'}.")

    session.run(work())


def providers() -> None:
    """List the providers and the credentials that each asks for."""
    from antiphon.providers import credentials, registry

    for provider in registry.public():
        typer.echo(f"{provider.name}: {provider.title}, for {', '.join(sorted(provider.channels))}")
        for field in credentials.fields(provider.credentials):
            need = "required" if field.required else f"default {field.default!r}"
            typer.echo(f"  {field.name}: {field.label} ({need})")
