"""The control API under `/_control`: set the scene, let things happen. `docs/simulator.md` is its manual."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from antiphon_simulator import views
from antiphon_simulator.answers import json_answer
from antiphon_simulator.book import Trap
from antiphon_simulator.lifecycle import new_inbound_id
from antiphon_simulator.scenario import Fate, Status
from antiphon_simulator.settings import Account, Fault, ProviderName, Settings, Template, merged
from antiphon_simulator.wire import Inbound, Message, Wire
from antiphon_simulator.world import WIRES, World

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class InboundOrder(Struct, frozen=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """A message from a person, now. `quotes` is the id of the message it answers; `fields` overlays the event."""

    provider: ProviderName
    sender: str
    text: str = ""
    account: str = ""  # "": the only one, or `*`
    id: str = ""
    quotes: str = ""
    at: float = 0.0  # 0: now
    copies: int = 1
    fields: dict[str, Any] = {}


class StatusOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """A status webhook, now, whether it is true or not. `id` may be one that the simulator does not know."""

    provider: ProviderName
    id: str
    status: Status
    account: str = ""
    recipient: str = "60100000000"
    reference: str = ""
    code: str = ""  # of a failure
    at: float = 0.0
    copies: int = 1
    fields: dict[str, Any] = {}


class WebhookOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Any body at all, sent once and signed as the provider does, then spoiled if so wished."""

    provider: ProviderName
    body: str
    account: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = {}  # over the signature
    secret: str | None = None  # sign with this instead of the account's
    flip: int | None = None  # change this byte of the body after signing
    unsigned: bool = False


class HandshakeOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Meta's GET at the account's URL; another token than the account's, if given."""

    account: str = ""
    verify_token: str | None = None
    challenge: str = "1158201444"


class ResetOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """Forget log, messages, webhooks, faults; the settings too, back to those of the start, if so wished."""

    settings: bool = False


def routes(world: World, start: Settings, certificate: bytes) -> list[web.RouteDef]:
    """All routes of the control API."""
    table: list[tuple[str, str, Callable[[World, web.Request], Awaitable[web.StreamResponse]]]] = [
        ("GET", "/scenario", _show_scenario),
        ("PUT", "/scenario", _put_scenario),
        ("PATCH", "/scenario", _patch_scenario),
        ("GET", "/settings", _show_settings),
        ("PUT", "/settings", _put_settings),
        ("GET", "/accounts", _show_accounts),
        ("PUT", "/accounts", _put_account),
        ("DELETE", "/accounts/{provider}/{name}", _delete_account),
        ("GET", "/templates", _show_templates),
        ("PUT", "/templates", _put_template),
        ("GET", "/faults", _show_faults),
        ("POST", "/faults", _add_fault),
        ("DELETE", "/faults", _drop_faults),
        ("DELETE", "/faults/{id}", _drop_fault),
        ("POST", "/inbound", _inbound),
        ("POST", "/status", _status),
        ("POST", "/webhook", _webhook),
        ("POST", "/handshake", _handshake),
        ("GET", "/log", views.show_log),
        ("GET", "/summary", views.show_summary),
        ("GET", "/messages", views.show_messages),
        ("GET", "/webhooks", views.show_webhooks),
        ("GET", "/pending", views.show_pending),
    ]
    made = [web.route(method, "/_control" + path, _safely(world, handler)) for method, path, handler in table]

    async def reset(request: web.Request) -> web.StreamResponse:
        order = await _body(request, ResetOrder) if request.can_read_body else ResetOrder()
        _reset(world, start if order.settings else None)
        return json_answer({"reset": True})

    async def pem(request: web.Request) -> web.StreamResponse:
        return web.Response(body=certificate, content_type="application/x-pem-file")

    async def index(request: web.Request) -> web.StreamResponse:
        return json_answer({"routes": [f"{method} /_control{path}" for method, path, _ in table]})

    return [
        *made,
        web.get("/_control", index),
        web.post("/_control/reset", _safely(world, lambda _, request: reset(request))),
        web.get("/_control/certificate", pem),
    ]


