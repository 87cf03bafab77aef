"""Laws of every SQL literal. What each forbids was seen to break isolation, sharding or the one-writer rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import pq

from antiphon.core.roles import DatabaseUrls
from tests.architecture import source
from tests.architecture.owners import OWNERS, WITHOUT_ORGANIZATION
from tests.architecture.source import Statement

STATEMENTS = source.statements()
EXCUSE = "-- any organization: "
VOLATILE = re.compile(
    r"\b(?:gen_random_uuid|uuid7|clock_timestamp|statement_timestamp|timeofday|random|nextval)\s*\(",
    re.IGNORECASE,
)
_WRITES = re.compile(
    r"(?:\bINSERT INTO|(?<!FOR )(?<!KEY )(?<!DO )\bUPDATE(?: ONLY)?|\bDELETE FROM(?: ONLY)?) (\w+)"
)
_TOUCHES = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE|,) (?:ONLY )?(\w+)")
_NAMES_ONE = re.compile(r"\borg_id = %\(\w+\)s|%\(org_id\)s")


@pytest.fixture(scope="module")
def prepared(shared_urls: DatabaseUrls) -> Iterator[psycopg.Connection]:
    """A connection to the migrated schema, with the temporary tables that statements read."""
    with psycopg.connect(shared_urls.app, autocommit=True) as conn:
        for statement in source.temporary_tables():
            conn.execute(statement.encode())
        yield conn


def writes(statement: Statement) -> set[str]:
    """The tables of ours that a statement changes."""
    return set(_WRITES.findall(statement.bare)) & set(OWNERS)


def parts(text: str, verb: str) -> Iterator[str]:
    """The sub-statements of a verb, each to its own end: the closing parenthesis of its CTE, or the end of all."""
    for start in re.finditer(rf"(?<!FOR )(?<!KEY )(?<!DO )\b{verb}\b", text):
        depth, end = 0, len(text)
        for at in range(start.start(), len(text)):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            if depth < 0:
                end = at
                break
        yield text[start.start() : end]


def test_there_are_statements_to_judge() -> None:
    assert len(STATEMENTS) > 20


@pytest.mark.parametrize("statement", STATEMENTS, ids=str)
def test_it_can_be_prepared_against_the_migrated_schema(
    prepared: psycopg.Connection, statement: Statement
) -> None:
    result = prepared.pgconn.prepare(b"", statement.numbered.encode())
    assert result.status == pq.ExecStatus.COMMAND_OK, (
        f"{statement.where}: {result.error_message.decode()}A parameter whose type cannot be known needs a cast."
    )


@pytest.mark.parametrize("statement", STATEMENTS, ids=str)
def test_it_names_one_organization_or_says_why_not(statement: Statement) -> None:
    tenants = set(OWNERS) - set(WITHOUT_ORGANIZATION) - {"organizations"}
    touched = set(_TOUCHES.findall(statement.bare)) & tenants
    if not touched or EXCUSE in statement.text:
        return
    assert _NAMES_ONE.search(statement.text), (
        f"{statement.where} touches {', '.join(sorted(touched))} and names no organization: add org_id = %(org_id)s, "
        f"or the comment `{EXCUSE}why` inside the literal"
    )


@pytest.mark.parametrize("statement", STATEMENTS, ids=str)
def test_only_the_owner_of_a_table_writes_to_it(statement: Statement) -> None:
    foreign = {
        table: OWNERS[table] for table in writes(statement) if OWNERS[table] != statement.module.package
    }
    assert not foreign, f"{statement.where} writes to tables of other features: {foreign}; call their service"


@pytest.mark.parametrize("statement", STATEMENTS, ids=str)
def test_an_update_has_no_volatile_function_and_no_now_that_decides(statement: Statement) -> None:
    for update in parts(statement.bare, "UPDATE"):
        assert not VOLATILE.search(update), (
            f"{statement.where}: a distributed UPDATE must not call a volatile function"
        )
        for decision in [
            *re.findall(r"\bCASE\b.*?\bEND\b", update),
            *re.findall(r"\bCOALESCE\s*\([^()]*\(\)[^()]*\)", update, re.IGNORECASE),
        ]:
            assert "now()" not in decision, (
                f"{statement.where}: pass the time as a parameter, not now() in {decision[:80]}"
            )


@pytest.mark.parametrize("statement", STATEMENTS, ids=str)
def test_an_insert_from_a_select_ends_in_on_conflict(statement: Statement) -> None:
    for insert in parts(statement.bare, "INSERT INTO"):
        table = insert.split()[2].split("(")[0]
        if table in OWNERS and re.search(r"\bSELECT\b", insert.split("RETURNING")[0].split("ON CONFLICT")[0]):
            assert "ON CONFLICT" in insert, (
                f"{statement.where}: INSERT INTO {table} … SELECT needs ON CONFLICT"
            )


@pytest.mark.parametrize("statement", STATEMENTS, ids=str)
def test_it_uses_no_set_config_no_notify_and_no_offset(statement: Statement) -> None:
    for word, instead in {
        "set_config(": "SET LOCAL, in core/db.py",
        "pg_notify(": "event rows",
        "LISTEN ": "polling; poolers know no LISTEN",
    }.items():
        assert word not in statement.bare, f"{statement.where}: {word}; use {instead}"
    assert not re.search(r"\bOFFSET (?!0\b)", statement.bare), (
        f"{statement.where}: page by key, never by offset"
    )


@pytest.mark.parametrize("module", source.modules(), ids=lambda module: module.name)
def test_sql_is_a_literal_the_type_checker_can_see(module: source.Module) -> None:
    if module.package == "core":
        return
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        where = f"{module.name}:{node.lineno}"
        assert not (name == "cast" and node.args and "LiteralString" in ast.unparse(node.args[0])), (
            f"{where}: only core/db.py composes SQL"
        )
        if name in {"execute", "executemany", "one", "find", "rows", "tuples", "value", "copy", "prepare"}:
            for argument in node.args[:3]:
                assert not isinstance(argument, ast.JoinedStr), f"{where}: SQL is a literal, not an f-string"
                is_encoded = isinstance(argument, ast.Call) and ast.unparse(argument.func).endswith(".encode")
                assert not is_encoded, (
                    f"{where}: .encode() hides from the type checker where a text came from"
                )


def test_every_law_can_fail() -> None:
    """The laws' own eyes: a statement that breaks each of them is seen to."""
    module = source.modules()[0]
    bad = Statement(
        module, 1,
        "WITH x AS (UPDATE outbox SET due_at = CASE WHEN true THEN now() END, id = uuid7() WHERE state = 0),"
        " y AS (INSERT INTO gates SELECT * FROM x) SELECT set_config('a', %(a)s, true)"
        " FROM messages FOR UPDATE OFFSET 5",
    )  # fmt: skip
    assert writes(bad) == {"outbox", "gates"}
    assert bad.numbered.count("$1") == 1
    for law in (
        test_it_names_one_organization_or_says_why_not,
        test_an_update_has_no_volatile_function_and_no_now_that_decides,
        test_an_insert_from_a_select_ends_in_on_conflict,
        test_it_uses_no_set_config_no_notify_and_no_offset,
    ):
        with pytest.raises(AssertionError):
            law(bad)
