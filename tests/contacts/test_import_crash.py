"""An import that is killed goes on where it stopped; what comes out is what would have come out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.contacts import import_batch, import_records, importer, imports, reading, service
from antiphon.contacts.import_model import Import, ImportJob, ImportOptions
from antiphon.contacts.import_rows import RowReader
from antiphon.contacts.importer import BATCH_ROWS, Watch
from antiphon.contacts.jobs import ImportContacts, Importing
from antiphon.contacts.model import NewContact
from antiphon.contacts.service import Wanted
from antiphon.core import db
from antiphon.core.channel import AddressKind
from antiphon.core.db import Database
from antiphon.core.roles import DatabaseUrls
from antiphon.jobs.model import Continue, Done, Run
from antiphon.organizations.model import Actor
from tests import make
from tests.contacts import files

BATCH = 100
OPTIONS = ImportOptions(consent="newsletter", extra="attributes")


async def start(
    urls: DatabaseUrls, org_id: UUID, path: Path, failpoint: str = ""
) -> asyncio.subprocess.Process:
    """Import in another process."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contacts.dying",
        urls.app,
        str(org_id),
        str(path),
        str(BATCH),
        env={**os.environ, "ANTIPHON_FAILPOINTS": failpoint},
        cwd=Path(__file__).parents[2],
    )


async def has_read(database: Database, org_id: UUID, rows: int) -> None:
    """Wait until the organization's import has read so many rows."""
    async with asyncio.timeout(30):
        while True:
            async with database.transaction(org_id) as conn:
                if (await db.value(conn, "SELECT sum(rows_read) FROM imports") or 0) >= rows:
                    return


async def people_of(database: Database, actor: Actor) -> list[Any]:
    """Everything that an import wrote, without what depends on when it was."""
    async with database.transaction(actor.org_id) as conn:
        return await db.tuples(
            conn,
            """
            SELECT c.first_name, c.last_name, c.company, c.attributes, c.search_text,
                   ARRAY (SELECT a.kind || ' ' || a.value || ' ' || a.is_primary FROM addresses a
                           WHERE a.org_id = c.org_id AND a.contact_id = c.id ORDER BY a.kind, a.value),
                   ARRAY (SELECT x.channel || ' ' || x.address || ' ' || x.is_given FROM consents x
                           WHERE x.org_id = c.org_id AND x.contact_id = c.id ORDER BY x.channel, x.address)
              FROM contacts c WHERE c.org_id = %(org_id)s ORDER BY 5, 6
            """,
            org_id=actor.org_id,
        )


async def only_import(database: Database, actor: Actor) -> Import:
    async with database.transaction(actor.org_id) as conn:
        (found,) = (await imports.list_imports(conn, actor)).items
    return found


