"""From a claimed message to what an adapter sends: the row's version and variables, rendered at the claim's instant.

Pure but for `Versions.load`, which fetches the immutable template versions that a claim needs and does not have yet.
"""

from __future__ import annotations

from uuid import UUID
from zoneinfo import ZoneInfo

from antiphon.core.channel import Channel, Purpose
from antiphon.core.db import Connection
from antiphon.core.errors import NotFound
from antiphon.messages import queries
from antiphon.messages.claim import Claimed
from antiphon.providers.contract import Outbound
from antiphon.senders.model import Sender
from antiphon.templates import service as templates
from antiphon.templates.model import Rendered, TemplateVersion
from antiphon.templates.render import RenderError, render

MOST_VERSIONS = 500


class Failed(Exception):
    """This message cannot be rendered; the text says why, for the person who wrote the template."""


class Versions:
    """The template versions that a lane's messages use; they never change, so they are fetched once."""

    def __init__(self) -> None:
        self._known: dict[UUID, TemplateVersion | None] = {}
        self._quoted: dict[UUID, str] = {}

    async def load(self, conn: Connection, org_id: UUID, claimed: list[Claimed]) -> None:
        """Have ready what these messages need."""
        if len(self._known) > MOST_VERSIONS:
            self._known.clear()
        for version_id in {
            c.template_version_id for c in claimed if c.template_version_id
        } - self._known.keys():
            try:
                self._known[version_id] = await templates.get_version(conn, org_id, version_id)
            except NotFound:
                self._known[version_id] = None
        quoting = {c.reply_to_id for c in claimed if c.reply_to_id}
        self._quoted = await queries.provider_names(conn, org_id, quoting) if quoting else {}

    def get(self, version_id: UUID) -> TemplateVersion:
        """A version that was loaded; raises Failed when the organization has none of that id."""
        version = self._known.get(version_id)
        if version is None:
            raise Failed(f"the template version {version_id} does not exist any more")
        return version

    def quoted(self, message_id: UUID | None) -> str | None:
        """The provider's name of the message that is answered, if it has one."""
        return self._quoted.get(message_id) if message_id else None


def outbound(claimed: Claimed, sender: Sender, versions: Versions, zone: ZoneInfo) -> Outbound:
    """All that the adapter may need; times are written in `zone`. Raises Failed."""
    said = say(claimed, versions, zone)
    return Outbound(
        message_id=claimed.message_id,
        key=claimed.key,
        reference=str(claimed.message_id),
        channel=Channel(claimed.channel),
        purpose=Purpose(claimed.purpose),
        sender_address=sender.address,
        sender_name=sender.name,
        to=claimed.address,
        subject=said.subject,
        text=said.text,
        html=said.html,
        template=said.approved,
        reply_to_provider_id=versions.quoted(claimed.reply_to_id),
    )


def say(claimed: Claimed, versions: Versions, zone: ZoneInfo) -> Rendered:
    """What the message says: its own words, or its template's."""
    if claimed.template_version_id is None:
        subject = " ".join(claimed.subject.split()) if claimed.subject else claimed.subject
        return Rendered(subject, claimed.text, claimed.html)
    try:
        return render(
            versions.get(claimed.template_version_id),
            claimed.variables or {},
            claimed.language,
            at=claimed.claimed_at.astimezone(zone),
        )
    except RenderError as error:
        raise Failed(str(error)) from None
