"""What crosses the wire, as values: a request and its answer, a mail and its reply, and the two ways to fail.

Nothing here does input or output; `core/http.py` and `core/smtp.py` carry these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from msgspec import Struct


class NotSent(Exception):
    """Nothing that the peer could act on has left this machine: safe to try again."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotBegun(NotSent):
    """There was no time left to begin: nobody's failure, and no try."""


class MaybeSent(Exception):
    """The peer may have acted on it: never repeat without an idempotency key."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Request(Struct, frozen=True, kw_only=True):
    """One HTTP request. `timeout` covers the whole of it, connecting included; None is the client's own."""

    method: Literal["GET", "POST"] = "POST"
    url: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    timeout: timedelta | None = None

    def __repr__(self) -> str:
        # URLs and headers carry tokens; a log line may carry neither
        return f"Request({self.method}, {len(self.body)} bytes)"


class Response(Struct, frozen=True):
    """An answer that was read to its end. Ask for headers by their lower-case names."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


TlsMode = Literal["tls", "starttls", "none"]


class MailEnvelope(Struct, frozen=True, kw_only=True):
    """One mail to one recipient, with the server that takes it.

    With `starttls`, a server that offers none gets nothing.
    """

    host: str
    port: int
    tls: TlsMode
    username: str | None = None
    password: str | None = None
    sender: str
    recipient: str
    content: bytes
    timeout: timedelta | None = None

    def __repr__(self) -> str:
        return f"MailEnvelope({self.host}:{self.port}, {self.tls}, {len(self.content)} bytes)"


MailStage = Literal["connect", "login", "sender", "recipient", "content"]


class MailReply(Struct, frozen=True):
    """What the server said, and to which step. 250 to `content` means that it took the mail."""

    stage: MailStage
    code: int
    text: str
