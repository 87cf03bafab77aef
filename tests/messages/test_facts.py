"""A message's row is a function of what is known of it: any order, repetition or batching of the same facts ends in
the same row, and nothing moves backwards."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.messages.ledger import Locked, settle
from antiphon.messages.model import VAIN, Event, Fact, Ledger, advance

ID = UUID(int=7)
MADE = datetime(2026, 5, 1, 12, tzinfo=UTC)


def row(attempt_no: int = 0, **fields: Any) -> Ledger:
    """A message that waits, or that is being tried for the nth time."""
    known: dict[str, Any] = {
        "status": "scheduled",
        "stage": "scheduled",
        "reason": "",
        "code": None,
        "detail": None,
    }
    return Ledger(id=ID, created_at=MADE, attempt_no=attempt_no, provider_message_id=None, **(known | fields))


def fact(
    kind: str, source: Literal["dispatch", "webhook"] = "webhook", minutes: float = 1, **fields: Any
) -> Fact:
    """Something told of it, so many minutes after it was made."""
    at = MADE + timedelta(minutes=minutes)
    return Fact(message_id=ID, kind=kind, key=f"{kind}:{source}", at=at, source=source, **fields)


def told(start: Ledger, *facts: Fact) -> Ledger:
    """The row that knows all of this."""
    for each in facts:
        start, _ = advance(start, each)
    return start


# ---- any order, any repetition, any batching ------------------------------------------------------

MINUTES = st.integers(-5, 600)
CODES = st.sampled_from([None, "131026", "131047", "470"])
WORDS = st.sampled_from([None, "undeliverable", "expired"])


@st.composite
def receipts(draw: st.DrawFn, attempts: list[int | None]) -> Fact:
    """What a provider or a person says, about the present attempt, an earlier one, or without saying which."""
    kind = draw(
        st.sampled_from(["sent", "delivered", "read", "clicked", "replied", "closed", "failed", "bounced"])
    )
    is_failure = kind in ("failed", "bounced")
    at = draw(MINUTES)
    return Fact(
        message_id=ID, kind=kind, key=str(draw(st.integers(0, 10**9))), at=MADE + timedelta(minutes=at),
        source=draw(st.sampled_from(["webhook", "polling", "manual"])),
        provider_at=draw(st.one_of(st.none(), MINUTES.map(lambda m: MADE + timedelta(minutes=m)))),
        attempt_no=draw(st.sampled_from(attempts)),
        reason={"failed": "undelivered", "bounced": "bounced"}.get(kind, ""),
        code=draw(CODES) if is_failure else None, detail=draw(WORDS) if is_failure else None,
    )  # fmt: skip


@st.composite
def outcomes(draw: st.DrawFn, attempt_no: int) -> Fact:
    """How a try ended: accepted, perhaps without a name, or in vain."""
    is_accepted = draw(st.booleans())
    return Fact(
        message_id=ID, kind="sent" if is_accepted else "failed", key=f"try:{attempt_no}", source="dispatch",
        at=MADE + timedelta(minutes=draw(MINUTES)), attempt_no=attempt_no,
        provider_message_id=draw(st.sampled_from([None, f"wamid.{attempt_no}"])) if is_accepted else None,
        reason="" if is_accepted else draw(st.sampled_from(sorted(VAIN))),
        code=None if is_accepted else draw(CODES), detail=None if is_accepted else draw(WORDS),
    )  # fmt: skip


@st.composite
def knowledge(draw: st.DrawFn) -> tuple[Ledger, list[Fact]]:
    """A message in its first try, or in its second after a doubtful one, and all that will ever be told of it."""
    present = draw(st.sampled_from([1, 2]))
    start = row() if present == 1 else row(attempt_no=2)
    attempts: list[int | None] = [None, *range(1, present + 1)]
    facts = draw(st.lists(receipts(attempts), min_size=0, max_size=8))
    for attempt_no in range(1, present + 1):
        facts += draw(st.lists(outcomes(attempt_no), min_size=0, max_size=1))
    return start, facts


def batches(facts: list[Fact], chance: random.Random) -> list[list[Fact]]:
    """The facts in some order, some of them again, cut anywhere."""
    again = facts + [each for each in facts if chance.random() < 0.4]
    chance.shuffle(again)
    cuts = sorted(chance.sample(range(len(again) + 1), min(3, len(again) + 1)))
    edges = [0, *cuts, len(again)]
    return [again[a:b] for a, b in pairwise(edges)]


def learned(start: Ledger, facts: list[list[Fact]]) -> Ledger:
    """Batch after batch, as the ledger's one function does it."""
    for batch in facts:
        moved = settle({ID: locked(start)}, batch)
        start = moved[0].after if moved else start
    return start


def locked(now: Ledger) -> Locked:
    return Locked(
        row=now, campaign_id=None, sender_id=None, channel="whatsapp", day=date(2026, 5, 1), address="+60111111111",
        contact_id=None, state=None, current_attempt=None,
    )  # fmt: skip


