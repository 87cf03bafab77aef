"""Where things are found: by the name of what they mean."""

from __future__ import annotations

import ast

import pytest

from tests.architecture import source
from tests.architecture.source import Module

NAMELESS = {
    "utils",
    "util",
    "helpers",
    "helper",
    "base",
    "common",
    "misc",
    "manager",
    "data",
    "info",
    "stuff",
    "types_",
}
FEATURES = [
    path
    for path in sorted(source.PACKAGE.iterdir())
    if path.is_dir() and path.name not in {"__pycache__", "migrations"}
]


@pytest.mark.parametrize("module", source.modules(source.SOURCE), ids=lambda module: module.name)
def test_no_file_is_named_after_nothing(module: Module) -> None:
    assert module.path.stem not in NAMELESS, f"{module.name}: name it for what it means"


@pytest.mark.parametrize("module", source.modules(source.SOURCE), ids=lambda module: module.name)
def test_a_file_begins_by_saying_what_it_is(module: Module) -> None:
    assert ast.get_docstring(module.tree), f"{module.name} has no docstring"


@pytest.mark.parametrize("module", source.modules(), ids=lambda module: module.name)
def test_what_other_features_may_call_states_its_promise(module: Module) -> None:
    if module.path.stem not in {"service", "model", "audit", "access"} and module.package != "core":
        return
    for node in module.tree.body:
        if isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module.name}:{node.lineno} {node.name} has no docstring"


@pytest.mark.parametrize("module", source.modules(), ids=lambda module: module.name)
def test_routes_decide_nothing_and_hold_no_sql(module: Module) -> None:
    if module.path.stem != "api":
        return
    held = [str(one) for one in source.statements() if one.module == module]
    assert held == [], f"SQL belongs to queries.py: {held}"


@pytest.mark.parametrize("module", source.modules(), ids=lambda module: module.name)
def test_rules_touch_neither_network_nor_database(module: Module) -> None:
    if module.path.stem != "model":
        return
    imported = {name for node in ast.walk(module.tree) for name in _imports(node)}
    if "antiphon.core.db.Connection" in imported:  # the type, in a signature
        imported.discard("antiphon.core.db")
    outside = {
        "psycopg",
        "aiohttp",
        "asyncio",
        "litestar",
        "antiphon.core.db",
        "antiphon.core.http",
        "antiphon.core.smtp",
    }
    assert not imported & outside, f"{module.name} is pure, and imports {imported & outside}"


def test_every_package_says_what_it_is_for() -> None:
    assert FEATURES
    assert [path.name for path in FEATURES if not (path / "__init__.py").is_file()] == []


def _imports(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str() as origin, names=names):
            return [origin, *(f"{origin}.{name.name}" for name in names)]
        case _:
            return []
