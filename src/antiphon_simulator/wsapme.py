"""WSAPME, a WhatsApp gateway whose accounts are phones ("devices").

What is observed in use: `POST /v1/sendMessage2` and its answer, `{"success": false}` under HTTP 200, the header
`x-wsapme-token`, the status object in the manner of Baileys, the inbound webhook without a message id. What is a
guess, because the vendor publishes nothing that could be read: the answer of `getMessageStatus`, the shape of an
acknowledgement webhook (here: the status object, as JSON or form), `/devices`, `/info`, every text of an error except
`Unauthorised Token`, the 429. It signs nothing: a secret path is all that protects the receiver.
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from antiphon_simulator.book import Book
from antiphon_simulator.scenario import Status, address_key
from antiphon_simulator.settings import Account, Fault
from antiphon_simulator.wire import Answer, Caller, Event, Inbound, Message, Refusal, Sending, Wire, as_json

STATUS_WORDS: dict[Status, str] = {
    "accepted": "PENDING",
    "sent": "SERVER_ACK",
    "delivered": "DELIVERY_ACK",
    "read": "READ",
    "failed": "ERROR",
}
FIELDS = frozenset({"device", "to", "message", "priority", "exclude_group"})
RECIPIENT = re.compile(r"\+?[1-9]\d{6,14}|[\d-]+@g\.us")


def no(message: str, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """A failure as the gateway says it: mostly with HTTP 200."""
    return as_json(status, {"success": False, "message": message}, headers)


def authorized(book: Book, caller: Caller) -> Refusal | None:
    """Refuse a caller without a good token."""
    token = caller.headers.get("x-wsapme-token", "")
    if book.with_token("wsapme", token) is None:
        return Refusal("token", f"the header x-wsapme-token is {token!r}", no("Unauthorised Token"))
    return None


def body_of(caller: Caller) -> dict[str, Any] | Refusal:
    """The JSON object in the body."""
    if not caller.headers.get("content-type", "").startswith("application/json"):
        return Refusal("content_type", "Content-Type must be application/json", no("Invalid request"))
    try:
        found = msgspec.json.decode(caller.body)
    except msgspec.DecodeError as problem:
        return Refusal("json", str(problem), no("Invalid JSON"))
    if not isinstance(found, dict):
        return Refusal("json", "the body is not an object", no("Invalid JSON"))
    return cast("dict[str, Any]", found)


def understand(book: Book, caller: Caller) -> Sending | Refusal:
    """A `sendMessage2`, checked field by field."""
    if refusal := authorized(book, caller):
        return refusal
    body = body_of(caller)
    if isinstance(body, Refusal):
        return body
    device, to, text = body.get("device"), body.get("to"), body.get("message")
    account = str(device) if isinstance(device, str | int) and not isinstance(device, bool) else ""
    recipient = to if isinstance(to, str) else ""

    def refuse(code: str, reason: str, message: str) -> Refusal:
        return Refusal(code, reason, no(message), account=account, recipient=recipient)

    if unknown := sorted(set(body) - FIELDS):
        return refuse("field", f"unknown fields {unknown}", f"Unknown parameter {unknown[0]}")
    if not account:
        return refuse("device", f"device is {device!r}", "Device is required")
    if not RECIPIENT.fullmatch(recipient):
        return refuse("to", f"to is {to!r}", "Invalid number")
    if not isinstance(text, str) or not text:
        return refuse("message", f"message is {text!r}", "Message is required")
    if body.get("priority", "0") not in ("0", "1"):
        return refuse("priority", f"priority is {body['priority']!r}", "Invalid priority")
    if not isinstance(body.get("exclude_group", []), list):
        return refuse("exclude_group", "exclude_group is not a list", "Invalid exclude_group")
    found = book.find_account("wsapme", account)
    if found is None or (found.token and found.token != caller.headers.get("x-wsapme-token")):
        return refuse("unknown_device", f"no device {account!r} of this token", "Device not found")
    if not found.connected:
        return refuse("disconnected", f"device {account!r} is off", "Device not connected")
    return Sending(account=account, recipient=recipient, text=text)


def jid(recipient: str) -> str:
    """The address as WhatsApp writes it inside."""
    return recipient if "@" in recipient else f"{address_key(recipient)}@s.whatsapp.net"


def status_object(message: Message, status: Status) -> Event:
    """The object that stands for a message, in the manner of Baileys."""
    seconds = int(message.at)
    return {
        "key": {"remoteJid": jid(message.recipient), "fromMe": True, "id": message.id},
        "message": {"conversation": message.text},
        "messageTimestamp": str(seconds),
        "status": STATUS_WORDS[status],
        "messageC2STimestamp": str(seconds + 1),
    }


def accepted(message: Message) -> Answer:
    """The answer to a message that was taken."""
    data = status_object(message, "accepted")
    del data["messageC2STimestamp"]
    return as_json(
        200, {"success": True, "message": "Sent Successfully", "data": data, "messageId": message.id}
    )


def throttled(retry_after: str) -> Answer:
    """The answer to one message too many."""
    return no("Too many requests", 429, {"Retry-After": retry_after} if retry_after else None)


def absent(sending: Sending) -> Answer:
    """The answer about a number without WhatsApp."""
    return no(f"{address_key(sending.recipient)} is not on WhatsApp")


def error(fault: Fault) -> Answer:
    """Any failure text, under HTTP 200 unless the fault says otherwise."""
    return no(fault.message or "Failed", fault.status if fault.status != 500 else 200)


def status_event(account: Account, message: Message, status: Status, at: float) -> Event:
    """An acknowledgement: the status object (the shape is a guess)."""
    return status_object(message, status)


def inbound_event(account: Account, inbound: Inbound) -> Event:
    """What a person wrote, in the observed shape: without an id."""
    return {
        "type": "text",
        "message": inbound.text,
        "file": "",
        "from": f"{address_key(inbound.sender)}@c.us",
        "timestamp": int(inbound.at),
        "is_forwarded": False,
        "is_broadcast": False,
        "dataSender": "",
        "dataReceiver": {
            "jid": f"{account.number}@s.whatsapp.net",
            "name": account.name,
            "phone": {},
            "imgUrl": "",
        },
    }


def envelope(account: Account, events: Sequence[Event]) -> tuple[bytes, str]:
    """One event a webhook: JSON, a form of its fields, or a form whose field `data` holds the JSON."""
    event = events[0]
    if account.encoding == "json":
        return json.dumps(event, ensure_ascii=False).encode(), "application/json"
    form = (
        {"data": json.dumps(event)}
        if account.encoding == "form_json"
        else {k: _plain(v) for k, v in event.items()}
    )
    return urllib.parse.urlencode(form).encode(), "application/x-www-form-urlencoded"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def new_id() -> str:
    """A message id in the observed style."""
    return f"WMAPI{os.urandom(8).hex().upper()}"


WIRE = Wire(
    name="wsapme",
    understand=understand,
    new_id=new_id,
    accepted=accepted,
    throttled=throttled,
    absent=absent,
    absence="not_on_whatsapp",
    conflict=None,
    error=error,
    status_event=status_event,
    inbound_event=inbound_event,
    envelope=envelope,
    signature=lambda account, body: {},
)
