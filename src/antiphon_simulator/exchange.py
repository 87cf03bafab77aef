"""The road of one request: read it, understand it, decide, write it to the log, let its life begin, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import msgspec
from aiohttp import web
from msgspec import Struct

from antiphon_simulator import answers, keyed, oracle, wsapme
from antiphon_simulator.scenario import draw, is_absent
from antiphon_simulator.settings import Behavior, Fault
from antiphon_simulator.wire import Answer, Caller, Message, Refusal, Sending, Wire, as_json
from antiphon_simulator.world import WIRES, World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Decision(Struct, frozen=True):
    """What was decided about one request: its log entry and the whole answer."""

    entry: oracle.Entry
    answer: Answer | None = None  # None: accepted; the answer follows from the message
    fault: Fault | None = None


def routes(world: World) -> list[web.RouteDef]:
    """All providers that speak HTTP."""
    return [
        web.post("/v1/sendMessage2", _sends(world, WIRES["wsapme"])),
        web.post("/v1/getMessageStatus", _asks(world, _message_status, "wsapme", "status")),
        web.get("/v1/devices", _asks(world, _devices, "wsapme", "devices")),
        web.post("/v1/info", _asks(world, _info, "wsapme", "info")),
        web.post(r"/{version:v\d+\.\d+}/{phone_number_id:\d+}/messages", _sends(world, WIRES["meta"])),
        web.post("/keyed/messages", _sends(world, WIRES["keyed"])),
        web.get("/keyed/messages", _look_up(world)),
    ]


async def strays(request: web.Request, world: World) -> web.StreamResponse:
    """Whatever has no route: logged too, and 404."""
    body = await request.read()
    world.oracle.record(
        oracle.entry(
            "none", "stray", "refused", body=body, code="404", detail=f"{request.method} {request.path}"[:200]
        )
    )
    return answers.json_answer(
        {"error": f"there is no {request.method} {request.path} at this simulator"}, 404
    )


async def caller_of(request: web.Request) -> Caller:
    """The request as a value."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Caller(headers=headers, parts=dict(request.match_info), body=await request.read())


# ---- sending ----------------------------------------------------------------------------------------


def _sends(world: World, wire: Wire) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        caller = await caller_of(request)
        decision = _decide(world, wire, caller)
        entry = world.oracle.record(decision.entry)
        answer = decision.answer
        if answer is None:
            message = world.lifecycle.begin(entry)
            answer = wire.accepted(_named_as(world, message, decision.fault))
        await _linger(world.book.behavior(wire.name, entry.account), entry.seq)
        if decision.fault:
            return await answers.broken(request, decision.fault, answer)
        return answers.whole(answer)

    return handle


def _decide(world: World, wire: Wire, caller: Caller) -> Decision:
    asked = wire.understand(world.book, caller)
    if isinstance(asked, Answer):
        return Decision(oracle.entry(wire.name, "receipt", "answered", body=caller.body), asked)
    if isinstance(asked, Refusal):
        entry = oracle.entry(
            wire.name,
            "send",
            "refused",
            body=caller.body,
            account=asked.account,
            recipient=asked.recipient,
            code=asked.code,
            detail=asked.reason,
        )
        return Decision(entry, asked.answer)
    behavior = world.book.behavior(wire.name, asked.account)
    if not world.buckets.take(wire.name, asked.account, behavior):
        return Decision(_entry(wire, asked, "throttled", caller.body), wire.throttled(behavior.retry_after))
    fault = world.book.fault_for(wire.name, "send", asked.account, asked.recipient, asked.text)
    if fault and not fault.accepts:
        entry = _entry(
            wire, asked, "fault", caller.body, code=str(fault.code or fault.status), answer=fault.answer
        )
        return Decision(entry, wire.error(fault), fault)
    return _judge(world, wire, asked, caller.body, behavior, fault)


def _judge(
    world: World, wire: Wire, asked: Sending, body: bytes, behavior: Behavior, fault: Fault | None
) -> Decision:
    """A correct request within the rate: known already, not deliverable, or accepted."""
    met = fault.answer if fault else ""
    known = world.lifecycle.known_key(wire.name, asked.account, asked.key) if asked.key else None
    if known and wire.conflict:
        if known.body_sha256 != oracle.sha256(body):
            return Decision(_entry(wire, asked, "conflict", body, answer=met), wire.conflict, fault)
        first = world.lifecycle.messages[known.message_id]
        entry = _entry(wire, asked, "replayed", body, message_id=first.id, answer=met)
        return Decision(entry, wire.accepted(first), fault)
    lost = is_absent(world.book.scenario.seed, wire.name, asked.recipient, behavior)
    if lost and wire.absent:
        return Decision(
            _entry(wire, asked, "refused", body, code=wire.absence, answer=met), wire.absent(asked), fault
        )
    failure = wire.absence if lost else ""
    if asked.free_text and behavior.service_window and not failure:
        is_open = world.lifecycle.window_is_open(wire.name, asked.account, asked.recipient)
        failure = "" if is_open else "131047"
    entry = _entry(wire, asked, "accepted", body, message_id=wire.new_id(), failure=failure, answer=met)
    return Decision(entry, fault=fault)


