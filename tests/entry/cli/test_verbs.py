"""The verbs against a real database: a blast from nothing to its list, and what is said when something is wrong."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from antiphon.core.roles import DatabaseUrls
from tests.conftest import Server
from tests.entry.cli.commands import Machine

GUESTS = """\
Name;Phone;Town
Anna Maria Berg;0151 2345 6789;Köln
Jörg Weiß;+49 151 2345 6780;Ulm
Nobody;none;Bonn
"""


@pytest.fixture
def machine(db_urls: DatabaseUrls, tmp_path: Path) -> Machine:
    return Machine.of(db_urls, tmp_path)


@pytest.fixture
def house(machine: Machine) -> Machine:
    """A machine with an organization, a sender that reaches nobody, and a template."""
    made = machine.do("init", "Lakeside Hotels", "--country", "DE", "--timezone", "Europe/Berlin",
                      "--owner", "Anna@Example.com")  # fmt: skip
    assert "Owner anna@example.com" in made.out
    machine.do(
        "sender", "add", "Shop", "--provider", "wsapme", "--address", "5511",
        "-c", "token=-", "-c", "base_url=http://127.0.0.1:9/v1", given="a token\n",
    )  # fmt: skip
    machine.do(
        "template", "add", "Invite", "--text", "Hello {{firstName}}, on {{day}}?", "--variable", "day=Friday"
    )
    return machine


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_blast_is_made_from_a_file_looked_at_stopped_and_gone_on_with(
    house: Machine, tmp_path: Path
) -> None:
    file = tmp_path / "guests.csv"
    file.write_text(GUESTS, "utf-8")

    assert "Hello Max, on Friday?" in house.do("template", "preview", "Invite").out

    dry = house.do("contacts", "import", str(file), "--dry-run", "--consent", "newsletter")
    assert "3 rows read, 2 would be new, 1 refused" in dry.out
    assert "There is no such contact." in house.do("contacts", "list").out

    errors = tmp_path / "refused.csv"
    done = house.do("contacts", "import", str(file), "--group", "Guests", "--errors", str(errors))
    assert "3 rows read, 2 new, 1 refused" in done.out
    assert "no consent is recorded" in done.out
    assert "line 4" in done.out
    assert '4,"phone","invalid"' in errors.read_text("utf-8-sig")

    send = ("blast", "send", "--tag", "Raya", "--stage", "Initial", "--template", "Invite", "--sender", "Shop",
            "--variable", "day=Saturday", "--rate", "10/s")  # fmt: skip
    declined = house.run(*send, "--to", "Guests", given="n\n")
    assert declined.code == 1
    assert "It reaches 0 of 2 people." in declined.out
    assert "2 gave no consent" in declined.out
    assert "There is no such blast." in house.do("blast", "list").out

    started = house.do(*send, "--to", f"@{file}", "--consent", "the newsletter", "--yes")
    assert "It reaches 2 of 2 people." in started.out
    assert "Started: antiphon blast show" in started.out

    assert "Raya is paused" in house.do("blast", "pause", "last").out.replace(", Initial", "")
    shown = house.do("blast", "show", "last").out
    assert "Raya · Initial · paused" in shown
    listed = house.do("blast", "list", "--tag", "Raya", "--stage", "Initial", "--status", "paused").out
    assert "Raya" in listed
    assert "There is no such blast." in house.do("blast", "list", "--tag", "Other").out
    house.do("blast", "resume", "last")
    again = house.run("blast", "resume", "last")
    assert (again.code, "only a paused one can" in again.err) == (1, True)
    assert "canceled" in house.do("blast", "cancel", "last", "--yes").out

    later = house.do(*send, "--to", f"@{file}", "--yes", "--at", "2090-03-15 09:30")
    assert "Scheduled for 2090-03-15 09:30 CET" in later.out
    assert "Guests" in house.do("group", "list").out

    texts = tmp_path / "texts.csv"
    texts.write_text(
        "phone,Message\n+4915123456789,Only for Anna\n+4915123456781,Only for the new one\n", "utf-8"
    )
    own = house.do(
        "blast", "send", "--to", f"@{texts}", "--sender", "Shop", "--consent", "the newsletter", "--yes"
    )
    assert "It reaches 2 of 2 people." in own.out


def test_doctor_says_that_all_is_well_and_what_is_not(house: Machine) -> None:
    assert "All is well." in house.do("doctor").out
    house.do("sender", "pause", "Shop")
    ill = house.run("doctor", "--brief")
    assert ill.code == 1
    assert "sender Shop: paused: paused by a person" in ill.out
    assert "antiphon sender resume 'Shop'" in ill.out
    assert "1 thing is not well." in ill.out


def test_keys_are_shown_once_listed_without_their_secret_and_end(house: Machine) -> None:
    token = house.do("key", "create", "Booking", "--role", "viewer", "--days", "30").word("API key")
    assert token.startswith("ak_")
    listed = house.do("key", "list").out
    assert token not in listed
    key = next(line.split()[0] for line in listed.splitlines() if "Booking" in line)
    assert "revoked" in house.do("key", "revoke", key).out


def test_migrations_are_planned_applied_and_checked(empty_url: str, postgres: Server) -> None:
    owner_only = DatabaseUrls(empty_url, "", "")  # the roles' passwords are in the server's own folder
    machine = Machine.of(owner_only, postgres.folder)
    unknown = machine.run("migrate", "--check")
    assert unknown.code == 1
    assert "run `antiphon migrate`" in unknown.err
    assert "Would apply: 0001_foundation" in machine.do("migrate", "--plan").out
    assert "Applied: 0001_foundation" in machine.do("migrate").out
    assert "up to date" in machine.do("migrate", "--check").out


FAILURES: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "no organization yet": (("blast", "list"), {}, "antiphon init"),
    "an unknown organization": (("blast", "list", "--org", "Nobody"), {}, "no organization 'Nobody'"),
    "a setting that does not exist": (("org", "list"), {"ANTIPHON_PROT": "1"}, "ANTIPHON_PROT is not a setting"),
    "a database that is away": (
        ("org", "list"), {"ANTIPHON_APP_DATABASE_URL": "postgresql://a:b@127.0.0.1:9/x",
                          "ANTIPHON_WORKER_DATABASE_URL": "postgresql://a:secret@127.0.0.1:9/x",
                          "ANTIPHON_DATABASE_URL": "postgresql://a:secret@127.0.0.1:9/x"}, "cannot be reached"),
    "a provider that does not exist": (
        ("sender", "add", "X", "--provider", "pigeon", "--address", "1"), {}, "organization"),
    "a file that is not there": (("contacts", "import", "nowhere.csv"), {}, "organization"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_a_sentence_with_a_remedy_and_never_a_traceback(name: str, machine: Machine) -> None:
    words, environ, said = FAILURES[name]
    done = machine.run(*words, environ=environ)
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err + done.out
    assert "secret" not in done.err.replace("secret.key", "")


USAGE = {
    "a verb that does not exist": ("blest",),
    "an option that does not exist": ("blast", "list", "--tagg", "x"),
    "an id that is none": ("message", "explain", "12"),
    "a pair without a value": ("template", "add", "X", "--text", "x", "--variable", "day"),
    "two ways at once": ("sender", "add", "X", "--address", "1", "--provider", "wsapme", "--account", "y"),
    "a day that is none": ("blast", "list", "--since", "tomorrow"),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_ends_with_code_2(name: str, machine: Machine) -> None:
    done = machine.run(*USAGE[name])
    assert done.code == 2
    assert "Error:" in done.err


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_import_stops_at_ctrl_c_and_goes_on_where_it_stopped(
    house: Machine, db_urls: DatabaseUrls, tmp_path: Path
) -> None:
    file = tmp_path / "many.csv"
    count = 120_000
    with file.open("w") as target:
        target.write("phone,name\n")
        target.writelines(f"+49151{10_000_000 + n},Guest {n}\n" for n in range(count))
    org_id = house.do("org", "list").out.splitlines()[1].split()[0]
    with house.started("contacts", "import", str(file), "--consent", "yes") as process:
        with psycopg.connect(db_urls.app, autocommit=True) as conn:
            conn.execute(sql.SQL("SET app.org_id = {}").format(org_id))
            for _ in range(2000):
                if conn.execute("SELECT FROM imports WHERE position > 1").fetchone() is not None:
                    break
                time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, out + err
        assert "The same command goes on where it stopped." in out
        assert "Traceback" not in err
    done = house.do("contacts", "import", str(file), "--consent", "yes")
    assert f"{count:,} rows read, {count:,} new" in done.out
