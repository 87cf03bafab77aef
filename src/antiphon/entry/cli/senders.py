"""The verbs `sender …`: provider accounts and what is sent from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from antiphon.entry.cli.options import Org
from antiphon.entry.cli.shape import verb

if TYPE_CHECKING:
    from antiphon.entry.cli.session import Session
    from antiphon.senders.model import NewAccount, NewSender


EXAMPLE = """antiphon sender add Shop --provider wsapme \\
    --address 60123456789 --credential token=-"""


@verb(EXAMPLE)
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
    from msgspec import UNSET

    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import pairs
    from antiphon.senders.model import NewAccount, NewSender

    if (provider is None) == (account is None):
        raise typer.BadParameter("give either --provider with its credentials, or --account")
    given = pairs(credential, "--credential")
    for field in [field for field, value in given.items() if value == "-"]:
        given[field] = sys.stdin.readline().rstrip("\r\n")
    new = NewSender(
        account_id=UUID(int=0), channel=channel or "", address=address, name=name, rate=rate,
        daily_cap=UNSET if daily_cap is None else daily_cap,
    )  # fmt: skip
    at = account or NewAccount(provider=provider or "", name=name, credentials={**given})

    async def work() -> None:
        async with session.session(org) as found:
            await _add(found, at, new)

    session.run(work())


async def _add(found: Session, at: NewAccount | str, new: NewSender) -> None:
    """The account, where there is none yet, and the sender with its lane: all or nothing."""
    from msgspec import structs

    from antiphon.messages import lane_service
    from antiphon.providers import registry
    from antiphon.senders import service

    async with found.database.transaction(found.actor.org_id) as conn:
        if isinstance(at, str):
            account_id, carrier = await _find_account(found, at)
        else:
            made = await service.add_account(conn, found.actor, found.vault, at)
            account_id, carrier = made.id, made.provider
        provider = registry.get(carrier)
        channel = new.channel or min(provider.channels)
        whole = structs.replace(new, account_id=account_id, channel=channel)
        sender = await lane_service.add_sender(conn, found.actor, whole)
        public_url = found.settings.public_url
        webhook = await service.get_webhook(conn, found.actor, found.vault, account_id, public_url)
    pace = f"{sender.channel} from {sender.address}, {sender.rate:g}/s"
    typer.echo(f"Sender {sender.name} ({pace}): {sender.id}")
    if provider.parse_webhook is not None:
        typer.echo(f"Webhook address for the provider (it is a secret):\n{webhook.url}\n{webhook.help}")


async def _find_account(found: Session, wanted: str) -> tuple[UUID, str]:
    from antiphon.core.errors import NotFound
    from antiphon.senders import service

    page = await found.do(service.list_accounts, found.vault, limit=200)
    for account in page.items:
        if wanted in (str(account.id), account.name):
            return account.id, account.provider
    raise NotFound("provider account", wanted)


@verb("antiphon sender list")
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


@verb("antiphon sender pause Shop")
def pause(
    sender: Annotated[str, typer.Argument(metavar="SENDER", help="Id or name.", show_default=False)],
    org: Org = None,
) -> None:
    """Pause a sender: what waits, waits."""
    _set_active(sender, False, org)


@verb("antiphon sender resume Shop")
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


@verb("antiphon sender providers")
def providers() -> None:
    """List the providers and the credentials that each asks for."""
    from antiphon.providers import credentials, registry

    for provider in registry.public():
        typer.echo(f"{provider.name}: {provider.title}, for {', '.join(sorted(provider.channels))}")
        for field in credentials.fields(provider.credentials):
            need = "required" if field.required else f"default {field.default!r}"
            typer.echo(f"  {field.name}: {field.label} ({need})")
