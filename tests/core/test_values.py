"""The small values of core: ids, clock, errors, cursors, channels."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core import clock, ids, paging
from antiphon.core.channel import ADDRESS_KIND, Channel, Purpose, needs_consent, parse_channel
from antiphon.core.errors import Invalid, NotFound, Unavailable


def test_ids_are_version_7_of_now_and_never_fall_in_one_process() -> None:
    before = time.time_ns() // 1_000_000
    made = [ids.new_id() for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(one.version == 7 and one.variant == "specified in RFC 4122" for one in made)
    assert made[0] >= ids.uuid7_at(before)
    assert made[-1] < ids.uuid7_at(time.time_ns() // 1_000_000 + 1000)


def test_ids_of_many_threads_are_all_different() -> None:
    with ThreadPoolExecutor(8) as threads:
        parts = [threads.submit(lambda: [ids.new_id() for _ in range(2_000)]) for _ in range(8)]
    made = [one for part in parts for one in part.result()]
    assert len(set(made)) == 16_000


@given(st.uuids())
def test_the_short_spelling_comes_back_as_the_same_id(one: UUID) -> None:
    spelled = ids.short(one)
    assert len(spelled) == 22
    assert spelled.isalnum()
    assert ids.parse_short(spelled) == one


@given(st.uuids(), st.uuids())
def test_short_spellings_sort_as_the_ids_do(one: UUID, other: UUID) -> None:
    assert (ids.short(one) < ids.short(other)) == (one < other)


@pytest.mark.parametrize("text", ["", "abc", "z" * 22, "!" * 22, "0" * 23, "٣" * 22])
def test_what_is_not_a_short_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="22 letters"):
        ids.parse_short(text)


def test_now_is_aware_and_boottime_moves_forward() -> None:
    assert clock.now().utcoffset() == timedelta(0)
    begun = clock.boottime()
    time.sleep(0.01)
    assert 0.009 < clock.boottime() - begun < 5


def test_a_cursor_comes_back_as_its_key() -> None:
    at, one = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC), ids.new_id()
    cursor = paging.encode_cursor(at, one, "müller", 7)
    assert paging.decode_cursor(cursor, datetime, UUID, str, int) == (at, one, "müller", 7)


@pytest.mark.parametrize(
    "cursor", ["", "x", "!!!!", "bnVsbA", paging.encode_cursor("a"), paging.encode_cursor(1, 2)]
)
def test_a_foreign_cursor_is_refused_by_name(cursor: str) -> None:
    with pytest.raises(Invalid) as refused:
        paging.decode_cursor(cursor, UUID)
    assert refused.value.errors[0].field == "cursor"


def test_a_page_names_the_next_one_only_when_there_is_one() -> None:
    assert paging.cut([1, 2, 3], 3, lambda n: (n,)).next is None
    page = paging.cut([1, 2, 3, 4], 3, lambda n: (n,))
    assert page.items == [1, 2, 3]
    assert paging.decode_cursor(page.next or "", int) == (3,)
    nothing: list[int] = []
    assert paging.cut(nothing, 3, lambda n: (n,)).items == []


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_limit_outside_1_to_200_is_refused(limit: int) -> None:
    with pytest.raises(Invalid):
        paging.check_limit(limit)
    assert paging.check_limit(None) == 50


def test_problems_say_what_and_how() -> None:
    missing = NotFound("contact", "7")
    assert (missing.status, missing.code, "contact '7'" in missing.detail) == (404, "not_found", True)
    assert Unavailable("database_away", "gone", retry_after=9).headers == {"Retry-After": "9"}
    wrong = Invalid.field("phone", "not a number", "abc")
    assert (wrong.status, wrong.errors[0].field, wrong.errors[0].value) == (422, "phone", "abc")


@pytest.mark.parametrize(
    ("word", "channel"),
    [
        ("email", Channel.EMAIL),
        (" WhatsApp ", Channel.WHATSAPP),
        ("FACEBOOK", Channel.MESSENGER),
        ("WEBCHAT", Channel.WEBCHAT),
        ("chat", Channel.WEBCHAT),
        ("conversation", Channel.WEBCHAT),
        ("webhook", Channel.HTTP),
    ],
)
def test_other_words_for_a_channel_are_understood(word: str, channel: Channel) -> None:
    assert parse_channel(word) is channel


def test_an_unknown_channel_is_refused_with_the_list() -> None:
    with pytest.raises(Invalid, match="whatsapp"):
        parse_channel("pigeon")


def test_only_marketing_needs_a_recorded_yes_and_not_on_every_channel() -> None:
    needing = {channel for channel in Channel if needs_consent(Purpose.MARKETING, channel)}
    assert needing == {Channel.SMS, Channel.MMS, Channel.WHATSAPP, Channel.VOICE, Channel.PUSH}
    others = [purpose for purpose in Purpose if purpose is not Purpose.MARKETING]
    assert not any(needs_consent(purpose, channel) for purpose in others for channel in Channel)
    assert set(ADDRESS_KIND) == set(Channel)
