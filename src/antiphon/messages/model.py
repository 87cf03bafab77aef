"""What a message can be, which facts move it, and what an outcome means. Pure.

A message's status is computed from the facts on its row, never stepped from the status before. So receipts may come in
any order, twice, or in one batch, and end in the same row; nothing ever moves backwards.
"""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from antiphon.core.channel import Purpose

Status = Literal[
    "scheduled",
    "sent",
    "delivered",
    "read",
    "failed",
    "bounced",
    "unknown",
    "canceled",
    "skipped",
    "received",
]
Source = Literal["dispatch", "webhook", "polling", "manual"]
FactKind = Literal["sent", "delivered", "read", "clicked", "replied", "closed", "failed", "bounced"]

STATUSES: tuple[Status, ...] = (
    "scheduled", "sent", "delivered", "read", "failed", "bounced", "unknown", "canceled", "skipped", "received",
)  # fmt: skip

# The documents' words, accepted in filters. One word may cover several of ours; none is ever stored.
ALIASES: dict[str, tuple[str, ...]] = {
    "pending": ("scheduled", "sending"),
    "queued": ("scheduled",),
    "server_ack": ("sent",),
    "delivery_ack": ("delivered",),
    "read_ack": ("read",),
    "cancelled": ("canceled",),
}

# The funnel's ladder, furthest first, with the fact that proves each rung.
LADDER: tuple[tuple[str, str], ...] = (
    ("closed", "closed_at"),
    ("replied", "replied_at"),
    ("clicked", "clicked_at"),
    ("read", "read_at"),
    ("delivered", "delivered_at"),
    ("sent", "sent_at"),
)
FUNNEL_STAGES: tuple[str, ...] = ("sent", "delivered", "read", "clicked", "replied", "closed")

RETRIES = 3
"""Tries after the first, document 000's rule: four in all."""

CRASHES = 2
"""A message that was open when its worker died this often is not replayed: it may be what killed the worker."""

BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(hours=1)


class Ledger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The moving part of one ledger row, as it is locked, advanced and written."""

    id: UUID
    status: Status
    stage: str
    reason: str
    code: str | None
    detail: str | None
    created_at: datetime
    attempt_no: int
    provider_message_id: str | None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    clicked_at: datetime | None = None
    replied_at: datetime | None = None
    closed_at: datetime | None = None
    failed_at: datetime | None = None
    bounced_at: datetime | None = None
    skipped_at: datetime | None = None
    canceled_at: datetime | None = None


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is now known of a message. `key` makes its repetition the same fact."""

    message_id: UUID
    kind: FactKind | str
    key: str
    at: datetime
    source: Source
    provider_at: datetime | None = None
    attempt_no: int | None = None
    provider_message_id: str | None = None
    reason: str = ""
    code: str | None = None
    detail: str | None = None
    payload: dict[str, object] | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a message's history: a fact as it was taken, and what it did."""

    fact: Fact
    old_status: Status
    new_status: Status
    anomaly: bool


def status_of(row: Ledger) -> Status:
    """The status that the row's facts prove; without any, the one that it has.

    Delivery is evidence: it is believed after a failure and stands against a later one. A bounce beats a failure, a
    failure beats a hand-over.
    """
    if row.read_at:
        return "read"
    if row.delivered_at:
        return "delivered"
    if row.bounced_at:
        return "bounced"
    if row.failed_at:
        return "failed"
    if row.sent_at:
        return "sent"
    return row.status


def stage_of(row: Ledger, status: Status) -> str:
    """The furthest rung of the funnel's ladder, for a message that was handed over; else its status."""
    if status not in ("sent", "delivered", "read"):
        return status
    return next((rung for rung, fact in LADDER if getattr(row, fact)), status)


