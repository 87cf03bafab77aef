"""What people write, read: rates, days, amounts, variables, and a name for what came without one. Pure."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from antiphon.campaigns.model import LONGEST_VARIABLES, Kind, NewCampaign
from antiphon.core.errors import Invalid

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*([a-z]+)\s*)?\Z", re.IGNORECASE)
_UNITS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400,
          "day": 86400}  # fmt: skip
MOST_A_SECOND = 10_000.0


def parse_rate(text: str | float | None, field: str = "rate") -> float | None:
    """Messages a second: `20/s`, `500/min`, `1000/h`, or a number. Raises Invalid."""
    if text is None:
        return None
    found = _RATE.match(str(text))
    unit = _UNITS.get((found[2] or "s").lower()) if found else None
    if found is None or unit is None:
        raise Invalid.field(field, "is no rate; write it like 20/s, 500/min or 1000/h", str(text)[:80])
    rate = float(found[1]) / unit
    if not 0 < rate <= MOST_A_SECOND:
        raise Invalid.field(
            field, f"must be more than nothing and at most {MOST_A_SECOND:g}/s", str(text)[:80]
        )
    return rate


def name_of(new: NewCampaign, kind: Kind, today: date) -> str:
    """A name for one that came without."""
    words = [word for word in (new.tag, new.follow_up_stage) if word]
    return new.name or (", ".join(words) or f"{kind.title()} of {today.isoformat()}")[:200]


_FIRST_DAY, _LAST_DAY = date(1970, 1, 1), date(2300, 1, 1)
"""Nothing here is older or later; days beyond them mean the same, and need not be reckoned with."""


def days(since: date | None, until: date | None, timezone: str) -> tuple[datetime | None, datetime | None]:
    """The instants from the first day's begin to the last day's end, both days included, in a time zone."""
    zone = ZoneInfo(timezone)
    start = None if since is None else datetime.combine(_bounded(since), time.min, zone)
    end = None if until is None else datetime.combine(_bounded(until) + timedelta(days=1), time.min, zone)
    return start, end


def _bounded(day: date) -> date:
    return min(max(day, _FIRST_DAY), _LAST_DAY)


def check_revenue(amount: Decimal | None) -> Decimal | None:
    """An amount that can be kept, to the cent. Raises Invalid."""
    if amount is None:
        return None
    if not amount.is_finite() or not 0 <= amount < 10**12:
        raise Invalid.field(
            "expected_revenue", "must be 0 or more, and less than 1,000,000,000,000", str(amount)[:80]
        )
    return amount.quantize(Decimal("0.01"))


def check_variables(variables: dict[str, Any], field: str = "variables") -> dict[str, Any]:
    """Values that a text may be filled with, small enough to be kept for each message. Raises Invalid."""
    encoded = msgspec.json.encode(variables)
    if len(encoded) > LONGEST_VARIABLES:
        raise Invalid.field(field, f"has {len(encoded)} bytes; at most {LONGEST_VARIABLES} are kept")
    if b"\\u0000" in encoded:
        raise Invalid.field(field, "contains the character NUL; remove it")
    return variables
