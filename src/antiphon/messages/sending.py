"""`POST /messages`: one or a thousand messages of any channel, now or later.

    resolve    sender (by id or name), contact (by id, or by address: found or made), template version in the
               contact's language
    check      every message is rendered once, so that a missing variable is an error here and not a failure later
    enqueue    one statement for all

Everything wrong in a batch is named at once, by its place (`messages[3].variables`), and nothing of it is written.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from antiphon.contacts.reaching import Reachable, reach
from antiphon.core.channel import ADDRESS_KIND, Channel, Purpose, needs_consent
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.core.errors import FieldError, Invalid, Problem
from antiphon.core.ids import new_id
from antiphon.messages import lane_service, lanes, named
from antiphon.messages.enqueue import NewMessage, enqueue
from antiphon.messages.named import Asked, Named, Way
from antiphon.organizations import audit
from antiphon.organizations.access import Moment, moment
from antiphon.organizations.model import Actor
from antiphon.senders.model import Sender
from antiphon.templates import service as templates
from antiphon.templates.model import TemplateVersion
from antiphon.templates.render import RenderError, render

MOST = 1_000


class OutgoingMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message to send: to whom (`to` or `contact_id`), from which sender, and what it says (a template with its
    variables, or its own text)."""

    sender: Annotated[str, Meta(min_length=1, max_length=200, description="a sender's id or name")]
    to: Annotated[str, Meta(max_length=320, description="phone number or email address")] | None = None
    contact_id: UUID | None = None
    template: Annotated[str, Meta(max_length=200, description="a template's id or name")] | None = None
    language: Annotated[str, Meta(max_length=20)] | None = None
    variables: dict[str, Any] = {}
    subject: Annotated[str, Meta(max_length=998)] | None = None
    text: Annotated[str, Meta(max_length=100_000)] | None = None
    html: Annotated[str, Meta(max_length=524_288)] | None = None
    purpose: Purpose = Purpose.TRANSACTIONAL
    scheduled_for: Moment | None = None
    expires_at: Moment | None = None
    once: Annotated[bool, Meta(description="never sent a second time, even when its outcome is in doubt")] = (
        False
    )
    reply_to_id: UUID | None = None
    metadata: dict[str, Any] | None = None


