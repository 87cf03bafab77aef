"""What each webhook body means: one payload file a case."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from antiphon.core.channel import Channel
from antiphon.core.clock import now
from antiphon.providers import keyed, meta_whatsapp, wsapme
from antiphon.providers.answers import json_of, moment
from antiphon.providers.contract import Event, Inbound, Media, Receipt, Unreadable
from antiphon.providers.whatsapp_web import STATUSES
from tests.providers.cases import (
    KEYED_ACCOUNT,
    META_ACCOUNT,
    SECRET,
    WSAPME_ACCOUNT,
    fixture,
    keyed_signed,
)

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def meta(name: str) -> list[Event]:
    return meta_whatsapp.parse_webhook(META_ACCOUNT, JSON, fixture(f"meta_whatsapp/{name}.json"))


def meta_receipt(name: str) -> Receipt:
    (event,) = meta(name)
    assert isinstance(event, Receipt)
    return event


def meta_inbound(name: str) -> Inbound:
    (event,) = meta(name)
    assert isinstance(event, Inbound)
    return event


# ---- Meta: statuses ----------------------------------------------------------------------------------


def test_meta_tells_of_a_delivery() -> None:
    event = meta_receipt("delivered")
    assert event == Receipt(
        status="delivered",
        dedupe_key="wamid.OUT1:delivered",
        provider_message_id="wamid.OUT1",
        reference="m_0001",
        sender_address="5550001",
        recipient="+60111111111",
        at=datetime(2026, 1, 1, 0, 1, 1, tzinfo=UTC),
        payload=event.payload,
    )
    assert event.payload["pricing"]["category"] == "utility"


@pytest.mark.parametrize(
    ("name", "code", "suppress", "days", "withdraws"),
    [
        ("failed_window", "131047", False, None, False),
        ("failed_not_on_whatsapp", "131026", True, 30, False),
        ("failed_marketing_stopped", "131050", False, None, True),
        ("failed_without_error", None, False, None, False),
    ],
)
def test_meta_tells_why_a_message_failed(
    name: str, code: str | None, suppress: bool, days: int | None, withdraws: bool
) -> None:
    event = meta_receipt(name)
    assert (event.status, event.code) == ("failed", code)
    assert (event.suppress, event.withdraws_consent) == (suppress, withdraws)
    assert event.suppress_for == (timedelta(days=days) if days else None)
    assert event.reason


def test_metas_milliseconds_are_read() -> None:
    assert meta_receipt("read_in_milliseconds").at == datetime(2026, 1, 1, 0, 1, 5, 123000, tzinfo=UTC)


def test_a_person_who_hides_the_number_is_known_by_the_scoped_id() -> None:
    assert meta_receipt("status_of_hidden_number").recipient == "MY.7Qx1"


def test_an_unknown_status_is_kept_beside_the_known_one() -> None:
    unknown, known = meta("status_unknown_word")
    assert isinstance(unknown, Unreadable)
    assert "deleted" in unknown.reason
    assert isinstance(known, Receipt)


def test_bad_entries_lose_none_of_their_neighbours() -> None:
    events = meta("bad_neighbours")
    receipts = [event for event in events if isinstance(event, Receipt)]
    assert [(each.provider_message_id, each.sender_address) for each in receipts] == [
        ("wamid.OK1", None),
        ("wamid.OK2", "5550002"),
    ]
    assert len([event for event in events if isinstance(event, Unreadable)]) == 6


def test_one_body_may_carry_several_accounts() -> None:
    events = meta("several_accounts")
    assert [
        (type(event).__name__, event.provider_message_id)
        for event in events
        if isinstance(event, Receipt | Inbound)
    ] == [
        ("Receipt", "wamid.A"),
        ("Receipt", "wamid.A"),
        ("Inbound", "wamid.IN9"),
        ("Receipt", "wamid.B"),
    ]
    assert len({event.dedupe_key for event in events if isinstance(event, Receipt)}) == 3
    body = fixture("meta_whatsapp/several_accounts.json")
    assert meta_whatsapp.sender_from_webhook(JSON, body) == ["5550001", "5550002"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("account_error", "131031"),
        ("template_paused", "message_template_status_update"),
        ("other_product", "not a WhatsApp webhook"),
        ("group", "group"),
    ],
)
def test_what_is_not_a_message_is_kept_with_its_reason(name: str, reason: str) -> None:
    (event,) = meta(name)
    assert isinstance(event, Unreadable)
    assert reason in event.reason


# ---- Meta: inbound -----------------------------------------------------------------------------------

META_INBOUND: dict[str, tuple[str, str | None]] = {
    "text": ("text", "hello"),
    "text_reply": ("text", "Terima kasih 🙏"),
    "text_with_nul": ("text", "a\ufffdb"),
    "image": ("media", "look"),
    "voice": ("media", None),
    "document": ("media", "the bill"),
    "sticker": ("media", None),
    "location": ("location", "Kuala Lumpur"),
    "location_bare": ("location", "3.139, 101.6869"),
    "contacts": ("contact", "Farid, Siti"),
    "reaction": ("reaction", "👍"),
    "reaction_removed": ("reaction", None),
    "button": ("button", "Track"),
    "button_reply": ("button", "Yes"),
    "list_reply": ("button", "Morning"),
    "flow_reply": ("button", "Sent"),
    "order": ("order", "please"),
    "system_number_changed": ("system", "Aina changed from 60111111111 to 60122222222"),
    "unsupported": ("unsupported", None),
    "kind_of_the_future": ("unsupported", None),
    "hidden_number": ("text", "who am I"),
    "without_user_id": ("text", "old shape"),
}


@pytest.mark.parametrize("name", META_INBOUND)
def test_meta_brings_what_a_person_sent(name: str) -> None:
    event = meta_inbound(name)
    assert (event.kind, event.text) == META_INBOUND[name]
    assert (event.provider_message_id, event.dedupe_key, event.recipient) == (
        "wamid.IN1",
        "wamid.IN1",
        "5550001",
    )
    assert event.at == datetime(2026, 1, 1, tzinfo=UTC)
    assert event.channel is Channel.WHATSAPP
    assert event.is_automatic is (name == "system_number_changed")


@pytest.mark.parametrize(
    ("name", "sender", "other", "profile"),
    [
        ("text", "+60111111111", "MY.7Qx1", "Aina"),
        ("hidden_number", "MY.7Qx1", None, "Hidden"),
        ("without_user_id", "+60111111111", None, "Aina"),
    ],
)
def test_meta_says_who_wrote(name: str, sender: str, other: str | None, profile: str) -> None:
    event = meta_inbound(name)
    assert (event.sender_address, event.other_address, event.profile_name) == (sender, other, profile)


@pytest.mark.parametrize("name", ["text_reply", "button", "button_reply", "reaction", "reaction_removed"])
def test_meta_says_which_message_is_answered(name: str) -> None:
    assert meta_inbound(name).reply_to_provider_id == "wamid.OUT1"


def test_meta_names_the_file() -> None:
    assert meta_inbound("document").media == (
        Media(
            kind="document",
            provider_media_id="557",
            mime_type="application/pdf",
            filename="bill.pdf",
            caption="the bill",
        ),
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "42"),
        ({"hub.mode": "unsubscribe"}, None),
        ({"hub.verify_token": "wrong"}, None),
        ({"hub.verify_token": ""}, None),
        ({"hub.verify_token": "é"}, None),
    ],
)
def test_the_handshake_answers_only_who_knows_the_word(changes: dict[str, str], expected: str | None) -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": f"{SECRET}-word", "hub.challenge": "42"} | changes
    assert meta_whatsapp.handshake(META_ACCOUNT, query) == expected
    assert meta_whatsapp.handshake(META_ACCOUNT, {}) is None


# ---- WSAPME ------------------------------------------------------------------------------------------


def wsapme_events(name: str) -> list[Event]:
    return wsapme.parse_webhook(WSAPME_ACCOUNT, JSON, fixture(f"wsapme/{name}.json"))


WSAPME_STATUSES: dict[str, list[tuple[str, str]]] = {
    "status": [("WMAPI01ABCDEF", "delivered")],
    "status_data": [("WMAPI01ABCDEF", "read")],
    "status_update": [("WMAPI03", "delivered")],
    "status_ack": [("WMAPI04", "delivered")],
    "status_list": [("WMAPI01ABCDEF", "sent"), ("WMAPI01ABCDEF", "read")],
    "status_unknown": [],
}


@pytest.mark.parametrize("name", WSAPME_STATUSES)
def test_wsapme_tells_a_status(name: str) -> None:
    receipts = [event for event in wsapme_events(name) if isinstance(event, Receipt)]
    assert [(each.provider_message_id, each.status) for each in receipts] == WSAPME_STATUSES[name]
    assert all(each.at is None for each in receipts)


def test_wsapme_names_device_and_person() -> None:
    (event,) = wsapme_events("status_update")
    assert isinstance(event, Receipt)
    assert (event.sender_address, event.recipient) == ("77", "+60111111111")
    assert wsapme.sender_from_webhook(JSON, fixture("wsapme/status_update.json")) == ["77"]


@pytest.mark.parametrize("word", sorted(STATUSES))
@pytest.mark.parametrize("shape", [str, str.upper, str.title])
def test_every_alias_of_a_status_is_known(word: str, shape: Any) -> None:
    body = json.loads(fixture("wsapme/status.json")) | {
        "status": int(word) if word.isdigit() else shape(word)
    }
    (event,) = wsapme.parse_webhook(WSAPME_ACCOUNT, JSON, json.dumps(body).encode())
    assert isinstance(event, Receipt)
    assert event.status == STATUSES[word]


@pytest.mark.parametrize(
    ("ack", "status"),
    [(-1, "failed"), (0, "sending"), (1, "sent"), (2, "delivered"), (3, "read"), (4, "read")],
)
def test_a_field_called_ack_counts_one_below(ack: int, status: str) -> None:
    body = json.dumps({"id": "X", "ack": ack}).encode()
    (event,) = wsapme.parse_webhook(WSAPME_ACCOUNT, JSON, body)
    assert isinstance(event, Receipt)
    assert event.status == status


WSAPME_INBOUND: dict[str, tuple[str, str, str | None]] = {
    "inbound": ("+60111111111", "text", "hi"),
    "inbound_file": ("+60111111111", "media", "look"),
    "inbound_baileys": ("+60111111111", "text", "quoting"),
    "inbound_hidden": ("99887766554433@lid", "text", "hi"),
    "inbound_button": ("+60111111111", "text", "yes"),
    "inbound_caption": ("+60111111111", "media", "once"),
}


@pytest.mark.parametrize("name", WSAPME_INBOUND)
def test_wsapme_brings_what_a_person_sent(name: str) -> None:
    (event,) = wsapme_events(name)
    assert isinstance(event, Inbound)
    assert (event.sender_address, event.kind, event.text) == WSAPME_INBOUND[name]
    assert event.at in (None, datetime(2026, 1, 1, tzinfo=UTC))


def test_wsapmes_message_without_an_id_is_known_by_its_content() -> None:
    (one,), (two,) = wsapme_events("inbound"), wsapme_events("inbound")
    assert isinstance(one, Inbound)
    assert isinstance(two, Inbound)
    assert one.dedupe_key == two.dedupe_key
    assert one.provider_message_id is None
    for change in (
        {"message": "ho"},
        {"timestamp": 1767225601},
        {"from": "60111111112@c.us"},
        {"type": "image"},
    ):
        body = json.dumps(json.loads(fixture("wsapme/inbound.json")) | change).encode()
        (other,) = wsapme.parse_webhook(WSAPME_ACCOUNT, JSON, body)
        assert isinstance(other, Inbound)
        assert other.dedupe_key != one.dedupe_key


def test_wsapmes_reply_names_the_message_that_it_quotes() -> None:
    (event,) = wsapme_events("inbound_baileys")
    assert isinstance(event, Inbound)
    assert (event.reply_to_provider_id, event.profile_name) == ("WMAPI01ABCDEF", "Aina")


@pytest.mark.parametrize("name", ["group", "broadcast", "newsletter"])
def test_what_is_not_for_us_is_left_alone(name: str) -> None:
    (event,) = wsapme_events(name)
    assert isinstance(event, Unreadable)


@pytest.mark.parametrize("name", ["inbound", "inbound_baileys", "status", "status_update"])
@pytest.mark.parametrize("headers", [FORM, {}])
def test_wsapmes_forms_mean_what_its_json_means(name: str, headers: dict[str, str]) -> None:
    value = json.loads(fixture(f"wsapme/{name}.json"))
    whole = urlencode({"data": json.dumps(value)}).encode()
    flat = urlencode({k: v if isinstance(v, str) else json.dumps(v) for k, v in value.items()}).encode()
    (expected,) = wsapme_events(name)
    (from_whole,) = wsapme.parse_webhook(WSAPME_ACCOUNT, headers, whole)
    (from_flat,) = wsapme.parse_webhook(WSAPME_ACCOUNT, headers, flat)
    assert from_whole == expected
    assert isinstance(from_flat, Inbound | Receipt)
    assert from_flat.dedupe_key == expected.dedupe_key  # type: ignore[union-attr]


# ---- The keyed test provider ---------------------------------------------------------------------------


def test_the_keyed_provider_tells_and_brings() -> None:
    (receipt,) = keyed.parse_webhook(KEYED_ACCOUNT, JSON, fixture("keyed/delivered.json"))
    assert isinstance(receipt, Receipt)
    assert (receipt.status, receipt.provider_message_id, receipt.recipient) == (
        "delivered",
        "k-1",
        "+60111111111",
    )
    (inbound,) = keyed.parse_webhook(KEYED_ACCOUNT, JSON, fixture("keyed/message.json"))
    assert isinstance(inbound, Inbound)
    assert (inbound.text, inbound.recipient, inbound.reply_to_provider_id) == ("hello", "default", "k-1")
    assert keyed.sender_from_webhook(JSON, fixture("keyed/message.json")) == ["default"]


@pytest.mark.parametrize(("minutes", "holds"), [(0, True), (4, True), (-4, True), (6, False), (-6, False)])
def test_a_signature_holds_for_five_minutes(minutes: int, holds: bool) -> None:
    body = fixture("keyed/delivered.json")
    stamp = str(int((now() + timedelta(minutes=minutes)).timestamp()))
    headers = keyed_signed(body, stamp)
    assert keyed.verify_webhook(KEYED_ACCOUNT, "POST", headers, {}, body) is holds


# ---- Times and JSON ------------------------------------------------------------------------------------

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS: list[tuple[Any, datetime | None]] = [
    (1767225600, NEW_YEAR),
    ("1767225600", NEW_YEAR),
    (1767225600000, NEW_YEAR),
    ("1767225600000", NEW_YEAR),
    (1767225600.0, NEW_YEAR),
    ({"low": 1767225600, "high": 0, "unsigned": True}, NEW_YEAR),
    ({"low": 1994041344, "high": 411, "unsigned": True}, NEW_YEAR),
    ({"low": 1994041344 - 2**32, "high": 411}, NEW_YEAR),
    (0, None),
    (-1, None),
    ("", None),
    ("soon", None),
    ("nan", None),
    ("inf", None),
    (1e300, None),
    (None, None),
    (True, None),
    ([], None),
    ({"low": "x"}, None),
    ({"low": 1, "high": 2**62}, None),
]


@pytest.mark.parametrize(("value", "expected"), MOMENTS)
def test_a_time_is_read_in_any_unit(value: Any, expected: datetime | None) -> None:
    assert moment(value) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (rb'"\ud83d\ude4f"', "🙏"),
        (rb'"cut \ud83d"', "cut \ufffd"),
        (rb'"cut \ude4f"', "cut \ufffd"),
        (rb'["\ud83d", "\u0000"]', ["\ufffd", "\ufffd"]),
        (b'"\xff"', None),
        (b"{", None),
    ],
)
def test_json_that_no_database_holds_is_mended(body: bytes, expected: Any) -> None:
    assert json_of(body) == expected
