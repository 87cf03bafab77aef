"""Reading what providers send: JSON that may be anything, times in any unit, and what an HTTP status means to a send.

Nothing here raises because of what a provider sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

import msgspec

from antiphon.core.wire import Response
from antiphon.providers.contract import (
    AccountFault,
    NotSent,
    Payload,
    Rejected,
    Throttled,
    Unknown,
    WireResponse,
)

Refusal = Rejected | Throttled | NotSent | Unknown | AccountFault

PAYLOAD_LIMIT = 8192
BEGINNING_LIMIT = 500
# an emoji cut in two by somebody's length limit, as JSON escapes it
_HALF = re.compile(
    rb"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}",
    re.IGNORECASE,
)


def http(answer: WireResponse) -> Response:
    """The answer to an HTTP request, typed as one."""
    assert isinstance(answer, Response)
    return answer


def json_of(body: bytes) -> Any:
    """The JSON value of a body, or None. What no PostgreSQL text can hold (NULs, half characters) becomes U+FFFD."""
    if b"\\u0000" in body:
        body = body.replace(b"\\u0000", b"\\ufffd")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = _HALF.sub(rb"\\ufffd", body)
        return None if whole == body else json_of(whole)


def mapping(value: object) -> Payload:
    """The value if it is an object, else an empty one."""
    return cast("Payload", value) if isinstance(value, dict) else {}


def entries(value: object) -> list[Any]:
    """The value if it is an array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def text_of(value: object) -> str | None:
    """A string or whole number as text; None for anything else and for the empty string."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).replace("\0", "\ufffd") or None


def dig(value: object, path: str) -> object:
    """What lies at `a.b.c`, or None."""
    for name in path.split("."):
        value = mapping(value).get(name)
    return value


def moment(value: object) -> datetime | None:
    """A time in seconds or milliseconds: a number, text, or protobuf's `{low, high}`. None if it makes no sense.

    Anything above 1e11 is milliseconds: as seconds it would lie after the year 5000.
    """
    long = mapping(value)
    if long:
        low, high = long.get("low"), long.get("high")
        value = (low & 0xFFFFFFFF) + (high << 32) if isinstance(low, int) and isinstance(high, int) else None
    try:
        seconds = float(value) if isinstance(value, str | int | float) else 0.0
    except (ValueError, OverflowError):
        return None
    if seconds > 1e11:
        seconds /= 1000
    if not 946_684_800 <= seconds <= 4_102_444_800:  # the years 2000 to 2100; NaN fails too
        return None
    return datetime.fromtimestamp(seconds, UTC)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Retry-After as a wait between 1 s and 1 h; None if it is missing or makes no sense.

    A date is measured against the answer's own Date, so that no clock but the provider's matters.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        then, now = _date(text), _date(headers.get("date", ""))
        if then is None or now is None:
            return None
        seconds = (then - now).total_seconds()
    if not seconds >= 0:  # negative, or NaN
        return None
    return timedelta(seconds=min(max(seconds, 1.0), 3600.0))


def by_status(response: Response, reason: str, code: str | None = None) -> Refusal:
    """What an answer that is not a success means, where the provider's own words do not say more.

    401 and 403 are the account's fault; 429, and 503 that names a time, were not taken; 408, 425 and every other 5xx
    may have been; a redirect means a wrong base URL; other refusals are final.
    """
    status, after = response.status, retry_after(response.headers)
    code = code or f"http_{status}"
    reason = reason or f"the provider answered HTTP {status}"
    payload = excerpt(response)
    if status in (401, 403) or 300 <= status < 400:
        return AccountFault(code=code, reason=reason, payload=payload)
    if status == 429 or (status == 503 and after is not None):
        return Throttled(after=after, code=code, reason=reason, payload=payload)
    if status in (408, 425) or not 400 <= status < 500:
        return Unknown(code=code, reason=reason, payload=payload)
    return Rejected(code=code, reason=reason, payload=payload)


def unasked(response: Response, reason: str) -> Throttled | NotSent | AccountFault:
    """What an answer that is not a success means to a look-up, which may be repeated as often as one likes."""
    match by_status(response, reason):
        case Throttled() | AccountFault() as outcome:
            return outcome
        case outcome:
            return NotSent(code=outcome.code, reason=outcome.reason, payload=outcome.payload)


def excerpt(response: Response) -> Payload:
    """The answer as it may be kept: its JSON if that is small, else its beginning."""
    value = json_of(response.body) if len(response.body) <= PAYLOAD_LIMIT else None
    if isinstance(value, dict):
        return {"http_status": response.status, **cast("Payload", value)}
    text = response.body[:BEGINNING_LIMIT].decode("utf-8", "replace").replace("\0", "\ufffd")
    return {"http_status": response.status, "beginning": text}


def short(text: object, limit: int = 300) -> str:
    """Words of a provider, cut to a length that a person reads."""
    return (text_of(text) or "")[:limit]


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
