"""WhatsApp through Meta's Cloud API.

Facts and their sources: endpoints, requests, answers, webhook envelope, statuses and the handshake are in Meta's
published API description (business messaging, v23.0) and web pages; error codes are in `meta_errors.py`. Quirks:

* 200 means accepted, not sent; no idempotency key. What comes back, in statuses, is `biz_opaque_callback_data`.
* A message quoted by `context.id` is the one that a reply answers.
* A person may hide the phone number: `from` is missing then, and `from_user_id`, scoped to the business, stands in.
* `timestamp` is in seconds; milliseconds have been seen in the wild.
* Meta signs the raw bytes, in which everything outside ASCII is escaped: verify before decoding. There is no
  timestamp, and Meta repeats for up to seven days, so repeats are absorbed by their keys.
* One body may carry several accounts, numbers, messages and statuses; each is read by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any

import msgspec

from antiphon.core.channel import Channel
from antiphon.core.wire import Request, Response
from antiphon.providers.answers import dig, entries, excerpt, http, json_of, mapping, moment, short, text_of
from antiphon.providers.contract import (
    Accepted,
    Account,
    ApprovedTemplate,
    Event,
    Inbound,
    InboundKind,
    Media,
    Outbound,
    Outcome,
    Payload,
    Provider,
    Receipt,
    ReceiptStatus,
    Rejected,
    Send,
    TemplateParameter,
    Unreadable,
)
from antiphon.providers.credentials import Credentials, Text, plain, secret
from antiphon.providers.meta_errors import VERDICTS, Verdict, outcome_of, reason_of

CALL_TIMEOUT = timedelta(seconds=60)  # it takes no key: a slot is cheaper than a doubt
REFERENCE_LIMIT = 512


class MetaWhatsappCredentials(Credentials, frozen=True, kw_only=True):
    """What opens a WhatsApp business account."""

    access_token: Annotated[
        Text, secret("Access token", "Of a system user, with whatsapp_business_messaging.")
    ]
    app_secret: Annotated[
        Text, secret("App secret", "Under App settings, Basic. Webhooks are signed with it.")
    ]
    verify_token: Annotated[
        Text, secret("Verify token", "A word of your own, entered with the webhook address.")
    ]
    api_version: Annotated[Text, plain("API version", "Of the Graph API.")] = "v23.0"
    base_url: Annotated[Text, plain("Base URL", "Where the Graph API is.")] = "https://graph.facebook.com"


STATUSES: Mapping[str, ReceiptStatus] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "played": "read",  # a voice message
    "failed": "failed",
}
_MEDIA = ("image", "video", "audio", "document", "sticker")
_FORBIDDEN_SPACE = re.compile(r"[\n\t\r]+| {5,}")  # Meta refuses these inside a parameter (132018)


def send(account: Account[MetaWhatsappCredentials], outbound: Outbound) -> Send:
    """Free text, which Meta takes for 24 hours after the contact wrote, or an approved template."""
    content = build_content(outbound)
    if content is None:
        return Rejected(code="no_content", reason="the message has neither text nor an approved template")
    credentials = account.credentials
    base = f"{credentials.base_url.rstrip('/')}/{credentials.api_version}"
    response = yield Request(
        url=f"{base}/{outbound.sender_address}/messages",
        headers={
            "authorization": f"Bearer {credentials.access_token}",
            "content-type": "application/json",
        },
        body=msgspec.json.encode(content),
        timeout=CALL_TIMEOUT,
    )
    return parse_response(http(response))


def build_content(outbound: Outbound) -> Payload | None:
    """The body of the request; None if there is nothing to say."""
    content: Payload = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": outbound.to.lstrip("+"),
        "biz_opaque_callback_data": outbound.reference[:REFERENCE_LIMIT],
    }
    if outbound.reply_to_provider_id:
        content["context"] = {"message_id": outbound.reply_to_provider_id}
    if outbound.template is not None:
        return content | {"type": "template", "template": _template(outbound.template)}
    if outbound.text:
        return content | {"type": "text", "text": {"body": outbound.text, "preview_url": False}}
    return None


def parse_response(response: Response) -> Outcome:
    """Accepted with its id; or Meta's error; or, for a success that cannot be read, accepted without an id."""
    value = mapping(json_of(response.body))
    if not 200 <= response.status < 300 or "error" in value:
        return outcome_of(response, value)
    first = mapping(next(iter(entries(value.get("messages"))), None))
    found = text_of(first.get("id"))
    if found is None:
        detail = "the answer names no id; its status will tell"
        return Accepted(provider_message_id=None, payload=excerpt(response), detail=detail)
    held = short(first.get("message_status"), 40)
    if held in ("", "accepted"):
        return Accepted(provider_message_id=found)
    return Accepted(provider_message_id=found, payload=excerpt(response), detail=f"Meta holds it: {held}")


