"""An organization that the planner's statistics do not know: they say one row, and it has thousands.

What joins sets must not become a loop in a loop then. Each of these took minutes when it did.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg

from antiphon.contacts import audience, importer, service
from antiphon.contacts.audience import Audience
from antiphon.contacts.import_model import ImportOptions
from antiphon.contacts.service import NewGroup
from antiphon.core.channel import Channel
from antiphon.core.db import Database
from antiphon.core.roles import DatabaseUrls
from antiphon.organizations.model import Actor
from tests import make
from tests.contacts import files

PEOPLE = 20_000


def freeze_statistics(owner_url: str) -> None:
    """Take statistics now and never again, as between two runs of autovacuum."""
    with psycopg.connect(owner_url, autocommit=True) as conn:
        for table in (b"contacts", b"addresses", b"group_members"):
            conn.execute(b"ALTER TABLE " + table + b" SET (autovacuum_enabled = off)")
            conn.execute(b"ANALYZE " + table)


async def members(database: Database, actor: Actor, path: Path, count: int) -> Audience:
    """Import so many people into a group."""
    async with database.transaction(actor.org_id) as conn:
        group = await service.create_group(conn, actor, NewGroup(name="Guests"))
    path.write_text(files.people(count))
    done = await importer.run(database, actor, path, ImportOptions(group=group.id))
    assert done.created == count
    return Audience(groups=[group.id])


async def test_its_sets_are_joined_as_sets(db_urls: DatabaseUrls, database: Database, tmp_path: Path) -> None:
    old, young = [make.actor((await make.organization(database)).id) for _ in range(2)]
    path = tmp_path / "people.csv"
    await members(database, old, path, 2000)
    freeze_statistics(db_urls.owner)
    guests = await members(database, young, path, PEOPLE)
    async with asyncio.timeout(25):
        again = await importer.run(database, young, path, ImportOptions(group=guests.groups[0]))
        assert again.unchanged == PEOPLE
        async with database.transaction(young.org_id) as conn:
            assert await audience.count_audience(conn, young.org_id, guests) == PEOPLE
            staged, _ = await audience.stage_audience(conn, young.org_id, guests, Channel.SMS, None, PEOPLE)
            assert staged == PEOPLE
        async with database.transaction(young.org_id) as conn:
            assert (await service.get_group(conn, young, guests.groups[0])).members == PEOPLE
