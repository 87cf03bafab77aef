"""How many may leave now, and from which gates. Pure.

A bucket holds whole messages that may leave at once and fills with time; a window of w seconds never holds more than
burst + rate · w. Transactional gates come first, with at least a tenth left for bulk, and within a class the higher
priority has the larger share.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec


class Bucket(msgspec.Struct, frozen=True):
    """Tokens at an instant."""

    tokens: float
    at: datetime
    rate: float
    burst: float


class GateLoad(msgspec.Struct, frozen=True, kw_only=True):
    """An open gate of a lane, and how many of its messages are due (counted up to the claim's size)."""

    id: UUID
    traffic: str
    priority: int
    due: int
    bucket: Bucket | None = None


def tokens_now(bucket: Bucket, now: datetime) -> float:
    """What the bucket holds at `now`; a clock that went back fills nothing."""
    passed = max(0.0, (now - bucket.at).total_seconds())
    return min(bucket.burst, bucket.tokens + passed * bucket.rate)


def share(room: int, gates: list[GateLoad], now: datetime) -> dict[UUID, int]:
    """How many each gate may hand over of `room`. The sum is at most `room`; no gate gets more than it has due."""
    wants = {g.id: min(g.due, _gate_room(g, now)) for g in gates}
    bulk = [g for g in gates if g.traffic == "bulk" and wants[g.id]]
    urgent = [g for g in gates if g.traffic != "bulk" and wants[g.id]]
    kept = min(sum(wants[g.id] for g in bulk), -(-room // 10)) if bulk and urgent else 0
    quotas = _split(room - kept, urgent, wants)
    quotas |= _split(room - sum(quotas.values()), bulk, wants)
    return {gate: n for gate, n in quotas.items() if n > 0}


def _gate_room(gate: GateLoad, now: datetime) -> int:
    return gate.due if gate.bucket is None else int(tokens_now(gate.bucket, now))


def _split(room: int, gates: list[GateLoad], wants: dict[UUID, int]) -> dict[UUID, int]:
    """Shares by priority; what one gate does not want goes to the others."""
    given: dict[UUID, int] = {}
    left = sorted(gates, key=lambda g: wants[g.id] / g.priority)
    weight = sum(g.priority for g in left)
    for gate in left:
        fair = -(-room * gate.priority // weight) if weight else 0
        given[gate.id] = min(wants[gate.id], fair, room)
        room -= given[gate.id]
        weight -= gate.priority
    return given
