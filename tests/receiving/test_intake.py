"""The group commit: what shares a transaction, what fails alone, what happens without a database or without room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from antiphon.core import db, ids
from antiphon.core.channel import Channel
from antiphon.core.db import Database
from antiphon.core.errors import Unavailable
from antiphon.core.roles import DatabaseUrls
from antiphon.providers.contract import Event, Inbound, Receipt, Unreadable
from antiphon.receiving import doors, upkeep
from antiphon.receiving.intake import Intake
from antiphon.receiving.model import Delivery, Door
from antiphon.senders.model import webhook_hash
from tests.conftest import Server
from tests.entry import live
from tests.entry.live import Client
from tests.receiving import shop as shops
from tests.receiving.shop import NUMBER, VAULT, Shop, messages, status, statuses, text


async def door_of(shop: Shop) -> Door:
    async with shop.database.transaction(shop.org_id) as conn:
        found = await doors.read(conn, shop.org_id, shop.account_id, VAULT, "")
    assert found is not None
    return found


def delivery(door: Door, *events: Event, at: float = 0) -> Delivery:
    """A webhook that came so many seconds ago."""
    id_ = ids.new_id() if not at else ids.uuid7_at(int((time.time() - at) * 1000))
    return Delivery(id=id_, door=door, headers={}, body=b"{}", events=events)


def receipt(name: str, word: str = "delivered") -> Receipt:
    return Receipt(status=word, dedupe_key=f"{name}:{word}", provider_message_id=name, sender_address=NUMBER)  # type: ignore[arg-type]


def inbound(words: str, name: str, sender: str = "+60111111111", **more: object) -> Inbound:
    return Inbound(
        channel=Channel.WHATSAPP, dedupe_key=name, provider_message_id=name, sender_address=sender,
        recipient=NUMBER, text=words, **more,  # type: ignore[arg-type]
    )  # fmt: skip


async def together(taken: Intake, deliveries: Sequence[Delivery]) -> list[BaseException | None]:
    """All of them at the same time."""
    return await asyncio.gather(*(taken.keep(each) for each in deliveries), return_exceptions=True)


async def test_webhooks_that_come_together_share_transactions(street: Database, shop: Shop) -> None:
    door = await door_of(shop)
    await shop.hand_over_to_crowd([f"wamid.{n}" for n in range(100)])
    done = await together(Intake(street), [delivery(door, receipt(f"wamid.{n}")) for n in range(100)])
    assert done == [None] * 100
    assert len(await shop.kept()) == 100
    [(xids,)] = await shop.ask(
        "SELECT count(DISTINCT xmin::text) FROM provider_events WHERE org_id = %(org_id)s"
    )
    assert xids <= 4


async def test_an_organization_whose_part_fails_costs_its_neighbours_nothing(
    street: Database, shop: Shop
) -> None:
    """One webhook holds what the database cannot store; the others of its organization and of others are kept."""
    other = await shops.build(street)
    [message] = await shop.hand_over("wamid.1")
    [theirs] = await other.hand_over("wamid.1")
    ours = await door_of(shop)
    poison = Receipt(
        status="delivered", dedupe_key="bad", provider_message_id="bad\0name", sender_address=NUMBER
    )
    done = await together(
        Intake(street),
        [
            delivery(ours, receipt("wamid.1")),
            delivery(ours, poison, inbound("hello", "wamid.in")),
            delivery(await door_of(other), receipt("wamid.1", "read")),
        ],
    )
    assert done == [None, None, None]
    assert (await shop.status(message), await other.status(theirs)) == ("delivered", "read")
    kept = await shop.ask(
        "SELECT receipts, inbound, unreadable, note FROM provider_events WHERE org_id = %(org_id)s ORDER BY id"
    )
    assert kept == [(1, 0, 0, None), (1, 1, 1, "not stored, a defect of ours: DataError")]
    assert await shop.ask("SELECT count(*) FROM messages WHERE org_id = %(org_id)s AND direction = 'in'") == [
        (1,)
    ]


async def test_a_batch_that_a_deadlock_took_back_is_tried_again(street: Database, shop: Shop) -> None:
    """Somebody holds the second message and wants the first; the batch holds the first and waits for the second."""
    [first] = await shop.hand_over("wamid.1", to="+60120000001")
    [second] = await shop.hand_over("wamid.2", to="+60120000002")
    reply = inbound("yes", "wamid.in", "+60120000002", reply_to_provider_id="wamid.2")
    lock = "SELECT FROM messages WHERE org_id = %(org_id)s AND id = %(id)s FOR NO KEY UPDATE"
    async with shop.database.transaction(shop.org_id) as conn:
        await db.execute(conn, lock, org_id=shop.org_id, id=second)
        webhook = delivery(await door_of(shop), receipt("wamid.1"), reply)
        keeping = asyncio.create_task(Intake(street).keep(webhook))
        await asyncio.sleep(0.3)
        await db.execute(conn, lock, org_id=shop.org_id, id=first)
    await keeping
    assert await shop.status(first) == "delivered"
    assert await shop.ask(
        "SELECT replied_at IS NOT NULL FROM messages WHERE org_id = %(org_id)s AND id = %(id)s", id=second
    ) == [(True,)]
    assert await shop.kept() == [(1, 1, 0, 0, 0)]


async def test_one_person_who_writes_twice_at_once_for_the_first_time_is_one_contact(
    street: Database, shop: Shop
) -> None:
    door = await door_of(shop)
    taken = [Intake(street), Intake(street)]
    album = [delivery(door, inbound(f"photo {n}", f"wamid.{n}", "+60127777777")) for n in range(10)]
    done = await asyncio.gather(*(taken[n % 2].keep(each) for n, each in enumerate(album)))
    assert done == [None] * 10
    assert await shop.ask(
        "SELECT count(DISTINCT contact_id), count(*) FROM messages WHERE org_id = %(org_id)s"
    ) == [(1, 10)]


async def test_a_webhook_of_thousands_of_entries_is_stored_in_pieces(street: Database, shop: Shop) -> None:
    names = [f"wamid.{n}" for n in range(1_000)]
    await shop.hand_over_to_crowd(names)
    events: list[Event] = [receipt(name) for name in names * 3]
    await Intake(street).keep(delivery(await door_of(shop), *events, Unreadable(reason="odd")))
    assert await shop.ask(
        "SELECT status, count(*) FROM messages WHERE org_id = %(org_id)s GROUP BY status"
    ) == [("delivered", 1_000)]
    assert await shop.kept() == [(3_000, 0, 1, 0, 0)]


# ---- no database, no room -------------------------------------------------------------------------


@pytest.fixture
async def lonely(db_urls: DatabaseUrls) -> AsyncIterator[tuple[Shop, Client]]:
    """A shop with a database and a server of its own."""
    async with Database.connect(db_urls.app, size=4, wait=1) as database:
        shop = await shops.build(database)
        async with live.serving(live.services(database)) as client:
            yield shop, client


async def test_while_the_database_is_away_the_answer_is_503_and_after_it_200(
    lonely: tuple[Shop, Client], postgres: Server, db_urls: DatabaseUrls
) -> None:
    shop, client = lonely
    body = messages(text("hello", "wamid.in"))
    assert (await shop.post(client, statuses(status("wamid.0")))).status == 200
    with psycopg.connect(postgres.superuser_url, autocommit=True) as superuser:
        shut = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        name = urlsplit(db_urls.app).path[1:]
        superuser.execute(shut.format(sql.Identifier(name), sql.SQL("false")))
        superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        answers = await asyncio.gather(*(shop.post(client, body) for _ in range(10)))
        assert {(a.status, a.code) for a in answers} == {(503, "database_away")}
        assert {a.headers["retry-after"] for a in answers} == {"5"}
        superuser.execute(shut.format(sql.Identifier(name), sql.SQL("true")))
    for _ in range(50):
        if (await shop.post(client, body)).status == 200:
            break
        await asyncio.sleep(0.1)
    assert await shop.ask("SELECT count(*) FROM messages WHERE org_id = %(org_id)s") == [(1,)]


FULL = """
    CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON provider_events FOR EACH ROW EXECUTE FUNCTION no_space();
