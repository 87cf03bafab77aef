"""How much one file, one function, one signature may hold."""

from __future__ import annotations

import ast

import pytest

from tests.architecture import source
from tests.architecture.source import ROOT, Module

MAX_LINES, MAX_TEST_LINES = 400, 600
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7

PRODUCT = source.modules(ROOT / "src")
TESTS = source.modules(ROOT / "tests")


@pytest.mark.parametrize(
    ("module", "limit"),
    [*((module, MAX_LINES) for module in PRODUCT), *((module, MAX_TEST_LINES) for module in TESTS)],
    ids=lambda value: value.name if isinstance(value, Module) else "",
)
def test_a_file_is_short_enough_to_read_in_one_go(module: Module, limit: int) -> None:
    lines = len(module.path.read_text("utf-8").splitlines())
    assert lines <= limit, f"{module.name} has {lines} lines, {limit} are allowed: what else is it about?"


@pytest.mark.parametrize("module", [*PRODUCT, *TESTS], ids=lambda module: module.name)
def test_a_function_fits_on_a_screen_and_its_signature_in_a_head(module: Module) -> None:
    for function in source.functions(module):
        where = f"{module.name}:{function.lineno} {function.name}"
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        assert lines <= MAX_FUNCTION_LINES, f"{where} has {lines} lines, {MAX_FUNCTION_LINES} are allowed"
        count = _parameters(function)
        assert count <= MAX_PARAMETERS, (
            f"{where} takes {count} parameters, {MAX_PARAMETERS} are allowed: a struct?"
        )


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many a caller must think of: not `self`, nor `conn`, which all have; a route's are its query string, those of
    a verb of the command line its options."""
    if any(_is_declared(decorator) for decorator in function.decorator_list):
        return 0
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in {"self", "cls", "conn"}])


def _is_declared(decorator: ast.expr) -> bool:
    kinds = {"get", "post", "put", "patch", "delete", "verb"}
    return (
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Name)
        and decorator.func.id in kinds
    )
