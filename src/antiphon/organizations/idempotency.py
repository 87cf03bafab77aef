"""Idempotency-Key: the same request again gets the stored answer, not a second effect.

The answer is stored in the transaction of its effect and kept for 24 hours. The same key with another request is
refused (422), one whose first request still runs as well (409): nobody waits with a connection in hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from uuid import UUID

import psycopg
from msgspec import Struct

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.core.errors import BadRequest, Conflict, Invalid, Unauthorized
from antiphon.organizations import queries

LONGEST = 255
KEY_ENDED = "this API key has been revoked or has expired; ask an administrator for another"


class Call(Struct, frozen=True, kw_only=True):
    """What makes two requests the same request."""

    key: str
    route: str
    body_hash: bytes


class Answer(Struct, frozen=True):
    """An answer as it was given the first time."""

    status: int
    body: bytes


def without_secret(result: object) -> object:
    """What is kept of a result: one that shows a secret once says by its own `without_secret()` what it is without."""
    hide: Callable[[], object] | None = getattr(result, "without_secret", None)
    return result if hide is None else hide()


class Replayed(Exception):
    """Not an error: leaves a transaction that has nothing to do; the edge gives the stored answer again."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


def call_of(key: str | None, method: str, path: str, query: bytes, body: bytes) -> Call | None:
    """The call that a request is; None without a key. Raises BadRequest for a key that cannot be one."""
    if key is None:
        return None
    if not 1 <= len(key) <= LONGEST or not key.isprintable():
        raise BadRequest(
            "idempotency_key_unreadable",
            f"Idempotency-Key must be 1 to {LONGEST} printable characters, it has {len(key)}",
        )
    digest = hashlib.sha256(query + b"\n" + body).digest()
    return Call(key=key, route=f"{method} {path}", body_hash=digest)


def first(org_id: UUID, key_id: UUID | None, call: Call) -> db.First:
    """What travels with the statement that begins a call's transaction; with `key_id`, the API key is checked too."""
    return queries.begin_write(org_id, key_id, call.key, f"{org_id} {call.key}")


async def begin(conn: Connection, org_id: UUID, call: Call) -> None:
    """Start a call, from what `first` found.

    Raises Replayed when it was answered, Conflict while it runs elsewhere, Invalid for a key used for something else,
    Unauthorized for an API key that is no longer in force.
    """
    assert conn.first_row is not None
    found = queries.Stored(*conn.first_row)
    if not found.is_key_in_force:
        raise Unauthorized(KEY_ENDED)
    if found.is_fresh and found.status is not None and found.response is not None:
        if (found.route, found.body_hash) != (call.route, call.body_hash):
            raise Invalid(
                f"the Idempotency-Key {call.key!r} was used for another request ({found.route}); use a new key",
                code="idempotency_key_reused",
            )
        raise Replayed(Answer(found.status, found.response))
    if not found.is_first:
        raise Conflict(
            "idempotency_in_flight", "the first request with this Idempotency-Key still runs; ask again"
        )
    if found.is_fresh is False:
        await queries.forget_answer(conn, org_id, call.key)


async def finish(conn: Connection, org_id: UUID, call: Call, answer: Answer) -> None:
    """Keep the answer; the last statement of the call's transaction."""
    stored = {
        "route": call.route,
        "body_hash": call.body_hash,
        "status": answer.status,
        "response": answer.body,
    }
    try:
        await queries.add_answer(conn, org_id, call.key, stored)
    except psycopg.errors.UniqueViolation:
        raise Conflict(
            "idempotency_in_flight", "another request with this Idempotency-Key finished just now; ask again"
        ) from None
