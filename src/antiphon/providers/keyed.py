"""The keyed test provider of the simulator: it takes an idempotency key, echoes our reference, and can be asked.

No such company exists, so it is not shown; it is how "exactly once" is proven. `POST {base}/messages` with
`Idempotency-Key`: the same key and bytes get the same answer, other bytes get 409 `key_used_with_another_body`, which
means that the first try arrived. `GET {base}/messages?reference=` answers what it knows. Webhooks carry
`X-Keyed-Signature`, the hexadecimal HMAC-SHA256 of `X-Keyed-Timestamp`, a full stop and the raw body.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Generator, Mapping, Sequence
from datetime import timedelta
from typing import Annotated
from urllib.parse import quote

import msgspec

from antiphon.core import wire
from antiphon.core.channel import Channel
from antiphon.core.clock import now
from antiphon.core.wire import Request, Response
from antiphon.providers.answers import (
    by_status,
    entries,
    excerpt,
    http,
    json_of,
    mapping,
    moment,
    short,
    text_of,
    unasked,
)
from antiphon.providers.contract import (
    Accepted,
    Account,
    AccountFault,
    Asking,
    Event,
    Inbound,
    LookedUp,
    LookUp,
    NotSent,
    Outbound,
    Payload,
    Polling,
    PollRule,
    Provider,
    Receipt,
    ReceiptStatus,
    Rejected,
    Send,
    Throttled,
    Unreadable,
    WireRequest,
    WireResponse,
)
from antiphon.providers.credentials import Credentials, Text, plain, secret

CALL_TIMEOUT = timedelta(seconds=10)  # repeating is harmless, so a doubt is cheap
REPLAY_WINDOW = timedelta(minutes=5)


class KeyedCredentials(Credentials, frozen=True, kw_only=True):
    """What opens an account of the test provider."""

    token: Annotated[Text | None, secret("Token")] = None
    signing_secret: Annotated[Text, secret("Signing secret")]
    base_url: Annotated[Text, plain("Base URL", "Where the simulator is.")]


STATUSES: Mapping[str, ReceiptStatus] = {
    "accepted": "sending",
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "failed": "failed",
}


def send(account: Account[KeyedCredentials], outbound: Outbound) -> Send:
    """One message under its key. When the key was used with other bytes, the first try arrived: its id is looked up."""
    if not outbound.text:
        return Rejected(code="no_text", reason="the test provider sends text, and this message has none")
    body = {"to": outbound.to, "text": outbound.text, "reference": outbound.reference}
    response = http(
        (
            yield Request(
                url=f"{account.credentials.base_url.rstrip('/')}/messages",
                headers=_headers(account)
                | {"idempotency-key": outbound.key, "content-type": "application/json"},
                body=msgspec.json.encode(body),
                timeout=CALL_TIMEOUT,
            )
        )
    )
    value = mapping(json_of(response.body))
    word = short(value.get("error"), 60)
    if response.status == 409 and word == "key_used_with_another_body":
        found = yield from _id_by_reference(account, outbound.reference)
        return Accepted(provider_message_id=found, detail="an earlier try had arrived")
    if response.status == 422 and word == "unknown_recipient":
        reason = short(value.get("detail")) or word
        return Rejected(code=word, reason=reason, suppress=True, blames="contact", payload=excerpt(response))
    if not 200 <= response.status < 300:
        return by_status(response, short(value.get("detail")) or word, word or None)
    found = text_of(value.get("id"))
    return Accepted(provider_message_id=found, detail=None if found else "the answer names no id")


def status_request(account: Account[KeyedCredentials], asked: Sequence[LookUp]) -> Asking:
    """One request for each reference. An empty answer proves that the message never arrived."""
    receipts: list[Receipt] = []
    absent: list[str] = []
    trouble: Throttled | NotSent | AccountFault | None = None
    for one in asked:
        response = http((yield _look_up(account, one.reference)))
        if not 200 <= response.status < 300:
            trouble = unasked(response, "")
            break
        value = mapping(json_of(response.body))
        if "messages" not in value:
            continue  # neither there nor proven absent
        found = [_receipt(mapping(each), one.sender_address) for each in entries(value["messages"])]
        receipts += [each for each in found if isinstance(each, Receipt)]
        if not found:
            absent.append(one.reference)
    return LookedUp(receipts=tuple(receipts), absent=tuple(absent), trouble=trouble)


def verify_webhook(
    account: Account[KeyedCredentials],
    method: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    body: bytes,
) -> bool:
    """The signature fits, and its time is within five minutes of ours."""
    stamp = headers.get("x-keyed-timestamp", "")
    at = moment(stamp)
    if at is None or abs(now() - at) > REPLAY_WINDOW:
        return False
    signed = stamp.encode("utf-8", "replace") + b"." + body
    digest = hmac.new(account.credentials.signing_secret.encode(), signed, hashlib.sha256).hexdigest()
    given = headers.get("x-keyed-signature", "").encode("utf-8", "replace")
    return hmac.compare_digest(digest.encode(), given)


def parse_webhook(account: Account[KeyedCredentials], headers: Mapping[str, str], body: bytes) -> list[Event]:
    """One event a body."""
    value = mapping(json_of(body))
    match value.get("type"):
        case "status":
            return [_receipt(value, text_of(value.get("account")))]
        case "message":
            return [_inbound(value)]
        case other:
            return [Unreadable(reason=f"type {short(other, 40)!r}", payload=value)]


def sender_from_webhook(headers: Mapping[str, str], body: bytes) -> list[str]:
    """The account that an inbound message names."""
    found = text_of(mapping(json_of(body)).get("account"))
    return [found] if found else []


def _headers(account: Account[KeyedCredentials]) -> dict[str, str]:
    token = account.credentials.token
    return {"authorization": f"Bearer {token}"} if token else {}


def _look_up(account: Account[KeyedCredentials], reference: str) -> Request:
    base = account.credentials.base_url.rstrip("/")
    return Request(
        method="GET",
        url=f"{base}/messages?reference={quote(reference, safe='')}",
        headers=_headers(account),
        timeout=CALL_TIMEOUT,
    )


def _id_by_reference(
    account: Account[KeyedCredentials], reference: str
) -> Generator[WireRequest, WireResponse, str | None]:
    """The id; None if it cannot be had now. That it arrived is known already, so no failure here matters."""
    try:
        response: Response = http((yield _look_up(account, reference)))
    except (wire.NotSent, wire.MaybeSent):
        return None
    messages = entries(mapping(json_of(response.body)).get("messages"))
    return text_of(mapping(next(iter(messages), None)).get("id"))


def _receipt(body: Payload, sender: str | None) -> Event:
    found, word = text_of(body.get("id")), short(body.get("status"), 40)
    status = STATUSES.get(word)
    if found is None or status is None:
        reason = "a status without an id" if found is None else f"unknown status {word!r}"
        return Unreadable(reason=reason, payload=body)
    code = text_of(body.get("code")) if status == "failed" else None
    return Receipt(
        status=status,
        dedupe_key=f"{found}:{status}",
        provider_message_id=found,
        reference=text_of(body.get("reference")),
        sender_address=sender,
        recipient=_person(text_of(body.get("to"))),
        at=moment(body.get("at")),
        code=code,
        reason=code,
        suppress=code == "unknown_recipient",
        payload=body,
    )


def _inbound(body: Payload) -> Event:
    found, sender = text_of(body.get("id")), text_of(body.get("from"))
    if found is None or sender is None:
        return Unreadable(reason="a message without an id or a sender", payload=body)
    text = text_of(body.get("text"))
    return Inbound(
        channel=Channel.SMS,
        dedupe_key=found,
        sender_address=_person(sender) or sender,
        recipient=text_of(body.get("account")),
        kind="text" if text else "unsupported",
        provider_message_id=found,
        text=text,
        at=moment(body.get("at")),
        reply_to_provider_id=text_of(body.get("quotes")),
        payload=body,
    )


def _person(number: str | None) -> str | None:
    return f"+{number}" if number and number.isdecimal() else number


KEYED = Provider(
    name="keyed",
    title="Keyed test provider",
    channels=frozenset({Channel.SMS}),
    credentials=KeyedCredentials,
    sender_label="Account",
    setup_help="Start the simulator; its keyed provider is at /keyed.",
    send=send,
    call_timeout=CALL_TIMEOUT,
    rate_per_second=100,
    in_flight=64,
    daily_cap=None,
    rate_scope="sender",
    idempotency=timedelta(hours=24),
    echo="reference",
    reply_window=None,
    status_request=status_request,
    polling=Polling(
        by="reference",
        batch=1,  # each look-up is a request of its own
        per_minute=600,
        rules=(
            PollRule(
                status="unknown",
                first_after=timedelta(seconds=10),
                every=timedelta(minutes=1),
                limit=timedelta(hours=1),
            ),
        ),
    ),
    verify_webhook=verify_webhook,
    parse_webhook=parse_webhook,
    sender_from_webhook=sender_from_webhook,
    signature="signature",
    public=False,
)