@settings(max_examples=600)
@given(knowledge(), st.randoms(use_true_random=False))
def test_any_order_repetition_and_batching_of_the_same_facts_ends_in_the_same_row(
    known: tuple[Ledger, list[Fact]], chance: random.Random
) -> None:
    start, facts = known
    assert learned(start, batches(facts, chance)) == learned(start, [facts])


@given(knowledge(), st.randoms(use_true_random=False))
def test_a_times_fact_is_never_unlearned_and_no_time_moves_later(
    known: tuple[Ledger, list[Fact]], chance: random.Random
) -> None:
    now, facts = known
    chance.shuffle(facts)
    lasting = ("sent_at", "delivered_at", "read_at", "clicked_at", "replied_at", "closed_at", "bounced_at")
    for each in facts:
        after, _ = advance(now, each)
        for name in lasting:
            before, later = getattr(now, name), getattr(after, name)
            assert before is None or (later is not None and MADE <= later <= before)
        now = after


RANKS = {"scheduled": 0, "failed": 1, "sent": 2, "bounced": 3, "delivered": 4, "read": 5}


@given(knowledge(), st.randoms(use_true_random=False))
def test_no_status_moves_backwards(known: tuple[Ledger, list[Fact]], chance: random.Random) -> None:
    """The one way down is a failure or a bounce of what was handed over; evidence of delivery stands against it."""
    now, facts = known
    chance.shuffle(facts)
    for each in facts:
        after, event = advance(now, each)
        is_down = RANKS[after.status] < RANKS[now.status]
        assert not is_down or (now.status == "sent" and after.status == "failed" and each.kind == "failed")
        assert (event.old_status, event.new_status) == (now.status, after.status)
        now = after


# ---- the hard cells, one by one -------------------------------------------------------------------

SENT = fact("sent", "dispatch", 1, attempt_no=1, provider_message_id="wamid.1")
DELIVERED, READ = fact("delivered", minutes=2), fact("read", minutes=3)
FAILED = fact("failed", minutes=4, reason="undelivered", code="131026", detail="undeliverable")

CELLS: list[tuple[str, list[Fact], str]] = [
    ("delivered, then a late sent", [DELIVERED, SENT], "delivered"),
    ("read, then delivered", [SENT, READ, DELIVERED], "read"),
    ("read without delivered", [SENT, READ], "read"),
    ("our own hand-over after the provider's failure", [FAILED, SENT], "failed"),
    ("our own hand-over after the delivery", [DELIVERED, SENT], "delivered"),
    ("failed after delivered is an anomaly", [SENT, DELIVERED, FAILED], "delivered"),
    ("failed after read", [SENT, READ, FAILED], "read"),
    ("failed, then a late sent of the provider", [SENT, FAILED, fact("sent", minutes=9)], "failed"),
    ("failed, then delivered is believed", [SENT, FAILED, fact("delivered", minutes=9)], "delivered"),
    ("failed, then read", [SENT, FAILED, fact("read", minutes=9)], "read"),
    ("a hard bounce after delivered", [SENT, DELIVERED, fact("bounced", reason="bounced")], "delivered"),
    ("a click says nothing of the transport", [SENT, fact("clicked", minutes=5)], "sent"),
    ("a word that we do not know", [SENT, fact("sending", minutes=5)], "sent"),
    ("a rejected try, and a receipt that another one went out",
     [fact("failed", "dispatch", reason="rejected", attempt_no=1), fact("sent", minutes=5)], "sent"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "status"), [cell[1:] for cell in CELLS], ids=[cell[0] for cell in CELLS])
def test_of_two_facts_that_disagree(facts: list[Fact], status: str) -> None:
    assert told(row(), *facts).status == status


def test_a_failure_after_the_delivery_is_recorded_as_an_anomaly() -> None:
    _, event = advance(told(row(), SENT, DELIVERED), FAILED)
    assert event == Event(fact=FAILED, old_status="delivered", new_status="delivered", anomaly=True)


def test_a_second_failure_without_a_code_does_not_erase_the_first() -> None:
    plain = fact("failed", minutes=8, reason="undelivered")
    after = told(row(), SENT, FAILED, plain)
    assert (after.code, after.detail, after.reason) == ("131026", "undeliverable", "undelivered")


def test_a_failure_of_the_first_attempt_does_not_touch_the_second() -> None:
    late = msgspec.structs.replace(FAILED, attempt_no=1)
    assert told(row(attempt_no=2, status="sent", stage="sent", sent_at=MADE), late).failed_at is None


def test_a_provider_whose_clock_is_ahead_or_behind_is_believed_within_what_is_possible() -> None:
    early = fact("delivered", minutes=5, provider_at=MADE - timedelta(days=1))
    late = fact("read", minutes=6, provider_at=MADE + timedelta(days=1))
    after = told(row(), early, late)
    assert (after.delivered_at, after.read_at) == (MADE, MADE + timedelta(minutes=6))


def test_the_funnel_counts_the_furthest_stage() -> None:
    assert told(row(), SENT, fact("replied", minutes=5)).stage == "replied"
    assert told(row(), fact("replied", minutes=5)).stage == "scheduled"
