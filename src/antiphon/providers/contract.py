"""What an adapter is: one `Provider` record of pure functions and data.

A send is a generator: it yields what must cross the wire, is sent the answer, and returns an `Outcome`. So an
adapter never does input or output, and one that needs two requests is as testable as one that needs one.
`drive.py` runs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from msgspec import Struct

from antiphon.core.channel import Channel, Purpose
from antiphon.core.wire import MailEnvelope, MailReply, Request, Response
from antiphon.providers.credentials import Credentials

C = TypeVar("C", bound=Credentials)

Payload = dict[str, Any]

# ---- What came of a try --------------------------------------------------------------------------


class Accepted(Struct, frozen=True, kw_only=True, tag="accepted"):
    """The provider took it. Without an id, its status is found by our reference; it is never sent again."""

    provider_message_id: str | None
    payload: Payload = {}
    detail: str | None = None


class Rejected(Struct, frozen=True, kw_only=True, tag="rejected"):
    """This message will never work. What else follows from it is said by the other fields."""

    code: str
    reason: str
    suppress: bool = False  # the address must not be used again on this channel
    suppress_for: timedelta | None = None  # None: for good
    withdraws_consent: bool = False  # the contact told the provider: no marketing from this organization
    blames: Literal["message", "contact", "template"] = "message"  # a template fails for everybody
    payload: Payload = {}


class Throttled(Struct, frozen=True, kw_only=True, tag="throttled"):
    """Refused because of its pace; counts no retry. `after` None: the provider did not say."""

    after: timedelta | None
    scope: Literal["sender", "contact"] = "sender"
    code: str | None = None
    reason: str = ""
    payload: Payload = {}


NOT_BEGUN = "not_begun"
"""The code of a call that was claimed and never begun: it counts no retry."""


class NotSent(Struct, frozen=True, kw_only=True, tag="not_sent"):
    """Proven not to have been taken: retry with backoff, not before `after` if the provider named a time."""

    reason: str
    code: str | None = None
    after: timedelta | None = None
    payload: Payload = {}


class Unknown(Struct, frozen=True, kw_only=True, tag="unknown"):
    """It may have been taken. Only a later fact, a look-up or the policy of its purpose decides."""

    reason: str
    code: str | None = None
    payload: Payload = {}


class AccountFault(Struct, frozen=True, kw_only=True, tag="account_fault"):
    """Credentials, sender or account are broken: pause the sender, keep its messages, tell a person."""

    code: str
    reason: str
    payload: Payload = {}


Outcome = Accepted | Rejected | Throttled | NotSent | Unknown | AccountFault

LONGEST_NAME = 512


def bounded_name(name: str) -> str:
    """A provider's name of something, as it is kept: one that is longer than any provider's is kept by its hash."""
    return name if len(name) <= LONGEST_NAME else f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


# ---- What goes out -------------------------------------------------------------------------------


class TemplateParameter(Struct, frozen=True, kw_only=True):
    """One value of an approved template. `name` only where its parameters are named, not numbered."""

    kind: Literal["text", "image", "video", "document", "payload", "coupon_code"] = "text"
    value: str  # the text, or the address of the file
    name: str | None = None
    filename: str | None = None


class TemplateButton(Struct, frozen=True, kw_only=True):
    """The parameter of one button, counted from 0."""

    index: int
    sub_type: Literal["quick_reply", "url", "copy_code"]
    parameter: TemplateParameter


class ApprovedTemplate(Struct, frozen=True, kw_only=True):
    """A template that the provider has approved, and this message's parameters in their order."""

    name: str
    language: str
    header: tuple[TemplateParameter, ...] = ()
    body: tuple[TemplateParameter, ...] = ()
    buttons: tuple[TemplateButton, ...] = ()


class Outbound(Struct, frozen=True, kw_only=True):
    """All that an adapter may need to build its request.

    `sender_address` is the sender as the provider knows it: Meta's phone number id, WSAPME's device, an email
    address. `to` is E.164 or an email address. `key` is the same on every try of a series; `reference` is our
    id as the provider echoes it.
    """

    message_id: UUID
    key: str
    reference: str
    channel: Channel
    purpose: Purpose
    sender_address: str
    to: str
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    template: ApprovedTemplate | None = None
    reply_to_provider_id: str | None = None  # the message that this one quotes
    sender_name: str | None = None
    unsubscribe_url: str | None = None  # https, one click (RFC 8058)
    headers: Mapping[str, str] = {}  # email: more header fields
    at: datetime | None = None  # the instant that rendering read; a mail's Date

    def __repr__(self) -> str:
        return f"Outbound({self.message_id}, {self.channel}, {self.purpose})"


# ---- What comes in -------------------------------------------------------------------------------

ReceiptStatus = Literal[
    "sending",  # taken, not yet handed on: changes nothing, kept as a fact
    "sent",
    "delivered",
    "read",
    "clicked",
    "failed",
    "bounced",
    "complained",
    "unsubscribed",
]


