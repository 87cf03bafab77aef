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
    URL = "url"


class Purpose(StrEnum):
    """Why a message is sent; decides consent, quiet hours, the order in the lane, and what a doubt ends in."""

    MARKETING = "marketing"
    TRANSACTIONAL = "transactional"
    NOTIFICATION = "notification"
    SUPPORT = "support"


# The kind of address that a channel uses. A contact has no URL: a message on http brings its own.
ADDRESS_KIND: Mapping[Channel, AddressKind] = MappingProxyType(
    {
        Channel.EMAIL: AddressKind.EMAIL,
        Channel.SMS: AddressKind.PHONE,
        Channel.MMS: AddressKind.PHONE,
        Channel.WHATSAPP: AddressKind.PHONE,
        Channel.VOICE: AddressKind.PHONE,
        Channel.PUSH: AddressKind.PUSH_TOKEN,
        Channel.MESSENGER: AddressKind.MESSENGER_ID,
        Channel.INSTAGRAM: AddressKind.INSTAGRAM_ID,
        Channel.WEBCHAT: AddressKind.VISITOR,
        Channel.HTTP: AddressKind.URL,
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

# Marketing on these needs a recorded yes; on the others it may go until somebody says no. Other purposes need none.
_MARKETING_NEEDS_YES = frozenset({Channel.SMS, Channel.MMS, Channel.WHATSAPP, Channel.VOICE, Channel.PUSH})


def parse_channel(word: str, field: str = "channel") -> Channel:
    """The channel that a word means, in any case, aliases included. Raises Invalid naming the words there are."""
    name = word.strip().lower()
    if name in ALIASES:
        return ALIASES[name]
    try:
        return Channel(name)
    except ValueError:
        raise Invalid.field(field, f"not a channel; use one of {', '.join(Channel)}", word[:80]) from None


def needs_consent(purpose: Purpose, channel: Channel) -> bool:
    """Whether a recorded yes must exist. Without the need, a recorded no still forbids marketing.

    Whatever the answer, a suppressed address is never written to.
    """
    return purpose == Purpose.MARKETING and channel in _MARKETING_NEEDS_YES
