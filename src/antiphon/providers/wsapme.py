"""WSAPME, a WhatsApp gateway in which each sender is a phone ("device") paired with the vendor's service.

The vendor's documentation could not be read. Observed in use: `POST /sendMessage2` and its answer, failures under HTTP
200 (so `success` is judged first), the inbound webhook, which has no message id. Not confirmed: the answer of
`/getMessageStatus`, the shape of a status webhook, any signature, rate limits, texts of errors other than "Unauthorised
Token". So everything is read tolerantly, and nothing is promised that the gateway does not show.

Statuses and message contents are those of WhatsApp's own clients: see `whatsapp_web.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, cast
from urllib.parse import parse_qsl

import msgspec

from antiphon.core.channel import Channel, Purpose
from antiphon.core.wire import Request, Response
from antiphon.providers.answers import (
    by_status,
    dig,
    entries,
    excerpt,
    http,
    json_of,
    mapping,
    moment,
    retry_after,
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
    Outcome,
    Payload,
    Polling,
    PollRule,
    Provider,
    Receipt,
    Rejected,
    Send,
    Throttled,
    Unreadable,
)
from antiphon.providers.credentials import Credentials, Text, plain, secret
from antiphon.providers.whatsapp_web import (
    media_in,
    message_id,
    person,
    status_of,
    status_word,
    text_in,
    unwrapped,
)

CALL_TIMEOUT = timedelta(seconds=60)  # it takes no key: a slot is cheaper than a doubt


class WsapmeCredentials(Credentials, frozen=True, kw_only=True):
    """What opens a WSAPME account."""

    token: Annotated[Text, secret("API token", "From the WSAPME dashboard, under Account.")]
    base_url: Annotated[Text, plain("Base URL", "Where the API is.")] = "https://api.wsapme.com/v1"


_TOKEN = re.compile(r"unauthori[sz]ed|invalid token|token expired", re.IGNORECASE)
_DEVICE = re.compile(
    r"(device|phone|session|instance).*(not connected|disconnected|offline|not found|not ready|closed)|logged ?out"
    r"|not (logged|paired|connected)|restricted",
    re.IGNORECASE,
)
_NO_WHATSAPP = re.compile(
    r"not (registered |a user |exist(s)? )?on (whatsapp|wa)\b|no whatsapp", re.IGNORECASE
)
_ABSENT = re.compile(r"(message|id).*(not found|does not exist|unknown)", re.IGNORECASE)
_PACE = re.compile(r"too many|rate limit|slow down", re.IGNORECASE)


def send(account: Account[WsapmeCredentials], outbound: Outbound) -> Send:
    """Text to one phone. There is no key and no field for our reference: what is in doubt stays so."""
    text = outbound.text
    if not text:
        return Rejected(code="no_text", reason="WSAPME sends text, and this message has none")
    response = yield _post(
        account,
        "sendMessage2",
        {
            "device": outbound.sender_address,
            "to": outbound.to.lstrip("+"),
            "message": text,
            "priority": "0" if outbound.purpose is Purpose.MARKETING else "1",
        },
    )
    return parse_response(http(response))


def parse_response(response: Response) -> Outcome:
    """`success` first, then the id, then HTTP's status."""
    value = mapping(json_of(response.body))
    success = value.get("success")
    words = short(value.get("message")) or short(value.get("error"))
    if success is False or (isinstance(success, str) and success.lower() == "false"):
        return _failure(response, words)
    if not 200 <= response.status < 300:
        return by_status(response, words)
    if status_of(value) == "failed":
        return NotSent(code="ERROR", reason="the phone could not send it", payload=excerpt(response))
    found = message_id(value)
    if found is None:
        detail = "the answer names no id; its status will not be known"
        return Accepted(provider_message_id=None, payload=excerpt(response), detail=detail)
    return Accepted(provider_message_id=found)


def status_request(account: Account[WsapmeCredentials], asked: Sequence[LookUp]) -> Asking:
    """One request for each message that has an id; the first trouble ends the round."""
    receipts: list[Receipt] = []
    absent: list[str] = []
    trouble: Throttled | NotSent | AccountFault | None = None
    for one in asked:
        if one.provider_message_id is None:
            continue
        body = {"device": one.sender_address, "messageId": one.provider_message_id}
        response = yield _post(account, "getMessageStatus", body)
        match _looked_up(http(response), one):
            case Receipt() as receipt:
                receipts.append(receipt)
            case "absent":
                absent.append(one.reference)
            case "unreadable":
                pass
            case Throttled() | NotSent() | AccountFault() as found:
                trouble = found
                break
    return LookedUp(receipts=tuple(receipts), absent=tuple(absent), trouble=trouble)


