"""Running an adapter's generator over the real wire, or over any wire that is given."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol, TypeVar

from msgspec import structs

from antiphon.core import wire
from antiphon.core.wire import MailEnvelope, MailReply, Request, Response
from antiphon.providers.contract import (
    NOT_BEGUN,
    Accepted,
    Asking,
    LookedUp,
    NotSent,
    Outcome,
    Send,
    Unknown,
    WireRequest,
    WireResponse,
    bounded_name,
)

T = TypeVar("T")


class Http(Protocol):
    """`core.http.Client`, or what stands in for it."""

    async def send(self, request: Request, /) -> Response: ...


class Mail(Protocol):
    """`core.smtp.MailClient`, or what stands in for it."""

    async def send(self, envelope: MailEnvelope, /) -> MailReply: ...


async def drive(send: Send, http: Http, mail: Mail) -> Outcome:
    """Hand one message over. Every failure of the wire that the adapter did not read itself becomes an outcome."""
    try:
        outcome = await _run(send, http, mail)
    except wire.NotBegun as failure:
        return NotSent(reason=failure.reason, code=NOT_BEGUN)
    except wire.NotSent as failure:
        return NotSent(reason=failure.reason)
    except wire.MaybeSent as failure:
        return Unknown(reason=failure.reason)
    if isinstance(outcome, Accepted) and outcome.provider_message_id:
        return structs.replace(outcome, provider_message_id=bounded_name(outcome.provider_message_id))
    return outcome


async def ask(asking: Asking, http: Http, mail: Mail) -> LookedUp:
    """Ask for statuses. Whatever failed on the wire may be asked again."""
    try:
        return await _run(asking, http, mail)
    except (wire.NotSent, wire.MaybeSent) as failure:
        return LookedUp(trouble=NotSent(reason=failure.reason))


async def _run(steps: Generator[WireRequest, WireResponse, T], http: Http, mail: Mail) -> T:
    try:
        request = next(steps)
        while True:
            try:
                answer = await (
                    mail.send(request) if isinstance(request, MailEnvelope) else http.send(request)
                )
            except (wire.NotSent, wire.MaybeSent) as failure:
                request = steps.throw(failure)
            else:
                request = steps.send(answer)
    except StopIteration as done:
        return done.value
    finally:
        steps.close()
