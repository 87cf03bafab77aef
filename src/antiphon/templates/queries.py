"""All SQL of templates."""

from __future__ import annotations

from uuid import UUID

from antiphon.core import db
from antiphon.core.db import Connection
from antiphon.core.errors import NotFound
from antiphon.templates.model import Template, TemplateVersion


async def add(conn: Connection, org_id: UUID, template: Template, name_key: str) -> bool:
    """Insert a template; False when its name is taken."""
    return bool(
        await db.execute(
            conn,
            """
            INSERT INTO templates (org_id, id, name, name_key, channel, description, status, default_language,
                                   created_at, updated_at)
            VALUES (%(org_id)s, %(id)s, %(name)s, %(name_key)s, %(channel)s, %(description)s, %(status)s,
                    %(default_language)s, %(created_at)s, %(created_at)s)
            ON CONFLICT (org_id, name_key) WHERE deleted_at IS NULL DO NOTHING
            """,
            org_id=org_id,
            id=template.id,
            name=template.name,
            name_key=name_key,
            channel=template.channel,
            description=template.description,
            status=template.status,
            default_language=template.default_language,
            created_at=template.created_at,
        )
    )


async def add_version(conn: Connection, version: TemplateVersion) -> None:
    """Append a version."""
    await db.execute(
        conn,
        """
        INSERT INTO template_versions (org_id, id, template_id, language, version, channel, subject, text, html,
                                       approved, variables, created_by, created_at)
        VALUES (%(org_id)s, %(id)s, %(template_id)s, %(language)s, %(version)s, %(channel)s, %(subject)s, %(text)s,
                %(html)s, %(approved)s, %(variables)s, %(created_by)s, %(created_at)s)
        """,
        org_id=version.org_id,
        id=version.id,
        template_id=version.template_id,
        language=version.language,
        version=version.version,
        channel=version.channel,
        subject=version.subject,
        text=version.text,
        html=version.html,
        approved=db.json(version.approved) if version.approved else None,
        variables=db.json(version.variables),
        created_by=version.created_by,
        created_at=version.created_at,
    )


async def get(conn: Connection, org_id: UUID, template_id: UUID) -> Template:
    """A template that is not deleted. Raises NotFound."""
    return await db.one(
        conn,
        Template,
        """
        SELECT t.id, t.name, t.channel, t.description, t.status, t.default_language, t.created_at, t.updated_at,
               ARRAY(SELECT DISTINCT v.language FROM template_versions v
                      WHERE v.org_id = %(org_id)s AND v.template_id = t.id ORDER BY v.language) AS languages
          FROM templates t
         WHERE t.org_id = %(org_id)s AND t.id = %(id)s AND t.deleted_at IS NULL
        """,
        org_id=org_id,
        id=template_id,
    )


async def find_by_name(conn: Connection, org_id: UUID, name_key: str) -> UUID | None:
    """The template of that name."""
    return await db.value(
        conn,
        """
        SELECT id FROM templates WHERE org_id = %(org_id)s AND name_key = %(name_key)s AND deleted_at IS NULL
        """,
        org_id=org_id,
        name_key=name_key,
    )


async def lock(conn: Connection, org_id: UUID, template_id: UUID) -> Template:
    """`get`, and nobody else changes it or adds a version until the end of the transaction."""
    await db.execute(
        conn,
        "SELECT 1 FROM templates WHERE org_id = %(org_id)s AND id = %(id)s AND deleted_at IS NULL FOR UPDATE",
        org_id=org_id,
        id=template_id,
    )
    return await get(conn, org_id, template_id)


async def list_page(
    conn: Connection,
    org_id: UUID,
    *,
    channel: str | None,
    status: str | None,
    search: str | None,
    before: UUID | None,
    limit: int,
) -> list[Template]:
    """Templates that are not deleted, the newest first."""
    return await db.rows(
        conn,
        Template,
        """
        SELECT t.id, t.name, t.channel, t.description, t.status, t.default_language, t.created_at, t.updated_at,
               ARRAY(SELECT DISTINCT v.language FROM template_versions v
                      WHERE v.org_id = %(org_id)s AND v.template_id = t.id ORDER BY v.language) AS languages
          FROM templates t
         WHERE t.org_id = %(org_id)s AND t.deleted_at IS NULL
           AND (%(channel)s::text IS NULL OR t.channel = %(channel)s)
           AND (%(status)s::text IS NULL OR t.status = %(status)s)
           AND (%(search)s::text IS NULL OR strpos(t.name_key, %(search)s) > 0)
           AND (%(before)s::uuid IS NULL OR t.id < %(before)s)
         ORDER BY t.id DESC LIMIT %(limit)s
        """,
        org_id=org_id,
        channel=channel,
        status=status,
        search=search,
        before=before,
        limit=limit,
    )


