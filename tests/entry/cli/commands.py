"""The command line as a person has it: a process, with an environment, an exit code and two outputs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from antiphon.core.roles import DatabaseUrls

ANTIPHON = Path(sys.executable).parent / "antiphon"
SECRET = "a secret key for tests only that has 32 letters or more"
LONGEST = 60.0  # seconds


class Result(msgspec.Struct, frozen=True):
    """What a command did."""

    code: int
    out: str
    err: str

    def word(self, start: str) -> str:
        """The last word of the line that starts like this: most often an id."""
        lines = [line for line in self.out.splitlines() if line.startswith(start)]
        assert lines, f"no line starts with {start!r} in:\n{self.out}{self.err}"
        return lines[0].split()[-1]


class Machine(msgspec.Struct, frozen=True):
    """An environment in which commands run."""

    environ: Mapping[str, str]

    @classmethod
    def of(cls, urls: DatabaseUrls, folder: Path) -> Machine:
        """A machine that reaches this database and keeps its files in the folder."""
        bare = cls.without_database(folder)
        given = {
            "ANTIPHON_DATABASE_URL": urls.owner,
            "ANTIPHON_APP_DATABASE_URL": urls.app,
            "ANTIPHON_WORKER_DATABASE_URL": urls.worker,
            "ANTIPHON_SECRET_KEY": SECRET,
        }
        return cls({**bare.environ, **given})

    @classmethod
    def without_database(cls, folder: Path) -> Machine:
        """A newcomer's machine: Antiphon runs a database of its own in the folder."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
        return cls({**kept, "ANTIPHON_DATA_DIR": str(folder), "NO_COLOR": "1"})

    def run(
        self, *words: str, given: str = "", within: float = LONGEST, environ: Mapping[str, str] | None = None
    ) -> Result:
        """Run `antiphon …` to its end."""
        done = subprocess.run(
            [ANTIPHON, *words], env={**self.environ, **(environ or {})}, input=given, capture_output=True, text=True,
            timeout=within, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def do(self, *words: str, given: str = "") -> Result:
        """Run a command that must succeed."""
        done = self.run(*words, given=given)
        assert done.code == 0, f"antiphon {' '.join(words)}: {done.code}\n{done.out}{done.err}"
        return done

    @contextlib.contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that runs until it is told to end; at the latest at the end of the block."""
        process = subprocess.Popen(
            [ANTIPHON, *words],
            env={**self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()