class OutgoingMessages(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Up to 1,000 messages, all or none."""

    messages: Annotated[list[OutgoingMessage], Meta(min_length=1, max_length=MOST)]


class Queued(msgspec.Struct, frozen=True):
    """The ids of what was written to the ledger, in the order of the request."""

    ids: list[UUID]


class _Known(msgspec.Struct, kw_only=True):
    """What a batch refers to, each looked up once."""

    named: Named
    senders: dict[str, Way | Sender] = {}
    gates: dict[tuple[UUID, str], UUID] = {}
    versions: dict[tuple[str, str | None], TemplateVersion] = {}
    people: dict[tuple[str, str], Reachable] = {}


async def send(conn: Connection, actor: Actor, messages: list[OutgoingMessage]) -> Queued:
    """Write the messages to the ledger and the queue. Raises Invalid naming every message that cannot be sent."""
    at = now()
    errors: list[FieldError] = []
    for i, message in enumerate(messages):
        errors += _shape(i, message, at)
    known = _Known(named=await _look_up(conn, actor, messages))
    for step in (_find_senders, _find_people, _find_versions):
        if not errors:
            await step(conn, actor, known, messages, errors)
    fresh = [] if errors else [_plan(actor, known, i, m, at, errors) for i, m in enumerate(messages)]
    if errors:
        raise Invalid(f"{len(errors)} of these messages cannot be sent; nothing was stored", errors[:100])
    await enqueue(conn, actor.org_id, fresh)
    await audit.record(
        conn, actor, "messages.sent", fresh[0].id if len(fresh) == 1 else None, count=len(fresh)
    )
    return Queued([m.id for m in fresh])


async def send_one(conn: Connection, actor: Actor, message: OutgoingMessage) -> Queued:
    """`send` for one message."""
    return await send(conn, actor, [message])


async def send_each(conn: Connection, actor: Actor, messages: list[OutgoingMessage]) -> list[Queued | None]:
    """Messages that have nothing to do with each other: each as `send_one` would, None for one that needs more than
    to be looked up (a new contact, a national number) or is refused, of which nothing is written."""
    at = now()
    known = _Known(named=await _look_up(conn, actor, messages))
    fresh = [await _usual(conn, actor, known, message, at) for message in messages]
    made = [message for message in fresh if message is not None]
    await enqueue(conn, actor.org_id, made)
    await audit.record_each(conn, actor, "messages.sent", [message.id for message in made], count=1)
    return [None if message is None else Queued([message.id]) for message in fresh]


async def _usual(
    conn: Connection, actor: Actor, known: _Known, m: OutgoingMessage, at: datetime
) -> NewMessage | None:
    """The message to be, if all that it names was found and fits; only an immutable version is fetched for it."""
    way, traffic = known.named.senders.get(m.sender), lanes.traffic_of(m.purpose)
    if way is None or not way.is_active or traffic not in way.gates or m.to is None:
        return None
    person = known.named.people.get((ADDRESS_KIND[way.channel], m.to))
    if person is None:
        return None
    known.senders[m.sender], known.gates[way.id, traffic] = way, way.gates[traffic]
    known.people[way.channel, m.to] = person
    errors: list[FieldError] = []
    try:
        errors += _shape(0, m, at)
        await _find_versions(conn, actor, known, [m], errors)
        planned = None if errors else _plan(actor, known, 0, m, at, errors)
    except Problem:
        return None
    return None if errors else planned


async def _look_up(conn: Connection, actor: Actor, messages: list[OutgoingMessage]) -> Named:
    asked = Asked(
        senders={m.sender for m in messages},
        templates={m.template for m in messages if m.template is not None},
        people={m.to for m in messages if m.to is not None},
    )
    return await named.look_up(conn, actor.org_id, asked)


def _at(i: int, field: str) -> str:
    return f"messages[{i}].{field}"


def _shape(i: int, m: OutgoingMessage, at: datetime) -> list[FieldError]:
    """What is wrong with a message by itself."""
    wrong: list[FieldError] = []
    if (m.to is None) == (m.contact_id is None):
        wrong.append(FieldError(_at(i, "to"), "give either `to` or `contact_id`"))
    if (m.template is None) == (m.text is None and m.html is None):
        wrong.append(FieldError(_at(i, "text"), "give either a template or a text of its own"))
    if m.expires_at is not None:
        start = at if m.scheduled_for is None else moment(m.scheduled_for, _at(i, "scheduled_for"))
        if moment(m.expires_at, _at(i, "expires_at")) <= start:
            wrong.append(
                FieldError(_at(i, "expires_at"), "is before the message is due; nothing would be sent")
            )
    return wrong


async def _find_senders(
    conn: Connection, actor: Actor, known: _Known, messages: list[OutgoingMessage], errors: list[FieldError]
) -> None:
    """Each sender that is named, and the gate that its messages of this purpose wait behind."""
    for i, m in enumerate(messages):
        traffic = lanes.traffic_of(m.purpose)
        way = known.named.senders.get(m.sender)
        if way is not None and way.is_active and traffic in way.gates:
            known.senders[m.sender], known.gates[way.id, traffic] = way, way.gates[traffic]
            continue
        sender = known.senders.get(m.sender)
        if sender is not None and (sender.id, traffic) in known.gates:
            continue
        try:
            made, gate_id = await lane_service.road_of(conn, actor.org_id, m.sender, traffic)
        except Problem as problem:
            errors.append(FieldError(_at(i, "sender"), problem.detail, m.sender))
            continue
        known.senders[m.sender], known.gates[made.id, traffic] = made, gate_id


async def _find_versions(
    conn: Connection, actor: Actor, known: _Known, messages: list[OutgoingMessage], errors: list[FieldError]
) -> None:
    """Each template that is named, in each language that its recipients need."""
    for i, m in enumerate(messages):
        key = (m.template or "", _language(known, m))
        if m.template is None or key in known.versions:
            continue
        text = known.named.templates.get(m.template)
        try:
            if text is not None and (version_id := text.version_for(key[1])) is not None:
                known.versions[key] = await named.version(conn, actor.org_id, version_id)
                continue
            template = await templates.usable(conn, actor.org_id, m.template)
            known.versions[key] = await templates.active_version(conn, actor.org_id, template.id, key[1])
        except Problem as problem:
            errors.append(FieldError(_at(i, "template"), problem.detail, m.template))


def _language(known: _Known, m: OutgoingMessage) -> str | None:
    return m.language or known.people[known.senders[m.sender].channel, _name(m)].language


async def _find_people(
    conn: Connection, actor: Actor, known: _Known, messages: list[OutgoingMessage], errors: list[FieldError]
) -> None:
    """Every recipient, by channel and by what the request calls them; addresses that are new become contacts."""
    wanted: dict[Channel, dict[str, int]] = {}
    for i, m in enumerate(messages):
        channel, name = known.senders[m.sender].channel, _name(m)
        if (person := known.named.people.get((ADDRESS_KIND[channel], name))) is not None:
            known.people[channel, name] = person
        else:
            wanted.setdefault(channel, {}).setdefault(name, i)
    for channel, names in wanted.items():
        found, wrong = await reach(conn, actor, channel, list(names))
        known.people |= {(channel, name): person for name, person in found.items()}
        errors += [FieldError(_at(names[name], "to"), text, name) for name, text in wrong.items()]


def _name(m: OutgoingMessage) -> str:
    return str(m.contact_id) if m.contact_id else (m.to or "")


def _plan(
    actor: Actor, known: _Known, i: int, m: OutgoingMessage, at: datetime, errors: list[FieldError]
) -> NewMessage:
    sender = known.senders[m.sender]
    person = known.people[sender.channel, _name(m)]
    version = known.versions[m.template, _language(known, m)] if m.template is not None else None
    variables = {**person.variables, **m.variables}
    if version is not None and version.channel != sender.channel:
        errors.append(
            FieldError(
                _at(i, "template"),
                f"is for {version.channel}; the sender is for {sender.channel}",
                m.template,
            )
        )
    elif version is not None:
        try:
            render(version, variables, m.language or person.language, at=at)
        except RenderError as error:
            errors.append(FieldError(_at(i, "variables"), str(error)))
    return NewMessage(
        id=new_id(), channel=sender.channel, purpose=m.purpose, origin="api", caused_by=actor.label,
        lane_id=sender.id, gate_id=known.gates[sender.id, lanes.traffic_of(m.purpose)], contact_id=person.contact_id,
        address=person.address,
        due_at=at if m.scheduled_for is None else moment(m.scheduled_for, _at(i, "scheduled_for")),
        template_version_id=version.id if version else None, language=m.language or person.language,
        variables=variables if version else None, subject=m.subject, text=m.text, html=m.html, metadata=m.metadata,
        reply_to_id=m.reply_to_id, is_once=m.once, needs_consent=needs_consent(m.purpose, sender.channel),
        expires_at=moment(m.expires_at, _at(i, "expires_at")) if m.expires_at is not None else None,
        reason="" if person.address else "no_address",
    )  # fmt: skip
