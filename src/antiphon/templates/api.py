"""Routes of templates, their versions and previews."""

from __future__ import annotations

from uuid import UUID

from litestar import Router, delete, get, patch, post
from msgspec import Struct

from antiphon.core.db import Connection
from antiphon.core.paging import Page, check_limit
from antiphon.organizations.access import Permission, StrictBody, Unit, requires
from antiphon.organizations.model import Actor
from antiphon.templates import preview, service
from antiphon.templates.model import (
    NewTemplate,
    NewVersion,
    Template,
    TemplateChanges,
    TemplateDetail,
    TemplateStatus,
    TemplateVersion,
)
from antiphon.templates.preview import Preview, PreviewWanted


@post("/", **requires(Permission.TEMPLATES_WRITE), dto=StrictBody[NewTemplate], return_dto=None)
async def create_template(unit: Unit, data: NewTemplate) -> TemplateDetail:
    """Make a template with its first version. It is tried out before it is stored: what is wrong with it is named."""
    return await unit.write(service.create, data)


@get("/", **requires(Permission.TEMPLATES_READ))
async def list_templates(
    unit: Unit,
    channel: str | None = None,
    status: TemplateStatus | None = None,
    search: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Page[Template]:
    """Templates, the newest first; `search` is a part of the name."""
    return await unit.read(
        service.list_templates,
        channel=channel,
        status=status,
        search=search,
        limit=check_limit(limit),
        cursor=cursor,
    )


@get("/{template_id:uuid}", **requires(Permission.TEMPLATES_READ))
async def get_template(unit: Unit, template_id: UUID) -> TemplateDetail:
    """A template with the newest version of each language."""
    return await unit.read(service.get, template_id)


@patch(
    "/{template_id:uuid}",
    **requires(Permission.TEMPLATES_WRITE),
    dto=StrictBody[TemplateChanges],
    return_dto=None,
)
async def update_template(unit: Unit, template_id: UUID, data: TemplateChanges) -> TemplateDetail:
    """Change name, description, status or default language; what a template says changes by a new version."""
    return await unit.write(service.update, template_id, data)


@delete("/{template_id:uuid}", **requires(Permission.TEMPLATES_WRITE))
async def delete_template(unit: Unit, template_id: UUID) -> None:
    """Delete a template. Messages that were made with it still go out."""
    await unit.write(service.delete, template_id)


class CloneWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The copy's name; without one, the old name and "(copy)"."""

    name: str | None = None


@post(
    "/{template_id:uuid}/clone",
    **requires(Permission.TEMPLATES_WRITE),
    dto=StrictBody[CloneWanted],
    return_dto=None,
)
async def clone_template(unit: Unit, template_id: UUID, data: CloneWanted) -> TemplateDetail:
    """Copy the newest version of each language into a new draft."""
    return await unit.write(service.clone, template_id, data.name)


@post("/{template_id:uuid}/archive", **requires(Permission.TEMPLATES_WRITE), status_code=200)
async def archive_template(unit: Unit, template_id: UUID) -> TemplateDetail:
    """Put a template away: it stays readable and refuses to be used."""
    return await unit.write(service.update, template_id, TemplateChanges(status="archived"))


@post("/{template_id:uuid}/activate", **requires(Permission.TEMPLATES_WRITE), status_code=200)
async def activate_template(unit: Unit, template_id: UUID) -> TemplateDetail:
    """Let a draft or an archived template be used."""
    return await unit.write(service.update, template_id, TemplateChanges(status="active"))


@post(
    "/{template_id:uuid}/versions",
    **requires(Permission.TEMPLATES_WRITE),
    dto=StrictBody[NewVersion],
    return_dto=None,
)
async def add_version(unit: Unit, template_id: UUID, data: NewVersion) -> TemplateVersion:
    """Write the next version in one language; new messages use it from now on."""
    return await unit.write(service.add_version, template_id, data)


@get("/{template_id:uuid}/versions", **requires(Permission.TEMPLATES_READ))
async def list_versions(
    unit: Unit,
    template_id: UUID,
    language: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Page[TemplateVersion]:
    """A template's versions, the newest first."""
    return await unit.read(
        service.list_versions, template_id, language=language, limit=check_limit(limit), cursor=cursor
    )


@get("/{template_id:uuid}/versions/{version_id:uuid}", **requires(Permission.TEMPLATES_READ))
async def get_version(unit: Unit, template_id: UUID, version_id: UUID) -> TemplateVersion:
    """One version."""
    return await unit.read(_get_version, template_id, version_id)


async def _get_version(
    conn: Connection, actor: Actor, template_id: UUID, version_id: UUID
) -> TemplateVersion:
    return await service.get_version_of(conn, actor.org_id, template_id, version_id)


@post(
    "/{template_id:uuid}/preview",
    **requires(Permission.TEMPLATES_READ),
    dto=StrictBody[PreviewWanted],
    return_dto=None,
    status_code=200,
)
async def preview_template(unit: Unit, template_id: UUID, data: PreviewWanted) -> list[Preview]:
    """What the template says with its samples or to a contact, in one language or in all. Nothing is stored or sent."""
    return await unit.read(preview.show, template_id, data)


router = Router(
    "/templates",
    route_handlers=[
        create_template,
        list_templates,
        get_template,
        update_template,
        delete_template,
        clone_template,
        archive_template,
        activate_template,
        add_version,
        list_versions,
        get_version,
        preview_template,
    ],
    tags=["Templates"],
)
