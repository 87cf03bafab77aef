"""Lists by key, never by offset: a page, and the opaque cursor that continues after it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from antiphon.core.errors import Invalid

T = TypeVar("T")

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some items in order, and the cursor of the next page: None on the last one."""

    items: list[T]
    next: str | None = None


def encode_cursor(*values: object) -> str:
    """The cursor for a key: the values that the list is ordered by, of the last item shown."""
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).rstrip(b"=").decode()


def decode_cursor(text: str, *types: type[Any]) -> tuple[Any, ...]:
    """The key inside a cursor: `decode_cursor(cursor, datetime, UUID)` gives a datetime and a UUID.

    Raises Invalid for a cursor that this list did not give out.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        values = msgspec.json.decode(raw, type=list[Any])
        return tuple(msgspec.convert(value, kind) for value, kind in zip(values, types, strict=True))
    except (ValueError, msgspec.MsgspecError):
        raise Invalid.field(
            "cursor", "not a cursor of this list; use the `next` of the page before, unchanged", text[:80]
        ) from None


def check_limit(limit: int | None) -> int:
    """How many items to show: 50 unless asked otherwise. Raises Invalid outside 1 to 200."""
    if limit is None:
        return DEFAULT_LIMIT
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid.field("limit", f"must be between 1 and {MAX_LIMIT}", limit)
    return limit


def cut(rows: Sequence[T], limit: int, key: Callable[[T], tuple[object, ...]]) -> Page[T]:
    """A page from rows asked for with `limit + 1`: the one too many only says that there is a next page."""
    items = list(rows[:limit])
    return Page(items, encode_cursor(*key(items[-1])) if len(rows) > limit and items else None)
