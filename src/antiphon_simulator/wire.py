"""What a provider is to the rest of the simulator: a record of functions, and the values that they exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from antiphon_simulator.book import Book
from antiphon_simulator.scenario import Fate, Status
from antiphon_simulator.settings import Account, Fault, ProviderName

Event = dict[str, Any]


class Caller(Struct, frozen=True):
    """A request as it came: header names in lower case, `parts` from the path."""

    headers: Mapping[str, str]
    parts: Mapping[str, str]
    body: bytes


class Answer(Struct, frozen=True):
    """A whole HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str] = {}
    content_type: str = "application/json"


class Sending(Struct, frozen=True):
    """What a caller asked to send, once it was understood and found correct."""

    account: str
    recipient: str
    text: str
    reference: str = ""  # the caller's own id, echoed
    key: str = ""  # an idempotency key
    free_text: bool = False  # Meta: needs an open service window
    category: str = ""  # Meta: the template's


class Refusal(Struct, frozen=True):
    """What a caller asked is wrong: the provider's answer, and for the log which rule it broke."""

    code: str
    reason: str
    answer: Answer
    account: str = ""
    recipient: str = ""


class Message(Struct, frozen=True):
    """An accepted message and all that will happen to it. `at` is Unix time."""

    id: str
    provider: ProviderName
    account: str
    recipient: str
    text: str
    at: float
    fate: Fate
    reference: str = ""
    category: str = ""
    failure: str = ""  # the provider's code, if it fails


class Inbound(Struct, frozen=True):
    """Something that a person sends to an account."""

    id: str
    account: str
    sender: str
    text: str
    at: float
    quotes: str = ""  # the id of the message that it answers
    name: str = ""
    fields: dict[str, Any] = {}  # laid over the event as composed, to make odd ones


@dataclass(frozen=True)
class Wire:
    """One provider that speaks HTTP."""

    name: ProviderName
    understand: Callable[[Book, Caller], Sending | Refusal | Answer]  # an answer: it was no sending
    new_id: Callable[[], str]
    accepted: Callable[[Message], Answer]
    throttled: Callable[[str], Answer]  # given the Retry-After
    absent: Callable[[Sending], Answer] | None  # None: takes the message and lets it fail
    absence: str  # the code of a failure because the address is not known
    conflict: Answer | None  # the key was used with another body
    error: Callable[[Fault], Answer]
    status_event: Callable[[Account, Message, Status, float], Event]
    inbound_event: Callable[[Account, Inbound], Event]
    envelope: Callable[[Account, Sequence[Event]], tuple[bytes, str]]  # body, content type
    signature: Callable[[Account, bytes], dict[str, str]]  # headers
    batches: bool = False  # several events may share a webhook


def as_json(status: int, value: object, headers: dict[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    return Answer(status=status, body=msgspec.json.encode(value), headers=headers or {})