def verify_webhook(
    account: Account[WsapmeCredentials],
    method: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    body: bytes,
) -> bool:
    """Nothing is signed. The secret in the path, which was compared before this, is all that there is."""
    return True


def parse_webhook(
    account: Account[WsapmeCredentials], headers: Mapping[str, str], body: bytes
) -> list[Event]:
    """Status objects and inbound messages, one or many, as JSON, as a form, or as JSON inside a form's field."""
    value = _decoded(headers.get("content-type", ""), body)
    if isinstance(value, list):
        return [_event(one) for one in cast("list[Any]", value)]
    for name in ("events", "messages", "statuses", "updates"):
        if inner := entries(mapping(value).get(name)):
            return [_event(one) for one in inner]
    return [_event(value)]


def sender_from_webhook(headers: Mapping[str, str], body: bytes) -> list[str]:
    """The devices that a body names; most name none."""
    value = _decoded(headers.get("content-type", ""), body)
    named = [_device(mapping(one)) for one in (entries(value) or [value])]
    return [one for one in named if one is not None]


# ---- Reading ----------------------------------------------------------------------------------------


def _post(account: Account[WsapmeCredentials], call: str, body: dict[str, str]) -> Request:
    return Request(
        url=f"{account.credentials.base_url.rstrip('/')}/{call}",
        headers={"x-wsapme-token": account.credentials.token, "content-type": "application/json"},
        body=msgspec.json.encode(body),
        timeout=CALL_TIMEOUT,
    )


def _failure(response: Response, words: str) -> Outcome:
    """`success: false`: the gateway says that it did not take it; its words say whose fault it is."""
    payload = excerpt(response)
    if response.status in (401, 403) or _TOKEN.search(words):
        return AccountFault(code="token", reason=words or "the token was refused", payload=payload)
    if _DEVICE.search(words):
        return AccountFault(code="device", reason=words, payload=payload)
    if _NO_WHATSAPP.search(words):
        return Rejected(
            code="not_on_whatsapp", reason=words, suppress=True, blames="contact", payload=payload
        )
    if response.status == 429 or _PACE.search(words):
        after = retry_after(response.headers)
        return Throttled(after=after, code="too_many", reason=words, payload=payload)
    if response.status >= 500:
        return NotSent(code=f"http_{response.status}", reason=words or "the gateway failed", payload=payload)
    return Rejected(code="refused", reason=words or "the gateway gave no reason", payload=payload)


def _looked_up(
    response: Response, asked: LookUp
) -> Receipt | Throttled | NotSent | AccountFault | Literal["absent", "unreadable"]:
    value = mapping(json_of(response.body))
    words = short(value.get("message"))
    if value.get("success") is False:
        if _ABSENT.search(words):
            return "absent"
        match _failure(response, words):
            case Throttled() | AccountFault() | NotSent() as trouble:
                return trouble
            case _:
                return "unreadable"
    if not 200 <= response.status < 300:
        return unasked(response, words)
    status = status_of(value)
    if status is None:
        return "unreadable"
    return Receipt(
        status=status,
        dedupe_key=f"{asked.provider_message_id}:{status}",
        provider_message_id=asked.provider_message_id,
        reference=asked.reference,
        sender_address=asked.sender_address,
        reason="the phone could not send it" if status == "failed" else None,
        payload=value,
    )


def _decoded(content_type: str, body: bytes) -> Any:
    """JSON if it is JSON, whatever the content type says; else a form whose fields may hold JSON."""
    value = json_of(body)
    if value is not None or "json" in content_type:
        return value
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return None
    form = {name: _field(text) for name, text in pairs}
    if len(form) == 1 and (whole := mapping(next(iter(form.values())))):
        return whole
    return form or None


def _field(text: str) -> Any:
    inner = json_of(text.encode()) if text[:1] in ("{", "[") else None
    return text.replace("\0", "\ufffd") if inner is None else inner