"""


async def test_on_a_full_disk_the_answer_is_503_and_nothing_is_half_written(
    lonely: tuple[Shop, Client], db_urls: DatabaseUrls
) -> None:
    """The disk is full for the last statement of the transaction: a trigger raises PostgreSQL's own error, 53100."""
    shop, client = lonely
    body = messages(text("hello", "wamid.in"))
    with psycopg.connect(db_urls.owner, autocommit=True) as owner:
        owner.execute(FULL)
        answers = await asyncio.gather(*(shop.post(client, body) for _ in range(5)))
        assert {(a.status, a.code) for a in answers} == {(503, "database_full")}
        assert await shop.ask("SELECT count(*) FROM contacts WHERE org_id = %(org_id)s") == [(0,)]
        owner.execute("DROP TRIGGER full_disk ON provider_events")
    assert (await shop.post(client, body)).status == 200
    assert await shop.ask("SELECT count(*) FROM messages WHERE org_id = %(org_id)s") == [(1,)]


async def test_more_than_can_wait_is_refused_at_once(street: Database, shop: Shop) -> None:
    door = await door_of(shop)
    done = await together(Intake(street, most_waiting=5), [delivery(door) for _ in range(20)])
    refused = [each for each in done if isinstance(each, Unavailable)]
    assert [each.code for each in refused] == ["too_much_waits"] * 15
    assert refused[0].headers == {"Retry-After": "2"}
    assert len(await shop.kept()) == 5


