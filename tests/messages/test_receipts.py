"""What receipts do beyond the row they move: addresses, once; and those that came before their message."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from antiphon.contacts import consent
from antiphon.core import db, ids
from antiphon.core.channel import Channel
from antiphon.core.clock import now
from antiphon.core.db import Connection, Database
from antiphon.messages import consequences, doctor, receipts
from antiphon.messages.record import Told
from antiphon.messages.sending import send
from antiphon.providers.contract import Receipt, Rejected
from antiphon.senders import service as senders
from tests import make
from tests.messages.road import Row, one_message, outgoing

MONTH = timedelta(days=30)


def receipt(status: Any, name: str = "name of 1", **said: Any) -> Receipt:
    return Receipt(status=status, dedupe_key=f"{name}:{status}", provider_message_id=name, **said)


async def handed_over(conn: Connection, org_id: UUID) -> tuple[Row, UUID]:
    """A message that a provider has, and the account that it went through."""
    row = await one_message(conn, org_id)
    lane, _ = await row.handed_over(conn)
    return row, lane.account_id


async def suppressions(conn: Connection, org_id: UUID) -> list[tuple[str, datetime | None, bool]]:
    """Reason, end, and whether they are in force."""
    found = await db.tuples(
        conn,
        "SELECT reason, until, lifted_at IS NULL FROM suppressions WHERE org_id = %(org_id)s",
        org_id=org_id,
    )
    return [(reason, until, in_force) for reason, until, in_force in found]


# ---- what they say of the address

SAID: dict[str, tuple[Receipt, str, timedelta | None]] = {
    "a bounce": (receipt("bounced", code="550"), "hard_bounce", None),
    "a complaint": (receipt("complained"), "complaint", None),
    "a failure for good": (receipt("failed", suppress=True), "not_reachable", None),
    "a failure for a month": (receipt("failed", suppress=True, suppress_for=MONTH), "not_reachable", MONTH),
    "words that nobody can store": (
        receipt("failed", suppress=True, reason="no\n\x1b" + "x" * 9000),
        "not_reachable",
        None,
    ),
}


@pytest.mark.parametrize(("told", "reason", "lasts"), SAID.values(), ids=SAID.keys())
async def test_an_address_is_suppressed_as_the_receipt_says(
    conn: Connection, org_id: UUID, told: Receipt, reason: str, lasts: timedelta | None
) -> None:
    _, account_id = await handed_over(conn, org_id)
    await receipts.apply(conn, org_id, account_id, [told], "webhook")
    [(found, until, _)] = await suppressions(conn, org_id)
    assert found == reason
    assert (until is None) == (lasts is None)
    if until and lasts:
        assert abs(until - now() - lasts) < timedelta(minutes=1)
    assert await doctor.examine(conn, org_id) == []


@pytest.mark.parametrize("status", ["failed", "delivered"])
async def test_no_more_marketing_withdraws_consent_and_forbids_nothing_else(
    conn: Connection, org_id: UUID, status: str
) -> None:
    row, account_id = await handed_over(conn, org_id)
    await db.execute(
        conn,
        "INSERT INTO consent_states VALUES (%(org_id)s, 'sms', %(address)s, true, now())",
        org_id=org_id, address=row.address,
    )  # fmt: skip
    sender = await senders.get_sender(conn, org_id, row.lane_id)
    more = [
        outgoing(sender, row.address, "more", purpose=purpose) for purpose in ("marketing", "transactional")
    ]
    made = (await send(conn, row.actor, more)).ids
    await receipts.apply(conn, org_id, account_id, [receipt(status, withdraws_consent=True)], "webhook")
    assert await db.tuples(
        conn, "SELECT is_given FROM consent_states WHERE org_id = %(org_id)s", org_id=org_id
    ) == [(False,)]
    assert await suppressions(conn, org_id) == []
    waiting = await db.tuples(
        conn,
        "SELECT status, reason FROM messages WHERE org_id = %(org_id)s AND id = ANY(%(ids)s) ORDER BY id",
        org_id=org_id, ids=made,
    )  # fmt: skip
    assert waiting == [("skipped", "no_consent"), ("scheduled", "")]


async def test_no_more_marketing_from_an_address_that_is_nobodys_is_a_suppression(
    conn: Connection, org_id: UUID
) -> None:
    _, account_id = await handed_over(conn, org_id)
    await db.execute(conn, "UPDATE addresses SET deleted_at = now() WHERE org_id = %(org_id)s", org_id=org_id)
    await receipts.apply(conn, org_id, account_id, [receipt("failed", withdraws_consent=True)], "webhook")
    assert await suppressions(conn, org_id) == [("opt_out", None, True)]


async def test_a_refusal_for_a_month_suppresses_for_a_month(conn: Connection, org_id: UUID) -> None:
    row = await one_message(conn, org_id)
    lane, worker = await row.own(conn)
    claimed = await row.claim(conn, lane, worker)
    refused = Rejected(code="131026", reason="undeliverable", suppress=True, suppress_for=MONTH)
    at = now()
    await consequences.of_outcomes(conn, lane, [Told(claimed=claimed, outcome=refused, at=at)])
    assert await suppressions(conn, org_id) == [("not_reachable", at + MONTH, True)]


async def test_a_repeated_receipt_does_not_undo_what_a_person_decided(conn: Connection, org_id: UUID) -> None:
    row, account_id = await handed_over(conn, org_id)
    bounce = [receipt("bounced", code="550")]
    await receipts.apply(conn, org_id, account_id, bounce * 2, "webhook")
    await consent.lift(conn, row.actor, Channel.SMS, row.address)
    await receipts.apply(conn, org_id, account_id, bounce, "webhook")
    assert await suppressions(conn, org_id) == [("hard_bounce", None, False)]
    await receipts.apply(conn, org_id, account_id, [receipt("complained")], "webhook")
    assert await suppressions(conn, org_id) == [("complaint", None, True)], "news is obeyed"


# ---- those that came too early


async def test_parked_receipts_keep_their_own_times(conn: Connection, org_id: UUID) -> None:
    row, account_id = await handed_over(conn, org_id)
    other = ids.new_id()
    await receipts.apply(
        conn, org_id, account_id, [receipt("read", "other"), receipt("read", "its")], "webhook"
    )
    await db.execute(
        conn,
        "UPDATE parked_receipts SET parked_at = now() - interval '2 days'"
        " WHERE org_id = %(org_id)s AND provider_message_id = 'other'",
        org_id=org_id,
    )
    await db.execute(
        conn,
        "UPDATE messages SET created_at = now() - interval '3 days' WHERE org_id = %(org_id)s",
        org_id=org_id,
    )
    for name, message_id in (("other", other), ("its", row.message_id)):
        await name_it(conn, org_id, account_id, name, message_id)
    assert await receipts.apply_parked(conn, org_id) == 2
    [(age,)] = await db.tuples(
        conn, "SELECT clock_timestamp() - read_at FROM messages WHERE org_id = %(org_id)s", org_id=org_id
    )
    assert age < timedelta(minutes=1)


async def name_it(conn: Connection, org_id: UUID, account_id: UUID, name: str, message_id: UUID) -> None:
    await db.execute(
        conn,
        "INSERT INTO provider_ids (org_id, account_id, provider_message_id, message_id, attempt_no)"
        " VALUES (%(org_id)s, %(account_id)s, %(name)s, %(message_id)s, 1)",
        org_id=org_id, account_id=account_id, name=name, message_id=message_id,
    )  # fmt: skip


async def test_what_has_waited_for_long_is_looked_at_seldom(
    database: Database, worker_database: Database
) -> None:
    """Each look of a second would otherwise read all of somebody else's receipts again."""
    org_id = (await make.organization(database)).id
    async with database.transaction(org_id) as conn:
        row, account_id = await handed_over(conn, org_id)
        await receipts.apply(
            conn, org_id, account_id, [receipt("read", "its"), receipt("read", "foreign")], "webhook"
        )
        await name_it(conn, org_id, account_id, "its", row.message_id)
        long_ago = now() - receipts.FRESH - timedelta(seconds=1)
        for (id_,) in await db.tuples(
            conn, "SELECT id FROM parked_receipts WHERE org_id = %(org_id)s ORDER BY id", org_id=org_id
        ):
            await db.execute(
                conn,
                "UPDATE parked_receipts SET id = %(old)s WHERE org_id = %(org_id)s AND id = %(id)s",
                org_id=org_id, id=id_, old=earlier(id_, long_ago),
            )  # fmt: skip

    async def look(*, old: bool) -> tuple[list[UUID], int]:
        async with worker_database.across() as conn:
            found = await receipts.organizations_with_parked(conn, old=old)
        async with worker_database.transaction(org_id) as conn:
            return found, await receipts.apply_parked(conn, org_id, old=old)

    assert await look(old=False) == ([], 0)
    assert await look(old=True) == ([org_id], 1)
    async with database.transaction(org_id) as conn:
        await db.execute(
            conn,
            "UPDATE parked_receipts SET expires_at = now() - interval '1 second' WHERE org_id = %(org_id)s",
            org_id=org_id,
        )
    await look(old=True)
    async with worker_database.across() as conn:
        assert await receipts.organizations_with_parked(conn, old=True) == []


def earlier(id_: UUID, at: datetime) -> UUID:
    """The id as it would have been made then."""
    low = ids.uuid7_at(int(at.timestamp() * 1000)).int
    return UUID(int=(low >> 80 << 80) | (id_.int & ((1 << 80) - 1)))