def _event(value: object) -> Event:
    body = mapping(value)
    if not body:
        return Unreadable(reason="not an object", payload={"value": short(value)})
    jid = text_of(dig(body, "key.remoteJid")) or text_of(body.get("from")) or text_of(body.get("jid")) or ""
    if jid.endswith(("@g.us", "@newsletter", "@broadcast")) or body.get("is_broadcast") in (True, "true"):
        return Unreadable(reason="a group or a broadcast", payload=body)
    if _is_inbound(body):
        return _inbound(body, jid)
    return _receipt(body, jid)


def _is_inbound(body: Payload) -> bool:
    key = mapping(body.get("key")) or mapping(dig(body, "data.key"))
    if key:
        return key.get("fromMe") in (False, "false", None)
    if "from" not in body:
        return False
    says_nothing = not body.get("message") and not body.get("file")
    return not (says_nothing and message_id(body) and status_word(body) is not None)


def _receipt(body: Payload, jid: str) -> Event:
    found, word, status = message_id(body), status_word(body), status_of(body)
    if found is None or status is None:
        reason = "no message id" if found is None else f"unknown status {short(word, 40)!r}"
        return Unreadable(reason=reason, payload=body)
    return Receipt(
        status=status,
        dedupe_key=f"{found}:{status}",
        provider_message_id=found,
        sender_address=_device(body),
        recipient=person(jid) or None,
        code="ERROR" if status == "failed" else None,
        reason="the phone could not send it" if status == "failed" else None,
        payload=body,  # `at` stays empty: the time inside is that of the message, not of this status
    )


def _inbound(body: Payload, jid: str) -> Event:
    sender = person(jid)
    if not sender:
        return Unreadable(reason="no sender", payload=body)
    content = unwrapped(body.get("message"))
    text, media = text_in(content), media_in(body, content)
    found = message_id(body)
    at = moment(body.get("timestamp") or body.get("messageTimestamp"))
    parts = (jid, body.get("timestamp"), body.get("type"), text, body.get("file"))
    fingerprint = hashlib.sha256(msgspec.json.encode([text_of(each) for each in parts])).hexdigest()
    return Inbound(
        channel=Channel.WHATSAPP,
        dedupe_key=found or f"sha256:{fingerprint}",
        sender_address=sender,
        recipient=_device(body),
        kind="media" if media else "text" if text else "unsupported",
        provider_message_id=found,
        text=text,
        media=media,
        at=at,
        reply_to_provider_id=text_of(dig(content, "extendedTextMessage.contextInfo.stanzaId")),
        profile_name=text_of(body.get("pushName")) or text_of(body.get("dataSender")),
        payload=body,
    )


def _device(body: Payload) -> str | None:
    return next(
        (found for name in ("device", "id_device", "deviceId") if (found := text_of(body.get(name)))), None
    )


WSAPME = Provider(
    name="wsapme",
    title="WSAPME",
    channels=frozenset({Channel.WHATSAPP}),
    credentials=WsapmeCredentials,
    sender_label="Device",
    setup_help=(
        "Pair the phone in the WSAPME dashboard and enter its device number as the sender. Copy the API token into "
        "the account. Enter the account's webhook address in the dashboard, for the device, and switch on status "
        "events. The address contains a secret, because WSAPME signs nothing: treat it like a password."
    ),
    send=send,
    call_timeout=CALL_TIMEOUT,
    rate_per_second=0.25,  # no limit is published; one phone that writes faster looks like a robot
    in_flight=4,
    daily_cap=None,
    rate_scope="sender",
    idempotency=None,
    echo=None,
    reply_window=None,
    status_request=status_request,
    polling=Polling(
        by="provider_message_id",
        batch=1,  # each look-up is a request of its own
        per_minute=60,
        rules=(
            PollRule(
                status="sent",
                first_after=timedelta(seconds=30),
                every=timedelta(minutes=2),
                limit=timedelta(hours=24),
            ),
            PollRule(
                status="delivered",
                first_after=timedelta(minutes=10),
                every=timedelta(minutes=30),
                limit=timedelta(hours=24),
            ),
        ),
    ),
    verify_webhook=verify_webhook,
    parse_webhook=parse_webhook,
    sender_from_webhook=sender_from_webhook,
    signature="secret_path",
)
