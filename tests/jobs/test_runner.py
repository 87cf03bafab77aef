"""Jobs on a real PostgreSQL: a step and its progress commit together, whoever dies, whoever is slow."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from msgspec import Struct, structs

from antiphon.core import clock, db
from antiphon.core.db import Connection, Database
from antiphon.core.roles import DatabaseUrls
from antiphon.jobs import runner, service
from antiphon.jobs.model import Continue, Done, Handlers, Job, Run
from antiphon.jobs.runner import Pace
from tests import make

QUICK = Pace(
    lease=timedelta(seconds=1), look_every=0.02, turn=10, wait_after=lambda _: timedelta(milliseconds=20)
)


class CountTo(Struct, frozen=True):
    """Takes so many steps, each of which leaves one audit entry."""

    number: int
    pause: float = 0


class Fail(Struct, frozen=True):
    """Fails so many times, then ends."""

    times: int


async def leave_mark(conn: Connection, run: Run, step: int) -> None:
    await db.execute(
        conn,
        """
        INSERT INTO audit_log (org_id, id, actor_kind, actor_id, action, subject_id, detail)
        VALUES (%(org_id)s, gen_random_uuid(), 'system', 'test', 'step', %(job)s, %(detail)s)
        """,
        org_id=run.org_id,
        job=run.id,
        detail=db.json({"step": step}),
    )


async def count_to(conn: Connection, job: CountTo, run: Run) -> Continue | Done:
    step = run.progress.get("step", 0) + 1
    await leave_mark(conn, run, step)
    await asyncio.sleep(job.pause)
    return Done({"step": step}) if step == job.number else Continue({"step": step})


failed: dict[UUID, int] = {}


async def fail(conn: Connection, job: Fail, run: Run) -> Done:
    await leave_mark(conn, run, 1)  # must not be there: the step rolls back
    failed[run.id] = failed.get(run.id, 0) + 1
    if failed[run.id] <= job.times:
        raise ValueError(f"failure {failed[run.id]}")
    return Done()


HANDLERS: Handlers = {CountTo: count_to, Fail: fail}


@pytest.fixture
async def org(database: Database) -> UUID:
    return (await make.organization(database)).id


async def enqueue(database: Database, org: UUID, job: Struct, **more: object) -> UUID:
    async with database.transaction(org) as conn:
        return await service.enqueue(conn, org, job, **more)  # pyright: ignore[reportArgumentType]


async def look(database: Database, org: UUID, job_id: UUID) -> Job:
    async with database.transaction(org) as conn:
        return await service.get(conn, org, job_id)


async def ended(database: Database, org: UUID, job_id: UUID, within: float = 15) -> Job:
    """The job, once it has ended."""
    async with asyncio.timeout(within):
        while (job := await look(database, org, job_id)).finished_at is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return job


async def steps(database: Database, org: UUID, job_id: UUID) -> list[int]:
    """The marks that committed steps left, in order."""
    async with database.transaction(org) as conn:
        found = await db.tuples(
            conn,
            """
            SELECT (detail->>'step')::int FROM audit_log
             WHERE org_id = %(org_id)s AND subject_id = %(job)s
             ORDER BY 1
            """,
            org_id=org,
            job=job_id,
        )
    return [step for (step,) in found]


@asynccontextmanager
async def running(database: Database, pace: Pace = QUICK, number: int = 1) -> AsyncIterator[None]:
    """So many runners, until the end of the block."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(runner.work(database, HANDLERS, stop, pace)) for _ in range(number)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_runs_step_after_step_and_keeps_the_progress(
    database: Database, worker_database: Database, org: UUID
) -> None:
    async with running(worker_database):
        job_id = await enqueue(database, org, CountTo(5))
        job = await ended(database, org, job_id)
    assert (job.kind, job.status, job.progress, job.failures) == ("count_to", "done", {"step": 5}, 0)
    assert await steps(database, org, job_id) == [1, 2, 3, 4, 5]


async def test_a_job_that_rolls_back_with_its_transaction_never_runs(
    database: Database, worker_database: Database, org: UUID
) -> None:
    job_id: UUID | None = None
    with pytest.raises(ValueError, match="never mind"):
        async with database.transaction(org) as conn:
            job_id = await service.enqueue(conn, org, CountTo(1))
            raise ValueError("never mind")
    async with running(worker_database):
        await asyncio.sleep(0.2)
    assert job_id is not None
    assert await steps(database, org, job_id) == []


