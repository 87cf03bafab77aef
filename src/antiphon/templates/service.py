"""The verbs of templates: write them, change them, choose the version that a message uses, show what it will say."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, structs

from antiphon.core import clock, ids
from antiphon.core.channel import Channel, parse_channel
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, FieldError, Invalid, NotFound
from antiphon.core.paging import Page, cut, decode_cursor
from antiphon.events import service as events
from antiphon.organizations import audit
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor
from antiphon.templates import guard, queries
from antiphon.templates.localize import languages_to_try
from antiphon.templates.model import (
    Content,
    NewTemplate,
    NewVersion,
    Template,
    TemplateChanges,
    TemplateDetail,
    TemplateStatus,
    TemplateVersion,
    check_language,
)


async def create(conn: Connection, actor: Actor, new: NewTemplate) -> TemplateDetail:
    """A template with its first version. Raises Invalid naming every wrong part, Conflict for a name that is taken."""
    _check_nul(new)
    now, language = clock.now(), await _language(conn, actor, new.language)
    template = Template(
        id=ids.new_id(),
        name=_checked_name(new.name),
        channel=parse_channel(new.channel),
        description=new.description,
        status=new.status,
        default_language=language,
        languages=[language],
        created_at=now,
        updated_at=now,
    )
    version = _version(actor, new, template.channel, language, now, template_id=template.id)
    await guard.check(version)
    if not await queries.add(conn, actor.org_id, template, name_key(template.name)):
        raise _name_taken(template.name)
    await queries.add_version(conn, version)
    await audit.record(
        conn,
        actor,
        "template.created",
        template.id,
        name=template.name,
        channel=template.channel,
        language=language,
    )
    await events.emit(conn, actor.org_id, "template_created", template.id, _told(template))
    return _detail(template, [version])


async def add_version(conn: Connection, actor: Actor, template_id: UUID, new: NewVersion) -> TemplateVersion:
    """The next version in one language (the template's default one unless named): new messages use it from now on.

    Messages that are made already keep theirs.
    """
    template = await queries.lock(conn, actor.org_id, template_id)
    language = check_language(new.language or template.default_language)
    version = _version(
        actor,
        new,
        template.channel,
        language,
        clock.now(),
        template_id=template_id,
        number=await queries.next_number(conn, actor.org_id, template_id, language),
    )
    await guard.check(version)
    await queries.add_version(conn, version)
    await _save(conn, actor, template, "template.version_added", language=language, version=version.version)
    return version


async def update(
    conn: Connection, actor: Actor, template_id: UUID, changes: TemplateChanges
) -> TemplateDetail:
    """Change name, description, status or default language."""
    template = await queries.lock(conn, actor.org_id, template_id)
    given = {name: value for name, value in structs.asdict(changes).items() if value is not UNSET}
    if isinstance(changes.default_language, str):
        given["default_language"] = language = check_language(changes.default_language, "default_language")
        if language not in template.languages:
            raise Invalid.field(
                "default_language",
                f"there is no version in it; there are {', '.join(template.languages)}. Add one first",
                language,
            )
    if isinstance(changes.name, str):
        given["name"] = _checked_name(changes.name)
    _check_nul(changes)
    changed = structs.replace(template, **given)
    taken = await queries.find_by_name(conn, actor.org_id, name_key(changed.name))
    if taken not in (None, template_id):
        raise _name_taken(changed.name)
    await _save(conn, actor, changed, "template.updated", changed=sorted(given))
    return await get(conn, actor, template_id)


async def delete(conn: Connection, actor: Actor, template_id: UUID) -> None:
    """Delete a template: its name is free again, messages that are made already still go out."""
    template = await queries.lock(conn, actor.org_id, template_id)
    await queries.delete(conn, actor.org_id, template_id)
    await audit.record(conn, actor, "template.deleted", template_id, name=template.name)
    await events.emit(conn, actor.org_id, "template_deleted", template_id, _told(template))


async def clone(conn: Connection, actor: Actor, template_id: UUID, name: str | None = None) -> TemplateDetail:
    """A draft with the newest version of each language, under another name."""
    source = await get(conn, actor, template_id)
    now = clock.now()
    copy = Template(
        id=ids.new_id(),
        name=_checked_name(name) if name else await _free_name(conn, actor.org_id, source.name),
        channel=source.channel,
        description=source.description,
        status="draft",
        default_language=source.default_language,
        languages=source.languages,
        created_at=now,
        updated_at=now,
    )
    if not await queries.add(conn, actor.org_id, copy, name_key(copy.name)):
        raise _name_taken(copy.name)
    versions = [
        structs.replace(
            version,
            id=ids.new_id(),
            template_id=copy.id,
            version=1,
            created_by=actor.label,
            created_at=now,
        )
        for version in source.versions
    ]
    for version in versions:
        await queries.add_version(conn, version)
    await audit.record(conn, actor, "template.created", copy.id, name=copy.name, cloned_from=str(template_id))
    await events.emit(conn, actor.org_id, "template_created", copy.id, _told(copy))
    return _detail(copy, versions)


async def get(conn: Connection, actor: Actor, template_id: UUID) -> TemplateDetail:
    """A template with the newest version of each language. Raises NotFound."""
    template = await queries.get(conn, actor.org_id, template_id)
    return _detail(template, await queries.newest_versions(conn, actor.org_id, template_id))


async def find_named(conn: Connection, org_id: UUID, name: str) -> Template | None:
    """The template of that name, in any case."""
    template_id = await queries.find_by_name(conn, org_id, name_key(name))
    return await queries.get(conn, org_id, template_id) if template_id else None


async def list_templates(
    conn: Connection,
    actor: Actor,
    *,
    channel: str | None = None,
    status: TemplateStatus | None = None,
    search: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Template]:
    """A page of templates, the newest first; `search` is a part of the name."""
    found = await queries.list_page(
        conn,
        actor.org_id,
        channel=parse_channel(channel) if channel else None,
        status=status,
        search=name_key(search) if search else None,
        before=decode_cursor(cursor, UUID)[0] if cursor else None,
        limit=limit + 1,
    )
    return cut(found, limit, lambda template: (template.id,))


async def list_versions(
    conn: Connection,
    actor: Actor,
    template_id: UUID,
    *,
    language: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[TemplateVersion]:
    """A page of a template's versions, the newest first."""
    await queries.get(conn, actor.org_id, template_id)
    found = await queries.list_versions(
        conn,
        actor.org_id,
        template_id,
        language=check_language(language) if language else None,
        before=decode_cursor(cursor, UUID)[0] if cursor else None,
        limit=limit + 1,
    )
    return cut(found, limit, lambda version: (version.id,))


# ---- what messages use ----------------------------------------------------------------------------


async def get_version(conn: Connection, org_id: UUID, version_id: UUID) -> TemplateVersion:
    """One version, of an archived or deleted template too: what was promised to a message stays. Raises NotFound."""
    return await queries.get_version(conn, org_id, version_id)


async def get_version_of(
    conn: Connection, org_id: UUID, template_id: UUID, version_id: UUID
) -> TemplateVersion:
    """`get_version`, if it is this template's. Raises NotFound."""
    version = await queries.get_version(conn, org_id, version_id)
    if version.template_id != template_id:
        raise NotFound("template version", version_id)
    return version


async def find_version(conn: Connection, org_id: UUID, version_id: UUID) -> TemplateVersion | None:
    """`get_version`, or None where there is none."""
    return await queries.find_version(conn, org_id, version_id)


async def active_version(
    conn: Connection, org_id: UUID, template_id: UUID, language: str | None = None
) -> TemplateVersion:
    """The version for a contact's language: that language, its base language, the template's default one.

    Raises NotFound, and Conflict for a template that is not active.
    """
    template = await queries.get(conn, org_id, template_id)
    template.check_usable()
    version = await queries.find_newest(
        conn, org_id, template_id, languages_to_try(language, template.default_language)
    )
    if version is None:
        raise NotFound("version of template", template_id)
    return version


async def usable(conn: Connection, org_id: UUID, id_or_name: str) -> Template:
    """The active template that somebody means by an id or a name. Raises NotFound, and Conflict when not active."""
    try:
        template = await queries.get(conn, org_id, UUID(id_or_name))
    except ValueError:
        named = await find_named(conn, org_id, id_or_name)
        if named is None:
            raise NotFound("template", id_or_name) from None
        template = named
    template.check_usable()
    return template


async def active_versions(conn: Connection, org_id: UUID, template_id: UUID) -> dict[str, TemplateVersion]:
    """The newest version of each language, the default one's first: for an audience of many languages.

    Raises NotFound, and Conflict for a template that is not active.
    """
    template = await queries.get(conn, org_id, template_id)
    template.check_usable()
    found = await queries.newest_versions(conn, org_id, template_id)
    by_language = {version.language: version for version in found}
    default = next(tag for tag in languages_to_try(None, template.default_language) if tag in by_language)
    return {default: by_language[default]} | by_language


async def own_text(
    conn: Connection, actor: Actor, channel: Channel, said: Content | str, *, language: str | None = None
) -> TemplateVersion:
    """A campaign's or a message's own text, stored as a version without a name. Checked like any template.

    Without a language it is in the organization's.
    """
    content = Content(text=said) if isinstance(said, str) else said
    version = _version(actor, content, channel, await _language(conn, actor, language), clock.now())
    await guard.check(version)
    await queries.add_version(conn, version)
    return version


# ---- helpers --------------------------------------------------------------------------------------


def name_key(name: str) -> str:
    """What makes two names the same: case and spaces do not tell them apart."""
    return " ".join(name.split()).casefold()


def _version(
    actor: Actor,
    content: Content,
    channel: Channel,
    language: str,
    at: datetime,
    *,
    template_id: UUID | None = None,
    number: int = 1,
) -> TemplateVersion:
    _check_nul(content)
    return TemplateVersion(
        org_id=actor.org_id,
        id=ids.new_id(),
        template_id=template_id,
        language=language,
        version=number,
        channel=channel,
        subject=content.subject or None,
        text=content.text or None,
        html=content.html or None,
        approved=content.approved,
        variables=content.variables,
        created_by=actor.label,
        created_at=at,
    )


async def _language(conn: Connection, actor: Actor, given: str | None) -> str:
    return check_language(given or (await organizations.get(conn, actor.org_id)).language)


def _checked_name(name: str) -> str:
    text = " ".join(name.split())
    if not text or len(text) > 200 or not text.isprintable():
        raise Invalid.field("name", "must have 1 to 200 characters, on one line", name[:80])
    return text


def _check_nul(given: Struct) -> None:
    """PostgreSQL stores every character but this one."""
    if b"\\u0000" not in msgspec.json.encode(given):
        return
    parts = [
        name
        for name in given.__struct_fields__
        if b"\\u0000"
        in msgspec.json.encode({name: getattr(given, name)} if getattr(given, name) is not UNSET else {})
    ]
    raise Invalid(
        "a text contains the character NUL, which cannot be stored; remove it",
        [FieldError(part, "contains the character NUL; remove it") for part in parts],
        "template_invalid",
    )


async def _save(conn: Connection, actor: Actor, template: Template, action: str, **detail: Any) -> None:
    template = structs.replace(template, updated_at=clock.now())
    await queries.save(conn, actor.org_id, template, name_key(template.name))
    await audit.record(conn, actor, action, template.id, name=template.name, **detail)
    await events.emit(conn, actor.org_id, "template_updated", template.id, _told(template) | detail)


async def _free_name(conn: Connection, org_id: UUID, name: str) -> str:
    for number in range(1, 100):
        copy = f"{name[:180]} (copy{f' {number}' if number > 1 else ''})"
        if await queries.find_by_name(conn, org_id, name_key(copy)) is None:
            return copy
    raise _name_taken(name)


def _name_taken(name: str) -> Conflict:
    return Conflict("template_name_taken", f"there is a template named {name!r} already; choose another name")


def _told(template: Template) -> dict[str, Any]:
    return {"name": template.name, "channel": template.channel, "status": template.status}


def _detail(template: Template, versions: list[TemplateVersion]) -> TemplateDetail:
    return TemplateDetail(**structs.asdict(template), versions=versions)
