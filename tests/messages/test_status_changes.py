"""The event `message_status_changed`: one for each change that somebody wants to hear of, none for anybody else."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from antiphon.core import db
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.events import service as events
from antiphon.messages import ledger, service
from antiphon.messages.model import Fact
from antiphon.providers.contract import Outcome, Rejected
from tests.messages import road

NAME = "message_status_changed"


async def heard(conn: Connection, org_id: UUID) -> list[dict[str, Any]]:
    """What was said so far, in order."""
    found = await db.tuples(
        conn,
        "SELECT subject_id, payload FROM events_new WHERE org_id = %(org_id)s AND name = %(name)s ORDER BY id",
        org_id=org_id,
        name=NAME,
    )
    assert all(str(subject_id) == payload["id"] for subject_id, payload in found)
    return [payload for _, payload in found]


def fact(message_id: UUID, kind: Any, **more: Any) -> Fact:
    return Fact(message_id=message_id, kind=kind, key=f"{kind}:1", at=now(), source="webhook", **more)


async def test_each_change_is_said_once_with_what_it_was_before(conn: Connection, org_id: UUID) -> None:
    await events.subscribe(conn, org_id, "stream:1", [NAME])
    row = await road.one_message(conn, org_id)
    await row.handed_over(conn)
    for facts in (
        [fact(row.message_id, "delivered"), fact(row.message_id, "read")],
        [fact(row.message_id, "delivered")],  # told again
        [fact(row.message_id, "clicked")],  # a fact, but no status
    ):
        await ledger.learn(conn, org_id, facts)
    said = await heard(conn, org_id)
    assert [(event["old_status"], event["status"]) for event in said] == [
        ("scheduled", "sent"), ("sent", "delivered"), ("delivered", "read"),
    ]  # fmt: skip
    message = await service.get(conn, row.actor, row.message_id)
    assert {(event["contact_id"], event["channel"], event["campaign_id"]) for event in said} == {
        (str(message.contact_id), "sms", None)
    }
    assert all(event["at"] for event in said)


@pytest.mark.parametrize("wanted", [True, False], ids=["somebody listens", "nobody listens"])
async def test_a_refusal_says_why(conn: Connection, org_id: UUID, wanted: bool) -> None:
    if wanted:
        await events.subscribe(conn, org_id, "endpoint:1", [NAME, "message_received"])
    row = await road.one_message(conn, org_id)
    outcome: Outcome = Rejected(code="131026", reason="not on WhatsApp")
    await row.handed_over(conn, outcome)
    said = [(event["status"], event["reason"], event["code"]) for event in await heard(conn, org_id)]
    assert said == ([("failed", "rejected", "131026")] if wanted else [])


async def test_nothing_is_written_for_who_wants_something_else_or_nothing_any_more(
    conn: Connection, org_id: UUID
) -> None:
    await events.subscribe(conn, org_id, "stream:1", ["message_received"])
    await events.subscribe(conn, org_id, "stream:2", [NAME])
    await db.execute(
        conn,
        "UPDATE event_subscriptions SET valid_until = now() - interval '1 second'"
        " WHERE org_id = %(org_id)s AND consumer = 'stream:2'",
        org_id=org_id,
    )
    row = await road.one_message(conn, org_id)
    await row.handed_over(conn)
    await ledger.learn(conn, org_id, [fact(row.message_id, "delivered")])
    assert await heard(conn, org_id) == []
