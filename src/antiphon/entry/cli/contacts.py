"""The verbs `contacts …`: people from files, and who is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from antiphon.entry.cli.options import Org
from antiphon.entry.cli.shape import verb

if TYPE_CHECKING:
    from uuid import UUID

    from antiphon.entry.cli.session import Session


@verb("antiphon contacts import guests.xlsx --group Guests --country DE")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or XLSX.", show_default=False)],
    group: Annotated[str | None, typer.Option(help="Put them into this group; made if new.")] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="COLUMN=field, attr:name or -; several.")
    ] = None,
    country: Annotated[str | None, typer.Option(help="Country of national numbers, like DE.")] = None,
    consent: Annotated[str | None, typer.Option(help="What all of them agreed to, in words.")] = None,
    keep: Annotated[bool, typer.Option("--keep-columns", help="Keep unknown columns as attributes.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="The file knows better than we do.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Only go on with one that stopped.")] = False,
    errors: Annotated[
        Path | None, typer.Option(help="Write the refused lines to this CSV file.", show_default=False)
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Where it is guessed wrong, like cp1252.")] = None,
    separator: Annotated[str | None, typer.Option(help="Where it is guessed wrong, like ';'.")] = None,
    sheet: Annotated[str | None, typer.Option(help="A workbook's sheet, if not the first.")] = None,
    no_header: Annotated[bool, typer.Option("--no-header", help="The first line is a person.")] = False,
    org: Org = None,
) -> None:
    """Import contacts; Ctrl-C is safe, again goes on."""
    from antiphon.contacts.import_model import ImportOptions
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import pairs

    options = ImportOptions(
        map=pairs(map_, "--map"), country=country, consent=consent, overwrite=overwrite, dry_run=dry_run,
        extra="attributes" if keep else "drop", encoding=encoding, separator=separator, sheet=sheet,
        has_header=not no_header,
    )  # fmt: skip

    async def work() -> int:
        async with session.session(org) as found:
            return await _import(found, file, options, group, resume, errors)

    if code := session.run(work()):
        raise typer.Exit(code)


async def _import(
    found: Session, file: Path, options: object, group: str | None, resume: bool, errors: Path | None
) -> int:
    import msgspec

    from antiphon.contacts.import_model import ImportOptions
    from antiphon.entry.cli import importing

    assert isinstance(options, ImportOptions)
    if group is not None:
        options = msgspec.structs.replace(options, group=await importing.named_group(found, group))
    done = await importing.run(found, file, options, resume=resume)
    if errors is not None:
        await _write_errors(found, done.id, errors)
        typer.echo(f"The refused lines are in {errors}.")
    return 130 if done.status == "running" else 0


async def _write_errors(found: Session, import_id: UUID, path: Path) -> None:
    from antiphon.contacts import imports

    with path.open("wb") as target:
        async for part in imports.error_file(found.database, found.actor.org_id, import_id):
            target.write(part)


@verb("antiphon contacts list --search 'anna berg'")
def list_all(
    search: Annotated[str | None, typer.Option(help="A part of name, number or email.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=200)] = 20,
    org: Org = None,
) -> None:
    """List contacts, the newest first."""
    from antiphon.contacts import service
    from antiphon.entry.cli import session
    from antiphon.entry.cli.tables import show

    async def work() -> None:
        async with session.session(org) as found:
            page = await found.do(service.list_contacts, service.Wanted(q=search), limit=limit)
        rows = [
            (str(c.id), " ".join(filter(None, (c.first_name, c.last_name))), c.company or "",
             ", ".join(address.value for address in c.addresses))
            for c in page.items
        ]  # fmt: skip
        show(("id", "name", "company", "addresses"), rows, "no such contact")

    session.run(work())


@verb("antiphon contacts imports")
def imports_list(org: Org = None) -> None:
    """List the imports, the newest first."""
    from antiphon.contacts import imports
    from antiphon.entry.cli import session
    from antiphon.entry.cli.options import shown
    from antiphon.entry.cli.tables import show

    async def work() -> None:
        async with session.session(org) as found:
            page = await found.do(imports.list_imports, None, 50)
        rows = [
            (
                str(i.id),
                shown(i.created_at),
                i.file_name,
                i.status,
                f"{i.rows_read:,}",
                f"{i.created:,}",
                f"{i.rejected:,}",
            )
            for i in page.items
        ]
        show(("id", "when", "file", "status", "rows", "new", "refused"), rows, "no import yet")

    session.run(work())
