"""Messages as people read them: what a template says is rendered again, from the version and the row's variables.

A message that was handed over is shown as it was said at that instant; one that waits, as it would be said when due.
What cannot be rendered (yet) is shown without a text: the reason is the message's own, when it is tried.
"""

from __future__ import annotations

from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from antiphon.core.db import Connection
from antiphon.core.errors import NotFound
from antiphon.messages.queries import Message
from antiphon.organizations import service as organizations
from antiphon.templates import service as templates
from antiphon.templates.model import TemplateVersion
from antiphon.templates.render import RenderError, render


async def with_texts(conn: Connection, org_id: UUID, messages: list[Message]) -> list[Message]:
    """The same messages, those of a template with the words that it says to them."""
    wanted = {m.template_version_id for m in messages if m.template_version_id and m.text is None}
    if not wanted:
        return messages
    versions: dict[UUID, TemplateVersion] = {}
    for version_id in wanted:
        try:
            versions[version_id] = await templates.get_version(conn, org_id, version_id)
        except NotFound:
            continue
    zone = ZoneInfo((await organizations.get(conn, org_id)).timezone)
    return [_said(m, versions.get(m.template_version_id or UUID(int=0)), zone) for m in messages]


def _said(message: Message, version: TemplateVersion | None, zone: ZoneInfo) -> Message:
    if version is None or message.text is not None:
        return message
    at = message.sent_at or message.scheduled_for or message.created_at
    try:
        said = render(version, message.variables or {}, message.language, at=at.astimezone(zone))
    except RenderError:
        return message
    return msgspec.structs.replace(message, subject=said.subject, text=said.text, html=said.html)
