"""Around every request: an id, the security headers, and how long it took."""

from __future__ import annotations

import re
import time
from typing import Any, cast

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from antiphon.core import ids, metrics

SECONDS = metrics.histogram("http_request", "How long requests took", ("method", "route", "status"))

_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_COMMON = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_HTTPS = (b"strict-transport-security", b"max-age=31536000")
# what an API answers is never a page: should a browser show it all the same, nothing in it may load or run
_FALLBACKS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


def around(app: ASGIApp, *, is_https: bool) -> ASGIApp:
    """The application with an `X-Request-Id`, security headers and a measurement for each request."""
    always = (*_COMMON, _HTTPS) if is_https else _COMMON
    timers: dict[tuple[str, str, int], Any] = {}

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request_id = _request_id(scope)
        cast("dict[str, Any]", scope)["antiphon_request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, status = time.perf_counter(), 500

        async def send_dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _dressed(list(message["headers"]), always, request_id)
            await send(message)

        try:
            await app(scope, receive, send_dressed)
        finally:
            # the route's template, never the path: labels must stay few and carry no ids
            route = str(cast("dict[str, Any]", scope).get("path_template") or "none")
            key = (scope["method"], route, status)
            timer = timers.get(key)
            if timer is None:
                timer = timers[key] = SECONDS.labels(*map(str, key))
            timer.observe(time.perf_counter() - started)

    return handle


def _request_id(scope: Scope) -> str:
    """The caller's own id if it sent a harmless one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            return value.decode()
    return ids.short(ids.new_id())


def _dressed(
    headers: list[tuple[bytes, bytes]], always: tuple[tuple[bytes, bytes], ...], request_id: str
) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in headers}
    headers.extend(always)
    headers.extend(pair for pair in _FALLBACKS if pair[0] not in names)
    headers.append((b"x-request-id", request_id.encode()))
    return headers