async def save(conn: Connection, org_id: UUID, template: Template, name_key: str) -> None:
    """Write what may change of a template."""
    await db.execute(
        conn,
        """
        UPDATE templates SET name = %(name)s, name_key = %(name_key)s, description = %(description)s,
               status = %(status)s, default_language = %(default_language)s, updated_at = %(updated_at)s
         WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=template.id,
        name=template.name,
        name_key=name_key,
        description=template.description,
        status=template.status,
        default_language=template.default_language,
        updated_at=template.updated_at,
    )


async def delete(conn: Connection, org_id: UUID, template_id: UUID) -> None:
    """Mark as deleted; versions stay for the messages that used them."""
    await db.execute(
        conn,
        "UPDATE templates SET deleted_at = now(), updated_at = now() WHERE org_id = %(org_id)s AND id = %(id)s",
        org_id=org_id,
        id=template_id,
    )


async def get_version(conn: Connection, org_id: UUID, version_id: UUID) -> TemplateVersion:
    """One version, of a deleted template too. Raises NotFound."""
    version = await find_version(conn, org_id, version_id)
    if version is None:
        raise NotFound("template version", version_id)
    return version


async def find_version(conn: Connection, org_id: UUID, version_id: UUID) -> TemplateVersion | None:
    """One version, of a deleted template too."""
    return await db.find(
        conn,
        TemplateVersion,
        """
        SELECT org_id, id, template_id, language, version, channel, subject, text, html, approved, variables,
               created_by, created_at
          FROM template_versions WHERE org_id = %(org_id)s AND id = %(id)s
        """,
        org_id=org_id,
        id=version_id,
    )


async def find_newest(
    conn: Connection, org_id: UUID, template_id: UUID, languages: list[str]
) -> TemplateVersion | None:
    """The newest version in the first of these languages in which there is one."""
    return await db.find(
        conn,
        TemplateVersion,
        """
        SELECT org_id, id, template_id, language, version, channel, subject, text, html, approved, variables,
               created_by, created_at
          FROM template_versions
         WHERE org_id = %(org_id)s AND template_id = %(template_id)s AND language = ANY(%(languages)s::text[])
         ORDER BY array_position(%(languages)s::text[], language), version DESC LIMIT 1
        """,
        org_id=org_id,
        template_id=template_id,
        languages=languages,
    )


async def newest_versions(conn: Connection, org_id: UUID, template_id: UUID) -> list[TemplateVersion]:
    """The newest version of each language."""
    return await db.rows(
        conn,
        TemplateVersion,
        """
        SELECT DISTINCT ON (language) org_id, id, template_id, language, version, channel, subject, text, html,
               approved, variables, created_by, created_at
          FROM template_versions
         WHERE org_id = %(org_id)s AND template_id = %(template_id)s
         ORDER BY language, version DESC
        """,
        org_id=org_id,
        template_id=template_id,
    )


async def list_versions(
    conn: Connection,
    org_id: UUID,
    template_id: UUID,
    *,
    language: str | None,
    before: UUID | None,
    limit: int,
) -> list[TemplateVersion]:
    """Versions of a template, the newest first."""
    return await db.rows(
        conn,
        TemplateVersion,
        """
        SELECT org_id, id, template_id, language, version, channel, subject, text, html, approved, variables,
               created_by, created_at
          FROM template_versions
         WHERE org_id = %(org_id)s AND template_id = %(template_id)s
           AND (%(language)s::text IS NULL OR language = %(language)s)
           AND (%(before)s::uuid IS NULL OR id < %(before)s)
         ORDER BY id DESC LIMIT %(limit)s
        """,
        org_id=org_id,
        template_id=template_id,
        language=language,
        before=before,
        limit=limit,
    )


async def next_number(conn: Connection, org_id: UUID, template_id: UUID, language: str) -> int:
    """The number of the version to come; the template must be locked."""
    return await db.value(
        conn,
        """
        SELECT coalesce(max(version), 0) + 1 FROM template_versions
         WHERE org_id = %(org_id)s AND template_id = %(template_id)s AND language = %(language)s
        """,
        org_id=org_id,
        template_id=template_id,
        language=language,
    )
