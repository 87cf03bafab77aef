"""All verbs, in the order in which help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from antiphon.entry.cli import (
    blasts,
    contacts,
    doctor,
    groups,
    messages,
    organizations,
    processes,
    schema,
    senders,
    templates,
)
from antiphon.entry.cli.shape import group, register

app = group("Every message an organization sends and every answer it gets, in one ledger.")


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"antiphon {version('antiphon')}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and end.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """Every message an organization sends and every answer it gets, in one ledger."""


register(app, processes.up)
register(app, processes.serve)
register(app, processes.work)
register(app, processes.demo)
register(app, organizations.init)
register(app, schema.migrate)
register(app, doctor.doctor)

org = group("Organizations: the tenants.", "antiphon org create 'Lakeside Hotels'")
register(org, organizations.create, "create")
register(org, organizations.list_all, "list")
app.add_typer(org, name="org")

key = group("API keys.", "antiphon key create 'Booking system'")
register(key, organizations.create_key, "create")
register(key, organizations.list_keys, "list")
register(key, organizations.revoke_key, "revoke")
app.add_typer(key, name="key")

sender = group("Senders: numbers and addresses to send from.", "antiphon sender add Shop --provider wsapme …")
register(sender, senders.add, "add")
register(sender, senders.list_all, "list")
register(sender, senders.pause, "pause")
register(sender, senders.resume, "resume")
register(sender, senders.providers, "providers")
app.add_typer(sender, name="sender")

template = group(
    "Templates: what messages say.", "antiphon template add Welcome --text 'Hello {{firstName}}'"
)
register(template, templates.add, "add")
register(template, templates.preview, "preview")
register(template, templates.list_all, "list")
app.add_typer(template, name="template")

people = group("Contacts: people, and files of them.", "antiphon contacts import guests.xlsx --group Guests")
register(people, contacts.import_file, "import")
register(people, contacts.list_all, "list")
register(people, contacts.imports_list, "imports")
app.add_typer(people, name="contacts")

contact_group = group("Groups of contacts.", "antiphon group create Guests")
register(contact_group, groups.create, "create")
register(contact_group, groups.list_all, "list")
register(contact_group, groups.add, "add")
app.add_typer(contact_group, name="group")

blast = group(
    "Blasts: one message to many, and its funnel.", "antiphon blast send --tag Raya --to @guests.csv …"
)
register(blast, blasts.send, "send")
register(blast, blasts.show, "show")
register(blast, blasts.list_all, "list")
register(blast, blasts.pause, "pause")
register(blast, blasts.resume, "resume")
register(blast, blasts.cancel, "cancel")
register(blast, blasts.close, "close")
register(blast, blasts.follow_up, "follow-up")
app.add_typer(blast, name="blast")

message = group("Single messages.", "antiphon message explain 0191d2c4-…")
register(message, messages.explain, "explain")
register(message, messages.list_newest, "list")
app.add_typer(message, name="message")
