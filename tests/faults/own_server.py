"""A PostgreSQL of the tests' own, that may be killed, starved and filled up without harm to other tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from antiphon.core import embedded, migrate, roles
from antiphon.core.roles import DatabaseUrls

SETTINGS = {"fsync": "off", "shared_buffers": "64MB", "max_connections": "60"}
"""Without fsync a killed server still finds all that it wrote: only the machine's own end would lose it."""


class OwnServer:
    """A running server, migrated; `urls` stay the same over a restart."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = settings
        self._shares: list[embedded.Embedded] = []
        self.start()
        self.urls = self.create("antiphon")

    @property
    def superuser_url(self) -> str:
        """The door through which everything may be done."""
        return self._shares[-1].url

    def create(self, name: str, tablespace: str | None = None) -> DatabaseUrls:
        """A migrated database, wholly in a tablespace if one is named."""
        roles.ensure_embedded(self.superuser_url, self._folder, name)
        if tablespace is not None:
            self.run(
                sql.SQL("ALTER DATABASE {} SET TABLESPACE {}").format(
                    sql.Identifier(name), sql.Identifier(tablespace)
                )
            )
        urls = roles.ensure_embedded(self.superuser_url, self._folder, name)
        migrate.apply(urls.owner)
        return urls

    def start(self) -> None:
        """Start it, or start it again on the same port; returns when it answers, its recovery done."""
        self._shares.append(embedded.start(self._folder, self._settings))

    def kill(self) -> None:
        """Immediate mode: every process of it ends at once, and what is in its memory is lost."""
        [file] = (self._folder / "postgres").glob("*/postmaster.pid")
        postmaster = psutil.Process(int(file.read_text().splitlines()[0]))
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(10)

    def run(self, statement: sql.Composed) -> None:
        """A statement of the superuser."""
        with psycopg.connect(self.superuser_url, autocommit=True) as conn:
            conn.execute(statement)

    def own(self, folder: Path) -> None:
        """Let the server's user use a folder."""
        [data] = (self._folder / "postgres").glob("[0-9]*")
        os.chown(folder, data.stat().st_uid, data.stat().st_gid)

    def allow_connections(self, role: str, most: int) -> None:
        """How many connections a role may have; -1 is any number."""
        self.run(sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(sql.Identifier(role), sql.Literal(most)))

    def cut_connections(self) -> int:
        """End every connection of server and worker; returns how many there were."""
        with psycopg.connect(self.superuser_url, autocommit=True) as conn:
            found = conn.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE usename IN ('antiphon_app', 'antiphon_worker')"
            ).fetchone()
        assert found is not None
        return found[0]

    def release(self) -> None:
        """Stop it."""
        for share in self._shares:
            share.release()


@contextlib.contextmanager
def own_server(**settings: str) -> Iterator[OwnServer]:
    """A server that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="antiphon-faults-"))
    folder.chmod(0o711)
    server = None
    try:
        server = OwnServer(folder, {**SETTINGS, **settings})
        yield server
    finally:
        if server is not None:
            server.release()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def tiny_disk(megabytes: int) -> Iterator[Path | None]:
    """A disk that is soon full: a file system in memory, for root; None where mounting is not permitted."""
    folder = Path(tempfile.mkdtemp(prefix="antiphon-tiny-"))
    mount = shutil.which("mount") if os.geteuid() == 0 else None
    mounted = mount is not None and not subprocess.call(
        [mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], stderr=subprocess.DEVNULL
    )
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            for _ in range(50):  # the server may still be closing its files
                if not subprocess.call(["umount", folder], stderr=subprocess.DEVNULL):
                    break
                time.sleep(0.1)
        folder.rmdir()
