"""How many may leave now, and from which gates. Pure.

A bucket holds whole messages that may leave at once and fills with time; a window of w seconds never holds more than
burst + rate · w. Transactional gates come first, with a tenth left for bulk, and within a class the higher priority has
the larger share.
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


def share(room: int, gates: list[GateLoad], now: datetime, turn: int = 0) -> dict[UUID, int]:
    """How many each gate may hand over of `room`. The sum is at most `room`; no gate gets more than it has due.

    `turn` counts what the lane has handed over before. Often there is room for one only, so who comes next is decided
    by the turn, and the shares hold over time: every tenth turn is bulk's, and within a class turns go round.
    """
    wants = {g.id: min(g.due, _gate_room(g, now)) for g in gates}
    bulk = [g for g in gates if g.traffic == "bulk" and wants[g.id]]
    urgent = [g for g in gates if g.traffic != "bulk" and wants[g.id]]
    tenth = (turn + room) // 10 - turn // 10
    kept = min(sum(wants[g.id] for g in bulk), tenth) if urgent else 0
    quotas = _split(room - kept, urgent, wants, turn)
    quotas |= _split(room - sum(quotas.values()), bulk, wants, turn // 10 if urgent else turn)
    return {gate: n for gate, n in quotas.items() if n > 0}


def _gate_room(gate: GateLoad, now: datetime) -> int:
    return gate.due if gate.bucket is None else int(tokens_now(gate.bucket, now))


def _split(room: int, gates: list[GateLoad], wants: dict[UUID, int], turn: int) -> dict[UUID, int]:
    """Turns go round by priority; what one gate does not want goes to the others, the smallest wish first."""
    gates = sorted(gates, key=lambda g: g.id)
    whole, low, given = sum(g.priority for g in gates), 0, dict[UUID, int]()
    for gate in gates:
        theirs = _turns(turn + room, whole, low, gate.priority) - _turns(turn, whole, low, gate.priority)
        given[gate.id] = min(wants[gate.id], theirs)
        low += gate.priority
    left = room - sum(given.values())
    for gate in sorted(gates, key=lambda g: wants[g.id]):
        more = min(left, wants[gate.id] - given[gate.id])
        given[gate.id] += more
        left -= more
    return given


def _turns(end: int, whole: int, low: int, size: int) -> int:
    """How many of the turns before `end` fall into this part of each round."""
    return end // whole * size + min(size, max(0, end % whole - low))
