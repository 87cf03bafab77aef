"""Which moves are legal, and what people write: pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from antiphon.campaigns import model, written
from antiphon.campaigns.model import Campaign, Kind, NewCampaign, Status
from antiphon.campaigns.results import safe_cell, stages_from
from antiphon.contacts.audience import Audience
from antiphon.core.channel import Channel, Purpose
from antiphon.core.errors import Conflict, Invalid

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def campaign(status: Status = "draft", kind: Kind = "blast", **changes: object) -> Campaign:
    given: dict[str, object] = {
        "id": UUID(int=1), "kind": kind, "name": "Spring", "tag": "Spring", "follow_up_stage": "Initial",
        "category": None, "priority": "normal", "purpose": Purpose.MARKETING, "status": status, "status_reason": "",
        "channel": Channel.WHATSAPP, "sender_id": UUID(int=2), "template_id": None, "template_version_id": None,
        "audience": Audience(), "variables": {}, "rate": None, "scheduled_for": None, "latest_start": None,
        "launched_at": None, "completed_at": None, "canceled_at": None, "planned": 0, "is_expanded": True,
        "source_campaign_id": None, "source_stage": None, "tags": [], "expected_revenue": None,
        "conversion_goal": None, "created_by": "key:1", "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Campaign(**(given | changes))  # pyright: ignore[reportArgumentType]


MOVES: dict[str, Callable[[Campaign], Campaign]] = {
    "schedule": lambda c: c.schedule(NOW + HOUR, None, NOW),
    "unschedule": lambda c: c.unschedule(NOW),
    "launch": lambda c: c.launch(None, NOW),
    "start": lambda c: c.start(NOW),
    "pause": lambda c: c.pause(NOW),
    "resume": lambda c: c.resume(NOW),
    "cancel": lambda c: c.cancel(NOW),
    "complete": lambda c: c.complete(3, 0, NOW),
}
LEGAL: dict[Status, dict[str, Status]] = {
    "draft": {"schedule": "scheduled", "launch": "active"},
    "scheduled": {
        "schedule": "scheduled", "unschedule": "draft", "launch": "active", "start": "active", "cancel": "canceled",
    },
    "active": {"start": "active", "pause": "paused", "cancel": "canceled", "complete": "completed"},
    "paused": {"start": "paused", "resume": "active", "cancel": "canceled", "complete": "completed"},
    "completed": {},
    "canceled": {},
    "archived": {},
}  # fmt: skip


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("status", LEGAL)
def test_a_move_is_legal_or_says_why_not(status: Status, move: str) -> None:
    before = campaign(status)
    if move in LEGAL[status]:
        assert MOVES[move](before).status == LEGAL[status][move]
        return
    with pytest.raises(Conflict) as refused:
        MOVES[move](before)
    assert "'Spring'" in refused.value.detail
    assert f"is {status}" in refused.value.detail
    assert refused.value.code == f"blast_{status}"


def test_only_a_draft_can_be_changed_and_only_what_is_over_or_not_begun_deleted() -> None:
    for status in LEGAL:
        if status == "draft":
            campaign(status).check_draft("changed")
        else:
            with pytest.raises(Conflict):
                campaign(status).check_draft("changed")
        if status in ("scheduled", "active", "paused"):
            with pytest.raises(Conflict, match="cancel it first"):
                campaign(status).check_deletable()
        else:
            campaign(status).check_deletable()


def test_a_start_in_the_past_is_refused() -> None:
    with pytest.raises(Invalid, match="is past"):
        campaign().schedule(NOW - HOUR, None, NOW)


def test_a_latest_start_before_the_start_is_refused() -> None:
    with pytest.raises(Invalid, match="before the start"):
        campaign().schedule(NOW + 2 * HOUR, NOW + HOUR, NOW)
    with pytest.raises(Invalid, match="is past"):
        campaign().launch(NOW - HOUR, NOW)


def test_what_starts_after_its_latest_start_is_canceled_with_the_reason() -> None:
    late = campaign("scheduled", latest_start=NOW).start(NOW + HOUR)
    assert (late.status, late.canceled_at) == ("canceled", NOW + HOUR)
    assert "2026-03-01T12:00:00+00:00, had passed" in late.status_reason


def test_launching_a_scheduled_one_forgets_its_time() -> None:
    scheduled = campaign().schedule(NOW + HOUR, None, NOW)
    assert scheduled.launch(None, NOW).scheduled_for is None
    assert scheduled.start(NOW + HOUR).scheduled_for == NOW + HOUR


def test_completion_names_those_in_doubt_and_waits_for_the_whole_audience() -> None:
    done = campaign("active").complete(500, 3, NOW)
    assert (done.planned, done.completed_at) == (500, NOW)
    assert done.status_reason.startswith("3 in doubt")
    with pytest.raises(Conflict):
        campaign("active", is_expanded=False).complete(500, 0, NOW)


RATES = [
    ("20/s", 20.0),
    ("500/min", 500 / 60),
    ("1000/h", 1000 / 3600),
    (" 12.5 / S ", 12.5),
    ("250/day", 250 / 86400),
    ("30", 30.0),
    (7, 7.0),
    (None, None),
]


@pytest.mark.parametrize(("text", "rate"), RATES)
def test_a_rate_is_read(text: str | float | None, rate: float | None) -> None:
    assert written.parse_rate(text) == (None if rate is None else pytest.approx(rate))


@pytest.mark.parametrize(
    "text", ["", "fast", "20/week", "0/s", "-5/s", "1e9", "20001/s", "20/s/s", "nan", "١/s/"]
)
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Invalid, match="rate"):
        written.parse_rate(text)


@pytest.mark.parametrize(
    ("last", "following"),
    [
        (None, "Follow-up 1"),
        ("Initial", "Follow-up 1"),
        ("Follow-up 1", "Follow-up 2"),
        ("Follow-up 9", "Follow-up 10"),
        ("Stage2", "Stage3"),
    ],
)
def test_the_next_stage_counts_on(last: str | None, following: str) -> None:
    assert model.next_follow_up_stage(last) == following


def test_a_follow_up_word_means_stages_or_names_those_there_are() -> None:
    assert model.follow_up_stages("Not replied") == ["sent", "delivered", "read", "clicked"]
    assert model.follow_up_stages("failed") == ["failed", "bounced"]
    with pytest.raises(Invalid, match="not_replied"):
        model.follow_up_stages("somewhere")


def test_a_name_is_found_for_one_without() -> None:
    today = date(2026, 3, 1)
    assert written.name_of(
        NewCampaign(sender="x", tag="Launch", follow_up_stage="Initial"), "blast", today
    ) == ("Launch, Initial")
    assert written.name_of(NewCampaign(sender="x"), "blast", today) == "Blast of 2026-03-01"
    assert written.name_of(NewCampaign(sender="x", name="Mine", tag="Launch"), "blast", today) == "Mine"


def test_days_are_the_organizations_own_also_when_a_clock_is_changed() -> None:
    start, end = written.days(date(2026, 3, 29), date(2026, 3, 29), "Europe/Berlin")
    assert start == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert end == datetime(2026, 3, 29, 22, tzinfo=UTC)  # the day has 23 hours
    assert written.days(None, None, "UTC") == (None, None)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+49151 23", "'+49151 23"),
        ("\t=1", "'\t=1"),
        ("+4915123456789", "+4915123456789"),
        ("Anna", "Anna"),
        (None, ""),
        (3, "3"),
        (NOW, "2026-03-01T12:00:00+00:00"),
    ],
)
def test_no_cell_is_taken_for_a_formula(value: object, cell: str) -> None:
    assert safe_cell(value) == cell


def test_who_reached_a_stage_also_reached_it_who_went_further() -> None:
    assert stages_from("read") == ["read", "clicked", "replied", "closed"]
    assert stages_from(None) is None
    with pytest.raises(Invalid, match="funnel stage"):
        stages_from("scheduled")