class Receipt(Struct, frozen=True, kw_only=True, tag="receipt"):
    """What a provider says about a message of ours. `at` is the provider's time; None where it gives none."""

    status: ReceiptStatus
    dedupe_key: str
    provider_message_id: str | None = None
    reference: str | None = None
    sender_address: str | None = None
    recipient: str | None = None
    at: datetime | None = None
    code: str | None = None
    reason: str | None = None
    suppress: bool = False
    suppress_for: timedelta | None = None
    withdraws_consent: bool = False
    payload: Payload = {}


class Media(Struct, frozen=True, kw_only=True):
    """A file that came with a message: by the provider's id, or by address."""

    kind: str
    provider_media_id: str | None = None
    url: str | None = None
    mime_type: str | None = None
    filename: str | None = None
    caption: str | None = None


InboundKind = Literal[
    "text", "media", "location", "contact", "reaction", "button", "order", "system", "unsupported"
]


class Inbound(Struct, frozen=True, kw_only=True, tag="inbound"):
    """A message from a person.

    `sender_address` is theirs: E.164, email, or opaque; `recipient` is our sender's, as in `Outbound`.
    """

    channel: Channel
    dedupe_key: str
    sender_address: str
    recipient: str | None
    kind: InboundKind = "text"
    provider_message_id: str | None = None
    text: str | None = None
    media: tuple[Media, ...] = ()
    at: datetime | None = None
    reply_to_provider_id: str | None = None
    is_automatic: bool = False
    profile_name: str | None = None
    other_address: str | None = None  # the same person again: Meta's business-scoped user id
    payload: Payload = {}


class Unreadable(Struct, frozen=True, kw_only=True, tag="unreadable"):
    """An entry that we do not act on: kept, counted by its reason, never a failure of its neighbours."""

    reason: str
    payload: Payload = {}


Event = Receipt | Inbound | Unreadable

# ---- Asking for a status -------------------------------------------------------------------------


class LookUp(Struct, frozen=True, kw_only=True):
    """A message to ask about. The id is None while its hand-over is in doubt."""

    reference: str
    sender_address: str
    provider_message_id: str | None = None


class LookedUp(Struct, frozen=True, kw_only=True):
    """Receipts, the references that the provider never saw, and what stopped the rest, if anything."""

    receipts: tuple[Receipt, ...] = ()
    absent: tuple[str, ...] = ()
    trouble: Throttled | NotSent | Unknown | AccountFault | None = None


# ---- The record ----------------------------------------------------------------------------------


class Account(Struct, Generic[C], frozen=True, kw_only=True):
    """An organization's account at a provider. `webhook_url` is where it reaches us; some sign over it."""

    provider: str
    credentials: C
    webhook_url: str | None = None


WireRequest = Request | MailEnvelope
WireResponse = Response | MailReply
Send = Generator[WireRequest, WireResponse, Outcome]
Asking = Generator[WireRequest, WireResponse, LookedUp]
Names = Mapping[str, str]  # header fields or query parameters by name


@dataclass(frozen=True, slots=True, kw_only=True)
class PollRule:
    """How long a message may stay at `status` before we ask, how often after that, and when we give up."""

    status: Literal["sending", "sent", "delivered", "unknown"]
    first_after: timedelta
    every: timedelta
    limit: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Polling:
    """What may be asked: by what, how many at once, how many requests a minute per sender, and when."""

    by: Literal["provider_message_id", "reference"]
    batch: int
    per_minute: int
    rules: tuple[PollRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider(Generic[C]):
    """One provider: its functions and what is known of it. Form, redaction and docs are drawn from this."""

    name: str
    title: str
    channels: frozenset[Channel]
    credentials: type[C]
    sender_label: str  # what `sender_address` is, for the form: "Phone number ID", "Device"
    setup_help: str

    send: Callable[[Account[C], Outbound], Send]
    call_timeout: timedelta
    rate_per_second: float  # a new sender's
    in_flight: int  # a new sender's
    daily_cap: int | None
    rate_scope: Literal["sender", "account"]
    idempotency: timedelta | None  # how long the provider remembers a key; None: it takes none
    echo: str | None  # the field that brings our reference back
    reply_window: timedelta | None  # how long free text is allowed after the contact's last message

    status_request: Callable[[Account[C], Sequence[LookUp]], Asking] | None = None
    polling: Polling | None = None

    # verify(account, method, headers, query, raw body): may this be believed? Header names in lower case
    verify_webhook: Callable[[Account[C], str, Names, Names, bytes], bool] | None = None
    parse_webhook: Callable[[Account[C], Names, bytes], list[Event]] | None = None
    # handshake(account, query): the text to answer with, or None for 403
    handshake: Callable[[Account[C], Names], str | None] | None = None
    # the sender addresses that a body names, not yet verified: to find the account whose secret verifies it
    sender_from_webhook: Callable[[Names, bytes], list[str]] | None = None
    # signature: over the raw body. secret_path: nothing is signed, the secret in our path is all there is
    signature: Literal["signature", "secret_path", "none"] = "none"
    public: bool = True  # False: for tests, absent from the feature matrix and the docs
