"""What becomes of a message: pure decisions, seeded, the same in every run.

The fate of a message hangs on the seed, the provider, the recipient and how many that recipient already got; not on
the order in which requests arrive, nor on the account's name. So a run is repeatable whatever the concurrency.
"""

from __future__ import annotations

import re
from random import Random
from typing import Literal

from msgspec import Struct

from antiphon_simulator.settings import Behavior, Delay, ProviderName

Status = Literal["accepted", "sent", "delivered", "read", "failed"]


class Step(Struct, frozen=True):
    """A status and when it comes true, in seconds after the hand-over; `told` says when a webhook tells it."""

    status: Status
    after: float
    told: float
    copies: int = 1  # 0: no webhook tells it


class Fate(Struct, frozen=True):
    """All that will happen to one accepted message."""

    steps: tuple[Step, ...]
    reply_after: float | None = None
    quotes: bool = False  # the reply names the message
    asked: bool = True  # polling sees the steps


def doomed(behavior: Behavior) -> Fate:
    """The fate of a message that was taken although it can only fail."""
    after = behavior.failed_after.mean
    copies = 1 if behavior.statuses in ("webhook", "half") else 0
    return Fate(
        steps=(Step(status="failed", after=after, told=after, copies=copies),),
        asked=behavior.statuses != "none",
    )


def address_key(recipient: str) -> str:
    """The recipient without the dress that a provider's format gives it: digits, or an address in lower case."""
    if "@" in recipient and not recipient.endswith(("@s.whatsapp.net", "@c.us")):
        return recipient.lower()
    return re.sub(r"\D", "", recipient.partition("@")[0]) or recipient


def is_absent(seed: int, provider: ProviderName, recipient: str, behavior: Behavior) -> bool:
    """Whether the provider does not know this address; an address stays known or unknown for a whole run."""
    key = address_key(recipient)
    local = key.partition("@")[0]
    if any(key.endswith(suffix) or local.endswith(suffix) for suffix in behavior.absent_suffixes):
        return True
    return behavior.absent > 0 and Random(f"{seed}|absent|{provider}|{key}").random() < behavior.absent


def fate(seed: int, provider: ProviderName, recipient: str, ordinal: int, behavior: Behavior) -> Fate:
    """What happens to the `ordinal`-th message that this recipient gets."""
    random = Random(f"{seed}|fate|{provider}|{address_key(recipient)}|{ordinal}")
    by_webhook = _told_by_webhook(random, behavior)
    fails, arrives, opens, answers, hides, quotes = (random.random() for _ in range(6))
    sent = draw(random, behavior.sent_after)
    times: list[tuple[Status, float]] = [("sent", sent)]
    if fails < behavior.failed:
        times.append(("failed", sent + draw(random, behavior.failed_after)))
    elif arrives < behavior.delivered:
        times.append(("delivered", sent + draw(random, behavior.delivered_after)))
        if opens < behavior.read:
            times.append(("read", times[-1][1] + draw(random, behavior.read_after)))
    reads = times[-1][0] == "read"
    reply = (
        times[-1][1] + draw(random, behavior.replied_after) if reads and answers < behavior.replied else None
    )
    hidden = reads and hides < behavior.skip_delivered
    steps = (
        _step(random, status, after, behavior, told=by_webhook and not (hidden and status == "delivered"))
        for status, after in times
    )
    return Fate(
        steps=tuple(steps),
        reply_after=reply,
        quotes=quotes < behavior.quoted,
        asked=behavior.statuses != "none",
    )


def status_at(what: Fate, elapsed: float) -> Status:
    """Where a message stands so many seconds after its hand-over."""
    status: Status = "accepted"
    for step in what.steps:
        if step.after <= elapsed:
            status = step.status
    return status


def draw(random: Random, delay: Delay) -> float:
    """A duration in seconds."""
    above = delay.mean - delay.least
    extra = random.expovariate(1 / above) if above > 0 else 0.0
    return min(delay.least + extra, delay.most)


def _told_by_webhook(random: Random, behavior: Behavior) -> bool:
    coin = random.random()
    match behavior.statuses:
        case "webhook":
            return True
        case "half":
            return coin < 0.5
        case "poll" | "none":
            return False


def _step(random: Random, status: Status, after: float, behavior: Behavior, told: bool) -> Step:
    late = draw(random, behavior.disorder_by) if random.random() < behavior.disorder else 0.0
    twice = random.random() < behavior.duplicates
    return Step(status=status, after=after, told=after + late, copies=(2 if twice else 1) if told else 0)
