"""Imports: everything that files do to people who import them, and nothing that they do to the database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from antiphon.contacts import importer, imports, service
from antiphon.contacts.import_model import Import, ImportOptions
from antiphon.contacts.importer import Watch
from antiphon.contacts.model import Contact, NewContact
from antiphon.contacts.service import Wanted
from antiphon.core import db
from antiphon.core.channel import AddressKind, Channel
from antiphon.core.db import Database
from antiphon.core.errors import Conflict, Invalid, NotFound
from antiphon.organizations.model import Actor
from tests import make
from tests.contacts import files


@pytest.fixture
async def actor(database: Database) -> Actor:
    return make.actor((await make.organization(database)).id)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.csv"


async def everybody(database: Database, actor: Actor, **wanted: Any) -> list[Contact]:
    async with database.transaction(actor.org_id) as conn:
        page = await service.list_contacts(conn, actor, Wanted(**wanted), 200)
    return page.items[::-1]


async def counts(database: Database, actor: Actor) -> dict[str, int]:
    """How many rows an organization has in each table that an import writes."""
    tables: dict[str, Any] = {
        "contacts": "SELECT count(*) FROM contacts WHERE org_id = %(org_id)s",
        "addresses": "SELECT count(*) FROM addresses WHERE org_id = %(org_id)s",
        "members": "SELECT count(*) FROM group_members WHERE org_id = %(org_id)s",
        "consents": "SELECT count(*) FROM consents WHERE org_id = %(org_id)s",
        "states": "SELECT count(*) FROM consent_states WHERE org_id = %(org_id)s",
    }
    async with database.transaction(actor.org_id) as conn:
        return {name: await db.value(conn, sql, org_id=actor.org_id) for name, sql in tables.items()}


def tally(done: Import) -> tuple[int, int, int, int]:
    assert done.rows_read == done.created + done.updated + done.unchanged + done.rejected
    return (done.created, done.updated, done.unchanged, done.rejected)


async def test_takes_people_as_they_are_written(database: Database, actor: Actor, path: Path) -> None:
    content = files.csv_text(
        ["Vorname", "Nachname", "Handy", "E-Mail", "Firma", "Sprache", "Land", "Kunden-Nr.", "Tags"],
        ["Anna", "Müller", "0151 23456789", "Anna@Example.com", "Südwind", "Deutsch", "", "=17", "vip|new"],
        ["Łukasz", "O'Neil", "0660 1234567", "", "", "", "Österreich", "", ""],
        ["'=cmd", "+49", "'+4915123456780", "", "", "", "", "'-1", ""],
        separator=";",
    )
    done = await files.run(database, actor, path, content, extra="attributes")
    assert (done.status, tally(done)) == ("done", (3, 0, 0, 0))
    anna, lukasz, formula = await everybody(database, actor)
    assert (anna.first_name, anna.last_name, anna.company, anna.language) == (
        "Anna",
        "Müller",
        "Südwind",
        "de",
    )
    assert [a.value for a in anna.addresses] == ["anna@example.com", "+4915123456789"]
    assert anna.attributes == {"kunden_nr": "=17", "tags": ["vip", "new"]}
    assert (lukasz.address(AddressKind.PHONE), lukasz.country) == ("+436601234567", "AT")
    # a formula is text; the apostrophe that protects one is not part of it
    assert (formula.first_name, formula.last_name, formula.attributes) == ("=cmd", "+49", {"kunden_nr": "-1"})
    assert await everybody(database, actor, q="muller sudwind") == [anna]
    assert done.columns["Handy"] == "phone"
    assert done.done_bytes == done.total_bytes == path.stat().st_size


async def test_lists_every_bad_line_with_its_reason_and_takes_the_rest(
    database: Database, actor: Actor, path: Path
) -> None:
    lines = [
        b"name,phone,email,language",
        b"Good One,+4915123456701,,",
        b"Bad Phone,12,,",  # 3
        b"Bad Mail,,nobody,",  # 4
        b"Nobody,,,",  # 5
        b"Twice,+49 151 23456701,,",  # 6
        b"NUL\0,+4915123456702,,",  # 7
        b'"Long","+4915123456703","","' + b"x" * 10_000_000 + b'"',  # 8
        b"Too,many,cells,in,this,line",  # 9
        b"Bad Language,+4915123456704,,not a language at all",  # 10
        b'"Never closed,+4915123456705,,',  # 11
        b"Good Two,+4915123456706,,de",
        b'"Quoted" badly,+4915123456707,,',  # 13
        b"Short",  # 14
        b"Latin \xe4,+4915123456708,,",  # 15
        "Good Thréé ü é,+4915123456709,good@example.com,".encode(),
        b"",
        b",,,",
        b"=HYPERLINK(1),+4915123456710,,",
    ]
    done = await files.run(database, actor, path, b"\n".join(lines))
    assert tally(done) == (4, 0, 0, 12)
    assert await files.refused(database, actor, done) == {
        3: ("phone", "invalid"),
        4: ("email", "invalid"),
        5: ("", "no_address"),
        6: ("phone", "duplicate"),
        7: ("", "nul"),
        8: ("", "line_too_long"),
        9: ("", "too_many_cells"),
        10: ("language", "invalid"),
        11: ("", "quote_not_closed"),
        13: ("", "quote"),
        14: ("", "no_address"),
        15: ("", "encoding"),
    }
    assert [c.first_name for c in await everybody(database, actor)] == [
        "Good", "Good", "Good Thréé ü", "=HYPERLINK(1)",
    ]  # fmt: skip


async def test_the_error_file_is_safe_in_a_spreadsheet(database: Database, actor: Actor, path: Path) -> None:
    done = await files.run(
        database, actor, path, 'name,phone\n=1+1,"=cmd|\' /C calc\'!A0"\n"+x","say ""hi"""\n'
    )
    parts = [part async for part in imports.error_file(database, actor.org_id, done.id)]
    text = b"".join(parts).decode("utf-8-sig")
    assert text.splitlines()[0] == "line,field,code,reason,content"
    assert text.splitlines()[1].startswith('2,"phone","invalid","')
    assert text.splitlines()[1].endswith("\"'=1+1,=cmd|' /C calc'!A0\"")
    assert text.splitlines()[2].endswith('"\'+x,say ""hi"""')


