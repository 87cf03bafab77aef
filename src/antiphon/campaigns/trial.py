"""A test send: what a campaign says, to a few named people, before everybody gets it.

Not one of its messages: it is in no funnel, and who got it as a test gets it again when the campaign is launched.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from antiphon.campaigns import list_queries, queries
from antiphon.campaigns.list_queries import Recipient
from antiphon.campaigns.model import Campaign
from antiphon.campaigns.written import check_variables
from antiphon.contacts.reaching import Reachable, reach
from antiphon.core.channel import Purpose
from antiphon.core.clock import now
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, FieldError, Invalid
from antiphon.core.ids import new_id
from antiphon.messages import lanes
from antiphon.messages.enqueue import NewMessage, enqueue
from antiphon.messages.sending import Queued
from antiphon.organizations import audit
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.templates import guard
from antiphon.templates import service as templates
from antiphon.templates.model import TemplateVersion
from antiphon.templates.render import RenderError, render


class TestSend(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets the test, by address or contact id, and what fills the text beside the campaign's own variables."""

    __test__ = False  # no test case, whatever the name suggests

    to: Annotated[list[Annotated[str, Meta(min_length=1, max_length=320)]], Meta(min_length=1, max_length=10)]
    variables: dict[str, Any] = {}


async def send_test(conn: Connection, actor: Actor, campaign_id: UUID, wanted: TestSend) -> Queued:
    """Send what the campaign says to up to 10 people, now, whatever its status; returns the messages' ids.

    Who is on its list gets the list's variables and text, anybody else what everybody gets; an address that nobody has
    becomes a contact. What has no value is its sample. They asked for it, so it needs no consent; a suppressed address
    gets nothing. Raises Invalid naming each that cannot get it, Conflict when there is nothing to say or the sender is
    not usable.
    """
    campaign = await queries.get(conn, actor.org_id, campaign_id)
    sender = await senders.usable_sender(conn, actor.org_id, str(campaign.sender_id))
    names = list(dict.fromkeys(wanted.to))
    found, wrong = await reach(conn, actor, campaign.channel, names)
    wrong |= {name: f"has no address for {campaign.channel}" for name in found if not found[name].address}
    _refuse(wanted.to, wrong)
    listed = await list_queries.recipients_of(
        conn, actor.org_id, campaign_id, [person.contact_id for person in found.values()]
    )
    gate_id = await lanes.default_gate(conn, actor.org_id, sender.id, lanes.traffic_of(Purpose.TRANSACTIONAL))
    versions = await _versions(conn, actor.org_id, campaign)
    given = campaign.variables | check_variables(wanted.variables)
    messages: list[NewMessage] = []
    for name in names:
        person = found[name]
        row = listed.get(person.contact_id)
        try:
            messages.append(_message(actor, campaign, gate_id, person, row, versions, given))
        except RenderError as error:
            wrong[name] = str(error)
    _refuse(wanted.to, wrong)
    await enqueue(conn, actor.org_id, messages)
    await audit.record(conn, actor, "campaign.tested", campaign_id, count=len(messages))
    return Queued([message.id for message in messages])


def _refuse(names: list[str], wrong: dict[str, str]) -> None:
    if wrong:
        errors = [FieldError(f"to[{i}]", wrong[name], name) for i, name in enumerate(names) if name in wrong]
        raise Invalid(f"{len(errors)} of these cannot get the test; nothing was sent", errors)


async def _versions(conn: Connection, org_id: UUID, campaign: Campaign) -> list[TemplateVersion]:
    """What it says, in each language, the default one first; empty when only its list has texts."""
    if campaign.template_id is not None:
        return list((await templates.active_versions(conn, org_id, campaign.template_id)).values())
    if campaign.template_version_id is not None:
        return [await templates.get_version(conn, org_id, campaign.template_version_id)]
    return []


def _message(
    actor: Actor, campaign: Campaign, gate_id: UUID, person: Reachable, row: Recipient | None,
    versions: list[TemplateVersion], given: dict[str, Any],
) -> NewMessage:  # fmt: skip
    text = row.text if row else None
    if text is None and not versions:
        raise Conflict(
            "nothing_to_say",
            "there is no template and no text to try; give one, or name somebody of its list",
        )
    at = now()
    version = None if text is not None else _of_language(versions, person.language)
    variables = None
    if version is not None:
        variables = guard.sample_values(version) | person.variables | given | (row.variables if row else {})
        render(version, variables, person.language, at=at)  # an error here, not a failure later
    return NewMessage(
        id=new_id(), channel=campaign.channel, purpose=Purpose.TRANSACTIONAL, origin="test", caused_by=actor.label,
        lane_id=campaign.sender_id, gate_id=gate_id, contact_id=person.contact_id, address=person.address, due_at=at,
        template_version_id=version.id if version else None, language=person.language, variables=variables, text=text,
        metadata={"test_of": str(campaign.id)},
    )  # fmt: skip


def _of_language(versions: list[TemplateVersion], language: str | None) -> TemplateVersion:
    """The version in somebody's language, or in its main language, or the default one: as an expansion chooses."""
    by_language = {version.language: version for version in versions}
    wanted = (language or "", (language or "").split("-")[0])
    return next((by_language[tag] for tag in wanted if tag in by_language), versions[0])