def _safely(world: World, handler: Callable[[World, web.Request], Awaitable[web.StreamResponse]]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(world, request)
        except (msgspec.DecodeError, msgspec.ValidationError, views.Complaint, ValueError) as problem:
            return json_answer({"error": str(problem)}, 400)

    return handle


async def _body(request: web.Request, kind: type[T]) -> T:
    return msgspec.json.decode(await request.read(), type=kind)


def _reset(world: World, settings: Settings | None) -> None:
    world.lifecycle.forget()
    world.deliveries.forget()
    world.oracle.clear()
    world.buckets.forget()
    world.book.traps.clear()
    world.fast.requests, world.fast.bad = 0, 0
    world.fast.by_path.clear()
    if settings:
        world.book.load(settings)
    world.keep_settings()


# ---- settings ---------------------------------------------------------------------------------------


async def _show_scenario(world: World, request: web.Request) -> web.StreamResponse:
    return json_answer(world.book.scenario)


async def _put_scenario(world: World, request: web.Request) -> web.StreamResponse:
    world.book.set_scenario(merged(Settings().scenario, await _body(request, dict[str, Any])))
    world.keep_settings()
    return json_answer(world.book.scenario)


async def _patch_scenario(world: World, request: web.Request) -> web.StreamResponse:
    world.book.set_scenario(merged(world.book.scenario, await _body(request, dict[str, Any])))
    world.keep_settings()
    return json_answer(world.book.scenario)


async def _show_settings(world: World, request: web.Request) -> web.StreamResponse:
    return json_answer(world.book.settings())


async def _put_settings(world: World, request: web.Request) -> web.StreamResponse:
    world.book.load(await _body(request, Settings))
    world.keep_settings()
    return json_answer(world.book.settings())


async def _show_accounts(world: World, request: web.Request) -> web.StreamResponse:
    return json_answer(list(world.book.accounts.values()))


async def _put_account(world: World, request: web.Request) -> web.StreamResponse:
    account = await _body(request, Account)
    world.book.accounts[account.provider, account.name] = account
    world.keep_settings()
    return json_answer(account)


async def _delete_account(world: World, request: web.Request) -> web.StreamResponse:
    provider, name = request.match_info["provider"], request.match_info["name"]
    gone = [key for key in world.book.accounts if key == (provider, name)]
    for key in gone:
        del world.book.accounts[key]
    world.keep_settings()
    return json_answer({"deleted": len(gone)})


async def _show_templates(world: World, request: web.Request) -> web.StreamResponse:
    return json_answer(list(world.book.templates.values()))


async def _put_template(world: World, request: web.Request) -> web.StreamResponse:
    template = await _body(request, Template)
    world.book.templates[template.name, template.language] = template
    world.keep_settings()
    return json_answer(template)


async def _show_faults(world: World, request: web.Request) -> web.StreamResponse:
    return json_answer([_trap(trap) for trap in world.book.traps])


async def _add_fault(world: World, request: web.Request) -> web.StreamResponse:
    trap = world.book.add_fault(await _body(request, Fault))
    world.keep_settings()
    return json_answer(_trap(trap), 201)


async def _drop_faults(world: World, request: web.Request) -> web.StreamResponse:
    count = len(world.book.traps)
    world.book.traps.clear()
    world.keep_settings()
    return json_answer({"deleted": count})


async def _drop_fault(world: World, request: web.Request) -> web.StreamResponse:
    kept = [trap for trap in world.book.traps if str(trap.id) != request.match_info["id"]]
    count = len(world.book.traps) - len(kept)
    world.book.traps = kept
    world.keep_settings()
    return json_answer({"deleted": count})


def _trap(trap: Trap) -> dict[str, Any]:
    return {"id": trap.id, "matched": trap.matched, "hits": trap.hits, **msgspec.to_builtins(trap.fault)}


# ---- let things happen ------------------------------------------------------------------------------


async def _inbound(world: World, request: web.Request) -> web.StreamResponse:
    order = await _body(request, InboundOrder)
    wire = _wire(order.provider)
    inbound = Inbound(
        id=order.id or new_inbound_id(),
        account=_account_name(world, order.provider, order.account),
        sender=order.sender,
        text=order.text,
        at=order.at or time.time(),
        quotes=order.quotes,
        fields=order.fields,
    )
    world.lifecycle.receive(wire, inbound, order.copies)
    return json_answer({"id": inbound.id, "account": inbound.account}, 202)


async def _status(world: World, request: web.Request) -> web.StreamResponse:
    order = await _body(request, StatusOrder)
    wire = _wire(order.provider)
    known = world.lifecycle.find(order.provider, order.id)
    message = known or Message(
        id=order.id,
        provider=order.provider,
        account=_account_name(world, order.provider, order.account),
        recipient=order.recipient,
        text="",
        at=order.at or time.time(),
        fate=Fate(steps=()),
        reference=order.reference,
        category="service",
    )
    if order.code:
        message = msgspec.structs.replace(message, failure=order.code)
    for _ in range(order.copies):
        world.lifecycle.tell_status(wire, message, order.status, order.at or time.time(), order.fields)
    return json_answer({"id": message.id, "account": message.account, "known": known is not None}, 202)


async def _webhook(world: World, request: web.Request) -> web.StreamResponse:
    order = await _body(request, WebhookOrder)
    name = _account_name(world, order.provider, order.account)
    account = world.book.account(order.provider, name)
    if not account.url:
        raise views.Complaint(f"account {order.provider}/{name} has no url: PUT /_control/accounts first")
    body = order.body.encode(errors="surrogateescape")
    signer = account if order.secret is None else msgspec.structs.replace(account, secret=order.secret)
    signed = {} if order.unsigned else _wire(order.provider).signature(signer, body)
    if order.flip is not None:
        spoiled = bytearray(body)
        spoiled[order.flip] ^= 1
        body = bytes(spoiled)
    headers = {"Content-Type": order.content_type, **signed, **order.headers}
    return json_answer(await world.deliveries.post(account, name, body, headers))


async def _handshake(world: World, request: web.Request) -> web.StreamResponse:
    order = await _body(request, HandshakeOrder)
    name = _account_name(world, "meta", order.account)
    account = world.book.account("meta", name)
    if not account.url:
        raise views.Complaint(f"account meta/{name} has no url: PUT /_control/accounts first")
    if order.verify_token is not None:
        account = msgspec.structs.replace(account, verify_token=order.verify_token)
    return json_answer(await world.deliveries.shake_hands(account, order.challenge))


def _wire(provider: ProviderName) -> Wire:
    wire = WIRES.get(provider)
    if wire is None:
        raise views.Complaint(f"{provider} tells nothing by webhook; use one of {sorted(WIRES)}")
    return wire


def _account_name(world: World, provider: ProviderName, asked: str) -> str:
    if asked:
        return asked
    names = [name for owner, name in world.book.accounts if owner == provider]
    return names[0] if len(names) == 1 else "*"
