"""Laws of the repository: what it names, what its documents promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture import source
from tests.architecture.source import PACKAGE, ROOT

TEXT = (
    ".py",
    ".md",
    ".sql",
    ".toml",
    ".txt",
    ".json",
    ".yml",
    ".yaml",
    ".csv",
    "Makefile",
    "run",
    ".cfg",
    ".html",
    ".js",
    ".css",
)
# Spelled in pieces, so that this file does not break its own law.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:work|root|home)" + r"/\w"),
    "a host of a package index": re.compile(
        "|".join(
            (
                r"py" + r"pi\.org",
                "python" + "hosted",
                r"registry\." + "npmjs",
                r"deb\.deb" + "ian",
                "--index" + "-url",
                "--extra" + "-index",
            )
        )
    ),
    "unfinished work": re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
}
DOCUMENTS = ("README.md", "ARCHITECTURE.md")
_FENCED = re.compile(r"^```(?:sh|bash|console|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MENTIONED = re.compile(r"`((?:[a-z_]+/)+[a-z_]+)(?:\.py)?(?:\.([A-Za-z_]\w*))?`")


@pytest.mark.parametrize("path", source.tracked(*TEXT), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_names_a_machine_an_index_or_unfinished_work(path: Path) -> None:
    text = path.read_text("utf-8", errors="replace")
    for what, pattern in FORBIDDEN.items():
        found = pattern.search(text)
        assert found is None, (
            f"{path.relative_to(ROOT)} names {what}: {text[max(0, found.start() - 30) : found.end() + 30]!r}"
        )


def test_the_locks_are_hashed_name_no_host_and_agree() -> None:
    run, dev = (_pins(ROOT / "locks" / name) for name in ("run.txt", "dev.txt"))
    assert run.items() <= dev.items()
    for name in ("run.txt", "dev.txt"):
        text = (ROOT / "locks" / name).read_text()
        assert "://" not in text
        for entry in re.split(r"\n(?=\w)", text.strip()):
            assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run, dev = (_pins(ROOT / "locks" / name) for name in ("run.txt", "dev.txt"))
    optional = project["optional-dependencies"]
    assert {_plain(line) for line in project["dependencies"] + optional["install"]} <= set(run)
    assert {_plain(line) for line in optional["dev"]} <= set(dev)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_a_document_shows_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    verbs = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in _FENCED.findall(text):
        for line in block.splitlines():
            words = line.removeprefix("$ ").split("#")[0].split()
            if words[:1] == ["make"]:
                assert {word for word in words[1:] if "=" not in word} <= verbs, f"{document}: {line}"
            if words[:1] == ["antiphon"]:
                _assert_known_to_the_command_line(words[1:], f"{document}: {line}")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_a_document_mentions_exists(document: str) -> None:
    for place, attribute in _MENTIONED.findall((ROOT / document).read_text()):
        candidates = [
            PACKAGE / f"{place}.py", PACKAGE / place, ROOT / place, ROOT / f"{place}.py", ROOT / f"{place}.md",
        ]  # fmt: skip
        found = next((path for path in candidates if path.exists()), None)
        assert found is not None, f"{document} mentions {place}, which does not exist"
        if attribute and found.suffix == ".py":
            assert re.search(rf"\b{attribute}\b", found.read_text()), (
                f"{document}: {place} has no {attribute}"
            )


def _assert_known_to_the_command_line(words: list[str], where: str) -> None:
    verbs: list[str] = []
    for word in words:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        verbs.append(word)
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    for count in range(min(len(verbs), 2), 0, -1):
        shown = subprocess.run(
            [sys.executable, "-c", "from antiphon.entry.cli import main; main()", *verbs[:count], "--help"],
            capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
        )  # fmt: skip
        if shown.returncode == 0:
            missing = [option for option in options if option not in shown.stdout]
            assert not missing, f"{where}: no option {missing}"
            return
    raise AssertionError(f"{where}: the command line knows no such verb")


def _pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def _plain(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()