def readers_of(path: Path) -> list[psutil.Process]:
    """Processes that read the file for an import."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "antiphon.contacts.import_process" in process.cmdline() and any(
                file.path == str(path) for file in process.open_files()
            ):
                found.append(process)
    return found


@pytest.mark.parametrize("nth", [1, 5])
async def test_an_import_killed_after_a_batch_goes_on_and_doubles_nothing(
    db_urls: DatabaseUrls, database: Database, tmp_path: Path, nth: int
) -> None:
    path = tmp_path / "people.csv"
    bad = "x,y,12,,\nz,z,+4915100000003,,\n"  # a bad number, and somebody who is in the file
    path.write_text(files.people(500) + bad + files.people(500, start=500).partition("\n")[2] + bad)
    killed, whole = [make.actor((await make.organization(database)).id) for _ in range(2)]
    process = await start(db_urls, killed.org_id, path, f"import_page_committed=kill@{nth}")
    assert await process.wait() == -signal.SIGKILL
    before = await only_import(database, killed)
    assert before.status == "running"
    assert nth * BATCH <= before.rows_read < 1000
    gone, alive = psutil.wait_procs(
        readers_of(path), timeout=10
    )  # the reader ends when nobody listens any more
    assert alive == [], gone
    done = await importer.run(database, killed, path, OPTIONS, resume=True)
    assert (done.id, done.status) == (before.id, "done")
    assert (done.rows_read, done.created, done.unchanged, done.rejected) == (1004, 1000, 0, 4)
    undisturbed = await importer.run(database, whole, path, OPTIONS)
    assert await people_of(database, killed) == await people_of(database, whole)
    assert await files.refused(database, killed, done) == await files.refused(database, whole, undisturbed)


async def test_an_import_killed_at_any_moment_goes_on_and_doubles_nothing(
    db_urls: DatabaseUrls, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "people.csv"
    path.write_text(files.people(20_000))
    actor = make.actor((await make.organization(database)).id)
    process = await start(db_urls, actor.org_id, path)
    await has_read(database, actor.org_id, 500)
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    done = await importer.run(database, actor, path, OPTIONS, watch=Watch(batch_rows=BATCH))
    assert (done.status, done.rows_read, done.created) == ("done", 20_000, 20_000)
    assert len(await people_of(database, actor)) == 20_000


LINES = st.lists(
    st.tuples(
        st.sampled_from(["", "Anna", "Ben"]),
        st.sampled_from(["", "Berg", "Tal"]),
        st.sampled_from(["", "+4915100000001", "0151 00000002", "+4915100000003", "12"]),
        st.sampled_from(["", "a@example.com", "B@example.com", "c@example.com"]),
        st.sampled_from(["", "x", "y"]),
    ),
    min_size=1,
    max_size=12,
)


async def import_here(
    database: Database, actor: Actor, path: Path, options: ImportOptions, batch_rows: int
) -> Import:
    """Import batch after batch in this process: what the other process reads, without starting it."""
    plan = imports.plan_file(path, options, None)
    async with database.transaction(actor.org_id) as conn:
        stored = await imports.begin(conn, actor, plan, path.name)
    job = ImportJob(
        path=str(path), import_id=stored.id, plan=plan, after=stored.position, batch_rows=batch_rows
    )
    for batch in RowReader(job).batches(reading.read(path, plan.layout)):
        async with database.transaction(actor.org_id) as conn:
            outcome = await import_batch.store(conn, actor.org_id, stored, plan, batch)
            await import_batch.advance(conn, actor.org_id, stored, batch, outcome)
            stored = await import_records.get(conn, actor.org_id, stored.id)
    async with database.transaction(actor.org_id) as conn:
        return await imports.finish(conn, actor, stored.id, "done")


@settings(max_examples=25)
@given(known=LINES, lines=LINES, rows=st.integers(1, 5), overwrite=st.booleans())
async def test_the_size_of_batches_changes_nothing_and_a_second_time_neither(
    database: Database, tmp_path: Path, known: Any, lines: Any, rows: int, overwrite: bool
) -> None:
    header = ("first name", "last name", "phone", "email", "company")
    (tmp_path / "known.csv").write_text(files.csv_text(header, *known))
    path = tmp_path / "lines.csv"
    path.write_text(files.csv_text(header, *lines))
    options = ImportOptions(country="DE", overwrite=overwrite, consent="yes")
    results: list[Any] = []
    for batch_rows in (rows, 1000):
        actor = make.actor((await make.organization(database)).id)
        await import_here(database, actor, tmp_path / "known.csv", options, 1000)
        done = await import_here(database, actor, path, options, batch_rows)
        stored = await people_of(database, actor)
        refused = await files.refused(database, actor, done)
        results.append((stored, refused, done.created, done.updated, done.unchanged, done.rejected))
        await import_here(database, actor, path, options, batch_rows)
        assert await people_of(database, actor) == stored
    assert results[0] == results[1]


async def test_an_import_stays_in_its_organization(database: Database, tmp_path: Path) -> None:
    mine, theirs = [make.actor((await make.organization(database)).id) for _ in range(2)]
    path = tmp_path / "people.csv"
    path.write_text(files.people(50) + "x,y,12,,\n")
    await importer.run(database, mine, path, ImportOptions())
    done = await importer.run(database, theirs, path, ImportOptions())
    assert (done.created, done.rejected) == (50, 1)
    async with database.transaction(mine.org_id) as conn:
        assert [one.id for one in (await imports.list_imports(conn, mine)).items] != [done.id]
        assert await db.value(conn, "SELECT count(*) FROM import_errors") == 1
        people = (await service.list_contacts(conn, mine, Wanted(), 200)).items
    assert len(people) == 50
    async with database.transaction(theirs.org_id) as conn:
        others = (await service.list_contacts(conn, theirs, Wanted(), 200)).items
    assert not {person.id for person in people} & {person.id for person in others}


async def test_somebody_who_signs_up_meanwhile_is_known_and_not_doubled(
    database: Database, tmp_path: Path
) -> None:
    actor = make.actor((await make.organization(database)).id)
    path = tmp_path / "people.csv"
    path.write_text(files.people(300))
    async with database.transaction(actor.org_id) as conn:
        met = await service.create(conn, actor, NewContact(first_name="Met", phone="+4915100000150"))
        task = asyncio.create_task(
            importer.run(database, actor, path, OPTIONS, watch=Watch(batch_rows=BATCH))
        )
        await is_waiting(database, actor.org_id)
    done = await task
    assert (done.status, done.created, done.updated) == ("done", 299, 1)
    async with database.transaction(actor.org_id) as conn:
        found = await service.get(conn, actor, met.id)
    assert (found.first_name, found.last_name) == ("Met", "Number 150")
    assert found.address(AddressKind.EMAIL) == "p150@example.com"


async def is_waiting(database: Database, org_id: UUID) -> None:
    """Wait until some statement of this database waits for another's transaction."""
    async with asyncio.timeout(20):
        while True:
            async with database.transaction(org_id) as conn:
                if await db.value(
                    conn,
                    """
                    SELECT count(*) FROM pg_locks
                     WHERE NOT granted AND locktype = 'transactionid'
                       AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
                    """,
                ):
                    return