def verify_webhook(
    account: Account[MetaWhatsappCredentials],
    method: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    body: bytes,
) -> bool:
    """`X-Hub-Signature-256`: sha256= and the hexadecimal HMAC-SHA256 of the raw body under the app secret."""
    digest = hmac.new(account.credentials.app_secret.encode(), body, hashlib.sha256).hexdigest()
    given = headers.get("x-hub-signature-256", "").encode("utf-8", "replace")
    return hmac.compare_digest(f"sha256={digest}".encode(), given)


def handshake(account: Account[MetaWhatsappCredentials], query: Mapping[str, str]) -> str | None:
    """Meta's question when a webhook is set up: the challenge if it knows our word, else None."""
    known = account.credentials.verify_token.encode()
    given = query.get("hub.verify_token", "").encode("utf-8", "replace")
    is_known = hmac.compare_digest(known, given)
    return query.get("hub.challenge") if is_known and query.get("hub.mode") == "subscribe" else None


def parse_webhook(
    account: Account[MetaWhatsappCredentials], headers: Mapping[str, str], body: bytes
) -> list[Event]:
    """Every status and every inbound message of a body, each by itself."""
    value = json_of(body)
    if mapping(value).get("object") != "whatsapp_business_account":
        return [Unreadable(reason="not a WhatsApp webhook", payload=mapping(value))]
    return list(_events(mapping(value)))


def sender_from_webhook(headers: Mapping[str, str], body: bytes) -> list[str]:
    """The phone number ids that a body names."""
    named: list[str] = []
    for entry in entries(dig(json_of(body), "entry")):
        for change in entries(mapping(entry).get("changes")):
            found = text_of(dig(change, "value.metadata.phone_number_id"))
            if found and found not in named:
                named.append(found)
    return named


# ---- Writing ----------------------------------------------------------------------------------------


def _template(template: ApprovedTemplate) -> Payload:
    components: list[Payload] = []
    for place, parameters in (("header", template.header), ("body", template.body)):
        if parameters:
            components.append({"type": place, "parameters": [_parameter(each) for each in parameters]})
    components += [
        {
            "type": "button",
            "sub_type": button.sub_type,
            "index": str(button.index),
            "parameters": [_parameter(button.parameter)],
        }
        for button in template.buttons
    ]
    content: Payload = {"name": template.name, "language": {"code": template.language}}
    return content | ({"components": components} if components else {})


def _parameter(parameter: TemplateParameter) -> Payload:
    named: Payload = {"parameter_name": parameter.name} if parameter.name else {}
    match parameter.kind:
        case "text":
            return {"type": "text", "text": _FORBIDDEN_SPACE.sub(" ", parameter.value), **named}
        case "payload" | "coupon_code":
            return {"type": parameter.kind, parameter.kind: parameter.value}
        case _:
            where: Payload = {"link": parameter.value}
            if parameter.filename and parameter.kind == "document":
                where["filename"] = parameter.filename
            return {"type": parameter.kind, parameter.kind: where, **named}


# ---- Reading ----------------------------------------------------------------------------------------


def _events(value: Payload) -> Iterator[Event]:
    for entry in entries(value.get("entry")):
        changes = entries(mapping(entry).get("changes"))
        if not changes:
            yield Unreadable(reason="an entry without changes", payload=mapping(entry))
        for change in changes:
            yield from _change(mapping(change))


def _change(change: Payload) -> Iterator[Event]:
    value = mapping(change.get("value"))
    if change.get("field") != "messages" or not value:
        yield Unreadable(reason=f"field {short(change.get('field'), 60)!r}", payload=change)
        return
    sender = text_of(dig(value, "metadata.phone_number_id"))
    for status in entries(value.get("statuses")):
        yield _receipt(mapping(status), sender)
    for message in entries(value.get("messages")):
        yield _inbound(mapping(message), value, sender)
    for error in entries(value.get("errors")):
        words = reason_of(mapping(error))
        yield Unreadable(
            reason=f"account error {short(mapping(error).get('code'), 20)}: {words}", payload=value
        )


def _receipt(body: Payload, sender: str | None) -> Event:
    found, word = text_of(body.get("id")), short(body.get("status"), 40)
    status = STATUSES.get(word)
    if found is None or status is None:
        reason = "a status without an id" if found is None else f"unknown status {word!r}"
        return Unreadable(reason=reason, payload=body)
    error = mapping(next(iter(entries(body.get("errors"))), None)) if status == "failed" else {}
    code = error.get("code")
    verdict = VERDICTS.get(code, Verdict("rejected")) if isinstance(code, int) else Verdict("rejected")
    recipient = text_of(body.get("recipient_id"))
    return Receipt(
        status=status,
        dedupe_key=f"{found}:{word}",
        provider_message_id=found,
        reference=text_of(body.get("biz_opaque_callback_data")),
        sender_address=sender,
        recipient=_person(recipient) if recipient else text_of(body.get("recipient_user_id")),
        at=moment(body.get("timestamp")),
        code=short(code) or None,
        reason=reason_of(error) if status == "failed" else None,
        suppress=verdict.kind == "suppress",
        suppress_for=verdict.suppress_for,
        withdraws_consent=verdict.kind == "withdrawn",
        payload=body,
    )


