"""Versions to fill: `version(text="Hallo {{ firstName }}")`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from antiphon.core import ids
from antiphon.core.channel import Channel
from antiphon.templates.model import Approved, TemplateVersion, Variable

AT = datetime(2025, 3, 8, 9, 0, tzinfo=UTC)

BOOKING: dict[str, Any] = {
    "firstName": "Max",
    "lastName": "Mustermann",
    "email": "max@example.com",
    "eventName": "SBF Binnen Kurs",
    "eventDate": "2025-03-15",
    "eventTime": "09:00",
    "locationName": "Stettiner Haff",
    "bookingRef": "BK-2025-0042",
}


def version(
    text: str | None = None,
    *,
    channel: Channel = Channel.WHATSAPP,
    language: str = "de",
    subject: str | None = None,
    html: str | None = None,
    approved: Approved | None = None,
    variables: dict[str, Variable] | None = None,
) -> TemplateVersion:
    """A version that is not stored, with an id of its own."""
    return TemplateVersion(
        org_id=UUID(int=1),
        id=ids.new_id(),
        template_id=None,
        language=language,
        version=1,
        channel=channel,
        subject=subject,
        text=text,
        html=html,
        approved=approved,
        variables=variables or {},
        created_by="key:test",
        created_at=AT,
    )


def email(html: str, subject: str = "Hallo {{ firstName }}") -> TemplateVersion:
    """An email's version."""
    return version(None, channel=Channel.EMAIL, subject=subject, html=html)
