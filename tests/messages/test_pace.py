"""How many may leave now, and from which gates: sums, shares, and shares over time."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.messages.lanes import pace_of
from antiphon.messages.pace import Bucket, GateLoad, share, tokens_now

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def gate(
    number: int, due: int, traffic: str = "bulk", priority: int = 2, rate: float | None = None
) -> GateLoad:
    bucket = None if rate is None else Bucket(rate, NOW, rate, rate)
    return GateLoad(id=UUID(int=number), traffic=traffic, priority=priority, due=due, bucket=bucket)


def taken(gates: list[GateLoad], claims: int, room: int = 1) -> Counter[int]:
    """How many each gate got in so many claims, each with so much room."""
    sums: Counter[int] = Counter()
    for _ in range(claims):
        for id_, n in share(room, gates, NOW, sums.total()).items():
            sums[id_.int] += n
    return sums


@pytest.mark.parametrize("room", [1, 3, 7, 16, 100])
def test_of_a_hundred_places_ninety_are_transactional_and_ten_are_bulk(room: int) -> None:
    sums = taken([gate(1, 10_000), gate(2, 10_000, "transactional")], claims=4200 // room, room=room)
    assert sums[2] / sums.total() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("room", [1, 4, 50])
def test_campaigns_of_one_sender_share_it_by_priority(room: int) -> None:
    sums = taken(
        [gate(1, 10_000, priority=1), gate(2, 10_000, priority=4), gate(3, 10_000, priority=1)], 3000, room
    )
    assert sums[2] / sums[1] == pytest.approx(4, abs=0.1)
    assert sums[3] / sums[1] == pytest.approx(1, abs=0.1)


def test_while_singles_are_waiting_the_campaigns_share_their_tenth() -> None:
    sums = taken([gate(1, 10_000), gate(2, 10_000), gate(3, 10_000, "transactional")], 4000)
    assert sums[1] / sums[2] == pytest.approx(1, abs=0.1)
    assert sums[1] > 0


def test_what_one_does_not_want_goes_to_the_other() -> None:
    assert share(10, [gate(1, 2), gate(2, 100)], NOW) == {UUID(int=1): 2, UUID(int=2): 8}
    assert share(10, [gate(1, 100), gate(2, 3, "transactional")], NOW) == {UUID(int=1): 7, UUID(int=2): 3}


def test_a_campaigns_own_pace_is_kept_within_the_senders() -> None:
    assert share(10, [gate(1, 100, rate=4), gate(2, 100)], NOW) == {UUID(int=1): 4, UUID(int=2): 6}


@given(
    st.integers(0, 200),
    st.lists(
        st.tuples(st.integers(0, 300), st.sampled_from(["bulk", "transactional"]), st.integers(1, 4)),
        max_size=6,
    ),
    st.integers(0, 10**6),
)
def test_all_the_room_is_used_and_no_more_and_nobody_gets_what_it_has_not(
    room: int, loads: list[tuple[int, str, int]], turn: int
) -> None:
    gates = [gate(i, due, traffic, priority) for i, (due, traffic, priority) in enumerate(loads)]
    quotas = share(room, gates, NOW, turn)
    assert sum(quotas.values()) == min(room, sum(g.due for g in gates))
    assert all(0 < quotas[g.id] <= g.due for g in gates if g.id in quotas)


@pytest.mark.parametrize("rate", [0.5, 1, 3, 20, 80, 1000])
def test_no_second_holds_more_than_the_rate(rate: float) -> None:
    fill, burst = pace_of(rate)
    assert burst >= 1
    assert burst + fill <= max(rate + 1e-9, 1 + fill)


def test_a_bucket_fills_with_time_up_to_its_burst_and_not_with_a_clock_that_went_back() -> None:
    bucket = Bucket(tokens=1, at=NOW, rate=10, burst=5)
    assert tokens_now(bucket, NOW + timedelta(milliseconds=200)) == pytest.approx(3)
    assert tokens_now(bucket, NOW + timedelta(hours=1)) == 5
    assert tokens_now(bucket, NOW - timedelta(hours=1)) == 1
