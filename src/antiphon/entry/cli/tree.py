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
from antiphon.entry.cli.shape import group, verb

SENDER_ADD = """antiphon sender add Shop --provider wsapme \\
    --address 60123456789 --credential token=-"""
BLAST_SEND = """antiphon blast send --tag Raya --to @guests.csv \\
    --template Invite --sender Shop --rate 20/s"""

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


verb(app, "antiphon up --demo")(processes.up)
verb(app, "antiphon serve --port 8400")(processes.serve)
verb(app, "antiphon work")(processes.work)
verb(app, "antiphon demo")(processes.demo)
verb(app, "antiphon init 'Lakeside Hotels' --country DE")(organizations.init)
verb(app, "antiphon migrate --plan")(schema.migrate)
verb(app, "antiphon doctor --brief")(doctor.doctor)

org = group("Organizations: the tenants.", "antiphon org create 'Lakeside Hotels'")
verb(org, "antiphon org create 'Lakeside Hotels' --timezone Europe/Berlin", "create")(organizations.create)
verb(org, "antiphon org list", "list")(organizations.list_all)
app.add_typer(org, name="org")

key = group("API keys.", "antiphon key create 'Booking system'")
verb(key, "antiphon key create 'Booking system' --scope messages:send", "create")(organizations.create_key)
verb(key, "antiphon key list", "list")(organizations.list_keys)
verb(key, "antiphon key revoke 0191d2c4-…", "revoke")(organizations.revoke_key)
app.add_typer(key, name="key")

sender = group("Senders: numbers and addresses to send from.", "antiphon sender add Shop --provider wsapme …")
verb(
    sender,
    "antiphon sender add Shop --provider wsapme \\\n    --address 60123456789 --credential token=-",
    "add",
)(senders.add)
verb(sender, "antiphon sender list", "list")(senders.list_all)
verb(sender, "antiphon sender pause Shop", "pause")(senders.pause)
verb(sender, "antiphon sender resume Shop", "resume")(senders.resume)
verb(sender, "antiphon sender providers", "providers")(senders.providers)
app.add_typer(sender, name="sender")

template = group(
    "Templates: what messages say.", "antiphon template add Welcome --text 'Hello {{firstName}}'"
)
verb(template, "antiphon template add Welcome --text 'Hello {{firstName}}'", "add")(templates.add)
verb(template, "antiphon template preview Welcome --contact +4915112345678", "preview")(templates.preview)
verb(template, "antiphon template list", "list")(templates.list_all)
app.add_typer(template, name="template")

people = group("Contacts: people, and files of them.", "antiphon contacts import guests.xlsx --group Guests")
verb(people, "antiphon contacts import guests.xlsx --group Guests --country DE", "import")(
    contacts.import_file
)
verb(people, "antiphon contacts list --search 'anna berg'", "list")(contacts.list_all)
verb(people, "antiphon contacts imports", "imports")(contacts.imports_list)
app.add_typer(people, name="contacts")

contact_group = group("Groups of contacts.", "antiphon group create Guests")
verb(contact_group, "antiphon group create Guests", "create")(groups.create)
verb(contact_group, "antiphon group list", "list")(groups.list_all)
verb(contact_group, "antiphon group add Guests +4915112345678", "add")(groups.add)
app.add_typer(contact_group, name="group")

blast = group(
    "Blasts: one message to many, and its funnel.", "antiphon blast send --tag Raya --to @guests.csv …"
)
verb(
    blast,
    "antiphon blast send --tag Raya --to @guests.csv \\\n    --template Invite --sender Shop --rate 20/s",
    "send",
)(blasts.send)
verb(blast, "antiphon blast show last --watch", "show")(blasts.show)
verb(blast, "antiphon blast list --tag Raya --since 2027-03-01", "list")(blasts.list_all)
verb(blast, "antiphon blast pause last", "pause")(blasts.pause)
verb(blast, "antiphon blast resume last", "resume")(blasts.resume)
verb(blast, "antiphon blast cancel last", "cancel")(blasts.cancel)
verb(blast, "antiphon blast close last --to +60123456789", "close")(blasts.close)
verb(blast, "antiphon blast follow-up last --from not_read --text 'Still on?'", "follow-up")(blasts.follow_up)
app.add_typer(blast, name="blast")

message = group("Single messages.", "antiphon message explain 0191d2c4-…")
verb(message, "antiphon message explain 0191d2c4-…", "explain")(messages.explain)
verb(message, "antiphon message list --status failed", "list")(messages.list_newest)
app.add_typer(message, name="message")
