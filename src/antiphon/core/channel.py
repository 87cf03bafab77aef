"""The word Channel: the ten ways to reach a person, their addresses, and what each purpose needs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from antiphon.core.errors import Invalid


class Channel(StrEnum):
    """A way to reach a person."""

    EMAIL = "email"
    SMS = "sms"
    MMS = "mms"
    WHATSAPP = "whatsapp"
    VOICE = "voice"
    PUSH = "push"
    MESSENGER = "messenger"
    INSTAGRAM = "instagram"
    WEBCHAT = "webchat"
    HTTP = "http"


class AddressKind(StrEnum):
    """What kind of address a contact has."""

    PHONE = "phone"
    EMAIL = "email"
    WHATSAPP_ID = "whatsapp_id"
    MESSENGER_ID = "messenger_id"
    INSTAGRAM_ID = "instagram_id"
    PUSH_TOKEN = "push_token"
    VISITOR = "visitor"


class Purpose(StrEnum):
    """Why a message is sent; decides consent, quiet hours, the order in the lane, and what a doubt ends in."""

    MARKETING = "marketing"
    TRANSACTIONAL = "transactional"
    NOTIFICATION = "notification"
    SUPPORT = "support"


class ConsentRule(StrEnum):
    """What must be on record before a message of a purpose may leave on a channel."""

    REQUIRED = "required"
    UNLESS_WITHDRAWN = "unless_withdrawn"
    NOT_NEEDED = "not_needed"


# The kinds of address a channel can use, the preferred one first. HTTP has none: its message brings its own URL.
ADDRESS_KINDS: Mapping[Channel, tuple[AddressKind, ...]] = MappingProxyType(
    {
        Channel.EMAIL: (AddressKind.EMAIL,),
        Channel.SMS: (AddressKind.PHONE,),
        Channel.MMS: (AddressKind.PHONE,),
        Channel.WHATSAPP: (AddressKind.PHONE, AddressKind.WHATSAPP_ID),
        Channel.VOICE: (AddressKind.PHONE,),
        Channel.PUSH: (AddressKind.PUSH_TOKEN,),
        Channel.MESSENGER: (AddressKind.MESSENGER_ID,),
        Channel.INSTAGRAM: (AddressKind.INSTAGRAM_ID,),
        Channel.WEBCHAT: (AddressKind.VISITOR,),
        Channel.HTTP: (),
    }
)

# Other systems' words, accepted on input and never stored.
ALIASES: Mapping[str, Channel] = MappingProxyType(
    {
        "facebook": Channel.MESSENGER,
        "chat": Channel.WEBCHAT,
        "conversation": Channel.WEBCHAT,
        "webhook": Channel.HTTP,
    }
)

_MARKETING_NEEDS_CONSENT = frozenset(
    {Channel.SMS, Channel.MMS, Channel.WHATSAPP, Channel.VOICE, Channel.PUSH}
)


def parse_channel(word: str, field: str = "channel") -> Channel:
    """The channel that a word means, in any case, aliases included. Raises Invalid naming the words there are."""
    name = word.strip().lower()
    if name in ALIASES:
        return ALIASES[name]
    try:
        return Channel(name)
    except ValueError:
        raise Invalid.field(field, f"not a channel; use one of {', '.join(Channel)}", word[:80]) from None


def consent_rule(channel: Channel, purpose: Purpose) -> ConsentRule:
    """What a message needs on record. Whatever the answer, a suppressed address is never written to."""
    if purpose is not Purpose.MARKETING:
        return ConsentRule.NOT_NEEDED
    return ConsentRule.REQUIRED if channel in _MARKETING_NEEDS_CONSENT else ConsentRule.UNLESS_WITHDRAWN