async def test_who_has_waited_long_enough_is_refused_and_may_come_again(street: Database, shop: Shop) -> None:
    """Somebody holds the message's row; the webhook is stored once they let go, although it was answered before."""
    [message] = await shop.hand_over("wamid.1")
    webhook = delivery(await door_of(shop), receipt("wamid.1"))
    lock = "SELECT FROM messages WHERE org_id = %(org_id)s AND id = %(id)s FOR NO KEY UPDATE"
    async with shop.database.transaction(shop.org_id) as conn:
        await db.execute(conn, lock, org_id=shop.org_id, id=message)
        with pytest.raises(Unavailable, match="not stored in time"):
            await Intake(street, answer_within=0.2).keep(webhook)
    await Intake(street).keep(webhook)
    assert await shop.status(message) == "delivered"
    assert len(await shop.kept()) == 1


async def test_more_bytes_than_may_be_held_are_refused_before_they_are_read(street: Database) -> None:
    taken = Intake(street, most_bytes=1000)
    taken.bytes_held = 900
    taken.check_room(100)
    with pytest.raises(Unavailable, match="later"):
        taken.check_room(101)


# ---- the passing of time --------------------------------------------------------------------------


async def test_webhooks_are_kept_for_thirty_days(
    street: Database, street_worker: Database, shop: Shop
) -> None:
    door = await door_of(shop)
    day = 86_400
    young, old = 29 * day, 31 * day
    taken = Intake(street)
    await together(taken, [delivery(door, at=old + n) for n in range(5)] + [delivery(door, at=young)])
    other = await shops.build(street)
    await taken.keep(delivery(await door_of(other), at=old))
    await upkeep.forget_old(street_worker)
    assert (len(await shop.kept()), len(await other.kept())) == (1, 0)


async def test_a_door_is_looked_up_once_for_all_who_wait_for_it(street: Database, shop: Shop) -> None:
    known = doors.Doors(street, VAULT, "")
    name: tuple[UUID, UUID] = (shop.org_id, shop.account_id)
    secret = webhook_hash(shop.path.rpartition("/")[2])
    found = await asyncio.gather(*(known.find(name, "meta_whatsapp", secret) for _ in range(50)))
    assert len({id(door) for door in found}) == 1