def advance(row: Ledger, fact: Fact) -> tuple[Ledger, Event]:
    """The row with one more fact, and the line of history that says so.

    A failure of an earlier attempt never touches a later one, and a try that came to nothing never one that was
    handed over, whichever is told first. A time is the earliest that was told, never before the message was made nor
    after the fact arrived. A failure without a code does not erase one with.
    """
    stale = fact.attempt_no is not None and fact.attempt_no < row.attempt_no
    if fact.kind in DECISIONS and not stale:
        return _decide(row, fact)
    if fact.kind not in _TIMES or (stale and fact.kind in ("failed", "bounced")):
        return row, Event(fact=fact, old_status=row.status, new_status=row.status, anomaly=False)
    moved = msgspec.structs.replace(row, **_identity(row, fact, stale=stale))
    if fact.kind == "failed" and fact.reason in VAIN and _is_outdone(row):
        return moved, Event(fact=fact, old_status=row.status, new_status=row.status, anomaly=False)
    if _is_vain(row) and fact.kind in PROOFS and fact.reason not in VAIN:
        moved = msgspec.structs.replace(
            moved, status="scheduled", reason="", failed_at=None, code=None, detail=None
        )
    field = _TIMES[fact.kind]
    told = max(row.created_at, min(fact.provider_at or fact.at, fact.at))
    known: datetime | None = getattr(moved, field)
    changes: dict[str, object] = {field: told if known is None else min(known, told)}
    if fact.kind in ("failed", "bounced"):
        changes |= _failure(moved, fact)
    moved = msgspec.structs.replace(moved, **changes)
    status = status_of(moved)
    reason = _reason(moved, status, fact)
    new = msgspec.structs.replace(moved, status=status, stage=stage_of(moved, status), reason=reason)
    anomaly = fact.kind in ("failed", "bounced") and status in ("delivered", "read")
    return new, Event(fact=fact, old_status=row.status, new_status=status, anomaly=anomaly)


VAIN = frozenset({"rejected", "given_up", "template"})
"""Reasons of a try that came to nothing: proof that another one was handed over outdoes it."""

PROOFS = frozenset({"sent", "delivered", "read", "failed", "bounced"})
"""Facts that prove a hand-over; a failure only if it is told of what was handed over, not of the try itself."""


def _identity(row: Ledger, fact: Fact, *, stale: bool) -> dict[str, object]:
    """Which attempt is the newest, and the provider's name of the newest that has one."""
    if fact.source != "dispatch" or not fact.attempt_no:
        return {}
    name = fact.provider_message_id
    if stale:
        return {"provider_message_id": row.provider_message_id or name}
    return {"attempt_no": fact.attempt_no, "provider_message_id": name or row.provider_message_id}


def _is_vain(row: Ledger) -> bool:
    """Is all that is known a try that came to nothing?"""
    return row.status == "failed" and row.reason in VAIN


def _is_outdone(row: Ledger) -> bool:
    """Is a hand-over proven, so that a try that came to nothing changes nothing?"""
    if row.sent_at or row.delivered_at or row.read_at or row.bounced_at:
        return True
    return row.failed_at is not None and not _is_vain(row)


# What is decided about a message, not learned of it: from which statuses, to which.
DECISIONS: dict[str, tuple[frozenset[Status], Status]] = {
    "unknown": (frozenset({"scheduled"}), "unknown"),
    "held": (frozenset({"scheduled", "unknown"}), "unknown"),
    "not_sent": (frozenset({"unknown"}), "scheduled"),
    "replayed": (frozenset({"unknown"}), "scheduled"),
    "resent": (frozenset({"unknown", "failed"}), "scheduled"),
    "canceled": (frozenset({"scheduled", "unknown"}), "canceled"),
    "skipped": (frozenset({"scheduled"}), "skipped"),
}


