"""What comes in through a provider's door, and what is done with each part of it. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct

from antiphon.core.channel import Channel
from antiphon.providers.contract import Account, Event, Inbound, Provider, Receipt, Unreadable
from antiphon.senders.model import AccountRow

LONGEST_NOTE = 500
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
USELESS_HEADERS = frozenset({"host", "connection", "content-length", "accept", "accept-encoding"})


class OurSender(Struct, frozen=True):
    """A sender of the account, as the provider names it."""

    id: UUID
    channel: Channel
    address: str


class Door(Struct, frozen=True, kw_only=True):
    """Where one provider account reaches us: whose it is, and what verifies and reads what comes in."""

    row: AccountRow
    provider: Provider[Any]
    account: Account[Any]
    senders: tuple[OurSender, ...]

    @property
    def org_id(self) -> UUID:
        return self.row.org_id

    @property
    def account_id(self) -> UUID:
        return self.row.id

    def opens_to(self, provider: str, secret_hash: bytes) -> bool:
        """Do the path's provider and secret fit? Takes the same time for every wrong secret."""
        return hmac.compare_digest(self.row.webhook_hash, secret_hash) and self.row.provider == provider

    def sender_of(self, inbound: Inbound) -> UUID | None:
        """Which sender was written to: the one that is named, else the only one there is on that channel."""
        there = [sender for sender in self.senders if sender.channel == inbound.channel]
        named = [sender for sender in there if sender.address == inbound.recipient]
        found = named or (there if inbound.recipient is None else [])
        return found[0].id if len(found) == 1 else None

    def is_foreign(self, event: Receipt | Inbound) -> bool:
        """Is it about a sender that is not this account's?

        A signature proves whose app it comes from, and one app may serve several organizations; so there the sender
        must be ours. Where nothing is signed, the path proves whose account it is, and gateways name devices freely.
        """
        named = event.sender_address if isinstance(event, Receipt) else event.recipient
        if named is None or self.provider.signature != "signature":
            return False
        return all(sender.address != named for sender in self.senders)


class Delivery(Struct, frozen=True, kw_only=True):
    """One webhook as it came, believed, and what it says."""

    id: UUID
    door: Door
    headers: Mapping[str, str]
    body: bytes
    events: Sequence[Event]


class Sorted(Struct, frozen=True, kw_only=True):
    """A webhook's entries by what is done with them; `remarks` says why some are only kept."""

    receipts: list[Receipt]
    inbound: list[Inbound]
    unreadable: int
    unmatched: int
    remarks: list[str]


def sort(door: Door, events: Sequence[Event]) -> Sorted:
    """Receipts and messages of the account's own senders; the rest is counted, with its reason."""
    receipts: list[Receipt] = []
    inbound: list[Inbound] = []
    remarks: list[str] = []
    unreadable = unmatched = 0
    for event in events:
        match event:
            case Unreadable(reason=reason):
                unreadable += 1
                remarks.append(reason)
            case Receipt() | Inbound() if door.is_foreign(event):
                unmatched += 1
                named = event.sender_address if isinstance(event, Receipt) else event.recipient
                remarks.append(f"sender {named!r} is not of this account")
            case Receipt():
                receipts.append(event)
            case Inbound():
                inbound.append(event)
    return Sorted(
        receipts=receipts, inbound=inbound, unreadable=unreadable, unmatched=unmatched, remarks=remarks
    )


class Kept(Struct, frozen=True, kw_only=True):
    """A row of `provider_events`, but for the body: what became of the webhook's entries."""

    id: UUID
    account_id: UUID
    headers: Mapping[str, str]
    receipts: int
    inbound: int
    unreadable: int
    unmatched: int
    parked: int
    note: str | None


def note_of(remarks: Sequence[str]) -> str | None:
    """The reasons, each once, cut to what a person reads."""
    text = "; ".join(dict.fromkeys(remarks))
    return text[:LONGEST_NOTE] or None


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The header fields worth keeping: none that is a password, none that says nothing of the content."""
    return {
        name: value
        for name, value in headers.items()
        if name not in USELESS_HEADERS and name not in SECRET_HEADERS
    }
