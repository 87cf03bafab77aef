"""The database's schema: bring it up to date, or only look."""

from __future__ import annotations

from typing import Annotated

import typer

from antiphon.entry.cli.shape import verb


@verb("antiphon migrate --plan")
def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be done.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Fail when something is left to do.")] = False,
) -> None:
    """Bring the database's schema up to date."""
    from antiphon.core import migrate as migrations
    from antiphon.core import roles
    from antiphon.core.settings import Settings

    found = roles.prepare(Settings.from_env())
    try:
        if not found.urls.owner:
            raise migrations.MigrationError(
                "only the owner may change the schema: set ANTIPHON_DATABASE_URL to how the owner signs in"
            )
        if check:
            migrations.check(found.urls.owner)
            typer.echo("The schema is up to date.")
            return
        if plan:
            names = [migration.label for migration in migrations.plan(found.urls.owner)]
            told = "Would apply"
        else:
            names, told = migrations.apply(found.urls.owner), "Applied"
        typer.echo(f"{told}: {', '.join(names)}" if names else "The schema is up to date; nothing to do.")
    finally:
        found.release()