def _decide(row: Ledger, fact: Fact) -> tuple[Ledger, Event]:
    """A decision moves only what nothing is known of; what a fact has settled stays."""
    allowed, status = DECISIONS[fact.kind]
    if row.status not in allowed:
        return row, Event(fact=fact, old_status=row.status, new_status=row.status, anomaly=False)
    attempt_no = max(row.attempt_no, fact.attempt_no or 0)
    new = msgspec.structs.replace(row, status=status, stage=status, reason=fact.reason, attempt_no=attempt_no)
    if fact.kind == "resent":
        new = msgspec.structs.replace(new, failed_at=None, code=None, detail=None)
    if fact.kind in ("skipped", "canceled"):
        new = msgspec.structs.replace(new, **{f"{fact.kind}_at": fact.at})
    return new, Event(fact=fact, old_status=row.status, new_status=status, anomaly=False)


_TIMES: dict[str, str] = {
    "sent": "sent_at",
    "delivered": "delivered_at",
    "read": "read_at",
    "clicked": "clicked_at",
    "replied": "replied_at",
    "closed": "closed_at",
    "failed": "failed_at",
    "bounced": "bounced_at",
}


def _failure(row: Ledger, fact: Fact) -> dict[str, object]:
    """Which code and words stay when several failures are told: the least, whatever the order; any before none."""
    told, known = (fact.code, fact.detail), (row.code, row.detail)
    least = min(told, known, key=lambda pair: tuple((word is None, word or "") for word in pair))
    return {"code": least[0], "detail": least[1]}


def _reason(row: Ledger, status: Status, fact: Fact) -> str:
    """Our word for why, where the status needs one."""
    if status == "bounced":
        return "bounced"
    if status == "failed":
        return min(
            filter(None, (row.reason if row.status == "failed" else "", fact.reason)), default="undelivered"
        )
    return "" if status in ("sent", "delivered", "read") else row.reason


# ---- what an outcome means -----------------------------------------------------------------------

After = Literal["gone", "again", "doubt"]


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from an outcome: where the outbox row goes, and which fact the ledger learns."""

    after: After
    fact: Literal["sent", "failed", "unknown", ""] = ""
    reason: str = ""
    due_at: datetime | None = None  # None: it keeps its place in the line
    counts_retry: bool = False


def backoff(retries: int, *, chance: float | None = None) -> timedelta:
    """Full jitter: anywhere between a second and 30 s · 4^retries, at most an hour."""
    ceiling = min(BACKOFF * 4**retries, LONGEST_BACKOFF)
    share = random.random() if chance is None else chance
    return timedelta(seconds=1) + (ceiling - timedelta(seconds=1)) * share


def unknown_policy(purpose: str, *, is_once: bool, resends: int) -> Literal["hold", "resend"]:
    """What is done with a doubt that nothing resolved in time: marketing is held, the rest resent once."""
    if purpose == Purpose.MARKETING or is_once or resends:
        return "hold"
    return "resend"


PROVEN: frozenset[str] = frozenset({"sent", "delivered", "read", "bounced", "failed"})
"""Statuses that a fact proves: whatever a call said, there is nothing left to send."""

SETTLED_STAGES: frozenset[str] = frozenset(
    {"sent", "delivered", "read", "clicked", "replied", "closed", "failed", "bounced", "canceled", "skipped"}
)


def is_settled(stage: str, reason: str) -> bool:
    """Is the hand-over over? Sent or beyond, given up, or held in doubt by policy."""
    return stage in SETTLED_STAGES or (stage == "unknown" and reason == "held")


def expand_aliases(words: list[str]) -> tuple[list[str], list[str]]:
    """Statuses that a filter's words mean, and the words that mean none."""
    meant: list[str] = []
    strange: list[str] = []
    for word in words:
        key = word.strip().lower()
        if key in STATUSES or key == "sending":
            meant.append(key)
        elif key in ALIASES:
            meant.extend(ALIASES[key])
        else:
            strange.append(word)
    return list(dict.fromkeys(meant)), strange


def ledger_day(at: datetime) -> date:
    """The day that a message's counts belong to: the UTC date when it was made."""
    return at.date()
