"""What a template will say, before it says it: with sample data, to a real contact, in one language or in all."""

from __future__ import annotations

from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from antiphon.contacts import service as contacts
from antiphon.contacts.model import Contact
from antiphon.core import clock
from antiphon.core.channel import AddressKind
from antiphon.core.db import Connection
from antiphon.core.errors import Invalid
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor
from antiphon.templates import guard, queries
from antiphon.templates.localize import languages_to_try
from antiphon.templates.model import Content, Rendered, TemplateVersion, check_language
from antiphon.templates.render import PartFault, RenderError, compile_version, fill


class PreviewWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to show: for a contact, or with the samples; `variables` stand before both.

    With `language`, the version that a contact of this language gets; without, every language. With `content`, that
    instead of what is stored.
    """

    contact_id: UUID | None = None
    variables: dict[str, Any] = {}
    language: str | None = None
    content: Content | None = None


class Preview(Struct, frozen=True, kw_only=True):
    """What one version says, or why it says nothing. `missing` has no value and no default."""

    language: str
    version: int
    said: Rendered | None
    problem: str | None
    variables: dict[str, Any]
    missing: list[str]


async def show(conn: Connection, actor: Actor, template_id: UUID, wanted: PreviewWanted) -> list[Preview]:
    """The template as it would be sent now, one entry a language. Raises NotFound for template and contact."""
    template = await queries.get(conn, actor.org_id, template_id)
    versions = await queries.newest_versions(conn, actor.org_id, template_id)
    contact = await contacts.get(conn, actor, wanted.contact_id) if wanted.contact_id else None
    language = check_language(wanted.language) if wanted.language else contact.language if contact else None
    if language is not None:
        order = languages_to_try(language, template.default_language)
        versions = sorted(
            (v for v in versions if v.language in order), key=lambda v: order.index(v.language)
        )[:1]
    if wanted.content is not None:
        versions = [_with(version, wanted.content) for version in versions]
    zone = ZoneInfo((await organizations.get(conn, actor.org_id)).timezone)
    return [
        _shown(version, _values(version, contact, wanted.variables), language, zone) for version in versions
    ]


def contact_values(contact: Contact) -> dict[str, Any]:
    """What a contact fills a template with."""
    return {
        **contact.attributes,
        "firstName": contact.first_name,
        "lastName": contact.last_name,
        "email": contact.address(AddressKind.EMAIL),
        "phone": contact.address(AddressKind.PHONE),
        "company": contact.company,
    }


def _values(version: TemplateVersion, contact: Contact | None, given: dict[str, Any]) -> dict[str, Any]:
    samples = guard.sample_values(version)
    if contact is None:
        return samples | given
    # what belongs to the contact is never made up; what comes from elsewhere still is
    own = contact_values(contact)
    return {name: value for name, value in samples.items() if name not in own} | own | given


def _with(version: TemplateVersion, content: Content) -> TemplateVersion:
    return structs.replace(
        version,
        subject=content.subject,
        text=content.text,
        html=content.html,
        approved=content.approved,
        variables=content.variables,
    )


def _shown(version: TemplateVersion, values: dict[str, Any], language: str | None, zone: ZoneInfo) -> Preview:
    said, problem, missing, used = None, None, list[str](), dict[str, Any]()
    try:
        compiled = compile_version(version)
        used = {name: values.get(name) for name in compiled.names}
        missing = [
            name for name, value in used.items() if value in (None, "") and name not in compiled.instead
        ]
        said = fill(compiled, values, language, at=clock.now().astimezone(zone))
    except PartFault as fault:
        raise Invalid(str(fault), fault.errors, "template_invalid") from None
    except RenderError as error:
        problem = error.reason
    return Preview(
        language=version.language,
        version=version.version,
        said=said,
        problem=problem,
        variables=used,
        missing=missing,
    )
