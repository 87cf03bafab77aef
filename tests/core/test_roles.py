"""Three doors: the owner's, the server's, the worker's; and nobody starts through the wrong one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from antiphon.core import roles
from antiphon.core.db import Connection
from antiphon.core.roles import DatabaseUrls, RoleError
from antiphon.core.settings import Settings
from tests.conftest import Server


@pytest.mark.parametrize("door", ["app", "worker"])
async def test_neither_role_can_escape_row_level_security(db_urls: DatabaseUrls, door: str) -> None:
    conn = await Connection.connect(getattr(db_urls, door), autocommit=True)
    async with conn:
        row = await (
            await conn.execute(
                "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication"
                " FROM pg_roles WHERE rolname = current_user"
            )
        ).fetchone()
        assert row == (False,) * 5
        await roles.refuse_privileged(conn)


async def test_the_owner_and_a_superuser_are_refused_with_the_remedy(
    db_urls: DatabaseUrls, postgres: Server
) -> None:
    for url, why in ((db_urls.owner, "owns the tables"), (postgres.superuser_url, "is a superuser")):
        conn = await Connection.connect(url, autocommit=True)
        async with conn:
            with pytest.raises(RoleError, match=why) as refused:
                await roles.refuse_privileged(conn)
            assert "ANTIPHON_APP_DATABASE_URL" in str(refused.value)


def test_the_owner_of_the_embedded_database_is_no_superuser(db_urls: DatabaseUrls) -> None:
    with psycopg.connect(db_urls.owner) as conn:
        row = conn.execute(
            "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    assert row == (False, False)


def test_many_processes_at_once_agree_on_one_password(postgres: Server, db_urls: DatabaseUrls) -> None:
    with ThreadPoolExecutor(6) as threads:
        runs = [threads.submit(roles.ensure_roles, db_urls.owner, postgres.folder) for _ in range(12)]
    assert {run.result() for run in runs} == {db_urls}


def test_the_passwords_are_kept_in_a_file_only_its_owner_reads(
    postgres: Server, db_urls: DatabaseUrls
) -> None:
    path = postgres.folder / "roles.json"
    assert path.stat().st_mode & 0o777 == 0o600
    password = urlsplit(db_urls.app).password
    assert password
    assert password in path.read_text()


def test_a_role_whose_password_is_unknown_here_is_refused_not_broken(
    db_urls: DatabaseUrls, tmp_path: Path
) -> None:
    with pytest.raises(RoleError, match="ANTIPHON_APP_DATABASE_URL"):
        roles.ensure_roles(db_urls.owner, tmp_path)
    psycopg.connect(db_urls.app).close()


def test_urls_that_were_given_are_used_as_they_are(db_urls: DatabaseUrls, tmp_path: Path) -> None:
    settings = Settings(
        database_url=db_urls.owner,
        app_database_url=db_urls.app,
        worker_database_url=db_urls.worker,
        data_dir=tmp_path,
    )
    prepared = roles.prepare(settings)
    assert prepared.urls == db_urls
    assert prepared.server is None
    prepared.release()


def test_a_process_without_the_owner_s_url_only_gets_its_own_door(tmp_path: Path) -> None:
    prepared = roles.prepare(
        Settings(app_database_url="postgresql://antiphon_app:x@db/antiphon", data_dir=tmp_path)
    )
    assert prepared.urls.owner == ""
    assert prepared.urls.app == "postgresql://antiphon_app:x@db/antiphon"
