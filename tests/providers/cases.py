"""One account, one message and one answer of each kind for every provider: what the conformance suite runs on."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from antiphon.core.channel import Channel, Purpose
from antiphon.core.wire import MailReply, Request, Response
from antiphon.providers.contract import (
    Accepted,
    Account,
    NotSent,
    Outbound,
    Provider,
    ReceiptStatus,
    Unknown,
    WireRequest,
    WireResponse,
)
from antiphon.providers.keyed import KEYED, KeyedCredentials
from antiphon.providers.meta_whatsapp import META_WHATSAPP, MetaWhatsappCredentials
from antiphon.providers.smtp import SMTP, SmtpCredentials
from antiphon.providers.wsapme import WSAPME, WsapmeCredentials

FIXTURES = Path(__file__).parent / "fixtures"
SECRET = "s3cret-that-nobody-may-see"
MESSAGE_ID = UUID("0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")
T = TypeVar("T")


def fixture(path: str) -> bytes:
    """A payload file."""
    return (FIXTURES / path).read_bytes()


def outbound(**changes: Any) -> Outbound:
    """A message to a phone."""
    given: dict[str, Any] = {
        "message_id": MESSAGE_ID,
        "key": "key-1",
        "reference": MESSAGE_ID.hex,
        "channel": Channel.WHATSAPP,
        "purpose": Purpose.TRANSACTIONAL,
        "sender_address": "5550001",
        "to": "+60111111111",
        "text": "Hello Aina",
    }
    return Outbound(**(given | changes))


def mail(**changes: Any) -> Outbound:
    """A message to a mailbox."""
    given: dict[str, Any] = {
        "channel": Channel.EMAIL,
        "sender_address": "shop@example.com",
        "to": "aina@example.net",
        "subject": "Hello",
    }
    return outbound(**(given | changes))


def answer(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> Response:
    """An HTTP answer; what is not bytes becomes JSON."""
    return Response(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def play(
    steps: Generator[WireRequest, WireResponse, T], *answers: WireResponse
) -> tuple[list[WireRequest], T]:
    """Run a send by hand: what it asked of the wire, and how it ended."""
    asked: list[WireRequest] = []
    try:
        asked.append(next(steps))
        for each in answers:
            asked.append(steps.send(each))  # noqa: PERF401 - extend would swallow the end of the send
    except StopIteration as done:
        return asked, done.value
    raise AssertionError(f"it asks for more than {len(answers)} answers: {asked[-1]!r}")


def http_request(asked: list[WireRequest]) -> tuple[Request, Any]:
    """The only request, and its body as JSON."""
    (request,) = asked
    assert isinstance(request, Request)
    return request, json.loads(request.body)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one provider says in the situations that all of them know."""

    provider: Provider[Any]
    account: Account[Any]
    outbound: Outbound
    accepted: WireResponse
    accepted_id: str
    rejected: WireResponse
    throttled: WireResponse
    fault: WireResponse
    failing: WireResponse  # the provider is broken
    failing_is: type[NotSent | Unknown]
    garbage: WireResponse  # a success that cannot be read
    garbage_is: type[Accepted | Unknown]
    status_webhook: Callable[[str], bytes] | None = None
    statuses: Mapping[str, ReceiptStatus] | None = None
    headers: Callable[[bytes], Mapping[str, str]] = lambda body: {"content-type": "application/json"}


def meta_webhook(status: str) -> bytes:
    """A body of Meta's with one status."""
    body = json.loads(fixture("meta_whatsapp/delivered.json"))
    body["entry"][0]["changes"][0]["value"]["statuses"][0]["status"] = status
    return json.dumps(body).encode()


def meta_signed(body: bytes) -> dict[str, str]:
    """Meta's signature, made with the standard library alone."""
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {"content-type": "application/json", "x-hub-signature-256": f"sha256={digest}"}


def keyed_webhook(status: str) -> bytes:
    """A body of the test provider's with one status."""
    return json.dumps(json.loads(fixture("keyed/delivered.json")) | {"status": status}).encode()


def keyed_signed(body: bytes, stamp: str | None = None) -> dict[str, str]:
    """The test provider's signature, of now unless another second is given."""
    stamp = stamp or str(int(time.time()))
    digest = hmac.new(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"x-keyed-timestamp": stamp, "x-keyed-signature": digest}


def wsapme_webhook(status: str) -> bytes:
    """A status object of WSAPME's."""
    return json.dumps(json.loads(fixture("wsapme/status.json")) | {"status": status}).encode()


