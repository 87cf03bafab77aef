"""The source as the laws read it: modules, functions, and every SQL literal, found without running anything."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "antiphon"

_SQL = re.compile(r"(?:\s|--[^\n]*\n)*(?:SELECT|WITH|INSERT INTO|UPDATE|DELETE FROM)\s")
_TEMPORARY = re.compile(r"\s*CREATE TEMP(?:ORARY)? TABLE\s")
_NAMED = re.compile(r"%\((\w+)\)[sbt]")


class Module(NamedTuple):
    """One Python file."""

    path: Path
    tree: ast.Module

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def package(self) -> str:
        """The feature it belongs to: `messages` for src/antiphon/messages/claim.py."""
        return self.path.relative_to(PACKAGE).parts[0]


class Statement(NamedTuple):
    """One SQL literal, as it is sent: concatenated constants are already one text."""

    module: Module
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.module.path.relative_to(PACKAGE)}:{self.line}"

    @property
    def where(self) -> str:
        return f"{self.module.name}:{self.line}"

    @property
    def bare(self) -> str:
        """Without comments and texts in quotes, on one line."""
        text = re.sub(r"--[^\n]*", " ", self.text)
        return " ".join(re.sub(r"'(?:[^']|'')*'", "''", text).split())

    @property
    def numbered(self) -> str:
        """With $1 … in place of the named parameters, as PREPARE takes it."""
        names = list(dict.fromkeys(_NAMED.findall(self.text)))
        text = _NAMED.sub(lambda found: f"${names.index(found[1]) + 1}", self.text)
        return text.replace("%%", "%")


@cache
def modules(folder: Path = PACKAGE) -> tuple[Module, ...]:
    """Every Python file below a folder."""
    paths = sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)
    return tuple(Module(path, ast.parse(path.read_text("utf-8"))) for path in paths)


@cache
def statements() -> tuple[Statement, ...]:
    """Every SQL literal of the platform. The owner's own, in core, are not the tenants' business."""
    return tuple(
        statement for module in modules() if module.package != "core" for statement in _literals(module, _SQL)
    )


@cache
def temporary_tables() -> tuple[str, ...]:
    """The statements that make temporary tables, without what becomes of them at commit."""
    found = [one.text for module in modules() for one in _literals(module, _TEMPORARY)]
    return tuple(dict.fromkeys(re.sub(r"ON COMMIT (?:DROP|DELETE ROWS)", "", text) for text in found))


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, inner ones too."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@cache
def tracked(*suffixes: str) -> tuple[Path, ...]:
    """The files that the repository keeps, or would keep, with one of these endings."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return tuple(path for path in paths if path.is_file() and path.name.endswith(suffixes))


def _literals(module: Module, shape: re.Pattern[str]) -> Iterator[Statement]:
    constants: dict[str, str] = {}
    parts: set[str] = set()
    reader = _Reader(constants, parts)
    for node in module.tree.body:
        target = _target(node)
        if target is not None and isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            text = reader.text_of(node.value)
            if text is not None:
                constants[target.id] = text
                continue
        reader.visit(node)
    lines = {_name(node): node.lineno for node in module.tree.body}
    used = {
        node.id
        for top in module.tree.body
        if _target(top) is None
        for node in ast.walk(top)
        if isinstance(node, ast.Name)
    }
    for name, text in constants.items():
        if shape.match(text) and (name not in parts or name in used):
            yield Statement(module, lines[name], text)
    for line, text in reader.found:
        if shape.match(text):
            yield Statement(module, line, text)


def _target(node: ast.stmt) -> ast.Name | None:
    match node:
        case ast.Assign(targets=[ast.Name() as name]) | ast.AnnAssign(target=ast.Name() as name):
            return name
        case _:
            return None


def _name(node: ast.stmt) -> str:
    target = _target(node)
    return target.id if target else ""


class _Reader(ast.NodeVisitor):
    """Collects the longest texts: a concatenation is one, its pieces are none."""

    def __init__(self, constants: dict[str, str], parts: set[str]) -> None:
        self.constants = constants
        self.parts = parts
        self.found: list[tuple[int, str]] = []

    def text_of(self, node: ast.expr) -> str | None:
        match node:
            case ast.Constant(value=str() as text):
                return text
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                first, second = self.text_of(left), self.text_of(right)
                if first is None or second is None:
                    return None
                self.parts.update(n.id for n in (left, right) if isinstance(n, ast.Name))
                return first + second
            case ast.Name(id=name):
                return self.constants.get(name)
            case _:
                return None

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # else a docstring
            self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        text = self.text_of(node)
        if text is None:
            self.generic_visit(node)
        else:
            self.found.append((node.lineno, text))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.append((node.lineno, node.value))
