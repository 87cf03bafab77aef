"""The reading half of the control API: the log, counts, the truth about each message, webhooks, what is to come."""

from __future__ import annotations

import asyncio
import time

import msgspec
from aiohttp import web

from antiphon_simulator import oracle
from antiphon_simulator.answers import json_answer
from antiphon_simulator.scenario import status_at
from antiphon_simulator.world import World


class Complaint(Exception):  # it reads better where it is raised
    """What is wrong with an order or a question."""


async def show_log(world: World, request: web.Request) -> web.StreamResponse:
    """Entries of the log, one JSON object a line; `after`, `limit`, and any field of an entry as filter."""
    query = dict(request.query)
    after, limit = int(query.pop("after", "0")), int(query.pop("limit", "0"))
    unknown = set(query) - set(oracle.Entry.__struct_fields__)
    if unknown:
        raise Complaint(f"unknown filters {sorted(unknown)}: use after, limit or a field of an entry")
    lines = [msgspec.json.encode(one) for one in world.oracle.select(after, limit, **query)]
    return web.Response(
        body=b"\n".join(lines) + (b"\n" if lines else b""), content_type="application/x-ndjson"
    )


async def show_summary(world: World, request: web.Request) -> web.StreamResponse:
    """Counts: what was received, what is true now, what was told, what is still to come."""
    truth: dict[str, dict[str, int]] = {}
    for message in world.lifecycle.messages.values():
        counts = truth.setdefault(message.provider, {})
        status = status_at(message.fate, time.time() - message.at)
        counts[status] = counts.get(status, 0) + 1
    return json_answer(
        oracle.summary(world.oracle.entries)
        | {
            "statuses": truth,
            "told": dict(world.lifecycle.told),
            "webhooks": world.deliveries.counts,
            "pending": _still(world),
            "fast": {"requests": world.fast.requests, "bad": world.fast.bad, "by_path": world.fast.by_path},
        }
    )


async def show_messages(world: World, request: web.Request) -> web.StreamResponse:
    """Every accepted message as it truly stands."""
    provider = request.query.get("provider", "")
    now = time.time()
    return json_answer(
        [
            {
                "id": one.id,
                "provider": one.provider,
                "account": one.account,
                "recipient": one.recipient,
                "reference": one.reference,
                "text": one.text,
                "at": one.at,
                "status": status_at(one.fate, now - one.at),
                "replies": one.fate.reply_after is not None,
                "will_be": one.fate.steps[-1].status if one.fate.steps else "accepted",
                "by_webhook": any(step.copies for step in one.fate.steps),
            }
            for one in world.lifecycle.messages.values()
            if provider in ("", one.provider)
        ]
    )


async def show_webhooks(world: World, request: web.Request) -> web.StreamResponse:
    """Every POST of a webhook that is remembered, oldest first."""
    return json_answer(list(world.deliveries.attempts))


async def show_pending(world: World, request: web.Request) -> web.StreamResponse:
    """How much is still to come; with `wait=SECONDS`, when nothing is left or the time is over."""
    end = time.monotonic() + float(request.query.get("wait", "0"))
    while any(_still(world).values()) and time.monotonic() < end:  # noqa: ASYNC110  # many causes, no one event
        await asyncio.sleep(0.02)
    return json_answer(_still(world))


def _still(world: World) -> dict[str, int]:
    return {"planned": world.lifecycle.planned, "webhooks": world.deliveries.pending}
