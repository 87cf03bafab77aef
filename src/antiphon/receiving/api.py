"""The providers' doors: `GET` and `POST /webhooks/{provider}/{organization}/{account}/{secret}`.

A POST is answered 2xx only once it is committed: raw, with its effect. Whoever is not known, whatever is wrong in the
path, gets one answer, 404; a signature that does not fit 401; nothing of either is stored. The organization and the
account are in the path in clear, so that the first statement names the organization; the secret is compared by its
hash, in constant time. It is one ASGI handler, not a route of functions with injected arguments: three providers'
webhooks for every message sent come through here (the benchmark has the figures).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, cast
from urllib.parse import parse_qsl

from litestar import Router
from litestar.handlers import asgi
from litestar.types import HTTPScope, Receive, Scope, Send
from msgspec import Struct
from prometheus_client import Counter

from antiphon.core import ids, logging, metrics
from antiphon.core.errors import Forbidden, NotFound, Problem, TooLarge, Unauthorized
from antiphon.organizations.access import Services
from antiphon.providers.contract import Event, Unreadable
from antiphon.receiving.doors import Doors, Name
from antiphon.receiving.intake import Intake
from antiphon.receiving.model import Delivery, Door
from antiphon.senders.model import webhook_hash

log = logging.get(__name__)

REFUSED = metrics.counter(
    "webhooks_refused", "Provider webhooks refused, by the answer's status", ("status",)
)
ENTRIES = metrics.counter(
    "webhook_entries", "Entries of provider webhooks, by what they are", ("provider", "kind")
)

PATH = "/webhooks/{provider}/{organization}/{account}/{secret}"
MOST_BODY = 3 * 1024 * 1024  # bytes; Meta's ceiling
LARGE_BODY = 64 * 1024  # bytes; from here on it is verified and read beside the loop


class _Receiving(Struct, frozen=True):
    """What the process's webhooks share."""

    doors: Doors
    intake: Intake


class _Request(Struct, frozen=True):
    """A webhook's head, decoded once."""

    method: str
    name: Name
    provider: str
    secret_hash: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]


@asgi("/webhooks", is_mount=True, copy_scope=False, opt={"public": True})
async def take_webhook(scope: Scope, receive: Receive, send: Send) -> None:
    """One webhook, or one question of a provider that sets its webhook up."""
    head = cast("HTTPScope", scope)
    receiving = _receiving_of(head)
    try:
        request = _read_head(head)
        door = await receiving.doors.find(request.name, request.provider, request.secret_hash)
        if door is None:
            raise _nobody()
        match request.method:
            case "POST":
                text = await _take(receiving, door, request, receive)
            case "GET" | "HEAD":
                text = _shake_hands(door, request)
            case _:
                raise Problem(
                    405, "method_not_allowed", "This method is not allowed here",
                    f"{request.method} is not possible here; providers send POST", headers={"Allow": "GET, POST"},
                )  # fmt: skip
    except Problem as problem:
        REFUSED.labels(problem.status).inc()
        raise
    await _answer(send, text)


def _receiving_of(scope: HTTPScope) -> _Receiving:
    """Made at the first webhook: what it holds is bound to the application's loop."""
    state = scope["litestar_app"].state
    receiving: _Receiving | None = state.get("receiving")
    if receiving is None:
        services: Services = state.services
        doors = Doors(services.database, services.vault, services.settings.public_url)
        receiving = state["receiving"] = _Receiving(doors, Intake(services.database))
    return receiving


@cache
def _entries(provider: str, kind: str) -> Counter:
    return ENTRIES.labels(provider, kind)


def _nobody() -> Problem:
    """The same for every way in which a path can be wrong."""
    return NotFound("webhook address of this kind")


def _read_head(scope: HTTPScope) -> _Request:
    scope["path_template"] = PATH  # what figures and logs show: the secret stays out
    name, provider, secret_hash = _read_path(scope["path"])
    query = scope["query_string"].decode("latin-1")
    return _Request(
        method=scope["method"],
        name=name,
        provider=provider,
        secret_hash=secret_hash,
        headers={key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]},
        query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
    )