async def test_a_job_waits_for_its_time(database: Database, worker_database: Database, org: UUID) -> None:
    due = clock.now() + timedelta(seconds=0.6)
    async with running(worker_database):
        job_id = await enqueue(database, org, CountTo(1), run_at=due)
        await asyncio.sleep(0.3)
        assert (await look(database, org, job_id)).status == "waiting"
        job = await ended(database, org, job_id)
    assert job.finished_at is not None
    assert job.finished_at >= due


async def test_a_step_may_put_the_next_one_off(
    database: Database, worker_database: Database, org: UUID
) -> None:
    times: list[float] = []

    async def twice(conn: Connection, job: CountTo, run: Run) -> Continue | Done:
        times.append(clock.boottime())
        return Done() if run.progress else Continue({"once": True}, clock.now() + timedelta(seconds=0.4))

    stop = asyncio.Event()
    task = asyncio.create_task(runner.work(worker_database, {CountTo: twice}, stop, QUICK))
    job_id = await enqueue(database, org, CountTo(1))
    await ended(database, org, job_id)
    stop.set()
    await task
    assert times[1] - times[0] >= 0.4


async def test_two_runners_never_run_the_same_step(
    database: Database, worker_database: Database, org: UUID
) -> None:
    async with running(worker_database, number=2):
        jobs = [await enqueue(database, org, CountTo(10)) for _ in range(12)]
        for job_id in jobs:
            await ended(database, org, job_id, within=40)
    for job_id in jobs:
        assert await steps(database, org, job_id) == list(range(1, 11))


async def test_a_step_longer_than_its_lease_is_not_run_beside_itself(
    database: Database, worker_database: Database, org: UUID
) -> None:
    short = structs.replace(QUICK, lease=timedelta(seconds=0.2))
    async with running(worker_database, short, number=2):
        job_id = await enqueue(database, org, CountTo(2, pause=1))
        await ended(database, org, job_id)
    assert await steps(database, org, job_id) == [1, 2]


async def test_a_killed_runner_is_followed_by_another_after_the_last_committed_step(
    database: Database, worker_database: Database, org: UUID, db_urls: DatabaseUrls
) -> None:
    job_id = await enqueue(database, org, CountTo(8, pause=0.05))
    code = (
        "import asyncio; from tests.jobs.test_runner import *\n"
        "async def main():\n"
        f"    async with Database.connect({db_urls.worker!r}, size=4) as database:\n"
        "        await runner.work(database, HANDLERS, asyncio.Event(), QUICK)\n"
        "asyncio.run(main())"
    )
    environ = os.environ | {"ANTIPHON_FAILPOINTS": "", "PYTHONPATH": "."}
    arm = "from antiphon.core import failpoints; failpoints.arm('job_committed=kill@3')\n"
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", arm + code], env=environ, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert await steps(database, org, job_id) == [1, 2, 3]
    assert (await look(database, org, job_id)).status == "running"
    async with running(worker_database):
        job = await ended(database, org, job_id)
    assert job.progress == {"step": 8}
    assert await steps(database, org, job_id) == list(range(1, 9))


async def test_a_failed_step_leaves_nothing_and_is_tried_again(
    database: Database, worker_database: Database, org: UUID
) -> None:
    async with running(worker_database):
        job_id = await enqueue(database, org, Fail(3))
        job = await ended(database, org, job_id)
    assert (job.status, job.last_error) == ("done", "ValueError: failure 3")
    assert failed[job_id] == 4
    assert await steps(database, org, job_id) == [1]


async def test_five_failures_end_a_job_with_its_last_error(
    database: Database, worker_database: Database, org: UUID
) -> None:
    async with running(worker_database):
        job_id = await enqueue(database, org, Fail(100))
        job = await ended(database, org, job_id)
    assert (job.status, job.failures, job.last_error) == ("failed", 5, "ValueError: failure 5")
    assert failed[job_id] == 5
    assert await steps(database, org, job_id) == []


