"""Laws of the migrated schema, read from its catalogue: no list of tables to forget one in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest

from antiphon.core.roles import APP, WORKER, DatabaseUrls
from tests.architecture.owners import OWNERS, WITHOUT_ORGANIZATION

TABLES = (
    "SELECT c.oid::regclass::text AS name, c.relispartition, c.relrowsecurity, c.relforcerowsecurity,"
    " EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id') AS has_org"
    " FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
)


@pytest.fixture(scope="module")
def owner(shared_urls: DatabaseUrls) -> Iterator[psycopg.Connection]:
    with psycopg.connect(shared_urls.owner, autocommit=True) as conn:
        yield conn


def ask(conn: psycopg.Connection, sql: LiteralString, **parameters: Any) -> list[tuple[Any, ...]]:
    return conn.execute(sql, parameters).fetchall()


def test_every_table_has_an_owner_and_an_organization_or_a_reason_for_none(owner: psycopg.Connection) -> None:
    tables = {name: has_org for name, is_partition, _, _, has_org in ask(owner, TABLES) if not is_partition}
    assert set(tables) - set(WITHOUT_ORGANIZATION) == set(OWNERS) - set(WITHOUT_ORGANIZATION)
    without = {name for name, has_org in tables.items() if not has_org}
    assert without == {*WITHOUT_ORGANIZATION, "organizations"}


def test_row_level_security_is_forced_on_every_tenant_table_and_partition(owner: psycopg.Connection) -> None:
    lax = [
        name
        for name, _, is_enabled, is_forced, has_org in ask(owner, TABLES)
        if (has_org or name == "organizations") and not (is_enabled and is_forced)
    ]
    assert lax == []


def test_every_tenant_table_has_a_policy_and_no_policy_has_a_subselect(owner: psycopg.Connection) -> None:
    policies = ask(
        owner, "SELECT tablename, policyname, coalesce(qual, '') || coalesce(with_check, '') FROM pg_policies"
    )
    assert {table for table, _, _ in policies} >= set(OWNERS) - set(WITHOUT_ORGANIZATION)
    assert [name for _, name, text in policies if "SELECT" in text.upper()] == []


def test_looking_across_organizations_is_for_the_worker_and_for_reading_only(
    owner: psycopg.Connection,
) -> None:
    open_to = ask(owner, "SELECT tablename, roles::text[], cmd FROM pg_policies WHERE qual = 'true'")
    assert open_to
    assert [row for row in open_to if (row[1], row[2]) != ([WORKER], "SELECT")] == []


def test_org_id_comes_first_in_every_key_of_a_tenant_table(owner: psycopg.Connection) -> None:
    keys = ask(
        owner,
        "SELECT i.indexrelid::regclass::text, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid"
        " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
        " WHERE i.indisunique AND c.relnamespace = 'public'::regnamespace AND NOT c.relispartition"
        " AND EXISTS (SELECT FROM pg_attribute o WHERE o.attrelid = c.oid AND o.attname = 'org_id')",
    )
    assert keys
    assert [name for name, first in keys if first != "org_id"] == []


def test_a_reference_between_tenant_tables_stays_inside_one_organization(owner: psycopg.Connection) -> None:
    references = ask(
        owner,
        "SELECT k.conname, (SELECT array_agg(a.attname::text) FROM pg_attribute a"
        "  WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)), k.confrelid::regclass::text, k.confdeltype"
        " FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0",
    )
    for name, columns, target, on_delete in references:
        if target not in {*WITHOUT_ORGANIZATION, "organizations"}:
            assert "org_id" in columns, f"{name} may point into another organization"
        assert on_delete in {"a", "r"}, f"{name}: only erasure and retention remove rows, and say so"


@pytest.mark.parametrize("role", [APP, WORKER])
def test_server_and_worker_own_nothing_and_escape_nothing(owner: psycopg.Connection, role: str) -> None:
    [rights] = ask(
        owner,
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = %(role)s",
        role=role,
    )
    assert rights == (False, False, False, False)
    owned = ask(
        owner,
        "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = %(role)s",
        role=role,
    )
    assert owned == [(0,)]


def test_nobody_but_the_owner_changes_what_was_recorded(owner: psycopg.Connection) -> None:
    for table in ("audit_log", "consents", "message_events"):
        for role in (APP, WORKER):
            [rights] = ask(
                owner,
                "SELECT has_table_privilege(%(role)s, %(table)s, 'UPDATE'),"
                " has_table_privilege(%(role)s, %(table)s, 'DELETE')",
                role=role, table=table,
            )  # fmt: skip
            assert rights == (False, False), f"{role} may change {table}, which is append-only"


def test_a_function_that_runs_as_its_owner_fixes_its_search_path(owner: psycopg.Connection) -> None:
    risky = ask(
        owner,
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
        " AND NOT coalesce(array_to_string(proconfig, ','), '') LIKE '%%search_path%%'",
    )
    assert risky == []


def test_no_extension_is_needed(owner: psycopg.Connection) -> None:
    assert ask(owner, "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'") == []
