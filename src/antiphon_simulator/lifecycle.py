"""Time passing for accepted messages: statuses come true and are told, people reply."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from antiphon_simulator.book import Book
from antiphon_simulator.oracle import Entry
from antiphon_simulator.scenario import Fate, Status, Step, address_key, doomed, fate, status_at
from antiphon_simulator.settings import ProviderName
from antiphon_simulator.webhooks import Deliveries
from antiphon_simulator.wire import Inbound, Message, Wire

KEY_KEPT = 24 * 3600.0  # seconds that an idempotency key is remembered
WINDOW = 24 * 3600.0  # seconds that a person's message opens Meta's service window


class KnownKey(Struct, frozen=True):
    """What came under an idempotency key."""

    body_sha256: str
    message_id: str
    at: float


@dataclass
class Lifecycle:
    """All accepted messages, and what is still to come of them."""

    book: Book
    wires: Mapping[ProviderName, Wire]
    deliveries: Deliveries
    messages: dict[str, Message] = field(default_factory=dict[str, Message])
    planned: int = 0  # steps and replies still to come
    told: Counter[str] = field(default_factory=Counter[str])
    _keys: dict[tuple[str, str, str], KnownKey] = field(default_factory=dict[tuple[str, str, str], KnownKey])
    _references: dict[tuple[str, str], list[str]] = field(default_factory=dict[tuple[str, str], list[str]])
    _ordinals: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    _written: dict[tuple[str, str, str], float] = field(default_factory=dict[tuple[str, str, str], float])
    _replies: Counter[str] = field(default_factory=Counter[str])
    _timers: set[asyncio.TimerHandle] = field(default_factory=set[asyncio.TimerHandle])

    def begin(self, entry: Entry) -> Message:
        """Let the life of an accepted message begin (or go on, after a restart) at the time of its log entry."""
        message = self._message(entry)
        self.messages[message.id] = message
        if message.reference:
            self._references.setdefault((message.provider, message.reference), []).append(message.id)
        if entry.key:
            known = KnownKey(body_sha256=entry.body_sha256, message_id=message.id, at=entry.at)
            self._keys[entry.provider, entry.account, entry.key] = known
        wire = self.wires.get(message.provider)
        if wire:
            self._plan(wire, message)
        return message

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take up the messages of a log that was read again; what should have been told meanwhile is not."""
        for entry in entries:
            if entry.operation == "send" and entry.verdict == "accepted":
                self.begin(entry)

    def known_key(self, provider: str, account: str, key: str) -> KnownKey | None:
        """What came under this key in the last 24 hours."""
        known = self._keys.get((provider, account, key))
        return known if known and time.time() - known.at < KEY_KEPT else None

    def find(self, provider: str, message_id: str) -> Message | None:
        """The message that the provider gave this id."""
        message = self.messages.get(message_id)
        return message if message and message.provider == provider else None

    def by_reference(self, provider: str, reference: str) -> list[Message]:
        """The messages that carried this reference, oldest first."""
        return [self.messages[one] for one in self._references.get((provider, reference), ())]

    def status(self, message: Message) -> Status:
        """Where it stands, as the provider would say when asked."""
        return status_at(message.fate, time.time() - message.at) if message.fate.asked else "accepted"

    def window_is_open(self, provider: str, account: str, recipient: str) -> bool:
        """Whether this person wrote to this account in the last 24 hours."""
        return time.time() - self._written.get((provider, account, address_key(recipient)), -WINDOW) < WINDOW

    def receive(self, wire: Wire, inbound: Inbound, copies: int = 1) -> None:
        """A person wrote to an account: tell the customer."""
        self._written[wire.name, inbound.account, address_key(inbound.sender)] = inbound.at
        self.told["inbound"] += 1
        event = wire.inbound_event(self.book.account(wire.name, inbound.account), inbound) | inbound.fields
        self.deliveries.tell(wire, inbound.account, event, copies)

    def tell_status(
        self, wire: Wire, message: Message, status: Status, at: float, fields: dict[str, Any] | None = None
    ) -> None:
        """Tell the customer that a message reached a status."""
        self.told[status] += 1
        event = wire.status_event(self.book.account(wire.name, message.account), message, status, at)
        self.deliveries.tell(wire, message.account, event | (fields or {}))

    def forget(self) -> None:
        """Drop all messages and all that was to come of them."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.planned = 0
        for remembered in (self.messages, self._keys, self._references, self._written):
            remembered.clear()
        for counter in (self._ordinals, self._replies, self.told):
            counter.clear()

    def _message(self, entry: Entry) -> Message:
        provider: ProviderName = entry.provider  # pyright: ignore[reportAssignmentType]  # accepted entries have one
        return Message(
            id=entry.message_id,
            provider=provider,
            account=entry.account,
            recipient=entry.recipient,
            text=entry.text,
            at=entry.at,
            fate=self._fate(provider, entry),
            reference=entry.reference,
            category=entry.category,
            failure=entry.failure,
        )

    def _fate(self, provider: ProviderName, entry: Entry) -> Fate:
        behavior = self.book.behavior(provider, entry.account)
        if entry.failure:
            return doomed(behavior)
        person = provider, address_key(entry.recipient)
        self._ordinals[person] += 1
        return fate(self.book.scenario.seed, provider, entry.recipient, self._ordinals[person], behavior)

    def _plan(self, wire: Wire, message: Message) -> None:
        for step in message.fate.steps:
            self._at(message.at + step.told, self._step_comes, wire, message, step)
        if message.fate.reply_after is not None:
            self._at(message.at + message.fate.reply_after, self._reply_comes, wire, message)

    def _step_comes(self, wire: Wire, message: Message, step: Step) -> None:
        if not step.copies:  # true from now on, for who asks
            return
        account = self.book.account(wire.name, message.account)
        event = wire.status_event(account, message, step.status, message.at + step.after)
        self.told[step.status] += 1
        self.deliveries.tell(wire, message.account, event, step.copies)

    def _reply_comes(self, wire: Wire, message: Message) -> None:
        replies = self.book.behavior(wire.name, message.account).replies or ("",)
        text = replies[self._replies[wire.name] % len(replies)]
        self._replies[wire.name] += 1
        self.receive(
            wire,
            Inbound(
                id=new_inbound_id(),
                account=message.account,
                sender=address_key(message.recipient),
                text=text,
                at=time.time(),
                quotes=message.id if message.fate.quotes else "",
            ),
        )

    def _at(self, when: float, what: Callable[..., None], *values: object) -> None:
        wait = when - time.time()
        if wait < -1:  # of a life before a restart
            return
        self.planned += 1

        def comes() -> None:
            self.planned -= 1
            self._timers.discard(timer)
            what(*values)

        timer = asyncio.get_running_loop().call_later(max(wait, 0), comes)
        self._timers.add(timer)


def new_inbound_id() -> str:
    """An id for something that a person sent."""
    return "wamid." + base64.urlsafe_b64encode(b"in" + os.urandom(15)).decode()
