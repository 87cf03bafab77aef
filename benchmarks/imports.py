"""A CSV file of a million rows with one bad in a hundred, into an empty organization and again into the full one.

The import runs in a process of its own, as `antiphon contacts import` does, with the process that reads the file for
it; the peak is the memory of both together, looked at fifty times a second. Every bad line must be listed with its
reason, and every good one be a contact in the group with its consent. The ceiling is a COPY of the same file's lines
into a temporary table.

`python -m benchmarks.imports DATABASE_URL ORGANIZATION GROUP FILE` is the importing process.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from uuid import UUID

import msgspec
import psutil
import psycopg
import uvloop

from antiphon.contacts import groups, importer
from antiphon.contacts.groups import NewGroup
from antiphon.contacts.import_model import ImportOptions
from antiphon.core import heap
from antiphon.core.db import Database
from antiphon.organizations.model import Actor
from benchmarks.stage import FOLDER, Figure, Stage, organization

CONSENT = "Yes, send me news."
BAD = 100  # one in so many
FAULTS = (
    ("Max,Mustermann,12,{n}@example.com,Berlin", "phone"),
    ("Max,Mustermann,+4915{n:09d},no address,Berlin", "email"),
    ("Max,Mustermann,,,Berlin", ""),
    ("Max,Mustermann,+49151000000{n:09d},,Berlin", "phone"),
)
"""A bad line, and the field that its reason names."""


class Imported(msgspec.Struct, frozen=True):
    """What came of an import, in how many seconds, with how many MB at the most."""

    seconds: float
    created: int
    unchanged: int
    updated: int
    rejected: int
    megabytes: float = 0.0


async def measure(stage: Stage, quick: bool) -> list[Figure]:
    """The same file twice."""
    count = 100_000 if quick else 1_000_000
    path = FOLDER / "people.csv"
    bad = await asyncio.to_thread(_write, path, count)
    async with Database.connect(stage.urls.app, size=2) as app:
        org_id, _ = await organization(stage, app)
        async with app.transaction(org_id) as conn:
            group_id = (await groups.create_group(conn, Actor.operator(org_id), NewGroup(name="all"))).id
    ceiling = count / await asyncio.to_thread(_bare, stage, path)
    first = await _import(stage, org_id, group_id, path)
    _check(stage, org_id, bad, count)
    assert first.created == count - len(bad)
    again = await _import(stage, org_id, group_id, path)
    _check(stage, org_id, bad, count)
    assert (again.created, again.unchanged + again.updated) == (0, count - len(bad))
    return [
        Figure(
            what=f"CSV import, {count:,} rows, one bad in {BAD}, {what}", asked="≥ 20,000 rows/s, ≤ 256 MB",
            measured=f"{(rate := count / done.seconds):,.0f} rows/s, {done.megabytes:.0f} MB, "
                     f"{done.rejected:,} bad lines listed",
            ceiling=f"{ceiling:,.0f} rows/s bare COPY", ratio=f"{rate / ceiling:.2f}",
        )
        for what, done in (("into an empty organization", first), ("again into the full one", again))
    ]  # fmt: skip


def _write(path: Path, count: int) -> dict[int, str]:
    """The file, and for each bad line the field that its reason must name."""
    bad: dict[int, str] = {}
    with path.open("w") as file:
        file.write("firstName,lastName,phone,email,city\n")
        for n in range(count):
            if n % BAD == BAD // 2:
                text, field = FAULTS[n // BAD % len(FAULTS)]
                bad[n + 2] = field
                file.write(text.format(n=n) + "\n")
            else:
                file.write(f"Max {n},Mustermann,+4915{100_000_000 + n},max.{n}@example.com,Berlin\n")
    return bad


def _bare(stage: Stage, path: Path) -> float:
    started = time.perf_counter()
    with (
        psycopg.connect(stage.urls.app) as conn,
        conn.cursor() as cursor,
        path.open("rb") as file,
    ):
        cursor.execute("CREATE TEMP TABLE raw (line text) ON COMMIT DROP")
        with cursor.copy("COPY raw FROM STDIN (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')") as copy:
            while content := file.read(1 << 18):
                copy.write(content)
    return time.perf_counter() - started


async def _import(stage: Stage, org_id: UUID, group_id: UUID, path: Path) -> Imported:
    arguments = [stage.urls.app, str(org_id), str(group_id), str(path)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.imports", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    watching = asyncio.create_task(_peak(process.pid))
    told = await process.stdout.read()
    await process.wait()
    done = msgspec.json.decode(told, type=Imported)
    return msgspec.structs.replace(done, megabytes=await watching)


async def _peak(pid: int) -> float:
    """The most memory that a process and its children had, until it ended."""
    most = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            rss = 0
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    rss += one.memory_info().rss
            most = max(most, rss)
            await asyncio.sleep(0.02)
    return most / 2**20


def _check(stage: Stage, org_id: UUID, bad: dict[int, str], count: int) -> None:
    """The lines listed are the bad ones, each with a reason that names the field; the others are all there."""
    listed = stage.sql(f"""
        SELECT e.line, e.field, e.reason FROM import_errors e
         WHERE e.org_id = '{org_id}'
           AND e.import_id = (SELECT id FROM imports WHERE org_id = '{org_id}' ORDER BY id DESC LIMIT 1)
    """)
    fields = {line: field for line, field, reason in listed if reason}
    assert fields == bad, (
        f"{len(listed)} lines listed, {len(bad)} are bad; e.g. {sorted(fields.items() ^ bad.items())[:4]}"
    )
    [(people, members, agreed)] = stage.sql(f"""
        SELECT (SELECT count(*) FROM contacts WHERE org_id = '{org_id}'),
               (SELECT count(*) FROM group_members WHERE org_id = '{org_id}'),
               (SELECT count(*) FROM consent_states WHERE org_id = '{org_id}' AND channel = 'sms' AND is_given)
    """)
    good = count - len(bad)
    assert (people, members, agreed) == (good, good, good), (people, members, agreed, good)


# ---- the importing process -------------------------------------------------------------------------


async def run(url: str, org_id: UUID, group_id: UUID, path: Path) -> None:
    """Import, and print what came of it."""
    heap.settle()
    options = ImportOptions(group=group_id, consent=CONSENT, extra="attributes")
    async with Database.connect(url, size=4) as database:
        started = time.perf_counter()
        done = await importer.run(database, Actor.operator(org_id), path, options)
        seconds = time.perf_counter() - started
    assert done.status == "done", done.failure
    told = Imported(seconds, done.created, done.unchanged, done.updated, done.rejected)
    print(msgspec.json.encode(told).decode())


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], UUID(sys.argv[2]), UUID(sys.argv[3]), Path(sys.argv[4])))
