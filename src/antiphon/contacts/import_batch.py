"""One batch of an import, stored by a few statements: match, make, fill, join, agree, list what was refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import LiteralString
from uuid import UUID

from msgspec import Struct

from antiphon.contacts import import_queries, import_records, queries
from antiphon.contacts.audience import LOOPS_AGAIN, PLAN_FOR_ANYBODY
from antiphon.contacts.import_model import Batch, LineError, Outcome, Plan, Stored
from antiphon.core import clock, db
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict

BOUND_WAITS: LiteralString = "SET LOCAL lock_timeout = '10s'"


class Order(Struct, frozen=True):
    """When several batches are stored at once: wait for the one before before locking, tell the one after."""

    may_lock: Callable[[], Awaitable[object]]
    has_locked: Callable[[], None]


class Raced(Exception):
    """Somebody else stored an address of this batch in the same moment: try the batch again."""


class Overtaken(Conflict):
    """The import is not where it was: another process runs it, or somebody canceled it."""

    def __init__(self) -> None:
        super().__init__("import_overtaken", "this import was canceled, or another process is running it")


async def store(
    conn: Connection,
    org_id: UUID,
    stored: Stored,
    plan: Plan,
    batch: Batch,
    order: Order | None = None,
) -> Outcome:
    """Store a batch and list what it refused. With `dry_run` the same happens, and is undone. Raises Raced."""
    await db.execute(conn, BOUND_WAITS)
    await conn.execute(PLAN_FOR_ANYBODY, prepare=False)
    await import_queries.create_tables(conn)
    if plan.options.dry_run:
        await conn.execute("SAVEPOINT dry_run")
    await import_queries.stage(conn, batch)
    outcome, errors = await _store_people(conn, org_id, stored, plan, batch, order)
    if plan.options.dry_run:
        await conn.execute("ROLLBACK TO SAVEPOINT dry_run")
    await conn.execute(LOOPS_AGAIN, prepare=False)
    if errors:
        await import_queries.add_errors(conn, org_id, stored.id, errors)
    return outcome


async def advance(conn: Connection, org_id: UUID, before: Stored, batch: Batch, outcome: Outcome) -> None:
    """Note what a batch did. Raises Overtaken."""
    if not await import_records.advance(conn, org_id, before, batch, outcome):
        raise Overtaken


async def _store_people(
    conn: Connection,
    org_id: UUID,
    stored: Stored,
    plan: Plan,
    batch: Batch,
    order: Order | None,
) -> tuple[Outcome, list[LineError]]:
    options, now = plan.options, clock.now()
    errors = list(batch.errors)
    rounds = await _match(conn, org_id, errors, order) if batch.people_count else 0
    people = batch.people_count - (len(errors) - len(batch.errors))
    created = await import_queries.add_contacts(conn, org_id, "import", now) if people else 0
    changed = await _fill_known(conn, org_id, rounds, options.overwrite) if rounds else dict[int, UUID]()
    if rounds or len(errors) > len(batch.errors):
        wanted, added, lines = await import_queries.add_addresses(
            conn, org_id, now, is_overwriting=options.overwrite
        )
    else:
        wanted, lines = batch.address_count, list[tuple[int, UUID]]()
        added = await import_queries.add_new_addresses(conn, org_id, now) if wanted else 0
    if wanted != added:
        raise Raced
    changed |= dict(lines)
    if changed:
        if options.overwrite and lines:
            await import_queries.demote_others(conn, org_id)
        await queries.reindex(conn, org_id, sorted(set(changed.values())))
    if people and options.group is not None:
        await import_queries.join_group(conn, org_id, options.group, now)
    if batch.consents:
        await import_queries.record_consents(conn, org_id, "import", stored.started_by, now)
    known = people - created
    return (
        Outcome(created=created, updated=len(changed), unchanged=known - len(changed), rejected=len(errors)),
        errors,
    )


async def _match(conn: Connection, org_id: UUID, errors: list[LineError], order: Order | None) -> int:
    """Find and lock the contacts that are known; returns in how many rounds they change."""
    known = await import_queries.find_owners(conn, org_id)
    if known:
        errors += [_ambiguous(*found) for found in await import_queries.take_ambiguous(conn)]
    rounds = await import_queries.name_owners(conn) if known else 0
    if order is not None:
        await order.may_lock()
    if rounds:
        await import_queries.lock_known(conn, org_id)
    if order is not None:
        order.has_locked()
    return rounds


async def _fill_known(conn: Connection, org_id: UUID, rounds: int, is_overwriting: bool) -> dict[int, UUID]:
    """Give known contacts what the lines say, the lines of one contact after each other: line to contact changed."""
    change = import_queries.overwrite if is_overwriting else import_queries.fill_empty
    changed: dict[int, UUID] = {}
    for number in range(1, rounds + 1):
        changed |= dict(await change(conn, org_id, number, clock.now()))
    return changed


def _ambiguous(line: int, owners: list[UUID], addresses: str) -> LineError:
    who = " and ".join(str(owner) for owner in owners[:3])
    reason = f"the addresses belong to different contacts ({who}); leave one out, or join the contacts first"
    return LineError(line, "", "two_contacts", reason, addresses[:200])
