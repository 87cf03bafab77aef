"""Every error as application/problem+json (RFC 9457): a stable code, what was wrong, what to do, every wrong field."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import psycopg
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    SerializationException,
    ValidationException,
)
from msgspec import Struct
from psycopg_pool import PoolTimeout

from antiphon.core import db, logging
from antiphon.core.errors import BadRequest, FieldError, Invalid, NotFound, Problem, TooLarge
from antiphon.organizations.idempotency import Replayed

AnyRequest = Request[Any, Any, Any]

log = logging.get(__name__)
MEDIA_TYPE = "application/problem+json"
_MISSING = re.compile(r"Missing required (\w+) parameter '([^']+)'")


class ProblemBody(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What went wrong: `code` is stable and made for programs, `detail` is for the person who reads it."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    request_id: str | None = None


def answer(problem: Problem, request_id: str | None = None) -> Response[ProblemBody]:
    """The problem as a response."""
    body = ProblemBody(
        type="about:blank",
        title=problem.title,
        status=problem.status,
        code=problem.code,
        detail=problem.detail,
        errors=tuple(problem.errors),
        request_id=request_id,
    )
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=problem.headers)


def on_problem(_: AnyRequest, problem: Problem) -> Response[ProblemBody]:
    """A problem that our own code raised."""
    return answer(problem)


def on_replayed(_: AnyRequest, replayed: Replayed) -> Response[bytes]:
    """The answer of the first time, to the same request with the same Idempotency-Key."""
    kept = replayed.answer
    media_type = "application/json" if kept.body else None
    headers = {"Idempotency-Replayed": "true"}
    return Response(kept.body, status_code=kept.status, media_type=media_type, headers=headers)


def on_parameters(_: AnyRequest, error: ValidationException) -> Response[ProblemBody]:
    """Wrong query, path or header parameters. The text that Litestar made is not shown: it repeats the whole URL."""
    entries = cast("list[Mapping[str, Any]]", error.extra if isinstance(error.extra, list) else [])
    wrong = [_parameter(entry) for entry in entries]
    if not wrong and (found := _MISSING.match(error.detail)):
        wrong = [FieldError(found[2], "is required")]
    if not wrong:
        return answer(
            BadRequest("bad_request", "the request cannot be read; compare it with the API reference")
        )
    if any(error.field == "data" for error in wrong):  # Litestar's name for the body
        return answer(BadRequest("malformed_json", "the request has no body; JSON is expected"))
    names = ", ".join(error.field for error in wrong)
    return answer(Invalid(f"wrong: {names}; `errors` says why", wrong))


def _parameter(entry: Mapping[str, Any]) -> FieldError:
    return FieldError(str(entry.get("key", "")), str(entry.get("message", "is wrong")))


def on_http(request: AnyRequest, error: HTTPException) -> Response[ProblemBody]:
    """What Litestar itself refuses."""
    match error:
        case NotFoundException():
            problem: Problem = NotFound("such route")
            problem.detail = (
                f"there is no {request.method} {request.url.path[:200]}; the API reference is at /docs"
            )
        case MethodNotAllowedException():
            problem = Problem(
                405,
                "method_not_allowed",
                "This method is not allowed here",
                f"{request.method} is not possible on {request.url.path[:200]}; the header Allow says what is",
            )
        case _ if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            problem = TooLarge("the body has more bytes than this route takes; send less at a time")
        case _ if error.status_code < 500:
            problem = Problem(
                error.status_code, "bad_request", HTTPStatus(error.status_code).phrase, error.detail
            )
        case _:
            return on_defect(request, error)
    problem.headers |= error.headers or {}
    return answer(problem)


def on_unreadable(_: AnyRequest, _error: SerializationException) -> Response[ProblemBody]:
    """A body that is not what its content type says."""
    return answer(BadRequest("bad_request", "the body cannot be read as its Content-Type says"))


def on_database(request: AnyRequest, error: Exception) -> Response[ProblemBody]:
    """What the database refused: away or busy is 503 with Retry-After, a broken rule is 409, the rest is our defect."""
    problem = db.problem_of(error) or _unstorable(error)
    if problem is None:
        return on_defect(request, error)
    if problem.status >= 500:
        log.warning("database_away", error=type(error).__name__, text=str(error)[:300])
    return answer(problem)


def _unstorable(error: Exception) -> Problem | None:
    """A value that passed our own checks and that PostgreSQL cannot hold: a NUL in a text, a year out of range."""
    if not isinstance(error, psycopg.DataError):
        return None
    log.warning("value_not_storable", error=type(error).__name__, text=str(error)[:300])
    why = (error.diag.message_primary or str(error)).partition("\n")[0]
    return Invalid(f"a value cannot be stored: {why[:200]}", code="value_not_storable")


def on_defect(request: AnyRequest, error: Exception) -> Response[ProblemBody]:
    """A defect of ours: the log has everything, the caller an id to ask with."""
    scope = cast("dict[str, Any]", request.scope)
    log.error("request_failed", method=request.method, route=scope.get("path_template"), exc_info=error)
    return answer(
        Problem(
            500,
            "internal_error",
            "Something went wrong on our side",
            "this is a defect of the server, and its log has the details; when you report it, name the request_id",
        ),
        scope.get("antiphon_request_id"),
    )


HANDLERS: dict[int | type[Exception], Callable[[AnyRequest, Any], Response[Any]]] = {
    Problem: on_problem,
    Replayed: on_replayed,
    ValidationException: on_parameters,
    SerializationException: on_unreadable,
    HTTPException: on_http,
    psycopg.Error: on_database,
    PoolTimeout: on_database,
    Exception: on_defect,
}
