"""The decisions by themselves: repeatable, in the shares asked for, and the demo's day."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon_simulator import demo
from antiphon_simulator.scenario import address_key, fate, is_absent, status_at
from antiphon_simulator.settings import Behavior, Delay, Scenario, behavior_of, merged

PEOPLE = [f"60123{n:06}" for n in range(500)]
share = st.floats(0, 1)
delays = st.builds(Delay, least=st.floats(0, 1), mean=st.floats(0, 3), most=st.floats(1, 9))
behaviors = st.builds(
    Behavior,
    failed=share,
    delivered=share,
    read=share,
    replied=share,
    duplicates=share,
    disorder=share,
    skip_delivered=share,
    delivered_after=delays,
    read_after=delays,
    replied_after=delays,
    disorder_by=delays,
    statuses=st.sampled_from(["webhook", "poll", "half", "none"]),
)


@given(behaviors, st.integers(0, 99), st.integers(1, 9))
def test_a_fate_is_a_walk_up_the_ladder_in_time(behavior: Behavior, seed: int, ordinal: int) -> None:
    what = fate(seed, "wsapme", "60123456789", ordinal, behavior)
    assert what == fate(seed, "wsapme", "+60123456789", ordinal, behavior), "an address is one in any dress"
    assert [step.status for step in what.steps] in (
        ["sent"],
        ["sent", "failed"],
        ["sent", "delivered"],
        ["sent", "delivered", "read"],
    )
    assert all(one.after <= next_.after for one, next_ in pairwise(what.steps))
    assert all(step.told >= step.after for step in what.steps)
    if what.reply_after is not None:
        assert what.steps[-1].status == "read"
        assert what.reply_after >= what.steps[-1].after
    assert status_at(what, -1) == "accepted"
    assert status_at(what, 1e9) == what.steps[-1].status
    if behavior.statuses in ("poll", "none"):
        assert not any(step.copies for step in what.steps)


def test_another_seed_recipient_or_turn_is_another_fate() -> None:
    behavior = Behavior(delivered=0.5)
    fates = [
        fate(seed, "meta", to, turn, behavior).steps
        for seed in (1, 2)
        for to in ("60123", "60124")
        for turn in (1, 2)
    ]
    assert len(set(fates)) == len(fates)


def test_shares_are_shares() -> None:
    behavior = Behavior(failed=0.1, delivered=0.8, read=0.5, replied=0.5, statuses="half")
    fates = [fate(1, "wsapme", to, 1, behavior) for to in PEOPLE]
    ends = Counter(one.steps[-1].status for one in fates)
    assert 30 <= ends["failed"] <= 70
    assert 310 <= ends["delivered"] + ends["read"] <= 400
    assert 0.4 <= ends["read"] / (ends["delivered"] + ends["read"]) <= 0.6
    assert 200 <= sum(one.steps[0].copies > 0 for one in fates) <= 300


@pytest.mark.parametrize("seed", [1, 7, 2025])
def test_the_demos_day_is_as_told(seed: int) -> None:
    day = demo.settings().scenario.wsapme
    taken = [to for to in PEOPLE if not is_absent(seed, "wsapme", to, day)]
    fates = [fate(seed, "wsapme", to, 1, day) for to in taken]
    delivered = sum(any(step.status == "delivered" for step in one.steps) for one in fates)
    read = sum(one.steps[-1].status == "read" for one in fates)
    replied = sum(one.reply_after is not None for one in fates)
    assert 1 <= len(PEOPLE) - len(taken) <= 16, "a few are not on WhatsApp"
    assert 0.89 <= delivered / 500 <= 0.95
    assert 0.54 <= read / delivered <= 0.66
    assert 0.14 <= replied / 500 <= 0.22
    stops = sum(day.replies[n % len(day.replies)] == "STOP" for n in range(replied))
    assert 1 <= stops <= 2
    longest = max(max(one.steps[-1].after, one.reply_after or 0) for one in fates)
    assert 500 / day.rate + longest < 45, "the day plays in about half a minute"


ADDRESSES = {
    "+60 12-345 6789": "60123456789",
    "60123456789@s.whatsapp.net": "60123456789",
    "60123456789@c.us": "60123456789",
    "Aina@Example.com": "aina@example.com",
    "120363021234567890@g.us": "120363021234567890@g.us",
    "MY.7QX1": "71",
}


@pytest.mark.parametrize("written", ADDRESSES)
def test_an_address_is_one_in_any_dress(written: str) -> None:
    assert address_key(written) == ADDRESSES[written]


ABSENT = {
    "60123456404": True,
    "60123454040": False,
    "404@example.com": True,
    "a@gone.example": True,
    "a@ok.example": False,
}


@pytest.mark.parametrize("address", ABSENT)
def test_addresses_that_end_so_do_not_exist(address: str) -> None:
    behavior = Behavior(absent_suffixes=("404", "gone.example"))
    assert is_absent(1, "smtp", address, behavior) is ABSENT[address]


def test_a_patch_changes_only_what_it_names() -> None:
    before = Scenario()
    after = merged(before, {"wsapme": {"read_after": {"mean": 9}}, "accounts": {"wsapme/d1": {"rate": 3}}})
    assert after.wsapme.read_after == Delay(mean=9, most=before.wsapme.read_after.most)
    assert after.wsapme.webhook_retries == before.wsapme.webhook_retries
    assert after.meta == before.meta
    assert behavior_of(after, "wsapme", "d1").rate == 3
    assert behavior_of(after, "wsapme", "d2").rate == 0
