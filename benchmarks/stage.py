"""The stage of a measurement: a PostgreSQL, the simulator's bare path, an organization with contacts and a sender."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from antiphon.core import embedded, ids, migrate, roles
from antiphon.core.crypto import Vault
from antiphon.core.db import Database
from antiphon.core.roles import DatabaseUrls
from antiphon.messages import lane_service
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.senders.model import NewAccount, NewSender, Sender

KEY = "a key for measurements that is long enough to be one"
VAULT = Vault([KEY])
FOLDER = Path(tempfile.gettempdir()) / f"antiphon-bench-{os.getpid()}"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured figure: what, how much, what was asked, and the ceiling of the same run with the ratio to it."""

    what: str
    measured: str
    asked: str
    ceiling: str = ""
    ratio: str = ""


class Stage(msgspec.Struct, frozen=True):
    """What every measurement starts from."""

    urls: DatabaseUrls
    superuser_url: str
    simulator: dict[str, Any]

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """As the superuser: for loading and for recounting, outside of what is measured."""
        with psycopg.connect(self._database_url(), autocommit=True) as conn:
            cursor = conn.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def calls(self) -> list[dict[str, Any]]:
        """What the simulator received, oldest first: it writes each call down before it answers."""
        return [json.loads(line) for line in Path(self.simulator["log"]).read_text().splitlines()]

    def _database_url(self) -> str:
        return self.superuser_url.rsplit("/", 1)[0] + "/antiphon"


@contextlib.asynccontextmanager
async def build() -> AsyncIterator[Stage]:
    """A fresh database on an embedded server of its own, and the simulator as a process."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    server = embedded.start(FOLDER)
    simulator = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon_simulator", "--port", "0", "--fast-port", "0", "--with-parent",
        "--log", str(FOLDER / "simulator.jsonl"), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        urls = roles.ensure_embedded(server.url, FOLDER)
        migrate.apply(urls.owner)
        assert simulator.stdout is not None
        told = json.loads(await simulator.stdout.readline())
        yield Stage(urls, server.url, told)
    finally:
        with contextlib.suppress(ProcessLookupError):
            simulator.terminate()
        await simulator.wait()
        server.release()
        shutil.rmtree(FOLDER, ignore_errors=True)


async def organization(
    stage: Stage, app: Database, *, rate: float = 1e5, in_flight: int = 128, is_logged: bool = False
) -> tuple[UUID, Sender]:
    """An organization whose sender is the keyed provider on the simulator's bare path; `is_logged`: on the real one,
    which writes down what it receives before it answers."""
    org_id = ids.new_id()
    actor = Actor.operator(org_id)
    base = stage.simulator["url" if is_logged else "fast_url"]
    async with app.transaction(org_id) as conn:
        await organizations.create(conn, org_id, "Bench", timezone="UTC", country="DE", language="en")
        account = await senders.add_account(
            conn, actor, VAULT,
            NewAccount(provider="keyed", name="fast", credentials={
                "base_url": f"{base}/keyed", "signing_secret": "bench"}),
        )  # fmt: skip
        sender = await lane_service.add_sender(
            conn, actor,
            NewSender(account_id=account.id, channel="sms", address="+491510000000", rate=rate, in_flight=in_flight),
        )  # fmt: skip
    return org_id, sender


def contacts(stage: Stage, org_id: UUID, count: int, group_id: UUID | None = None, *, first: int = 0) -> None:
    """Contacts with a phone number and consent, loaded past the application."""
    stage.sql(LOAD_CONTACTS.format(org_id=org_id, first=first + 1, last=first + count))
    if group_id is not None:
        stage.sql(LOAD_GROUP.format(org_id=org_id, group_id=group_id, first=first + 1, last=first + count))
    stage.sql("ANALYZE")


LOAD_CONTACTS = """
    CREATE TEMP TABLE loading AS SELECT uuid7() AS id, '+4915' || (100000000 + n) AS phone, n
      FROM generate_series({first}, {last}) n;
    INSERT INTO contacts (org_id, id, first_name, last_name, language)
    SELECT '{org_id}', id, 'Max' || n, 'Mustermann', 'de' FROM loading;
    INSERT INTO addresses (org_id, id, contact_id, kind, value)
    SELECT '{org_id}', uuid7(), id, 'phone', phone FROM loading;
    INSERT INTO consent_states (org_id, channel, address, is_given, at)
    SELECT '{org_id}', channel, phone, true, now() FROM loading, (VALUES ('sms'), ('whatsapp')) AS c (channel);
"""
LOAD_GROUP = """
    INSERT INTO groups (org_id, id, name, name_key) VALUES ('{org_id}', '{group_id}', '{group_id}', '{group_id}');
    INSERT INTO group_members (org_id, group_id, contact_id)
    SELECT '{org_id}', '{group_id}', contact_id FROM addresses
     WHERE org_id = '{org_id}' AND value BETWEEN '+4915' || (100000000 + {first}) AND '+4915' || (100000000 + {last});
"""
