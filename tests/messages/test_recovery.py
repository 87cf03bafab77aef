"""What a dead owner left, what becomes of doubts, and outcomes that come too late: each ends in one consistent row."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from antiphon.core import db
from antiphon.core.channel import Channel
from antiphon.core.db import Connection
from antiphon.messages import doctor, receipts, recovery, service, withdrawal
from antiphon.messages.claim import Claimed
from antiphon.messages.lanes import Owned
from antiphon.messages.model import CRASHES
from antiphon.providers.contract import (
    Accepted,
    NotSent,
    Outcome,
    Receipt,
    Rejected,
    Throttled,
    Unknown,
)
from tests.messages.road import Row, claim_all, one_message, tell

DAY = timedelta(days=1)
BLIND = "wsapme"
"""The provider that takes no key; the lane of one that does is the same but for what an unknown outcome means."""
LATE: dict[str, Outcome] = {
    "accepted": Accepted(provider_message_id="name of 1"),
    "rejected": Rejected(code="no", reason="no such number"),
    "not sent": NotSent(reason="connection refused"),
    "throttled": Throttled(after=None),
    "unknown": Unknown(reason="timeout"),
}


async def expire(conn: Connection, org_id: UUID) -> None:
    """Let the time in which an open call may still answer be over, and the time in which a doubt may resolve."""
    await db.execute(
        conn,
        "UPDATE attempts SET give_up_at = now() - interval '1 second'"
        " WHERE org_id = %(org_id)s AND outcome IS NULL",
        org_id=org_id,
    )
    await db.execute(
        conn,
        "UPDATE outbox SET due_at = now() - interval '1 second' WHERE org_id = %(org_id)s AND state IN (1, 2)",
        org_id=org_id,
    )


async def healthy(conn: Connection, org_id: UUID) -> None:
    assert await doctor.examine(conn, org_id) == []


async def died(
    conn: Connection, row: Row, *, replay: timedelta | None = None
) -> tuple[Owned, Claimed, Owned, UUID]:
    """A worker claimed the message and died; another one has taken the lane and recovered."""
    first, worker = await row.own(conn)
    claimed = await row.claim(conn, first, worker, replay=replay)
    second, other = await row.own(conn)
    await expire(conn, row.org_id)
    assert await recovery.recover(conn, second, other) == 1
    return first, claimed, second, other


async def doubted(conn: Connection, row: Row) -> tuple[Owned, Claimed, Owned, UUID]:
    """The same, and the policy has decided about the doubt."""
    first, claimed, second, other = await died(conn, row)
    await expire(conn, row.org_id)
    assert await recovery.resolve_doubts(conn, second, other) == 1
    return first, claimed, second, other


# ---- a provider that takes a key


async def test_with_a_key_an_unknown_outcome_is_asked_again_four_times_in_all(
    conn: Connection, org_id: UUID
) -> None:
    row = await one_message(conn, org_id)
    lane, worker = await row.own(conn)
    for n in range(1, 5):
        claimed = await row.claim(conn, lane, worker, replay=DAY)
        assert (claimed.attempt_no, claimed.key) == (n, f"{row.message_id}:1")
        await tell(conn, lane, claimed, Unknown(reason="timeout"))
        await db.execute(conn, "UPDATE outbox SET due_at = now() WHERE org_id = %(org_id)s", org_id=org_id)
        await healthy(conn, org_id)
    assert await row.stands(conn) == ("unknown", "unknown", 2)


async def test_a_key_that_the_provider_has_forgotten_is_not_used_again(
    conn: Connection, org_id: UUID
) -> None:
    row = await one_message(conn, org_id)
    _, _, lane, worker = await died(conn, row, replay=DAY)
    await db.execute(
        conn, "UPDATE attempts SET replay_until = now() WHERE org_id = %(org_id)s", org_id=org_id
    )  # the sender was paused over the weekend
    assert await claim_all(conn, lane, worker, replay=DAY) == []
    assert await row.stands(conn) == ("unknown", "key_expired", 2)
    await healthy(conn, org_id)


async def test_a_later_try_does_not_make_the_key_live_longer(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id)
    _, _, lane, worker = await died(conn, row, replay=DAY)
    await row.claim(conn, lane, worker, replay=2 * DAY)
    lives = await db.tuples(
        conn, "SELECT DISTINCT replay_until FROM attempts WHERE org_id = %(org_id)s", org_id=org_id
    )
    assert len(lives) == 1


async def test_what_an_owner_claimed_and_never_learned_of_is_let_go(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id, BLIND)
    lane, worker = await row.own(conn)
    claimed = await row.claim(conn, lane, worker)
    begun = {(claimed.message_id, claimed.attempt_no)}
    assert await recovery.release(conn, lane, begun) == 0, "its call was begun"
    assert await recovery.release(conn, lane, set()) == 1
    assert await row.stands(conn) == ("scheduled", "", 0)
    assert (await row.claim(conn, lane, worker)).attempt_no == 2
    await healthy(conn, org_id)


# ---- an owner that died


async def test_an_open_attempt_is_left_alone_while_its_call_may_answer(
    conn: Connection, org_id: UUID
) -> None:
    row = await one_message(conn, org_id, BLIND)
    lane, worker = await row.own(conn)
    await row.claim(conn, lane, worker)
    second, other = await row.own(conn)
    assert await recovery.recover(conn, second, other) == 0
    assert await row.stands(conn) == ("scheduled", "", 1)


async def test_without_a_key_a_dead_workers_call_is_in_doubt(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id, BLIND)
    await died(conn, row)
    assert await row.stands(conn) == ("unknown", "worker_died", 2)
    await healthy(conn, org_id)


async def test_with_a_key_it_is_asked_again_under_the_same_one(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id)
    _, first, lane, worker = await died(conn, row, replay=DAY)
    assert await row.stands(conn) == ("scheduled", "", 0)
    again = await row.claim(conn, lane, worker, replay=DAY)
    assert (again.attempt_no, again.key) == (2, first.key)
    await tell(conn, lane, again, Accepted(provider_message_id="x"))
    assert await row.stands(conn) == ("sent", "", None)
    await healthy(conn, org_id)


async def test_what_was_open_in_two_crashes_is_not_tried_a_third_time(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id)
    for _ in range(CRASHES):
        await died(conn, row, replay=DAY)
        assert await row.stands(conn) == ("scheduled", "", 0)
    await died(conn, row, replay=DAY)
    assert await row.stands(conn) == ("unknown", "worker_died", 2)
    await healthy(conn, org_id)


async def test_a_key_that_has_run_out_makes_a_doubt(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id)
    lane, worker = await row.own(conn)
    await row.claim(conn, lane, worker, replay=DAY)
    await db.execute(
        conn, "UPDATE attempts SET replay_until = now() WHERE org_id = %(org_id)s", org_id=org_id
    )
    await expire(conn, org_id)
    await recovery.recover(conn, lane, worker)
    assert await row.stands(conn) == ("unknown", "worker_died", 2)


async def test_only_the_lanes_owner_recovers(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id, BLIND)
    lane, worker = await row.own(conn)
    await row.claim(conn, lane, worker)
    await row.own(conn)
    await expire(conn, org_id)
    assert await recovery.recover(conn, lane, worker) == 0
    assert await recovery.resolve_doubts(conn, lane, worker) == 0


# ---- the policy


@pytest.mark.parametrize(
    ("fields", "stands"),
    [
        ({"purpose": "marketing"}, ("unknown", "held", 3)),
        ({"purpose": "transactional"}, ("scheduled", "", 0)),
        ({"purpose": "transactional", "once": True}, ("unknown", "held", 3)),
    ],
    ids=["marketing is held", "the rest is sent once more", "what is marked once is held"],
)
async def test_a_doubt_that_nothing_resolved_is_decided_by_its_purpose(
    conn: Connection, org_id: UUID, fields: dict[str, object], stands: tuple[str, str, int]
) -> None:
    row = await one_message(conn, org_id, BLIND, **fields)
    await _consent(conn, row)
    await doubted(conn, row)
    assert await row.stands(conn) == stands
    await healthy(conn, org_id)


async def _consent(conn: Connection, row: Row) -> None:
    await db.execute(
        conn, "INSERT INTO consent_states VALUES (%(org_id)s, 'whatsapp', %(address)s, true, now())",
        org_id=row.org_id, address=row.address,
    )  # fmt: skip


async def test_the_policy_sends_once_more_and_then_holds(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id, BLIND)
    _, _, lane, worker = await doubted(conn, row)
    await row.claim(conn, lane, worker)
    await expire(conn, org_id)
    await recovery.recover(conn, lane, worker)
    await expire(conn, org_id)
    await recovery.resolve_doubts(conn, lane, worker)
    assert await row.stands(conn) == ("unknown", "held", 3)
    await healthy(conn, org_id)


async def test_the_policys_second_sending_keeps_the_key_and_only_a_persons_takes_a_new_one(
    conn: Connection, org_id: UUID
) -> None:
    row = await one_message(conn, org_id, BLIND)
    _, first, lane, worker = await doubted(conn, row)
    second = await row.claim(conn, lane, worker)
    assert second.key == first.key
    await tell(conn, lane, second, Unknown(reason="timeout"))
    await service.resend(conn, row.actor, row.message_id)
    await db.execute(conn, "UPDATE outbox SET due_at = now() WHERE org_id = %(org_id)s", org_id=org_id)
    third = await row.claim(conn, lane, worker)
    assert third.key != first.key
    await tell(conn, lane, third, Accepted(provider_message_id="x"))
    assert await row.stands(conn) == ("sent", "", None)
    await healthy(conn, org_id)


# ---- a receipt that came while it was open or in doubt


async def delivered(conn: Connection, row: Row, account_id: UUID) -> None:
    await receipts.apply(
        conn, row.org_id, account_id,
        [Receipt(status="delivered", dedupe_key="d", reference=str(row.message_id), provider_message_id="x")],
        "webhook",
    )  # fmt: skip


@pytest.mark.parametrize("outcome", LATE.values(), ids=LATE.keys())
async def test_delivered_before_the_answer_was_recorded_stays_delivered(
    conn: Connection, org_id: UUID, outcome: Outcome
) -> None:
    row = await one_message(conn, org_id, BLIND)
    lane, worker = await row.own(conn)
    claimed = await row.claim(conn, lane, worker)
    await delivered(conn, row, lane.account_id)
    assert await row.stands(conn) == ("delivered", "", 1)
    await tell(conn, lane, claimed, outcome)
    assert await row.stands(conn) == ("delivered", "", None)
    await healthy(conn, org_id)


@pytest.mark.parametrize("replay", [None, DAY], ids=["without a key", "with a key"])
async def test_what_was_delivered_is_not_sent_again_after_its_worker_died(
    conn: Connection, org_id: UUID, replay: timedelta | None
) -> None:
    row = await one_message(conn, org_id, BLIND)
    first, worker = await row.own(conn)
    await row.claim(conn, first, worker, replay=replay)
    await delivered(conn, row, first.account_id)
    second, other = await row.own(conn)
    await expire(conn, org_id)
    await recovery.recover(conn, second, other)
    await expire(conn, org_id)
    await recovery.resolve_doubts(conn, second, other)
    assert await row.stands(conn) == ("delivered", "", None)
    assert await claim_all(conn, second, other) == []
    await healthy(conn, org_id)


async def test_a_receipt_resolves_a_doubt(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id, BLIND)
    _, _, lane, _ = await died(conn, row)
    await delivered(conn, row, lane.account_id)
    assert await row.stands(conn) == ("delivered", "", None)
    await healthy(conn, org_id)


async def test_a_receipt_resolves_what_is_held(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id, BLIND, purpose="marketing")
    await _consent(conn, row)
    _, _, lane, _ = await doubted(conn, row)
    await delivered(conn, row, lane.account_id)
    assert await row.stands(conn) == ("delivered", "", None)
    await healthy(conn, org_id)


# ---- outcomes that come too late


@pytest.mark.parametrize(
    ("outcome", "stands"),
    [
        ("accepted", ("sent", "", None)),
        ("rejected", ("failed", "rejected", None)),
        ("not sent", ("scheduled", "", 0)),
        ("throttled", ("scheduled", "", 0)),
        ("unknown", ("unknown", "unknown", 2)),
    ],
)
async def test_a_late_outcome_resolves_the_doubt_about_it(
    conn: Connection, org_id: UUID, outcome: str, stands: tuple[str, str, int | None]
) -> None:
    row = await one_message(conn, org_id, BLIND)
    first, claimed, _, _ = await died(conn, row)
    await tell(conn, first, claimed, LATE[outcome])
    found = await row.stands(conn)
    assert (found[0], found[2]) == (stands[0], stands[2])
    await healthy(conn, org_id)


@pytest.mark.parametrize(
    ("outcome", "stands"),
    [
        ("accepted", ("sent", "", None)),
        ("rejected", ("scheduled", "", 0)),
        ("not sent", ("scheduled", "", 0)),
        ("throttled", ("scheduled", "", 0)),
        ("unknown", ("scheduled", "", 0)),
    ],
)
async def test_a_late_outcome_while_it_waits_to_be_sent_once_more(
    conn: Connection, org_id: UUID, outcome: str, stands: tuple[str, str, int | None]
) -> None:
    row = await one_message(conn, org_id, BLIND)
    first, claimed, _, _ = await doubted(conn, row)
    await tell(conn, first, claimed, LATE[outcome])
    assert await row.stands(conn) == stands
    await healthy(conn, org_id)


@pytest.mark.parametrize("outcome", LATE)
async def test_a_late_outcome_while_it_waits_to_be_asked_again(
    conn: Connection, org_id: UUID, outcome: str
) -> None:
    row = await one_message(conn, org_id)
    first, claimed, _, _ = await died(conn, row, replay=DAY)
    await tell(conn, first, claimed, LATE[outcome])
    await healthy(conn, org_id)


@pytest.mark.parametrize("second", LATE)
@pytest.mark.parametrize("first", LATE)
async def test_a_late_outcome_never_moves_the_attempt_that_is_on_the_wire(
    conn: Connection, org_id: UUID, first: str, second: str
) -> None:
    row = await one_message(conn, org_id, BLIND)
    old, claimed, lane, worker = await doubted(conn, row)
    again = await row.claim(conn, lane, worker)
    await tell(conn, old, claimed, LATE[first])
    assert (await row.stands(conn))[2] == 1, "the second attempt is still open"
    doubled = await tell(conn, lane, again, _named(LATE[second]))
    found = await row.stands(conn)
    if "accepted" in (first, second):
        assert found == ("sent", "", None)
    assert doubled == ([row.message_id] if first == second == "accepted" else [])
    await healthy(conn, org_id)


def _named(outcome: Outcome) -> Outcome:
    return Accepted(provider_message_id="name of 2") if isinstance(outcome, Accepted) else outcome


async def test_accepted_twice_is_said_and_shown(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id, BLIND)
    old, claimed, lane, worker = await doubted(conn, row)
    again = await row.claim(conn, lane, worker)
    assert await tell(conn, lane, again, Accepted(provider_message_id="b")) == []
    assert await tell(conn, old, claimed, Accepted(provider_message_id="a")) == [row.message_id]
    kinds = await db.tuples(conn, "SELECT kind FROM message_events WHERE org_id = %(org_id)s", org_id=org_id)
    assert ("doubled",) in kinds
    await healthy(conn, org_id)


async def test_accepted_outdoes_a_later_try_that_came_to_nothing(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id, BLIND)
    old, claimed, lane, worker = await doubted(conn, row)
    again = await row.claim(conn, lane, worker)
    await tell(conn, lane, again, LATE["rejected"])
    assert await row.stands(conn) == ("failed", "rejected", None)
    await tell(conn, old, claimed, LATE["accepted"])
    assert await row.stands(conn) == ("sent", "", None)
    await healthy(conn, org_id)


# ---- what may not be sent again to find out


async def test_what_may_have_been_sent_is_not_called_skipped_by_an_opt_out(
    conn: Connection, org_id: UUID
) -> None:
    row = await one_message(conn, org_id)
    _, _, lane, worker = await died(conn, row, replay=DAY)
    await withdrawal.suppress(conn, row.actor, Channel.SMS, row.address, "opt_out", source="test")
    assert await row.stands(conn) == ("unknown", "suppressed", 2)
    await healthy(conn, org_id)
    await expire(conn, org_id)
    await recovery.resolve_doubts(conn, lane, worker)
    assert await row.stands(conn) == ("unknown", "held", 3)
    assert await claim_all(conn, lane, worker, replay=DAY) == []
    await healthy(conn, org_id)


async def test_nor_by_the_claim(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id)
    _, _, lane, worker = await died(conn, row, replay=DAY)
    await db.execute(conn, "UPDATE outbox SET expires_at = now() WHERE org_id = %(org_id)s", org_id=org_id)
    assert await claim_all(conn, lane, worker, replay=DAY) == []
    assert await row.stands(conn) == ("unknown", "expired", 2)
    await expire(conn, org_id)
    await recovery.resolve_doubts(conn, lane, worker)
    assert await row.stands(conn) == ("unknown", "held", 3)
    await healthy(conn, org_id)


async def test_what_was_tried_and_surely_not_sent_is_skipped(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id)
    lane, claimed = await row.handed_over(conn, NotSent(reason="refused"))
    assert claimed.attempt_no == 1
    await withdrawal.suppress(conn, row.actor, Channel.SMS, row.address, "opt_out", source="test")
    assert await row.stands(conn) == ("skipped", "suppressed", None)
    assert lane.epoch > 0
    await healthy(conn, org_id)


# ---- a person decides


async def test_a_person_sends_what_is_held_though_its_campaigns_gate_is_gone(
    conn: Connection, org_id: UUID
) -> None:
    row = await one_message(conn, org_id, BLIND, purpose="marketing")
    await _consent(conn, row)
    _, _, lane, worker = await doubted(conn, row)
    await db.execute(conn, "DELETE FROM gates WHERE org_id = %(org_id)s", org_id=org_id)
    await service.resend(conn, row.actor, row.message_id)
    await db.execute(conn, "UPDATE outbox SET due_at = now() WHERE org_id = %(org_id)s", org_id=org_id)
    again = await row.claim(conn, lane, worker)
    await tell(conn, lane, again, Accepted(provider_message_id="x"))
    assert await row.stands(conn) == ("sent", "", None)
    await healthy(conn, org_id)


@pytest.mark.parametrize("what", ["delivered", "failed"])
async def test_what_a_person_settles_does_not_leave_any_more(
    conn: Connection, org_id: UUID, what: service.Mark
) -> None:
    row = await one_message(conn, org_id, BLIND)
    await service.mark(conn, row.actor, row.message_id, what, "seen by phone")
    lane, worker = await row.own(conn)
    assert await claim_all(conn, lane, worker) == []
    await healthy(conn, org_id)


async def test_a_repeated_outcome_is_one_fact(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id, BLIND)
    lane, claimed = await row.handed_over(conn)
    await tell(conn, lane, claimed, Accepted(provider_message_id="name of 1"))
    kinds = await db.tuples(conn, "SELECT kind FROM message_events WHERE org_id = %(org_id)s", org_id=org_id)
    assert kinds == [("sent",)]
    await healthy(conn, org_id)