async def test_a_live_job_with_the_same_key_is_not_doubled(
    database: Database, worker_database: Database, org: UUID
) -> None:
    first = await enqueue(database, org, CountTo(1), key="a")
    assert await enqueue(database, org, CountTo(1), key="a") == first
    assert await enqueue(database, org, CountTo(1), key="b") != first
    assert await enqueue(database, org, Fail(0), key="a") != first
    async with running(worker_database):
        await ended(database, org, first)
    assert await enqueue(database, org, CountTo(1), key="a") != first


async def test_many_at_once_with_one_key_are_one_job(database: Database, org: UUID) -> None:
    ids = await asyncio.gather(*(enqueue(database, org, CountTo(1), key="a") for _ in range(20)))
    assert len(set(ids)) == 1


async def test_a_canceled_job_stops_between_two_steps(
    database: Database, worker_database: Database, org: UUID
) -> None:
    async with running(worker_database):
        job_id = await enqueue(database, org, CountTo(1000, pause=0.02))
        await asyncio.sleep(0.3)
        async with database.transaction(org) as conn:
            assert await service.cancel(conn, org, job_id)
        done = len(await steps(database, org, job_id))
        await asyncio.sleep(0.3)
    assert (await look(database, org, job_id)).status == "canceled"
    assert 0 < done == len(await steps(database, org, job_id))
    async with database.transaction(org) as conn:
        assert not await service.cancel(conn, org, job_id)


async def test_a_runner_that_stops_finishes_its_step_and_leaves_the_rest(
    database: Database, worker_database: Database, org: UUID
) -> None:
    async with running(worker_database):
        job_id = await enqueue(database, org, CountTo(1000, pause=0.05))
        await asyncio.sleep(0.3)
    job = await look(database, org, job_id)
    assert job.status == "waiting"
    assert await steps(database, org, job_id) == list(range(1, job.progress["step"] + 1))


async def test_one_organizations_many_jobs_do_not_hold_up_anothers_one(
    database: Database, worker_database: Database, org: UUID
) -> None:
    busy = [await enqueue(database, org, CountTo(1000, pause=0.02)) for _ in range(10)]
    other = (await make.organization(database)).id
    async with running(worker_database, structs.replace(QUICK, turn=0.2)):
        job_id = await enqueue(database, other, CountTo(2))
        await ended(database, other, job_id, within=5)
        async with database.transaction(org) as conn:
            for busy_id in busy:
                await service.cancel(conn, org, busy_id)


async def test_kinds_without_a_handler_are_left_to_who_has_one(
    database: Database, worker_database: Database, org: UUID
) -> None:
    class Unheard(Struct, frozen=True):
        """Nobody here runs this."""

    job_id = await enqueue(database, org, Unheard())
    async with running(worker_database):
        await asyncio.sleep(0.2)
    assert (await look(database, org, job_id)).status == "waiting"


async def test_an_unreadable_payload_ends_the_job_and_not_the_runner(
    database: Database, worker_database: Database, org: UUID
) -> None:
    job_id = await enqueue(database, org, CountTo(1))
    async with database.transaction(org) as conn:
        await db.execute(
            conn,
            "UPDATE jobs SET payload = %(payload)s WHERE org_id = %(org_id)s AND id = %(id)s",
            org_id=org,
            id=job_id,
            payload=db.json({"number": "many"}),
        )
    async with running(worker_database):
        job = await ended(database, org, job_id)
        assert job.status == "failed"
        assert "number" in (job.last_error or "")
        after = await enqueue(database, org, CountTo(1))
        assert (await ended(database, org, after)).status == "done"


async def test_a_database_that_drops_all_connections_costs_time_and_nothing_else(
    database: Database, worker_database: Database, org: UUID, db_urls: DatabaseUrls
) -> None:
    job_id = await enqueue(database, org, CountTo(20, pause=0.05))
    async with running(worker_database):
        worker = await Connection.connect(db_urls.worker, autocommit=True)
        async with worker:
            for _ in range(2):
                await asyncio.sleep(0.3)
                await worker.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
                )
        job = await ended(database, org, job_id, within=30)
    assert (job.status, job.failures) == ("done", 0)
    assert await steps(database, org, job_id) == list(range(1, 21))
