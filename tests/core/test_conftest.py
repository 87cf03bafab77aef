"""The fixtures keep what they promise."""

from uuid import UUID

from antiphon.core import db, migrate
from antiphon.core.db import Connection, Database
from antiphon.core.roles import DatabaseUrls


async def test_the_connection_sees_its_own_organization_and_no_other(conn: Connection, org_id: UUID) -> None:
    assert await db.tuples(conn, "SELECT id FROM organizations") == [(org_id,)]
    assert await db.value(conn, "SELECT current_user") == "antiphon_app"


async def test_each_flow_has_a_migrated_database_of_its_own(
    database: Database, db_urls: DatabaseUrls, org_id: UUID
) -> None:
    migrate.check(db_urls.owner)
    async with database.transaction(org_id) as conn:
        await db.execute(conn, "INSERT INTO organizations (id, name) VALUES (%(org_id)s, 'x')", org_id=org_id)
    async with database.across() as conn:
        assert (
            await db.value(conn, "SELECT count(*) FROM organizations") == 0
        )  # row-level security, no organization


async def test_the_next_flow_finds_nothing_of_the_last(worker_database: Database) -> None:
    async with worker_database.across() as conn:
        assert await db.value(conn, "SELECT count(*) FROM organizations") == 0
        assert await db.value(conn, "SELECT current_user") == "antiphon_worker"
