"""Status polling: asks only about messages that are late for their channel, oldest first, within the sender's budget.

The record step plans the first question; a webhook that moves a message puts its next question off, and a final answer
removes it. So a provider whose webhooks work is hardly asked, and one whose webhooks are lost is asked about all.
Where a message can be found by our reference, doubts are asked about too (`doubts`).
Read (transaction), ask (none), write (transaction). A round asks one request's worth, and `pause_between` rounds keeps
the provider's limit: many requests in a round would be a burst, and a lane that is given back in mid-round loses them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import structlog

from antiphon.core import db
from antiphon.core.clock import now
from antiphon.core.db import Connection, Database
from antiphon.messages import doubts, receipts
from antiphon.messages.consequences import clamped
from antiphon.messages.lanes import Owned
from antiphon.providers.contract import Account, LookUp, Polling, Provider, Throttled
from antiphon.providers.drive import Http, Mail, ask

log = structlog.get_logger()


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A message to ask about; without a name of the provider's, it is a doubt."""

    message_id: UUID
    provider_message_id: str
    status: str
    tries: int


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask, in whose name."""

    account: Account[Any]
    provider: Provider[Any]
    sender_address: str


async def poll_once(database: Database, lane: Owned, asked: Asked, http: Http, mail: Mail) -> int:
    """Ask about what is late, at most a batch; returns how many were asked about."""
    polling, status_request = asked.provider.polling, asked.provider.status_request
    if polling is None or status_request is None:
        return 0
    rule, at = doubts.rule_of(polling), now()
    async with database.transaction(lane.org_id) as conn:
        if rule is not None:
            await doubts.plan(conn, lane, rule)
        due = await take_due(conn, lane, polling, at)
        open_ = await doubts.still_open(conn, lane, [d.message_id for d in due if not d.provider_message_id])
    questions = [
        LookUp(
            reference=str(d.message_id),
            sender_address=asked.sender_address,
            provider_message_id=d.provider_message_id or None,
        )
        for d in due
        if d.provider_message_id or d.message_id in open_
    ]
    if not questions:
        return 0
    answer = await ask(status_request(asked.account, questions), http, mail)
    async with database.transaction(lane.org_id) as conn:
        told = doubts.proven(answer.receipts, open_)
        applied = await receipts.apply(conn, lane.org_id, lane.account_id, told, "polling")
        if rule is not None:
            await doubts.learn_absent(conn, lane, open_, answer.absent, at, rule.every)
        if isinstance(answer.trouble, Throttled):
            await put_off(conn, lane, clamped(answer.trouble.after))
    log.debug("polling.asked", lane=str(lane.id), asked=len(questions), moved=len(applied.moved))
    return len(questions)


async def take_due(conn: Connection, lane: Owned, polling: Polling, at: datetime) -> list[Due]:
    """The oldest late messages, each put off to its next question before it is asked: a crash asks later, not twice."""
    every = {rule.status: rule.every for rule in polling.rules}
    slowest = max(every.values(), default=timedelta(minutes=1))
    return await db.rows(
        conn, Due, TAKE_DUE, org_id=lane.org_id, lane_id=lane.id, batch=polling.batch, now=at,
        sent=every.get("sent", slowest), delivered=every.get("delivered", slowest),
        unknown=every.get("unknown", slowest),
    )  # fmt: skip


TAKE_DUE = """
WITH late AS MATERIALIZED (
    SELECT p.message_id, m.status, p.tries
      FROM polls p CROSS JOIN LATERAL (SELECT x.status FROM messages x
                                        WHERE x.org_id = %(org_id)s AND x.id = p.message_id OFFSET 0) m
     WHERE p.org_id = %(org_id)s AND p.lane_id = %(lane_id)s AND p.due_at <= %(now)s
     ORDER BY p.due_at
     LIMIT %(batch)s
       FOR UPDATE OF p SKIP LOCKED
), over AS (
    DELETE FROM polls p
     WHERE p.org_id = %(org_id)s AND p.message_id = ANY (ARRAY(SELECT message_id FROM late)) AND p.stop_at <= %(now)s
)
UPDATE polls p
   SET tries = p.tries + 1,
       due_at = %(now)s + least(power(1.3, p.tries), 60)
                          * CASE WHEN p.provider_message_id = '' THEN %(unknown)s::interval
                                 WHEN late.status = 'delivered' THEN %(delivered)s::interval
                                 ELSE %(sent)s::interval END
  FROM late
 WHERE p.org_id = %(org_id)s AND p.message_id = late.message_id AND p.stop_at > %(now)s
RETURNING p.message_id, p.provider_message_id, late.status, late.tries
"""


async def put_off(conn: Connection, lane: Owned, wait: timedelta) -> None:
    """The provider asked for silence: no question of this lane before then."""
    await db.execute(conn, PUT_OFF, org_id=lane.org_id, lane_id=lane.id, until=now() + wait)


PUT_OFF = """
    UPDATE polls SET due_at = %(until)s
     WHERE org_id = %(org_id)s AND lane_id = %(lane_id)s AND due_at < %(until)s
"""


def pause_between(polling: Polling) -> float:
    """Seconds between two rounds, which is between two requests, so that the provider's limit a minute holds."""
    return 60.0 / max(1, polling.per_minute)
