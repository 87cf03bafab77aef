"""Options that several verbs have, and how their texts become values."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import typer

Org = Annotated[str | None, typer.Option("--org", help="Organization, by id or name.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """`name=value` texts as a mapping. Raises a usage error that shows the wrong one's name, never its value."""
    found: dict[str, str] = {}
    for text in given or []:
        name, is_given, value = text.partition("=")
        if not is_given or not name.strip():
            raise typer.BadParameter(f"{name[:40]!r} is not like name=value", param_hint=option)
        found[name.strip()] = value
    return found


def identifier(text: str, kind: str) -> UUID:
    """An id in its long spelling or in the short one of links. Raises a usage error."""
    from antiphon.core import ids

    try:
        return UUID(text)
    except ValueError:
        pass
    try:
        return ids.parse_short(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:60]!r} is not the id of a {kind}") from None


def instant(text: str, timezone: str) -> datetime:
    """A time as people write it: `2027-03-15 09:30` in the organization's time zone, or RFC 3339 with its own."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is not a time; write it like '2027-03-15 09:30'") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=ZoneInfo(timezone))


def shown(value: Any) -> str:
    """A value in a table's cell."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    return str(value)
