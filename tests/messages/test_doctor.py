"""The doctor sees each invariant broken, and sees nothing where nothing is: a check that cannot go red is a defect."""

from __future__ import annotations

from typing import LiteralString
from uuid import UUID

import pytest

from antiphon.core import db, ids
from antiphon.core.channel import Channel
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.messages import doctor, ledger, withdrawal
from antiphon.messages.model import Fact
from tests.messages.road import Row, one_message


async def broken(conn: Connection, org_id: UUID) -> list[str]:
    """The numbers of the invariants that do not hold."""
    return [finding.invariant.split()[0] for finding in await doctor.examine(conn, org_id)]


async def test_a_message_that_waits_is_a_healthy_ledger(conn: Connection, org_id: UUID) -> None:
    await one_message(conn, org_id)
    assert await doctor.examine(conn, org_id) == []


async def test_a_message_that_went_all_the_way_is_a_healthy_ledger(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id)
    await row.handed_over(conn)
    facts = [
        Fact(message_id=row.message_id, kind=kind, key=kind, at=now(), source="webhook")
        for kind in ("delivered", "read", "replied")
    ]
    await ledger.learn(conn, org_id, facts)
    assert await doctor.examine(conn, org_id) == []


BREAKS: dict[str, tuple[str, LiteralString]] = {
    "a key without its message": (
        "I7",
        "INSERT INTO message_keys VALUES (%(org_id)s, %(other)s, %(other)s, %(other)s)",
    ),
    "sent without an attempt": (
        "I2",
        "UPDATE messages SET status = 'sent', stage = 'sent', sent_at = now() WHERE org_id = %(org_id)s",
    ),
    "accepted and still scheduled": (
        "I2",
        "INSERT INTO attempts (org_id, message_id, attempt_no, lane_id, epoch, key, claimed_at, give_up_at, outcome)"
        " VALUES (%(org_id)s, %(message_id)s, 1, %(lane_id)s, 1, 'k', now(), now(), 'accepted')",
    ),
    "accepted twice under two names": (
        "I3",
        "INSERT INTO attempts (org_id, message_id, attempt_no, lane_id, epoch, key, claimed_at, give_up_at, outcome,"
        " provider_message_id) SELECT %(org_id)s, %(message_id)s, n, %(lane_id)s, 1, 'k', now(), now(), 'accepted',"
        " 'name ' || n FROM generate_series(1, 2) n",
    ),
    "a provider's name of nothing": (
        "I4",
        "INSERT INTO provider_ids (org_id, account_id, provider_message_id, message_id, attempt_no)"
        " VALUES (%(org_id)s, %(other)s, 'x', %(message_id)s, 1)",
    ),
    "a status that the facts do not prove": (
        "I5",
        "UPDATE messages SET delivered_at = now() WHERE org_id = %(org_id)s",
    ),
    "a stage that the facts do not prove": (
        "I5",
        "UPDATE messages SET sent_at = now(), read_at = now(), status = 'read', stage = 'delivered'"
        " WHERE org_id = %(org_id)s",
    ),
    "a history that falls": (
        "I5",
        "INSERT INTO message_events (org_id, message_id, key, kind, source, old_status, new_status)"
        " VALUES (%(org_id)s, %(message_id)s, 'k', 'sent', 'dispatch', 'delivered', 'sent')",
    ),
    "a count too many": (
        "I6",
        "INSERT INTO funnel_deltas (org_id, campaign_id, sender_id, channel, day, stage, reason, n)"
        " VALUES (%(org_id)s, %(other)s, %(lane_id)s, 'sms', '2026-01-01', 'sent', '', 1)",
    ),
    "a message that was not counted": (
        "I6",
        "DELETE FROM funnel_deltas WHERE org_id = %(org_id)s",
    ),
    "a contact of somebody else": (
        "I7",
        "UPDATE messages SET contact_id = %(other)s WHERE org_id = %(org_id)s",
    ),
    "a sender that is not there": (
        "I7",
        "UPDATE messages SET sender_id = %(other)s WHERE org_id = %(org_id)s",
    ),
    "a template version that is not there": (
        "I7",
        "UPDATE messages SET template_version_id = %(other)s WHERE org_id = %(org_id)s",
    ),
    "a gate that is not there": (
        "I7",
        "UPDATE outbox SET gate_id = %(other)s WHERE org_id = %(org_id)s",
    ),
    "an attempt of no message": (
        "I7",
        "INSERT INTO attempts (org_id, message_id, attempt_no, lane_id, epoch, key, claimed_at, give_up_at)"
        " VALUES (%(org_id)s, %(other)s, 1, %(lane_id)s, 1, 'k', now(), now())",
    ),
    "scheduled and not in the queue": (
        "I9",
        "DELETE FROM outbox WHERE org_id = %(org_id)s",
    ),
    "waiting though canceled": (
        "I9",
        "UPDATE messages SET status = 'canceled', stage = 'canceled' WHERE org_id = %(org_id)s",
    ),
    "doubtful in the queue and not in the ledger": (
        "I9",
        "UPDATE outbox SET state = 2 WHERE org_id = %(org_id)s",
    ),
    "held in the queue and not in the ledger": (
        "I9",
        "UPDATE outbox SET state = 3 WHERE org_id = %(org_id)s",
    ),
    "open without an attempt": (
        "I9",
        "UPDATE outbox SET state = 1, attempt_no = 1, due_at = now() + interval '1 minute' WHERE org_id = %(org_id)s",
    ),
    "due for minutes in a lane that sleeps": (
        "I10",
        "WITH old AS (UPDATE outbox SET due_at = now() - interval '2 minutes' WHERE org_id = %(org_id)s)"
        " UPDATE lanes SET next_due_at = 'infinity' WHERE org_id = %(org_id)s",
    ),
    "due for minutes and no worker": (
        "I10",
        "WITH old AS (UPDATE outbox SET due_at = now() - interval '2 minutes' WHERE org_id = %(org_id)s)"
        " UPDATE lanes SET next_due_at = now() WHERE org_id = %(org_id)s",
    ),
    "a row outside of every month": (
        "I11",
        "INSERT INTO message_contents (org_id, message_id, text)"
        " VALUES (%(org_id)s, '00000000-0000-7000-8000-000000000000', 'x')",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
async def test_what_is_broken_is_seen(conn: Connection, org_id: UUID, case: str) -> None:
    row = await one_message(conn, org_id)
    assert await broken(conn, org_id) == []
    invariant, sql = BREAKS[case]
    everything = {
        "org_id": org_id, "message_id": row.message_id, "lane_id": row.lane_id, "other": ids.new_id(),
    }  # fmt: skip
    await conn.execute(sql, {name: value for name, value in everything.items() if f"%({name})s" in sql})
    assert invariant in await broken(conn, org_id)


async def test_a_plan_that_is_not_its_messages_is_seen(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id)
    campaign_id = ids.new_id()
    await _campaign(conn, org_id, campaign_id, row, planned=1)
    assert await broken(conn, org_id) == ["I1"]
    await db.execute(
        conn, "INSERT INTO message_keys VALUES (%(org_id)s, %(campaign_id)s, %(message_id)s, %(message_id)s)",
        org_id=org_id, campaign_id=campaign_id, message_id=row.message_id,
    )  # fmt: skip
    assert await broken(conn, org_id) == ["I1"], "a key and no message"


async def _campaign(conn: Connection, org_id: UUID, campaign_id: UUID, row: Row, planned: int) -> None:
    await db.execute(
        conn,
        "INSERT INTO campaigns (org_id, id, kind, name, channel, sender_id, audience, created_by, planned, is_expanded)"
        " VALUES (%(org_id)s, %(id)s, 'blast', 'x', 'sms', %(lane_id)s, '{}', 'test', %(planned)s, true)",
        org_id=org_id, id=campaign_id, lane_id=row.lane_id, planned=planned,
    )  # fmt: skip


async def test_a_claim_after_the_opt_out_is_seen_and_one_before_is_not(
    conn: Connection, org_id: UUID
) -> None:
    row = await one_message(conn, org_id)
    await row.handed_over(conn)
    await withdrawal.suppress(conn, row.actor, Channel.SMS, row.address, "opt_out", source="test")
    assert await broken(conn, org_id) == []
    await db.execute(
        conn, "UPDATE attempts SET claimed_at = now() + interval '1 minute' WHERE org_id = %(org_id)s",
        org_id=org_id,
    )  # fmt: skip
    assert await broken(conn, org_id) == ["I8"]


async def test_a_finding_says_how_many_shows_some_and_names_the_remedy(
    conn: Connection, org_id: UUID
) -> None:
    await one_message(conn, org_id)
    await db.execute(
        conn,
        "INSERT INTO provider_ids (org_id, account_id, provider_message_id, message_id, attempt_no)"
        " SELECT %(org_id)s, %(org_id)s, 'x' || n, %(org_id)s, 1 FROM generate_series(1, 1500) n"
        " ON CONFLICT DO NOTHING",
        org_id=org_id,
    )
    [finding] = await doctor.examine(conn, org_id)
    assert finding.count == doctor.MOST
    assert len(finding.examples) == doctor.EXAMPLES
    assert "names" in finding.examples[0]
    assert finding.remedy
