"""What may be told to a caller who asked for something that cannot be done: RFC 9457 problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One wrong field: where it is (`contacts[3].phone`), what is wrong, and the value where it may be shown."""

    field: str
    message: str
    value: Any = None


class Problem(Exception):
    """Something the caller must know: what was wrong, and what to do. Becomes application/problem+json at the edge."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.stable_code = code or type(self).code
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class BadRequest(Problem):
    """The request itself cannot be read: broken JSON, an unknown header value."""

    status, code, title = 400, "bad_request", "The request cannot be read"


class Unauthorized(Problem):
    """Nobody, or somebody we do not know."""

    status, code, title = 401, "unauthorized", "Sign in first"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail, code=code, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Problem):
    """We know who asks, and they may not."""

    status, code, title = 403, "forbidden", "Not allowed"


class NotFound(Problem):
    """It does not exist, or it belongs to another organization: the caller cannot tell which."""

    status, code, title = 404, "not_found", "Not found"


class Conflict(Problem):
    """Right in itself, but not in the present state."""

    status, code, title = 409, "conflict", "Not possible in the present state"


class TooLarge(Problem):
    """More bytes, rows or entries than one request may carry."""

    status, code, title = 413, "too_large", "Too large"


class UnsupportedMediaType(Problem):
    """A body in a format that this route does not read."""

    status, code, title = 415, "unsupported_media_type", "This kind of content is not accepted here"


class Invalid(Problem):
    """Readable, but wrong: `errors` names every wrong field."""

    status, code, title = 422, "invalid", "Some fields are wrong"

    @classmethod
    def field(cls, field: str, message: str, value: object = None) -> Invalid:
        """One wrong field."""
        return cls(f"{field}: {message}", errors=[FieldError(field, message, value)])


class TooMany(Problem):
    """Too many requests; `Retry-After` says when to come back."""

    status, code, title = 429, "too_many_requests", "Too many requests"

    def __init__(self, detail: str, *, retry_after: int = 1, code: str | None = None) -> None:
        super().__init__(detail, code=code, headers={"Retry-After": str(max(1, retry_after))})


class Unavailable(Problem):
    """Our fault, and temporary; `Retry-After` says when to come back."""

    status, code, title = 503, "unavailable", "Not available right now"

    def __init__(self, detail: str, *, retry_after: int = 5, code: str | None = None) -> None:
        super().__init__(detail, code=code, headers={"Retry-After": str(max(1, retry_after))})
