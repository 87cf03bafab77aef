"""What happened in an organization, as a value, in the order in which it can be read."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct


class Event(Struct, frozen=True, kw_only=True):
    """One event. `seq` is dense per organization: who has read n has read everything up to n."""

    seq: int
    name: str
    subject_id: UUID | None
    payload: dict[str, Any]
    at: datetime
