"""The keyed test provider: one that takes an idempotency key, echoes our reference and can be asked about it.

    POST /keyed/messages   Idempotency-Key: K   {"to": "...", "text": "...", "reference": "..."}
    GET  /keyed/messages?reference=R

The same key with the same bytes gets the same answer again, and nobody gets a second message; with other bytes it
gets 409 `key_used_with_another_body`. Keys are kept for 24 hours, over a restart too. Webhooks are signed:
`X-Keyed-Signature` is the hexadecimal HMAC-SHA256, under the account's secret, of the text of `X-Keyed-Timestamp`
(Unix seconds), a full stop, and the raw body. No such company exists: this is the oracle of "exactly once".
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from antiphon_simulator.book import Book
from antiphon_simulator.scenario import Status
from antiphon_simulator.settings import Account, Fault
from antiphon_simulator.wire import Answer, Caller, Event, Inbound, Message, Refusal, Sending, Wire, as_json

KEY_MOST, TEXT_MOST = 255, 10_000
FIELDS = ("to", "text", "reference")


def account_of(book: Book, caller: Caller) -> str | None:
    """Whose account the bearer token opens; without any account, everybody's is `default`."""
    token = caller.headers.get("authorization", "").removeprefix("Bearer ").strip()
    found = book.with_token("keyed", token)
    if found is None:
        free = not token and not any(one.provider == "keyed" and one.token for one in book.accounts.values())
        return "default" if free else None
    return "default" if found.name == "*" else found.name


def understand(book: Book, caller: Caller) -> Sending | Refusal:
    """A message, checked field by field."""
    account = account_of(book, caller)
    if account is None:
        return _refuse(401, "unauthorized", "Authorization must be Bearer and this account's token")
    key = caller.headers.get("idempotency-key", "")
    if not key or len(key) > KEY_MOST or not key.isascii() or not key.isprintable():
        return _refuse(
            400, "key_required", f"Idempotency-Key is {key[:40]!r}: 1 to {KEY_MOST} printable characters"
        )
    try:
        body = msgspec.json.decode(caller.body)
    except msgspec.DecodeError as problem:
        return _refuse(400, "not_json", str(problem))
    if not isinstance(body, dict):
        return _refuse(400, "not_json", "the body is not an object")
    given = cast("dict[str, Any]", body)
    if set(given) != set(FIELDS):
        return _refuse(422, "fields", f"got {sorted(given)}, wanted {sorted(FIELDS)}")
    if not all(isinstance(value, str) and value for value in given.values()):
        return _refuse(422, "fields", "every field is a text that is not empty")
    if len(given["text"]) > TEXT_MOST:
        return _refuse(422, "text_too_long", f"{len(given['text'])} characters, at most {TEXT_MOST}")
    return Sending(account, given["to"], given["text"], reference=given["reference"], key=key)


def _refuse(status: int, code: str, reason: str) -> Refusal:
    return Refusal(code, reason, as_json(status, {"error": code, "detail": reason}))


def described(message: Message, status: Status) -> dict[str, Any]:
    """A message as the look-up shows it."""
    return {"id": message.id, "reference": message.reference, "to": message.recipient, "status": status}


def accepted(message: Message) -> Answer:
    """The answer to a message that was taken, now or earlier under the same key."""
    return as_json(200, {"id": message.id, "status": "accepted", "reference": message.reference})


def throttled(retry_after: str) -> Answer:
    """The answer to one message too many."""
    return as_json(429, {"error": "too_many_requests"}, {"Retry-After": retry_after} if retry_after else None)


def error(fault: Fault) -> Answer:
    """Any error word."""
    return as_json(fault.status, {"error": fault.code or "failed", "detail": fault.message})


def status_event(account: Account, message: Message, status: Status, at: float) -> Event:
    """A status."""
    event: Event = {"type": "status", **described(message, status), "at": round(at, 3)}
    return event | ({"code": message.failure or "undelivered"} if status == "failed" else {})


def inbound_event(account: Account, inbound: Inbound) -> Event:
    """What a person wrote."""
    return {
        "type": "message",
        "id": inbound.id,
        "from": inbound.sender,
        "account": inbound.account,
        "text": inbound.text,
        "quotes": inbound.quotes or None,
        "at": round(inbound.at, 3),
    }


def envelope(account: Account, events: Sequence[Event]) -> tuple[bytes, str]:
    """One event a webhook."""
    return msgspec.json.encode(events[0]), "application/json"


def signature(account: Account, body: bytes) -> dict[str, str]:
    """HMAC-SHA256 over the timestamp, a full stop, and the raw body."""
    stamp = str(int(time.time()))
    digest = hmac.new(account.secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Keyed-Timestamp": stamp, "X-Keyed-Signature": digest}


WIRE = Wire(
    name="keyed",
    understand=understand,
    new_id=lambda: f"k-{os.urandom(9).hex()}",
    accepted=accepted,
    throttled=throttled,
    absent=lambda sending: as_json(
        422, {"error": "unknown_recipient", "detail": f"nobody at {sending.recipient}"}
    ),
    absence="unknown_recipient",
    conflict=as_json(409, {"error": "key_used_with_another_body"}),
    error=error,
    status_event=status_event,
    inbound_event=inbound_event,
    envelope=envelope,
    signature=signature,
)
