"""An outside judge reads the document and calls every operation with what it makes up: the answers are as promised."""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false
# the judge leaves its types open

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from antiphon.core.db import Database
from antiphon.core.roles import DatabaseUrls
from antiphon.entry import openapi, web
from tests import make
from tests.entry import live

EXAMPLES = 4
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class Server:
    """The live server in a thread of its own: the judge's client waits, so it cannot share our event loop."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self._database_url = database_url
        self._folder = folder
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.url = ""
        self.token = ""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20), "the server did not start"

    def stop(self) -> None:
        assert self._loop is not None and self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with (
            Database.connect(self._database_url, size=4) as database,
            live.serving(live.services(database, data_dir=self._folder)) as client,
        ):
            self.url = client.url
            self.token = await make.token(database, (await make.organization(database)).id)
            self._ready.set()
            await self._stop.wait()


@pytest.fixture(scope="module")
def judged(postgres: Any, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    name = f"antiphon_test_{os.getpid()}_judged"
    urls: DatabaseUrls = postgres.create(name, template)
    server = Server(urls.app, tmp_path_factory.mktemp("judged"))
    server.start()
    yield server
    server.stop()
    postgres.drop(name)


DOCUMENT = openapi.document(web.litestar_application(None))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]


def test_the_judge_reads_every_operation() -> None:
    written = sum(method in item for item in DOCUMENT["paths"].values() for method in openapi.METHODS)
    assert len(OPERATIONS) == written


@pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.label for operation in OPERATIONS])
def test_answers_as_the_document_says(judged: Server, operation: Any) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    def call(case: Any) -> None:
        headers = {"Authorization": f"Bearer {judged.token}"}
        case.call_and_validate(base_url=judged.url, headers=headers, checks=CHECKS)

    call()