@lru_cache(1024)
def _read_path(path: str) -> tuple[Name, str, bytes]:
    """Organization and account, provider, the secret's hash. Every webhook of an account has the same path."""
    try:
        provider, org, account, secret = path.strip("/").split("/")
        return (ids.parse_short(org), ids.parse_short(account)), provider, webhook_hash(secret)
    except ValueError:
        raise _nobody() from None


def _shake_hands(door: Door, request: _Request) -> str:
    """The answer to a provider's question; a provider that asks none is told where it is."""
    if door.provider.handshake is None:
        return f"This is where {door.provider.title} sends its webhooks."
    answer = door.provider.handshake(door.account, request.query)
    if answer is None:
        raise Forbidden("handshake_refused", "the verify token is not the one that was set for this account")
    return answer


async def _take(receiving: _Receiving, door: Door, request: _Request, receive: Receive) -> str:
    body = await _read_body(receiving.intake, request.headers, receive)
    try:
        found = await _believe(receiving.doors, door, request, body)
        if found is None:
            raise Unauthorized("the signature does not fit; check the account's signing secret")
        door, events = found
        for event in events:
            _entries(door.provider.name, event.__struct_config__.tag).inc()
        delivery = Delivery(id=ids.new_id(), door=door, headers=request.headers, body=body, events=events)
        await receiving.intake.keep(delivery)
    finally:
        receiving.intake.bytes_held -= len(body)
    return "ok"


async def _read_body(intake: Intake, headers: Mapping[str, str], receive: Receive) -> bytes:
    """The whole body, counted as held. Raises TooLarge before more than that is read, Unavailable without room."""
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MOST_BODY:
        raise _too_large()
    intake.check_room(int(announced) if announced.isdecimal() else 0)
    pieces: list[bytes] = []
    size = 0
    try:
        while True:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                raise Problem(
                    400, "cut_short", "The request cannot be read", "the connection ended in the body"
                )
            piece: bytes = message.get("body", b"")
            size += len(piece)
            intake.bytes_held += len(piece)
            pieces.append(piece)
            if size > MOST_BODY:
                raise _too_large()
            if not message.get("more_body", False):
                return piece if len(pieces) == 1 else b"".join(pieces)
            intake.check_room()
    except BaseException:
        intake.bytes_held -= size
        raise


def _too_large() -> TooLarge:
    return TooLarge(f"a webhook may have {MOST_BODY // 1024 // 1024} MB; nothing was stored")


async def _believe(
    doors: Doors, door: Door, request: _Request, body: bytes
) -> tuple[Door, list[Event]] | None:
    """What the body says, if its signature fits: the account's, or the one that it has by now."""
    found = await _read(door, request, body)
    if found is None:
        renewed = await doors.renewed(request.name)
        if renewed is None or renewed is door or not renewed.opens_to(request.provider, request.secret_hash):
            return None
        door = renewed
        found = await _read(door, request, body)
    return None if found is None else (door, found)


async def _read(door: Door, request: _Request, body: bytes) -> list[Event] | None:
    if len(body) > LARGE_BODY:
        return await asyncio.to_thread(_read_now, door, request, body)
    return _read_now(door, request, body)


def _read_now(door: Door, request: _Request, body: bytes) -> list[Event] | None:
    """Verify the bytes as they came, then read them; an adapter that fails costs the meaning, never the bytes."""
    verify, parse = door.provider.verify_webhook, door.provider.parse_webhook
    assert verify is not None and parse is not None
    if not verify(door.account, request.method, request.headers, request.query, body):
        return None
    try:
        return parse(door.account, request.headers, body)
    except Exception as error:
        log.error("webhook_parse_failed", provider=door.provider.name, exc_info=error)
        return [Unreadable(reason=f"not read, a defect of ours: {type(error).__name__}")]


async def _answer(send: Send, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


router = Router("/", route_handlers=[take_webhook])