async def test_a_worker_goes_on_with_what_another_began(
    worker_database: Database, database: Database, tmp_path: Path
) -> None:
    actor = make.actor((await make.organization(database)).id)
    path = tmp_path / "people.upload"
    path.write_text(files.people(BATCH_ROWS + 500))
    plan = imports.plan_file(path, OPTIONS, None)
    async with database.transaction(actor.org_id) as conn:
        begun = await imports.begin(conn, actor, plan, "people.csv", path)
    first, second = Importing(), Importing()

    async def step(worker: Importing) -> Continue | Done:
        async with worker_database.transaction(actor.org_id) as conn:
            run = Run(id=begun.id, org_id=actor.org_id, progress={})
            return await worker(conn, ImportContacts(import_id=begun.id), run)

    assert isinstance(await step(first), Continue)
    assert isinstance(await step(second), Continue)
    assert isinstance(await step(first), Done)
    assert (await step(second)) == Done({"status": "done"})
    await first.close()
    await second.close()
    done = await only_import(database, actor)
    assert (done.status, done.rows_read, done.created) == ("done", BATCH_ROWS + 500, BATCH_ROWS + 500)
    assert not path.exists()


async def test_a_file_on_another_machine_is_left_to_its_worker(
    worker_database: Database, database: Database, tmp_path: Path
) -> None:
    actor = make.actor((await make.organization(database)).id)
    path = tmp_path / "people.upload"
    path.write_text(files.people(5))
    plan = imports.plan_file(path, OPTIONS, None)
    async with database.transaction(actor.org_id) as conn:
        begun = await imports.begin(conn, actor, plan, "people.csv", path)
    path.unlink()
    async with worker_database.transaction(actor.org_id) as conn:
        run = Run(id=begun.id, org_id=actor.org_id, progress={})
        outcome = await Importing()(conn, ImportContacts(import_id=begun.id), run)
    assert isinstance(outcome, Continue)
    assert outcome.run_at is not None
    assert (await only_import(database, actor)).status == "running"
