"""The story of one message in words: planned, put off because…, handed over, delivered; or what it waits for."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.messages import queries
from antiphon.messages.queries import Attempt, Message, MessageEvent, Waiting
from antiphon.organizations.model import Actor


class Line(msgspec.Struct, frozen=True):
    """A moment of the story."""

    at: datetime
    text: str


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A message's story, oldest first, and where it stands now."""

    message_id: UUID
    status: str
    now: str
    lines: list[Line]


SKIPS = {
    "expired": "its time was over before it could leave",
    "inactive": "the contact is not active",
    "suppressed": "the address is suppressed (opted out, bounced or blocked)",
    "no_consent": "there is no recorded consent for marketing on this channel",
    "no_address": "the contact has no address for this channel",
}

WAITS = {
    "order": "an earlier message to the same contact is on its way",
    "not_sent": "the last try did not reach the provider; it is tried again",
    "throttled": "the provider asked to slow down",
    "account": "the sender's account has a fault",
    "released": "the worker had no time left to begin the call",
    "replayed": "a worker stopped in mid-call; the provider takes a key, so it is asked again with the same one",
    "resend": "it is sent once more",
}


async def explain(conn: Connection, actor: Actor, message_id: UUID) -> Story:
    """Tell one message's story; raises NotFound."""
    message = await queries.get(conn, actor.org_id, message_id)
    events = await queries.events(conn, actor.org_id, message_id)
    attempts = await queries.attempts(conn, actor.org_id, message_id)
    waiting = await queries.waiting(conn, actor.org_id, message_id)
    return tell(message, events, attempts, waiting, now())


def tell(
    message: Message,
    events: list[MessageEvent],
    attempts: list[Attempt],
    waiting: Waiting | None,
    at: datetime,
) -> Story:
    """The story from the rows. Pure."""
    lines = [Line(message.created_at, _beginning(message))]
    lines += [Line(a.claimed_at, f"attempt {a.attempt_no}: handed to the provider") for a in attempts]
    lines += [Line(a.finished_at, _outcome(a)) for a in attempts if a.finished_at]
    lines += [Line(e.at, _event(e)) for e in events]
    lines.sort(key=lambda line: line.at)
    return Story(
        message_id=message.id, status=message.status, now=_standing(message, waiting, at), lines=lines
    )


def _beginning(m: Message) -> str:
    if m.direction == "in":
        return f"received from {m.address} on {m.channel}"
    cause = {"campaign": "a campaign", "api": "an API call", "reply": "a reply"}.get(m.origin, m.origin)
    when = f", due {_time(m.scheduled_for)}" if m.scheduled_for and m.scheduled_for > m.created_at else ""
    if m.status == "skipped" and m.skipped_at == m.created_at:
        return f"planned by {cause} ({m.caused_by}) for {m.channel}; skipped: {SKIPS.get(m.reason, m.reason)}"
    return f"planned by {cause} ({m.caused_by}) for {m.address} on {m.channel}, purpose {m.purpose}{when}"


def _outcome(a: Attempt) -> str:
    words = {
        "accepted": "the provider took it",
        "rejected": "the provider refused it for good",
        "throttled": "the provider asked to slow down; no try was counted",
        "not_sent": "it did not reach the provider",
        "unknown": "whether the provider took it is not known",
        "account_fault": "the provider refused the account; the sender is paused",
        "template": "it could not be rendered; nothing was sent",
    }
    said = f": {a.code} {a.reason or ''}".rstrip() if a.code else f": {a.reason}" if a.reason else ""
    name = f", as {a.provider_message_id}" if a.provider_message_id else ""
    return f"attempt {a.attempt_no}: {words.get(a.outcome or '', a.outcome or '')}{name}{said}"


def _event(e: MessageEvent) -> str:
    source = {
        "webhook": "by webhook",
        "polling": "when asked",
        "manual": "by a person",
        "dispatch": "by the dispatcher",
    }
    late = f" (the provider's time: {_time(e.provider_at)})" if e.provider_at else ""
    moved = f"; now {e.new_status}" if e.new_status and e.new_status != e.old_status else ""
    why = f": {e.code + ' ' if e.code else ''}{e.reason}" if e.reason else ""
    if e.kind == "doubled":
        return (
            f"a second acceptance was recorded (attempt {e.attempt_no}): the message may have arrived twice"
        )
    if e.kind == "anomaly":
        return f"a failure was told after the delivery, {source[e.source]}{why}; the delivery stands"
    if e.kind == "skipped":
        return f"skipped: {SKIPS.get(e.reason or '', e.reason or '')}"
    return f"{e.kind} {source[e.source]}{late}{why}{moved}"


def _standing(m: Message, w: Waiting | None, at: datetime) -> str:
    if w is None:
        words = {
            "skipped": f"skipped: {SKIPS.get(m.reason, m.reason)}",
            "failed": f"failed: {m.detail or m.reason}",
        }
        return words.get(m.status, m.stage)
    if w.state == 1:
        return f"on the wire since its attempt {w.attempt_no}"
    if w.state == 2:
        return f"in doubt; decided by its purpose's policy at {_time(w.due_at)}, or earlier by a receipt"
    if w.state == 3:
        return "held in doubt: it may have been sent; a person may resend it or leave it"
    if w.paused_reason:
        return f"waits: the sender is paused ({w.paused_reason})"
    if not w.gate_open:
        return f"waits: {w.gate_reason or 'what it belongs to is paused'}"
    if w.blocked_until and w.blocked_until > at:
        return f"waits until {_time(w.blocked_until)}: {w.block_reason or 'the sender is blocked'}"
    if w.due_at > at:
        return f"waits until {_time(w.due_at)}" + (
            f": {WAITS.get(w.wait_reason, w.wait_reason)}" if w.wait_reason else ""
        )
    return "due; it leaves at the sender's pace"


def _time(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC") if at else "?"
