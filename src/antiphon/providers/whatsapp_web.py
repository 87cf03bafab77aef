"""The objects of WhatsApp's own clients, as gateways that run such a client hand them on.

Statuses: the enumeration `WebMessageInfo.Status` of the WhatsApp Web protocol, as in the Baileys library's protocol
file. Ids, addresses ("jids") and message contents: the shapes of the same protocol. Ways in which gateways flatten them
are read too; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping

from antiphon.providers.answers import dig, mapping, short, text_of
from antiphon.providers.contract import Media, Payload, ReceiptStatus

# Names and numbers from the enumeration, and the aliases seen in other gateways' answers.
STATUSES: Mapping[str, ReceiptStatus] = {
    **dict.fromkeys(("0", "error", "failed", "err"), "failed"),
    **dict.fromkeys(("1", "pending", "queued"), "sending"),
    **dict.fromkeys(("2", "server_ack", "sent", "server"), "sent"),
    **dict.fromkeys(("3", "delivery_ack", "delivered", "device_ack"), "delivered"),
    **dict.fromkeys(("4", "read", "read_ack", "5", "played", "played_ack"), "read"),
}
# A field called `ack` counts from -1, one below the enumeration (whatsapp-web.js).
ACKS: Mapping[str, str] = {"-1": "0", "0": "1", "1": "2", "2": "3", "3": "4", "4": "5"}

_ID_PATHS = ("key.id", "data.key.id", "messageId", "data.messageId", "id", "message.key.id")
_STATUS_PATHS = ("status", "data.status", "messageStatus", "ack", "update.status")
_WRAPPERS = ("ephemeralMessage", "documentWithCaptionMessage", "deviceSentMessage")
_TEXT_PATHS = (
    "conversation",
    "extendedTextMessage.text",
    "imageMessage.caption",
    "videoMessage.caption",
    "documentMessage.caption",
    "buttonsResponseMessage.selectedButtonId",
    "listResponseMessage.singleSelectReply.selectedRowId",
    "templateButtonReplyMessage.selectedId",
)
_MEDIA = {
    "imageMessage": "image",
    "videoMessage": "video",
    "audioMessage": "audio",
    "documentMessage": "document",
}


def message_id(body: Payload) -> str | None:
    """The message's id, wherever it is."""
    return next((found for path in _ID_PATHS if (found := text_of(dig(body, path)))), None)


def status_word(body: Payload) -> str | None:
    """The first status there is, as the enumeration counts; the empty word means pending."""
    for path in _STATUS_PATHS:
        value = dig(body, path)
        if isinstance(value, str | int) and not isinstance(value, bool):
            word = str(value).strip().lower()
            return ACKS.get(word, word) if path == "ack" else word or "pending"
    return None


def status_of(body: Payload) -> ReceiptStatus | None:
    """The status in our words; None if there is none, or none that we know."""
    return STATUSES.get(status_word(body) or "")


def person(jid: str) -> str:
    """E.164 for a phone; a hidden number (`@lid`) stays as it is, an identity without a phone."""
    name, _, domain = jid.partition("@")
    name = name.partition(":")[0]  # the device suffix
    if domain == "lid":
        return f"{name}@lid"
    return f"+{name.lstrip('+')}" if name.lstrip("+").isdecimal() else ""


def unwrapped(content: object) -> object:
    """The message inside those that vanish, are seen once, carry a caption, or were sent from another device."""
    for _ in range(4):
        inner = mapping(content)
        wrapper = next(
            (name for name in inner if name in _WRAPPERS or name.startswith("viewOnceMessage")), None
        )
        if wrapper is None:
            return content
        content = mapping(inner[wrapper]).get("message")
    return content


def text_in(content: object) -> str | None:
    """What a person wrote or chose."""
    if isinstance(content, str):
        return text_of(content)
    return next((found for path in _TEXT_PATHS if (found := text_of(dig(content, path)))), None)


def media_in(body: Payload, content: object) -> tuple[Media, ...]:
    """The file, if there is one: an address beside the message, or a part inside it."""
    if url := text_of(body.get("file")):
        return (Media(kind=short(body.get("type"), 20) or "file", url=url),)
    for name, kind in _MEDIA.items():
        if part := mapping(mapping(content).get(name)):
            return (
                Media(
                    kind=kind,
                    url=text_of(part.get("url")),
                    mime_type=text_of(part.get("mimetype")),
                    filename=text_of(part.get("fileName")),
                    caption=text_of(part.get("caption")),
                ),
            )
    return ()
