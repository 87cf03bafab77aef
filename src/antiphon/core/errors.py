"""What may be told to a caller who asked for something that cannot be done: RFC 9457 problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One wrong field: where it is (`contacts[3].phone`), what is wrong, and the value where it may be shown."""

    field: str
    message: str
    value: Any = None


class Problem(Exception):
    """Something the caller must know: what was wrong, and what to do. The edge answers it as problem+json.

    `code` is stable and made for programs; `title` names the kind, `detail` this one case, for a person.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})


class BadRequest(Problem):
    """The request itself cannot be read: broken JSON, a header that makes no sense."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(400, code, "The request cannot be read", text)


class Unauthorized(Problem):
    """Nobody, or somebody we do not know."""

    def __init__(self, text: str) -> None:
        super().__init__(401, "unauthorized", "Sign in first", text, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Problem):
    """We know who asks, and they may not."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(403, code, "Not allowed", text)


class NotFound(Problem):
    """It does not exist, or it belongs to another organization: the caller cannot tell which."""

    def __init__(self, kind: str, id: object = None) -> None:  # noqa: A002 - the word the callers use
        which = f"no {kind}" if id is None else f"no {kind} {str(id)[:200]!r}"
        super().__init__(404, "not_found", "Not found", f"there is {which} in this organization")


class Conflict(Problem):
    """Right in itself, but not in the present state."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(409, code, "Not possible in the present state", text)


class TooLarge(Problem):
    """More bytes, rows or entries than one request may carry."""

    def __init__(self, text: str) -> None:
        super().__init__(413, "too_large", "Too large", text)


class UnsupportedMediaType(Problem):
    """A body in a format that this route does not read."""

    def __init__(self, text: str) -> None:
        super().__init__(415, "unsupported_media_type", "This kind of content is not accepted here", text)


class Invalid(Problem):
    """Readable, but wrong: `errors` names every wrong field."""

    def __init__(self, text: str, errors: Sequence[FieldError] | None = None, code: str = "invalid") -> None:
        super().__init__(422, code, "Some of this is wrong", text, errors=errors or ())

    @classmethod
    def field(cls, field: str, message: str, value: object = None) -> Invalid:
        """One wrong field."""
        return cls(f"{field}: {message}", [FieldError(field, message, value)])


class TooMany(Problem):
    """Too many requests; `Retry-After` says when to come back."""

    def __init__(self, code: str, text: str, retry_after: int = 1) -> None:
        super().__init__(
            429, code, "Too many requests", text, headers={"Retry-After": str(max(1, retry_after))}
        )


class Unavailable(Problem):
    """Our fault, and temporary; `Retry-After` says when to come back."""

    def __init__(self, code: str, text: str, retry_after: int = 5) -> None:
        super().__init__(
            503, code, "Not available right now", text, headers={"Retry-After": str(max(1, retry_after))}
        )
