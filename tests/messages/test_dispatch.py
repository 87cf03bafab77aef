"""The road out: claimed, sent over a socket, recorded; and what each answer of a provider does."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from antiphon.core.clock import now
from antiphon.core.db import Database
from antiphon.messages import explain, lane_service, lanes, model
from antiphon.senders.model import SenderChanges
from tests.messages.road import Road, build, dispatcher
from tests.simulator_process import Simulator

NOWHERE = "http://127.0.0.1:9"


async def test_messages_are_sent_once_each_and_recorded(road: Road, sim: Simulator) -> None:
    await road.send(300)
    async with dispatcher(road.worker_database):
        await road.until(sent=300)
    summary = await sim.summary()
    assert summary["duplicates"]["key"] == []
    assert len(await sim.messages(provider="keyed")) == 300
    await road.healthy()


# ---- refused for now


async def test_a_throttled_sender_is_silent_for_as_long_as_it_was_told_and_no_retry_is_counted(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await keyed(database, worker_database, sim, in_flight=1)
    await sim.fault(provider="keyed", answer="status", status=429, retry_after="2", count=1)
    await road.send(5)
    async with dispatcher(road.worker_database):
        await road.soon("SELECT 1 FROM lanes WHERE org_id = %(org_id)s AND blocked_until > now()")
        [(reason, retries)] = await road.run(
            "SELECT wait_reason, retries FROM outbox WHERE org_id = %(org_id)s AND attempt_no > 0"
        )
        assert (reason, retries) == ("throttled", 0)
        assert "the provider" in (await told(road, await first(road))).now
        await road.until(sent=5)
    refused, *others = [entry["at"] for entry in await sim.log(provider="keyed", operation="send")]
    assert 2.0 <= min(others) - refused < 10, "Retry-After is honoured, and then it goes on"
    await road.healthy()


async def test_what_did_not_reach_the_provider_is_tried_four_times_and_given_up(
    database: Database, worker_database: Database
) -> None:
    road = await build(
        database, worker_database, "keyed", {"base_url": NOWHERE, "signing_secret": "shhh"}, "+4915100000"
    )
    await road.send(1)
    async with dispatcher(road.worker_database):
        for n in range(1, model.RETRIES + 1):
            [(wait,)] = await road.soon(
                "SELECT due_at - now() FROM outbox WHERE org_id = %(org_id)s AND retries = %(n)s AND state = 0",
                n=n,
            )
            assert timedelta() < wait <= model.BACKOFF * 4**n
            assert "tried again" in (await told(road, await first(road))).now
            await road.due_now()
        await road.until(failed=1)
    [(reason, tries)] = await road.run(
        "SELECT reason, (SELECT count(*) FROM attempts WHERE org_id = %(org_id)s) FROM messages"
        " WHERE org_id = %(org_id)s"
    )
    assert (reason, tries) == ("given_up", 4)
    await road.healthy()


async def test_a_refusal_fails_its_message_alone_and_a_dead_address_is_not_tried_again(
    road: Road, sim: Simulator
) -> None:
    await sim.scenario({"keyed": {"absent_suffixes": ["0000"]}})
    await road.send(3)
    async with dispatcher(road.worker_database):
        await road.until(sent=2, failed=1)
        await road.send(1)
        await road.until(skipped=1)
    reasons = await road.run(
        "SELECT reason FROM messages WHERE org_id = %(org_id)s AND status IN ('failed', 'skipped') ORDER BY id"
    )
    assert reasons == [("rejected",), ("suppressed",)]
    assert len(await sim.log(provider="keyed", operation="send")) == 3
    await road.healthy()


async def test_an_account_fault_pauses_the_sender_and_tells_and_a_person_lets_it_go_on(
    road: Road, sim: Simulator
) -> None:
    await sim.account("keyed", "default", token="the right one")
    await road.send(40)
    async with dispatcher(road.worker_database):
        await road.soon("SELECT 1 FROM lanes WHERE org_id = %(org_id)s AND paused_reason IS NOT NULL")
        await asyncio.sleep(0.5)
        assert await road.statuses() == {"scheduled": 40}
        incidents = await road.run(
            "SELECT kind FROM incidents WHERE org_id = %(org_id)s AND closed_at IS NULL"
        )
        assert incidents == [("account",)]
        assert "paused" in (await told(road, await first(road))).now
        tried = len(await sim.log(provider="keyed", operation="send"))
        await asyncio.sleep(1)
        assert len(await sim.log(provider="keyed", operation="send")) == tried, "nothing leaves while paused"
        await sim.control("DELETE", "/accounts/keyed/default")
        async with road.database.transaction(road.org_id) as conn:
            await lane_service.update_sender(conn, road.actor, road.sender.id, SenderChanges(is_active=True))
        await road.until(sent=40)
    assert await road.run("SELECT 1 FROM incidents WHERE org_id = %(org_id)s AND closed_at IS NULL") == []
    assert await road.run("SELECT 1 FROM outbox WHERE org_id = %(org_id)s AND retries > 0") == []
    await road.healthy()


# ---- in doubt

DOUBTS: dict[str, dict[str, Any]] = {
    "an error after it was taken": {"answer": "status", "status": 500, "accept": True},
    "an error, and nothing was taken": {"answer": "status", "status": 500},
    "the connection reset after it was taken": {"answer": "reset"},
    "an answer cut in half": {"answer": "half"},
    "garbage": {"answer": "garbage"},
}


@pytest.mark.parametrize("fault", DOUBTS.values(), ids=DOUBTS.keys())
async def test_without_a_key_it_is_in_doubt_after(
    database: Database, worker_database: Database, sim: Simulator, fault: dict[str, Any]
) -> None:
    road = await blind(database, worker_database, sim)
    await sim.fault(provider="wsapme", count=1, suffix="0", **fault)
    await road.send(3)
    async with dispatcher(road.worker_database):
        await road.until(sent=2, unknown=1)
        assert "in doubt" in (await told(road, await first(road, "unknown"))).now
        await asyncio.sleep(0.3)
    assert len(await sim.log(provider="wsapme", operation="send")) == 3, "it is not simply sent again"
    await road.healthy()


@pytest.mark.parametrize("fault", DOUBTS.values(), ids=DOUBTS.keys())
async def test_with_a_key_it_is_asked_again_under_the_same_one_after(
    road: Road, sim: Simulator, fault: dict[str, Any]
) -> None:
    await sim.fault(provider="keyed", count=1, suffix="0", **fault)
    await road.send(3)
    async with dispatcher(road.worker_database):
        await road.soon("SELECT 1 FROM outbox WHERE org_id = %(org_id)s AND retries = 1 AND state = 0")
        await road.due_now()
        await road.until(sent=3)
    accepted = await sim.log(provider="keyed", operation="send", verdict="accepted")
    assert len(accepted) == len({entry["recipient"] for entry in accepted}) == 3
    await road.healthy()


async def test_a_doubt_of_marketing_is_held_and_of_the_rest_sent_once_more(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await blind(database, worker_database, sim)
    await road.run("UPDATE lanes SET doubt_after = '1 second' WHERE org_id = %(org_id)s")
    await sim.fault(provider="wsapme", answer="status", status=500, count=2)
    await road.consent(2)
    await road.send(1, purpose="marketing")
    await road.send(1, first=1)
    async with dispatcher(road.worker_database):
        await road.until(sent=1, unknown=1)
        await road.soon("SELECT 1 FROM outbox WHERE org_id = %(org_id)s AND state = 3")
    held = await first(road, "unknown")
    assert "a person may resend it" in (await told(road, held)).now
    [(purpose,)] = await road.run(
        "SELECT purpose FROM messages WHERE org_id = %(org_id)s AND status = 'unknown'"
    )
    assert purpose == "marketing"
    await road.healthy()


# ---- its own fault


async def test_a_message_that_cannot_be_rendered_fails_alone(road: Road) -> None:
    await road.template("greeting", "Hello {{firstName}} of {{company}}")
    await road.send(3, template="greeting", variables={"firstName": "Max", "company": "Lakeside"})
    await road.run(
        "UPDATE messages SET variables = '{}' WHERE org_id = %(org_id)s AND id ="
        " (SELECT min(id::text)::uuid FROM messages WHERE org_id = %(org_id)s)"
    )
    async with dispatcher(road.worker_database):
        await road.until(sent=2, failed=1)
    [(reason, detail)] = await road.run(
        "SELECT reason, detail FROM messages WHERE org_id = %(org_id)s AND status = 'failed'"
    )
    assert reason == "template"
    assert "firstName" in detail
    await road.healthy()


# ---- order


async def test_messages_to_one_contact_leave_in_order_though_the_first_must_be_tried_again(
    road: Road, sim: Simulator
) -> None:
    await sim.fault(provider="keyed", answer="status", status=429, retry_after="1", count=1, text="number 0")
    for n in range(4):
        await road.send(1, text=f"number {n}")
    async with dispatcher(road.worker_database):
        await road.until(sent=4)
    texts = [e["text"] for e in await sim.log(provider="keyed", operation="send", verdict="accepted")]
    assert texts == [f"number {n}" for n in range(4)]


async def test_another_contact_does_not_wait_for_it(road: Road, sim: Simulator) -> None:
    await sim.fault(provider="keyed", answer="hang", seconds=2, accept=True, count=1, suffix="0000")
    await road.send(1)
    await road.send(1, text="later to the same")
    await road.send(5, first=1)
    async with dispatcher(road.worker_database):
        await road.until(sent=5, seconds=2)
        assert (await road.statuses())["scheduled"] == 2


# ---- gates and classes


async def test_closing_a_gate_stops_what_waits_behind_it_within_a_second(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await keyed(database, worker_database, sim, rate=100)
    await road.send(400)
    async with dispatcher(road.worker_database):
        await road.until_sent(50)
        async with road.database.transaction(road.org_id) as conn:
            await lanes.close_gate(conn, road.org_id, "default", road.org_id, "the campaign is paused")
        closed = now()
        await asyncio.sleep(1.5)
        late = [
            e
            for e in await sim.log(provider="keyed", operation="send")
            if at(e) > closed + timedelta(seconds=1)
        ]
        assert late == []
        assert "the campaign is paused" in (await told(road, await first(road))).now
        async with road.database.transaction(road.org_id) as conn:
            await lanes.open_gate(conn, road.org_id, "default", road.org_id, now())
        await road.wake()
        await road.until(sent=400)
    await road.healthy()


async def test_a_single_message_overtakes_a_blast_of_which_a_tenth_goes_on(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await keyed(database, worker_database, sim, rate=200)
    await road.consent(600)
    await road.send(600, purpose="marketing", text="blast")
    async with dispatcher(road.worker_database):
        await road.until_sent(30)
        await road.send(200, first=1000, text="single")
        await road.until_sent(600)
    calls = [e["text"] for e in await sim.log(provider="keyed", operation="send")]
    start = calls.index("single")
    end = len(calls) - calls[::-1].index("single")
    between = calls[start:end].count("blast")
    assert between >= 10, "the blast goes on"
    assert between < 120, "and the single ones do not wait for it"


def at(entry: dict[str, Any]) -> datetime:
    """When the simulator received it."""
    return datetime.fromtimestamp(entry["at"], now().tzinfo)


# ---- pace


async def test_no_window_holds_more_than_the_rate_allows_though_the_lane_moves_between_workers(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await keyed(database, worker_database, sim, rate=80)
    await road.send(400)
    async with dispatcher(worker_database, lease=2.0):
        await road.until_sent(60)
        async with dispatcher(worker_database, lease=2.0):
            await asyncio.sleep(0.5)
    for _ in range(3):  # give the lane back and take it again, with what the bucket holds
        async with dispatcher(worker_database, lease=2.0):
            await asyncio.sleep(0.5)
    async with dispatcher(worker_database, lease=2.0):
        await road.until(sent=400)
    times = sorted(entry["at"] for entry in await sim.log(provider="keyed", operation="send", limit=1000))
    fill, burst = lanes.pace_of(80)
    for window in (0.25, 1.0, 3.0):
        most = max(
            sum(1 for _ in itertools.takewhile(lambda t, end=start + window: t < end, times[i:]))
            for i, start in enumerate(times)
        )
        assert most <= burst + fill * (window + 0.1) + 1, f"{most} in {window} s"
    assert times[-1] - times[0] < 5 * 400 / 80, "and it is not slower than it must be"


async def test_the_daily_cap_ends_the_day_and_the_lane_rests(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await keyed(database, worker_database, sim, daily_cap=25)
    await road.send(60)
    async with dispatcher(worker_database):
        await road.until(sent=25)
        await road.rests()
        assert len(await sim.log(provider="keyed", operation="send")) == 25
        async with road.database.transaction(road.org_id) as conn:
            await lane_service.update_sender(conn, road.actor, road.sender.id, SenderChanges(daily_cap=None))
        await road.until(sent=60)
    await road.healthy()


async def test_a_paused_a_blocked_and_a_closed_lane_rest(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    roads = [await keyed(database, worker_database, sim) for _ in range(3)]
    for road in roads:
        await road.send(5)
    await roads[0].run("UPDATE lanes SET paused_reason = 'x' WHERE org_id = %(org_id)s")
    await roads[1].run("UPDATE lanes SET blocked_until = now() + interval '1 hour' WHERE org_id = %(org_id)s")
    await roads[2].run("UPDATE gates SET is_open = false WHERE org_id = %(org_id)s")
    async with dispatcher(worker_database):
        await asyncio.gather(*(road.rests() for road in roads))
    assert await sim.log(provider="keyed", operation="send") == []


async def test_a_provider_that_fails_is_left_alone_and_probed_until_it_answers(
    database: Database, worker_database: Database, sim: Simulator
) -> None:
    road = await keyed(database, worker_database, sim, in_flight=8)
    broken = await sim.fault(provider="keyed", answer="status", status=500, count=0)
    await road.send(200)
    async with dispatcher(worker_database) as worker:
        assert worker.lease > 2
        await road.soon("SELECT 1 FROM incidents WHERE org_id = %(org_id)s AND kind = 'provider'")
        calls = len(await sim.log(provider="keyed", operation="send"))
        assert calls < 45, "it opens after 20 to 40 calls"
        await asyncio.sleep(3)
        assert len(await sim.log(provider="keyed", operation="send")) <= calls + 8, "and stays open"
        await sim.control("DELETE", f"/faults/{broken['id']}")
    [(is_open,)] = await road.run("SELECT closed_at IS NULL FROM incidents WHERE org_id = %(org_id)s")
    assert is_open


# ---- making a road


async def keyed(database: Database, worker_database: Database, sim: Simulator, **pace: Any) -> Road:
    credentials = {"base_url": f"{sim.url}/keyed", "signing_secret": "shhh"}
    pace = {"rate": 1000, "in_flight": 32, **pace}
    return await build(database, worker_database, "keyed", credentials, "+4915100000", **pace)


async def blind(database: Database, worker_database: Database, sim: Simulator, **pace: Any) -> Road:
    credentials = {"base_url": f"{sim.url}/v1", "token": "any"}
    pace = {"rate": 1000, "in_flight": 8, "daily_cap": None, **pace}
    return await build(database, worker_database, "wsapme", credentials, "device-1", "whatsapp", **pace)


@pytest.fixture
async def road(database: Database, worker_database: Database, sim: Simulator) -> Road:
    return await keyed(database, worker_database, sim)


async def first(road: Road, status: str = "scheduled") -> UUID:
    """The oldest message of a status."""
    [(id_,)] = await road.run(
        "SELECT id FROM messages WHERE org_id = %(org_id)s AND status = %(status)s ORDER BY id LIMIT 1",
        status=status,
    )
    return id_


async def told(road: Road, message_id: UUID) -> explain.Story:
    """The message's story."""
    async with road.database.transaction(road.org_id) as conn:
        return await explain.explain(conn, road.actor, message_id)