def _entry(wire: Wire, asked: Sending, verdict: oracle.Verdict, body: bytes, **fields: str) -> oracle.Entry:
    return oracle.entry(
        wire.name,
        "send",
        verdict,
        body=body,
        text=asked.text,
        account=asked.account,
        recipient=asked.recipient,
        reference=asked.reference,
        key=asked.key,
        category=asked.category,
        **fields,
    )


def _named_as(world: World, message: Message, fault: Fault | None) -> Message:
    """The message under its own id, or under an earlier one's if a fault wants the id to be used again."""
    if not fault or fault.answer != "reused_id":
        return message
    earlier = next(
        (one.id for one in world.lifecycle.messages.values() if one.provider == message.provider), message.id
    )
    return msgspec.structs.replace(message, id=earlier)


async def _linger(behavior: Behavior, seq: int) -> None:
    latency = behavior.latency
    if latency.least or latency.mean:
        await asyncio.sleep(draw(Random(seq), latency))


# ---- asking -----------------------------------------------------------------------------------------

Question = Callable[[World, Caller], Answer]


def _asks(world: World, answer_to: Question, provider: str, operation: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        caller = await caller_of(request)
        fault = world.book.fault_for("wsapme", operation)
        answer = answer_to(world, caller)
        world.oracle.record(
            oracle.entry(
                provider,
                operation,
                "fault" if fault else "answered",
                body=caller.body,
                detail=caller.body[:300].decode(errors="replace"),
                answer=fault.answer if fault else "",
            )
        )
        if fault:
            if fault.answer == "error":
                answer = wsapme.error(fault)
            return await answers.broken(request, fault, answer)
        return answers.whole(answer)

    return handle


def _message_status(world: World, caller: Caller) -> Answer:
    if refusal := wsapme.authorized(world.book, caller):
        return refusal.answer
    body = wsapme.body_of(caller)
    if isinstance(body, Refusal):
        return body.answer
    message = world.lifecycle.find("wsapme", str(body.get("messageId", "")))
    if message is None or message.account != str(body.get("device", "")):
        return wsapme.no("Message not found")
    data = wsapme.status_object(message, world.lifecycle.status(message))
    return as_json(200, {"success": True, "message": "OK", "data": data})


def _devices(world: World, caller: Caller) -> Answer:
    if refusal := wsapme.authorized(world.book, caller):
        return refusal.answer
    named = {
        name: account.connected
        for (provider, name), account in world.book.accounts.items()
        if provider == "wsapme"
    }
    seen = {one.account: True for one in world.lifecycle.messages.values() if one.provider == "wsapme"}
    devices = [
        {"id": name, "name": name, "status": "connected" if connected else "disconnected"}
        for name, connected in (seen | named).items()
        if name != "*"
    ]
    return as_json(200, {"success": True, "data": devices})


def _info(world: World, caller: Caller) -> Answer:
    if refusal := wsapme.authorized(world.book, caller):
        return refusal.answer
    body = wsapme.body_of(caller)
    if isinstance(body, Refusal):
        return body.answer
    device = str(body.get("device", ""))
    account = world.book.find_account("wsapme", device) if device else None
    if account is None:
        return wsapme.no("Device not found")
    state = "connected" if account.connected else "disconnected"
    return as_json(
        200, {"success": True, "data": {"device": device, "number": account.number, "status": state}}
    )


def _look_up(world: World) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        caller = await caller_of(request)
        account = keyed.account_of(world.book, caller)
        reference = request.query.get("reference", "")
        fault = world.book.fault_for("keyed", "lookup", account or "")
        world.oracle.record(
            oracle.entry(
                "keyed",
                "lookup",
                "fault" if fault else "answered",
                account=account or "",
                reference=reference,
            )
        )
        found = [
            keyed.described(message, world.lifecycle.status(message))
            for message in world.lifecycle.by_reference("keyed", reference)
            if message.account == account
        ]
        answer = as_json(200, {"messages": found}) if account else as_json(401, {"error": "unauthorized"})
        if not reference:
            answer = as_json(400, {"error": "reference_required"})
        if fault:
            answer = keyed.error(fault) if fault.answer == "error" else answer
            return await answers.broken(request, fault, answer)
        return answers.whole(answer)

    return handle