META_ACCOUNT = Account(
    provider="meta_whatsapp",
    credentials=MetaWhatsappCredentials(
        access_token=f"{SECRET}-token",
        app_secret=SECRET,
        verify_token=f"{SECRET}-word",
        base_url="http://meta.test",
    ),
)
WSAPME_ACCOUNT = Account(
    provider="wsapme", credentials=WsapmeCredentials(token=SECRET, base_url="http://wsapme.test/v1")
)
SMTP_ACCOUNT = Account(
    provider="smtp",
    credentials=SmtpCredentials(host="mx.test", port=587, username="shop", password=SECRET),
)
KEYED_ACCOUNT = Account(
    provider="keyed",
    credentials=KeyedCredentials(token=SECRET, signing_secret=SECRET, base_url="http://keyed.test/keyed"),
)

CASES: dict[str, Case] = {
    "meta_whatsapp": Case(
        provider=META_WHATSAPP,
        account=META_ACCOUNT,
        outbound=outbound(),
        accepted=answer(200, fixture("meta_whatsapp/accepted.json")),
        accepted_id="wamid.HBgLNjAxMTExMTExMTE",
        rejected=answer(
            400, {"error": {"code": 131009, "message": "(#131009) Parameter value is not valid"}}
        ),
        throttled=answer(429, {"error": {"code": 130429, "message": "Rate limit hit"}}, {"retry-after": "7"}),
        fault=answer(401, {"error": {"code": 190, "message": "Invalid OAuth access token"}}),
        failing=answer(500, b"<html>Sorry</html>"),
        failing_is=Unknown,
        garbage=answer(200, b"<html>It works</html>"),
        garbage_is=Accepted,
        status_webhook=meta_webhook,
        statuses={
            "sent": "sent",
            "delivered": "delivered",
            "read": "read",
            "played": "read",
            "failed": "failed",
        },
        headers=meta_signed,
    ),
    "wsapme": Case(
        provider=WSAPME,
        account=WSAPME_ACCOUNT,
        outbound=outbound(sender_address="device-1"),
        accepted=answer(200, fixture("wsapme/accepted.json")),
        accepted_id="WMAPI01ABCDEF",
        rejected=answer(200, {"success": False, "message": "Invalid number"}),
        throttled=answer(429, {"success": False, "message": "Too many requests"}, {"retry-after": "7"}),
        fault=answer(200, {"success": False, "message": "Unauthorised Token"}),
        failing=answer(502, b"<html>Bad gateway</html>"),
        failing_is=Unknown,
        garbage=answer(200, b"<html>It works</html>"),
        garbage_is=Accepted,
        status_webhook=wsapme_webhook,
        statuses={
            "ERROR": "failed",
            "PENDING": "sending",
            "": "sending",
            "SERVER_ACK": "sent",
            "DELIVERY_ACK": "delivered",
            "READ": "read",
            "PLAYED": "read",
        },
    ),
    "smtp": Case(
        provider=SMTP,
        account=SMTP_ACCOUNT,
        outbound=mail(),
        accepted=MailReply("content", 250, "2.0.0 queued as 1"),
        accepted_id=f"{MESSAGE_ID.hex}@example.com",
        rejected=MailReply("content", 554, "5.7.1 refused"),
        throttled=MailReply("sender", 421, "4.7.0 too many, try later"),
        fault=MailReply("login", 535, "5.7.8 wrong password"),
        failing=MailReply("content", 451, "4.3.0 local error"),
        failing_is=NotSent,
        garbage=MailReply("content", 99, "what"),
        garbage_is=Unknown,
    ),
    "keyed": Case(
        provider=KEYED,
        account=KEYED_ACCOUNT,
        outbound=outbound(channel=Channel.SMS, sender_address="default"),
        accepted=answer(200, {"id": "k-1", "status": "accepted", "reference": MESSAGE_ID.hex}),
        accepted_id="k-1",
        rejected=answer(422, {"error": "text_too_long", "detail": "10001 characters, at most 10000"}),
        throttled=answer(429, {"error": "too_many_requests"}, {"retry-after": "7"}),
        fault=answer(401, {"error": "unauthorized"}),
        failing=answer(503, b""),
        failing_is=Unknown,
        garbage=answer(200, b"\x00\xff"),
        garbage_is=Accepted,
        status_webhook=keyed_webhook,
        statuses={
            "accepted": "sending",
            "sent": "sent",
            "delivered": "delivered",
            "read": "read",
            "failed": "failed",
        },
        headers=keyed_signed,
    ),
}
