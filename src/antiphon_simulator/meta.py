"""Meta's WhatsApp Cloud API: its answers, its errors, its signed webhooks. What it demands is in `meta_sending`.

From Meta's published API description and web pages: the 200 and error shapes, the envelope, statuses, inbound
messages, `X-Hub-Signature-256` over the raw body with non-ASCII escaped, the GET handshake. A guess: the HTTP status
of the codes that are not in `HTTP_STATUS` (400), and the exact words of `error_data.details`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from typing import Any

from antiphon_simulator import meta_sending
from antiphon_simulator.meta_sending import failure
from antiphon_simulator.scenario import Status, address_key
from antiphon_simulator.settings import Account, Fault
from antiphon_simulator.wire import Answer, Event, Inbound, Message, Wire, as_json

TITLES = {
    "131000": "Something went wrong",
    "131026": "Message undeliverable",
    "131047": "Re-engagement message",
    "131049": "This message was not delivered to maintain healthy ecosystem engagement.",
    "131050": "User has stopped marketing messages from your business",
    "131053": "Media upload error",
    "130472": "User's number is part of an experiment",
}
DETAILS = {
    "131026": "Message undeliverable.",
    "131047": "More than 24 hours have passed since the recipient last replied to the sender number.",
    "131049": "In order to maintain a healthy ecosystem engagement, the message failed to be delivered.",
}
HELP = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"
COUNTRIES = {"60": "MY", "65": "SG", "62": "ID", "49": "DE", "44": "GB", "34": "ES", "33": "FR", "1": "US"}


def accepted(message: Message) -> Answer:
    """A 200: accepted, not sent."""
    to = message.recipient
    contact = {"input": to, "user_id": to} if "." in to else {"input": to, "wa_id": address_key(to)}
    taken = {"id": message.id} | ({"message_status": "accepted"} if message.category != "service" else {})
    return as_json(200, {"messaging_product": "whatsapp", "contacts": [contact], "messages": [taken]})


def throttled(retry_after: str) -> Answer:
    """The number's messages a second are used up."""
    return failure(
        130429, "Rate limit hit", "Cloud API message throughput has been reached.", retry_after=retry_after
    )


def error(fault: Fault) -> Answer:
    """Any code of the error table."""
    status = fault.status if fault.status != 500 else None
    message = fault.message or TITLES.get(str(fault.code), "An error")
    return failure(int(fault.code), message, message, status=status, retry_after=fault.retry_after or "")


def user_id(phone: str) -> str:
    """The business-scoped id of a person, always the same for the same number."""
    country = next((name for code, name in COUNTRIES.items() if phone.startswith(code)), "ZZ")
    digest = base64.b32encode(hashlib.sha256(phone.encode()).digest()).decode()
    return f"{country}.{digest[:16]}"


def status_event(account: Account, message: Message, status: Status, at: float) -> Event:
    """One entry of `statuses`."""
    phone = address_key(message.recipient)
    event: Event = {"id": message.id, "status": status, "timestamp": str(int(at)), "recipient_id": phone}
    if account.user_ids:
        event["recipient_user_id"] = user_id(phone)
    if message.reference:
        event["biz_opaque_callback_data"] = message.reference
    if status == "failed":
        event["errors"] = [_status_error(message)]
        return event
    conversation: dict[str, Any] = {"id": _conversation(account, phone), "origin": {"type": message.category}}
    if status == "sent":
        conversation["expiration_timestamp"] = str(int(at) + 86_400)
    event["conversation"] = conversation
    free = message.category == "service"
    event["pricing"] = {
        "billable": not free,
        "pricing_model": "PMP",
        "type": "free_customer_service" if free else "regular",
        "category": message.category,
    }
    return event


def _status_error(message: Message) -> dict[str, Any]:
    code = message.failure or ("131049" if message.category == "marketing" else "131000")
    title = TITLES.get(code, "Something went wrong")
    return {
        "code": int(code),
        "title": title,
        "message": title,
        "error_data": {"details": DETAILS.get(code, title)},
        "href": HELP,
    }


def _conversation(account: Account, phone: str) -> str:
    return hashlib.sha256(f"{account.business}|{account.name}|{phone}".encode()).hexdigest()[:32]


def inbound_event(account: Account, inbound: Inbound) -> Event:
    """One entry of `messages`."""
    phone = address_key(inbound.sender)
    event: Event = {"from": phone, "id": inbound.id, "timestamp": str(int(inbound.at)), "type": "text"}
    if account.user_ids:
        event["from_user_id"] = user_id(phone)
    if inbound.quotes:
        event["context"] = {"from": account.number, "id": inbound.quotes}
    event["text"] = {"body": inbound.text}
    return event


def envelope(account: Account, events: Sequence[Event]) -> tuple[bytes, str]:
    """One webhook: statuses in one change, messages in another."""
    metadata = {"display_phone_number": account.number, "phone_number_id": account.name}
    changes: list[dict[str, Any]] = []
    for kind, ours in (
        ("statuses", [event for event in events if "status" in event]),
        ("messages", [event for event in events if "status" not in event]),
    ):
        if ours:
            value = {
                "messaging_product": "whatsapp",
                "metadata": metadata,
                "contacts": _contacts(ours),
                kind: ours,
            }
            changes.append({"field": "messages", "value": value})
    whole = {"object": "whatsapp_business_account", "entry": [{"id": account.business, "changes": changes}]}
    return json.dumps(whole, ensure_ascii=True, separators=(",", ":")).encode(), "application/json"


def _contacts(events: Sequence[Event]) -> list[dict[str, Any]]:
    contacts: dict[str, dict[str, Any]] = {}
    for event in events:
        phone = event.get("from") or event.get("recipient_id") or ""
        scoped = event.get("from_user_id") or event.get("recipient_user_id")
        contact: dict[str, Any] = {"profile": {"name": f"Person {phone[-4:]}"}, "wa_id": phone}
        contacts[phone] = contact | ({"user_id": scoped} if scoped else {})
    return list(contacts.values())


def signature(account: Account, body: bytes) -> dict[str, str]:
    """HMAC-SHA256 of the raw bytes under the app secret."""
    digest = hmac.new(account.secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


def new_id() -> str:
    """A message id as Meta writes them."""
    return "wamid." + base64.b64encode(b"out" + os.urandom(21)).decode()


WIRE = Wire(
    name="meta",
    understand=meta_sending.understand,
    new_id=new_id,
    accepted=accepted,
    throttled=throttled,
    absent=None,
    absence="131026",
    conflict=None,
    error=error,
    status_event=status_event,
    inbound_event=inbound_event,
    envelope=envelope,
    signature=signature,
    batches=True,
)