def _inbound(body: Payload, value: Payload, sender: str | None) -> Event:
    found, phone = text_of(body.get("id")), text_of(body.get("from"))
    scoped = text_of(body.get("from_user_id"))
    if found is None or (phone is None and scoped is None):
        return Unreadable(reason="a message without an id or a sender", payload=body)
    if body.get("group_id"):
        return Unreadable(reason="a message in a group", payload=body)
    kind, text, media = _content(body)
    return Inbound(
        channel=Channel.WHATSAPP,
        dedupe_key=found,
        sender_address=_person(phone) if phone else scoped or "",
        recipient=sender,
        kind=kind,
        provider_message_id=found,
        text=text,
        media=media,
        at=moment(body.get("timestamp")),
        reply_to_provider_id=text_of(dig(body, "context.id")) or text_of(dig(body, "reaction.message_id")),
        is_automatic=kind == "system",
        profile_name=_profile_name(value, phone, scoped),
        other_address=scoped if phone else None,
        payload=body,
    )


def _content(body: Payload) -> tuple[InboundKind, str | None, tuple[Media, ...]]:
    """What kind of message it is, the words in it, and the file."""
    word = short(body.get("type"), 40)
    part = mapping(body.get(word))
    if word in _MEDIA:
        return "media", text_of(part.get("caption")), (_file(word, part),)
    match word:
        case "text":
            return "text", text_of(part.get("body")), ()
        case "button":
            return "button", text_of(part.get("text")) or text_of(part.get("payload")), ()
        case "interactive":
            return "button", _choice(part), ()
        case "reaction":
            return "reaction", text_of(part.get("emoji")), ()
        case "location":
            spot = f"{part.get('latitude')}, {part.get('longitude')}"
            return "location", text_of(part.get("name")) or text_of(part.get("address")) or spot, ()
        case "contacts":
            names = [short(dig(each, "name.formatted_name")) for each in entries(body.get("contacts"))]
            return "contact", ", ".join(filter(None, names)) or None, ()
        case "order":
            return "order", text_of(part.get("text")), ()
        case "system":
            return "system", text_of(part.get("body")), ()
        case _:
            return "unsupported", None, ()


def _choice(part: Payload) -> str | None:
    reply = mapping(part.get(short(part.get("type"), 40)))
    return text_of(reply.get("title")) or text_of(reply.get("body")) or text_of(reply.get("id"))


def _file(kind: str, part: Payload) -> Media:
    return Media(
        kind=kind,
        provider_media_id=text_of(part.get("id")),
        url=text_of(part.get("url")),
        mime_type=text_of(part.get("mime_type")),
        filename=text_of(part.get("filename")),
        caption=text_of(part.get("caption")),
    )


def _profile_name(value: Payload, phone: str | None, scoped: str | None) -> str | None:
    for each in entries(value.get("contacts")):
        contact: dict[str, Any] = mapping(each)
        is_theirs = (phone and text_of(contact.get("wa_id")) == phone) or (
            scoped and text_of(contact.get("user_id")) == scoped
        )
        if is_theirs:
            return text_of(dig(contact, "profile.name"))
    return None


def _person(digits: str) -> str:
    return f"+{digits}" if digits.isdecimal() else digits


META_WHATSAPP = Provider(
    name="meta_whatsapp",
    title="WhatsApp (Meta Cloud API)",
    channels=frozenset({Channel.WHATSAPP}),
    credentials=MetaWhatsappCredentials,
    sender_label="Phone number ID",
    setup_help=(
        "In Meta's app dashboard, add WhatsApp, make a system user and give it a token that does not expire, with the "
        "permissions whatsapp_business_messaging and whatsapp_business_management. Enter the phone number ID (not the "
        "number) as the sender. Under Webhooks, enter this account's webhook address and your verify token, and "
        "subscribe to the field messages."
    ),
    send=send,
    call_timeout=CALL_TIMEOUT,
    rate_per_second=80,  # Meta's default throughput of a number; eligible ones rise to 1000
    in_flight=64,
    daily_cap=None,  # the messaging limit counts people outside the 24-hour window, not messages
    rate_scope="sender",
    idempotency=None,
    echo="biz_opaque_callback_data",
    reply_window=timedelta(hours=24),
    verify_webhook=verify_webhook,
    parse_webhook=parse_webhook,
    handshake=handshake,
    sender_from_webhook=sender_from_webhook,
    signature="signature",
)