UNUSABLE: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("an empty file", b"", {}, "empty_file"),
    ("only blank lines", b"\n\n \n", {}, "empty_file"),
    ("no header", b"Anna,+4915123456789\nBen,+4915123456780\n", {}, "missing_header"),
    ("no column with an address", b"name,city\nAnna,Berlin\n", {}, "no_address_column"),
    ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8 + bytes(400), {}, "not_text"),
    ("an old Excel file", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), {}, "old_excel"),
    ("a zip that is no workbook", b"PK\x03\x04" + bytes(100), {}, "damaged"),
    ("a column that does not exist", b"a,b\n1,2\n", {"map": {"c": "phone"}}, "invalid"),
    ("a field that does not exist", b"a,b\n1,2\n", {"map": {"a": "fone"}}, "invalid"),
    ("a country that does not exist", b"phone\n1\n", {"country": "XX"}, "invalid"),
    ("an encoding that does not exist", b"phone\n1\n", {"encoding": "utf-9"}, "invalid"),
    ("two columns for one first name", b"vorname,x,phone\n", {"map": {"x": "first_name"}}, "invalid"),
]


@pytest.mark.parametrize(
    ("content", "options", "code"), [c[1:] for c in UNUSABLE], ids=[c[0] for c in UNUSABLE]
)
async def test_refuses_an_unusable_file_before_it_begins(
    database: Database, actor: Actor, path: Path, content: bytes, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await files.run(database, actor, path, content, **options)
    assert refused.value.code == code
    assert refused.value.detail or refused.value.errors
    async with database.transaction(actor.org_id) as conn:
        assert (await imports.list_imports(conn, actor)).items == []


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "windows-1252", "latin-1"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
async def test_reads_the_usual_encodings_and_line_ends(
    database: Database, actor: Actor, path: Path, encoding: str, line_end: str
) -> None:
    text = "name;phone\nZoë Müller;+4915123456789\nJosé;+4915123456780\n".replace("\n", line_end)
    done = await files.run(database, actor, path, text.encode(encoding))
    assert tally(done) == (2, 0, 0, 0)
    assert [c.first_name for c in await everybody(database, actor)] == ["Zoë", "José"]


async def test_a_header_alone_is_a_file_without_people(database: Database, actor: Actor, path: Path) -> None:
    done = await files.run(database, actor, path, "name,phone\n")
    assert (done.status, tally(done)) == ("done", (0, 0, 0, 0))


async def test_reads_a_file_without_header_by_number(database: Database, actor: Actor, path: Path) -> None:
    content = "Anna,+4915123456789\nBen,+4915123456780\n"
    done = await files.run(database, actor, path, content, has_header=False, map={"2": "phone", "1": "name"})
    assert tally(done) == (2, 0, 0, 0)
    assert [c.first_name for c in await everybody(database, actor)] == ["Anna", "Ben"]


async def test_reads_a_workbook_as_a_person_sees_it(database: Database, actor: Actor, path: Path) -> None:
    content = files.workbook(
        [
            [None, None],
            ["Name", "No. Tel", "VIP", "Since"],
            ["Siti binti Ahmad", 60123456789, True, 2.5],
            ["Wei", "012-345 6780", False, None],
            ["=1+1", "'+60123456781", None, "x" * 300],
            [None, None, None, None],
            ["Bad", 12],
        ]
    )
    done = await files.run(database, actor, path, content, country="MY", extra="attributes")
    assert tally(done) == (3, 0, 0, 1)
    siti, wei, formula = await everybody(database, actor)
    assert (siti.first_name, siti.last_name) == ("Siti", "binti Ahmad")
    assert siti.address(AddressKind.PHONE) == "+60123456789"
    assert siti.attributes == {"vip": "yes", "since": "2.5"}
    assert wei.address(AddressKind.PHONE) == "+60123456780"
    # a formula that was never calculated shows nothing
    assert (formula.address(AddressKind.PHONE), formula.first_name) == ("+60123456781", None)
    assert await files.refused(database, actor, done) == {7: ("phone", "invalid")}


async def test_importing_twice_is_importing_once(database: Database, actor: Actor, path: Path) -> None:
    group = await new_group(database, actor)
    options: dict[str, Any] = {"group": group, "consent": "newsletter 2027", "extra": "attributes"}
    first = await files.run(database, actor, path, files.people(300), **options)
    before = await counts(database, actor)
    assert tally(first) == (300, 0, 0, 0)
    assert before == {"contacts": 300, "addresses": 600, "members": 300, "consents": 900, "states": 900}
    again = await files.run(database, actor, path, None, **options)
    assert again.id != first.id
    assert tally(again) == (0, 0, 300, 0)
    assert await counts(database, actor) == before


async def new_group(database: Database, actor: Actor) -> Any:
    async with database.transaction(actor.org_id) as conn:
        return (await service.create_group(conn, actor, service.NewGroup(name="Guests"))).id


async def existing(database: Database, actor: Actor, **fields: Any) -> Contact:
    async with database.transaction(actor.org_id) as conn:
        return await service.create(conn, actor, NewContact(**fields))


async def test_a_known_person_gets_what_is_missing_and_keeps_the_rest(
    database: Database, actor: Actor, path: Path
) -> None:
    known = await existing(
        database, actor, first_name="Anna", phone="+4915123456789", attributes={"tier": "gold"}
    )
    content = "first name,last name,phone,email,tier,city\nAnne,Berg,0151 23456789,a@example.com,new,Köln\n"
    done = await files.run(database, actor, path, content, extra="attributes")
    assert tally(done) == (0, 1, 0, 0)
    (found,) = await everybody(database, actor)
    assert found.id == known.id
    assert (found.first_name, found.last_name) == ("Anna", "Berg")
    assert found.attributes == {"tier": "gold", "city": "Köln"}
    assert found.address(AddressKind.EMAIL) == "a@example.com"
    assert await everybody(database, actor, q="berg a@example") == [found]


async def test_a_known_persons_other_number_is_kept_beside_the_primary_one(
    database: Database, actor: Actor, path: Path
) -> None:
    await existing(database, actor, phone="+4915123456789", email="a@example.com")
    done = await files.run(database, actor, path, "phone,email\n+4915123456780,a@example.com\n")
    assert tally(done) == (0, 1, 0, 0)
    (found,) = await everybody(database, actor)
    assert {a.value: a.is_primary for a in found.addresses} == {
        "a@example.com": True,
        "+4915123456789": True,
        "+4915123456780": False,
    }


async def test_overwriting_takes_all_that_the_file_says(database: Database, actor: Actor, path: Path) -> None:
    await existing(
        database,
        actor,
        first_name="Anna",
        company="Südwind",
        phone="+4915123456789",
        email="a@example.com",
        attributes={"tier": "gold", "x": 1},
    )
    content = "first name,company,phone,email,tier\nAnne,,+4915123456780,a@example.com,new\n"
    done = await files.run(database, actor, path, content, extra="attributes", overwrite=True)
    assert tally(done) == (0, 1, 0, 0)
    (found,) = await everybody(database, actor)
    assert (found.first_name, found.company, found.attributes) == ("Anne", "Südwind", {"tier": "new", "x": 1})
    assert found.address(AddressKind.PHONE) == "+4915123456780"
    assert [a.is_primary for a in found.addresses if a.value == "+4915123456789"] == [False]
    again = await files.run(database, actor, path, None, extra="attributes", overwrite=True)
    assert tally(again) == (0, 0, 1, 0)


async def test_addresses_of_two_people_on_one_line_are_refused(
    database: Database, actor: Actor, path: Path
) -> None:
    await existing(database, actor, name="Anna", phone="+4915123456789")
    await existing(database, actor, name="Ben", email="b@example.com")
    content = "phone,email\n+4915123456789,b@example.com\n+4915123456788,c@example.com\n"
    group = await new_group(database, actor)
    done = await files.run(database, actor, path, content, consent="yes", group=group)
    assert tally(done) == (1, 0, 0, 1)
    assert await files.refused(database, actor, done) == {2: ("", "two_contacts")}
    assert (await counts(database, actor))["members"] == 1


async def test_two_lines_of_one_known_person_count_in_order(
    database: Database, actor: Actor, path: Path
) -> None:
    known = await existing(database, actor, phone="+4915123456789", email="a@example.com")
    content = "phone,email,first name,company\n+4915123456789,,First,\n,a@example.com,Second,Südwind\n"
    done = await files.run(database, actor, path, content)
    assert tally(done) == (0, 2, 0, 0)
    (found,) = await everybody(database, actor)
    assert (found.id, found.first_name, found.company) == (known.id, "First", "Südwind")


async def test_a_dry_run_says_what_would_happen_and_writes_nothing(
    database: Database, actor: Actor, path: Path
) -> None:
    await existing(database, actor, first_name="Anna", phone="+4915100000001", email="p1@example.com")
    before = await counts(database, actor), await everybody(database, actor)
    content = files.people(50) + "x,y,12,,\n"
    done = await files.run(database, actor, path, content, dry_run=True, consent="yes")
    assert (done.status, done.is_dry_run, tally(done)) == ("done", True, (49, 1, 0, 1))
    assert await files.refused(database, actor, done) == {52: ("phone", "invalid")}
    assert (await counts(database, actor), await everybody(database, actor)) == before
    real = await files.run(database, actor, path, None, consent="yes")
    assert tally(real) == tally(done)


# Consent


async def consent(database: Database, actor: Actor) -> dict[tuple[str, str], bool]:
    async with database.transaction(actor.org_id) as conn:
        found = await db.tuples(
            conn,
            "SELECT channel, address, is_given FROM consent_states WHERE org_id = %(org_id)s",
            org_id=actor.org_id,
        )
    return {(channel, address): given for channel, address, given in found}


async def test_warns_when_nobody_can_be_written_to(database: Database, actor: Actor, path: Path) -> None:
    done = await files.run(database, actor, path, "phone,shoe size\n+4915123456789,40\n")
    assert "no consent" in done.warnings[0]
    assert "shoe size" in done.warnings[1]
    said = await files.run(database, actor, path, "phone\n+4915123456789\n", consent="newsletter")
    assert said.warnings == []
    assert await consent(database, actor) == {
        ("sms", "+4915123456789"): True,
        ("whatsapp", "+4915123456789"): True,
    }


async def test_takes_consent_from_its_columns(database: Database, actor: Actor, path: Path) -> None:
    content = files.csv_text(
        ["phone", "email", "consent", "whatsapp opt-in"],
        ["+4915123456701", "a@example.com", "Ja", "no"],
        ["+4915123456702", "", "2026-11-24", ""],
        ["+4915123456703", "", "", ""],
        ["+4915123456704", "", "nein", "x"],
        ["+4915123456705", "", "perhaps", ""],
    )
    done = await files.run(database, actor, path, content)
    assert tally(done) == (4, 0, 0, 1)
    assert await files.refused(database, actor, done) == {6: ("consent", "invalid")}
    assert await consent(database, actor) == {
        ("sms", "+4915123456701"): True,
        ("whatsapp", "+4915123456701"): False,
        ("email", "a@example.com"): True,
        ("sms", "+4915123456702"): True,
        ("whatsapp", "+4915123456702"): True,
        ("sms", "+4915123456704"): False,
        ("whatsapp", "+4915123456704"): True,
    }


async def test_never_undoes_a_withdrawal_nor_lifts_a_suppression(
    database: Database, actor: Actor, path: Path
) -> None:
    known = await existing(database, actor, phone="+4915123456789")
    async with database.transaction(actor.org_id) as conn:
        await service.suppress(conn, actor, Channel.SMS, "+4915123456789", "opt_out", source="inbound")
    done = await files.run(
        database, actor, path, "phone\n+4915123456789\n", consent="they said yes", overwrite=True
    )
    assert tally(done) == (0, 0, 1, 0)
    assert await consent(database, actor) == {
        ("sms", "+4915123456789"): False,
        ("whatsapp", "+4915123456789"): True,
    }
    async with database.transaction(actor.org_id) as conn:
        found = await service.get_suppression(conn, actor, Channel.SMS, "+4915123456789")
        facts = (await service.list_consents(conn, actor, known.id)).items
    assert found.lifted_at is None
    assert {(fact.channel, fact.is_given) for fact in facts} == {("sms", False), ("whatsapp", True)}


# Going on


async def test_stops_between_batches_and_goes_on_from_there(
    database: Database, actor: Actor, path: Path
) -> None:
    path.write_text(files.people(500))
    stop, seen = asyncio.Event(), list[int]()

    def told(now: Import) -> None:
        seen.append(now.rows_read)
        if len(seen) == 3:
            stop.set()

    options = ImportOptions(consent="yes")
    stopped = await importer.run(
        database, actor, path, options, watch=Watch(told=told, stop=stop, batch_rows=50)
    )
    assert stopped.status == "running"
    assert seen[:3] == [50, 100, 150]
    assert 150 <= stopped.rows_read <= 250
    assert (await counts(database, actor))["contacts"] == stopped.created == stopped.rows_read
    done = await importer.run(database, actor, path, options, resume=True)
    assert (done.id, done.status) == (stopped.id, "done")
    assert tally(done) == (500, 0, 0, 0)
    assert (await counts(database, actor))["contacts"] == 500


async def test_a_changed_file_is_refused_with_the_reason(
    database: Database, actor: Actor, path: Path
) -> None:
    path.write_text(files.people(200))
    stop = asyncio.Event()
    watch = Watch(told=lambda _: stop.set(), stop=stop, batch_rows=50)
    assert (await importer.run(database, actor, path, ImportOptions(), watch=watch)).status == "running"
    with pytest.raises(Conflict) as other:
        await importer.run(database, actor, path, ImportOptions(overwrite=True), resume=True)
    assert other.value.code == "other_options"
    path.write_text(files.people(201))
    with pytest.raises(Conflict) as changed:
        await importer.run(database, actor, path, ImportOptions(), resume=True)
    assert changed.value.code == "file_changed"
    with pytest.raises(NotFound):
        await importer.run(database, make.actor((await make.organization(database)).id), path, ImportOptions(),
                           resume=True)  # fmt: skip


async def test_a_canceled_import_stores_nothing_more(database: Database, actor: Actor, path: Path) -> None:
    path.write_text(files.people(400))
    tasks: list[asyncio.Task[None]] = []

    async def cancel(import_id: Any) -> None:
        async with database.transaction(actor.org_id) as conn:
            await imports.cancel(conn, actor, import_id)

    def told(now: Import) -> None:
        if not tasks:
            tasks.append(asyncio.create_task(cancel(now.id)))

    with pytest.raises(Conflict) as ended:
        await importer.run(database, actor, path, ImportOptions(), watch=Watch(told=told, batch_rows=20))
    assert ended.value.code == "import_overtaken"
    await tasks[0]
    async with database.transaction(actor.org_id) as conn:
        (found,) = (await imports.list_imports(conn, actor)).items
    assert found.status == "canceled"
    assert (await counts(database, actor))["contacts"] == found.created < 400
