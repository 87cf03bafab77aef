"""No network call while a transaction is open: only two modules open sockets, and both refuse."""

from __future__ import annotations

import ast

import pytest

from antiphon.core.db import Database
from antiphon.core.http import Client
from antiphon.core.ids import new_id
from antiphon.core.smtp import MailClient
from antiphon.core.wire import MailEnvelope, Request
from tests.architecture import source
from tests.architecture.source import Module

SOCKET_LIBRARIES = {
    "aiohttp",
    "aiosmtplib",
    "httpx",
    "requests",
    "urllib3",
    "socket",
    "http.client",
    "urllib.request",
    "smtplib",
    "websockets",
}
MAY_OPEN_SOCKETS = {"core/http.py", "core/smtp.py", "core/embedded.py", "core/public_address.py"}


@pytest.mark.parametrize("module", source.modules(), ids=lambda module: module.name)
def test_only_core_opens_sockets(module: Module) -> None:
    place = module.path.relative_to(source.PACKAGE).as_posix()
    if place in MAY_OPEN_SOCKETS or place.startswith("entry/"):
        return
    for node in ast.walk(module.tree):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        used = {name for name in names if name in SOCKET_LIBRARIES or name.split(".")[0] in SOCKET_LIBRARIES}
        assert not used, f"{place} uses {used}: call out through core/http.py or core/smtp.py"


async def test_a_request_inside_a_transaction_is_refused(database: Database) -> None:
    async with Client() as client, database.transaction(new_id()):
        with pytest.raises(RuntimeError, match="transaction"):
            await client.send(Request(url="http://127.0.0.1:9/"))


async def test_a_mail_inside_a_transaction_is_refused(database: Database) -> None:
    mail = MailEnvelope(
        host="127.0.0.1", port=9, tls="none", sender="a@example.com", recipient="b@example.com", content=b"x"
    )
    async with MailClient() as client, database.transaction(new_id()):
        with pytest.raises(RuntimeError, match="transaction"):
            await client.send(mail)
