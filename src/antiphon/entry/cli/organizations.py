"""The verbs `init`, `org` and `key`: who is served, and who may call."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from antiphon.entry.cli.options import Org
from antiphon.entry.cli.shape import verb

Timezone = Annotated[str, typer.Option(help="Time zone of its days, like Europe/Berlin.")]
Country = Annotated[
    str | None, typer.Option(help="Country of national phone numbers, like DE.", show_default=False)
]
Language = Annotated[str, typer.Option(help="Language of its messages, like de.")]


@verb("antiphon init 'Lakeside Hotels' --country DE")
def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the organization is called.", show_default=False)
    ],
    timezone: Timezone = "UTC",
    country: Country = None,
    language: Language = "en",
    owner: Annotated[
        str | None, typer.Option(help="Email address of who owns it.", show_default=False)
    ] = None,
) -> None:
    """Make the schema, the first organization, its owner and key."""
    from antiphon.entry.cli import session

    session.run(_init(name, timezone, country, language, owner))


async def _init(name: str, timezone: str, country: str | None, language: str, owner: str | None) -> None:
    import asyncio

    from antiphon.core import migrate, roles
    from antiphon.core.settings import Settings

    prepared = await asyncio.to_thread(roles.prepare, Settings.from_env())
    try:
        if prepared.urls.owner:
            await asyncio.to_thread(migrate.apply, prepared.urls.owner)
        await _create(name, timezone, country, language, owner)
    finally:
        await asyncio.to_thread(prepared.release)
    typer.echo("What next: antiphon sender add --help, then antiphon up.")


async def _create(
    name: str, timezone: str, country: str | None, language: str, owner: str | None = None
) -> None:
    from antiphon.core.db import Database
    from antiphon.entry.cli import session
    from antiphon.organizations import service, users
    from antiphon.organizations.model import Actor

    async with (
        session.opened() as (_, urls),
        Database.connect(urls.app, size=2, name="antiphon", wait=session.WAIT) as database,
    ):
        organization, _, token = await service.init(
            database, name, timezone=timezone, country=country, language=language
        )
        actor = Actor.operator(organization.id)
        if owner is not None:
            async with database.transaction(organization.id) as conn:
                user = await users.add_member(conn, actor, owner, "", "admin")
            typer.echo(f"Owner {user.email}: {user.id}")
    typer.echo(f"Organization {organization.name}: {organization.id}")
    _tell_token(token)


@verb("antiphon org create 'Lakeside Hotels' --timezone Europe/Berlin")
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the organization is called.", show_default=False)
    ],
    timezone: Timezone = "UTC",
    country: Country = None,
    language: Language = "en",
) -> None:
    """Make an organization and a key that may do everything."""
    from antiphon.entry.cli import session

    session.run(_create(name, timezone, country, language))


@verb("antiphon org list")
def list_all() -> None:
    """List the organizations."""
    from antiphon.entry.cli import session
    from antiphon.entry.cli.tables import show

    async def work() -> None:
        async with session.opened() as (_, urls):
            found = await session.organizations(urls.worker)
        show(("id", "name"), [(str(id_), name) for id_, name in found], "no organization yet")

    session.run(work())


@verb("antiphon key create 'Booking system' --scope messages:send")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.", show_default=False)],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="What it may do, like messages:send; several; all if left out."),
    ] = None,
    role: Annotated[
        str | None, typer.Option(help="Or all that a role may: admin, manager, user, viewer.")
    ] = None,
    days: Annotated[int | None, typer.Option(help="End after so many days.", min=1)] = None,
    org: Org = None,
) -> None:
    """Make an API key; it is shown once."""
    from antiphon.core import clock
    from antiphon.entry.cli import session
    from antiphon.organizations import service
    from antiphon.organizations.model import ROLE_PERMISSIONS, Permission

    roles: dict[str, frozenset[Permission]] = {**ROLE_PERMISSIONS}
    if role is not None and role not in roles:
        raise typer.BadParameter(f"{role!r} is none of {', '.join(roles)}", param_hint="--role")
    of_role = sorted(roles[role]) if role is not None else []
    scopes = [*(scope or []), *of_role] or list(Permission)

    async def work() -> None:
        expires_at = clock.now() + timedelta(days=days) if days else None
        async with session.session(org) as found:
            key, token = await found.do(service.create_key, name, scopes, expires_at)
        typer.echo(f"Key {key.name}: {key.id}")
        _tell_token(token)

    session.run(work())


@verb("antiphon key list")
def list_keys(org: Org = None) -> None:
    """List the API keys, without their secrets."""
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import shown
    from antiphon.entry.cli.tables import show
    from antiphon.organizations import service

    async def work() -> None:
        async with session.session(org) as found:
            page = await found.do(service.list_keys, 200, None)
        show(
            ("id", "name", "secret", "scopes", "last used", "state"),
            [
                (str(key.id), key.name, f"{key.prefix[-6:]}…", str(len(key.scopes)), shown(key.last_used_at),
                 "revoked" if key.revoked_at else f"until {shown(key.expires_at)}" if key.expires_at else "in force")
                for key in page.items
            ],
            "no key yet",
        )  # fmt: skip

    session.run(work())


@verb("antiphon key revoke 0191d2c4-…")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id.", show_default=False)],
    org: Org = None,
) -> None:
    """End an API key: its next request is refused."""
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import identifier
    from antiphon.organizations import service

    key_id = identifier(key, "key")

    async def work() -> None:
        async with session.session(org) as found:
            revoked = await found.do(service.revoke_key, key_id)
        typer.echo(f"Key {revoked.name} is revoked.")

    session.run(work())


def _tell_token(token: str) -> None:
    typer.echo(f"API key (shown this once): {token}")
