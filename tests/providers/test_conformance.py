"""What every provider must do, whatever its wire looks like. A provider without a case fails here."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator
from dataclasses import fields as record_fields
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core import wire
from antiphon.core.wire import MailEnvelope, MailReply, Request, Response
from antiphon.providers import credentials
from antiphon.providers.contract import (
    Accepted,
    AccountFault,
    Inbound,
    LookUp,
    NotSent,
    Outcome,
    Receipt,
    Rejected,
    Throttled,
    Unknown,
    Unreadable,
    WireRequest,
    WireResponse,
)
from antiphon.providers.drive import ask, drive
from antiphon.providers.registry import PROVIDERS
from tests.providers.cases import CASES, SECRET, Case, play

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
WITH_WEBHOOKS = pytest.mark.parametrize(
    "case",
    [case for case in CASES.values() if case.provider.parse_webhook],
    ids=[name for name, case in CASES.items() if case.provider.parse_webhook],
)
SIGNED = pytest.mark.parametrize(
    "case",
    [case for case in CASES.values() if case.provider.signature == "signature"],
    ids=[name for name, case in CASES.items() if case.provider.signature == "signature"],
)
POLLED = pytest.mark.parametrize(
    "case",
    [case for case in CASES.values() if case.provider.polling],
    ids=[name for name, case in CASES.items() if case.provider.polling],
)


def outcome(case: Case, *answers: WireResponse) -> Outcome:
    return play(case.provider.send(case.account, case.outbound), *answers)[1]


def test_every_provider_has_a_case() -> None:
    assert set(CASES) == set(PROVIDERS)


# ---- Sending -----------------------------------------------------------------------------------------


@EVERY
def test_what_was_taken_is_accepted_with_its_id(case: Case) -> None:
    result = outcome(case, case.accepted)
    assert isinstance(result, Accepted)
    assert result.provider_message_id == case.accepted_id


@EVERY
def test_what_will_never_work_is_rejected_with_a_reason(case: Case) -> None:
    result = outcome(case, case.rejected)
    assert isinstance(result, Rejected)
    assert result.code
    assert result.reason
    assert not result.suppress


@EVERY
def test_too_fast_is_throttled_for_the_time_that_was_named(case: Case) -> None:
    result = outcome(case, case.throttled)
    assert isinstance(result, Throttled)
    assert result.scope == "sender"
    assert result.after == (
        timedelta(seconds=7) if isinstance(case.throttled, Response) else timedelta(minutes=1)
    )


@EVERY
def test_bad_credentials_are_the_accounts_fault(case: Case) -> None:
    result = outcome(case, case.fault)
    assert isinstance(result, AccountFault)
    assert result.reason


@EVERY
def test_a_broken_provider_leaves_what_is_true(case: Case) -> None:
    assert isinstance(outcome(case, case.failing), case.failing_is)


@EVERY
def test_a_success_that_cannot_be_read_is_never_sent_again(case: Case) -> None:
    result = outcome(case, case.garbage)
    assert isinstance(result, case.garbage_is)
    if isinstance(result, Accepted):
        assert result.provider_message_id is None


class Broken:
    """A wire that fails in one way."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    async def send(self, request: Any) -> Any:
        raise self.failure


@EVERY
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (wire.NotSent("refused"), NotSent(reason="refused")),
        (wire.MaybeSent("no answer in time"), Unknown(reason="no answer in time")),
    ],
    ids=["not sent", "maybe sent"],
)
async def test_a_failing_wire_becomes_an_outcome(case: Case, failure: Exception, expected: Outcome) -> None:
    broken = Broken(failure)
    assert await drive(case.provider.send(case.account, case.outbound), broken, broken) == expected


@EVERY
def test_a_message_with_nothing_to_say_sends_nothing(case: Case) -> None:
    empty = msgspec.structs.replace(case.outbound, text=None, html=None, template=None)
    asked, result = play(case.provider.send(case.account, empty))
    assert asked == []
    assert isinstance(result, Rejected)


@EVERY
def test_the_same_message_makes_the_same_bytes(case: Case) -> None:
    one = play(case.provider.send(case.account, case.outbound), case.accepted)[0]
    two = play(case.provider.send(case.account, case.outbound), case.accepted)[0]
    if isinstance(one[0], Request):
        assert one == two


@EVERY
def test_what_a_provider_echoes_is_in_the_request(case: Case) -> None:
    (asked,) = play(case.provider.send(case.account, case.outbound), case.accepted)[0]
    if case.provider.echo is not None:
        assert isinstance(asked, Request)
        assert json.loads(asked.body)[case.provider.echo] == case.outbound.reference
    if case.provider.idempotency is not None:
        assert isinstance(asked, Request)
        assert case.outbound.key in asked.headers.values()


@EVERY
def test_a_call_may_take_as_long_as_the_record_says_and_no_longer(case: Case) -> None:
    (asked,) = play(case.provider.send(case.account, case.outbound), case.accepted)[0]
    assert asked.timeout == case.provider.call_timeout
    assert case.provider.idempotency or case.provider.call_timeout >= timedelta(seconds=60)


HTTP_ANSWERS = st.builds(
    Response,
    st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(["retry-after", "content-type", "date"]), st.text(max_size=12), max_size=3
    ),
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["error", "code", "success", "message", "messages", "id", "data", "key", "status"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
MAIL_ANSWERS = st.builds(
    MailReply,
    st.sampled_from(["connect", "login", "sender", "recipient", "content"]),
    st.integers(-1, 999),
    st.text(max_size=40),
)


def finish(steps: Generator[WireRequest, WireResponse, Any], one: WireResponse) -> Any:
    """Give the same answer until it is content; no send asks more than three times."""
    try:
        next(steps)
        for _ in range(3):
            steps.send(one)
    except StopIteration as done:
        return done.value
    raise AssertionError("it never ends")


@EVERY
@given(data=st.data())
def test_no_answer_whatever_breaks_a_send(case: Case, data: st.DataObject) -> None:
    answers = MAIL_ANSWERS if isinstance(case.accepted, MailReply) else HTTP_ANSWERS
    result = finish(case.provider.send(case.account, case.outbound), data.draw(answers))
    assert isinstance(result, Outcome)
    assert msgspec.json.encode(result)


@pytest.mark.parametrize(
    "body", [b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000, b'{"id": NaN}', b"", b"\xff\xfe"]
)
@EVERY
def test_bodies_made_to_hurt_are_only_unreadable(case: Case, body: bytes) -> None:
    if isinstance(case.accepted, Response):
        result = finish(case.provider.send(case.account, case.outbound), Response(200, {}, body))
        assert isinstance(result, Accepted)
    if case.provider.parse_webhook:
        events = case.provider.parse_webhook(case.account, {}, body)
        assert [type(event) for event in events] == [Unreadable]


# ---- Secrets -----------------------------------------------------------------------------------------


@EVERY
def test_no_credential_shows_wherever_it_goes(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    asked, result = play(case.provider.send(case.account, case.outbound), case.fault)
    with caplog.at_level(logging.DEBUG):
        for thing in (case.account, case.account.credentials, *asked, result, case.provider, case.outbound):
            logging.getLogger("test").info("%s %r", thing, thing)
            logging.getLogger("test").info("%s", f"{thing}")
    assert SECRET not in caplog.text
    assert len(caplog.records) > 8


@EVERY
def test_stored_credentials_come_back_and_a_wrong_field_is_named_without_its_value(case: Case) -> None:
    given = case.account.credentials
    assert credentials.read(case.provider.credentials, credentials.stored(given)) == given
    with pytest.raises(msgspec.ValidationError) as failure:
        credentials.read(case.provider.credentials, msgspec.to_builtins(given) | {"unheard_of": SECRET})
    assert SECRET not in str(failure.value)


@EVERY
def test_the_form_says_what_is_secret(case: Case) -> None:
    form = credentials.fields(case.provider.credentials)
    assert all(field.label for field in form)
    secret = {field.name for field in form if field.secret}
    held = {
        name for name, value in msgspec.to_builtins(case.account.credentials).items() if SECRET in str(value)
    }
    assert held <= secret
    assert secret


# ---- Webhooks ----------------------------------------------------------------------------------------


@WITH_WEBHOOKS
def test_every_status_is_read(case: Case) -> None:
    assert case.status_webhook
    assert case.statuses
    assert case.provider.parse_webhook
    for word, status in case.statuses.items():
        body = case.status_webhook(word)
        (event,) = case.provider.parse_webhook(case.account, case.headers(body), body)
        assert isinstance(event, Receipt), word
        assert event.status == status
        assert event.provider_message_id
        assert event.dedupe_key
        (again,) = case.provider.parse_webhook(case.account, case.headers(body), body)
        assert again == event


@WITH_WEBHOOKS
def test_a_status_of_the_future_is_kept_and_counted(case: Case) -> None:
    assert case.status_webhook
    assert case.provider.parse_webhook
    body = case.status_webhook("evaporated")
    (event,) = case.provider.parse_webhook(case.account, case.headers(body), body)
    assert isinstance(event, Unreadable)
    assert "evaporated" in event.reason
    assert event.payload


@SIGNED
def test_the_signature_holds_and_breaks_with_any_byte(case: Case) -> None:
    assert case.status_webhook
    verify = case.provider.verify_webhook
    assert verify
    body = case.status_webhook("delivered")
    headers = dict(case.headers(body))
    assert verify(case.account, "POST", headers, {}, body)
    for position in range(len(body)):
        flipped = bytearray(body)
        flipped[position] ^= 1
        assert not verify(case.account, "POST", headers, {}, bytes(flipped))
    for name in (name for name in headers if name.startswith("x-")):
        for position in range(len(headers[name])):
            text = headers[name]
            changed = text[:position] + chr(ord(text[position]) ^ 1) + text[position + 1 :]
            assert not verify(case.account, "POST", headers | {name: changed}, {}, body)
        for wrong in ("", "sha256=", "é" * 64, headers[name] + "0", headers[name] * 2, f"{headers[name]}, x"):
            assert not verify(case.account, "POST", headers | {name: wrong}, {}, body)
        assert not verify(case.account, "POST", {k: v for k, v in headers.items() if k != name}, {}, body)
    assert not verify(case.account, "POST", headers, {}, json.dumps(json.loads(body), indent=3).encode())


@SIGNED
def test_another_accounts_secret_does_not_verify(case: Case) -> None:
    assert case.status_webhook
    assert case.provider.verify_webhook
    body = case.status_webhook("delivered")
    given = msgspec.to_builtins(case.account.credentials)
    other = credentials.read(
        case.provider.credentials,
        {name: "other" if value == SECRET else value for name, value in given.items() if value is not None},
    )
    account = msgspec.structs.replace(case.account, credentials=other)
    assert not case.provider.verify_webhook(account, "POST", case.headers(body), {}, body)


NAMES = [
    "object",
    "entry",
    "changes",
    "field",
    "value",
    "statuses",
    "messages",
    "id",
    "status",
    "type",
    "from",
    "key",
    "message",
    "text",
    "timestamp",
    "ack",
    "data",
    "errors",
    "contacts",
    "metadata",
]
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)


@WITH_WEBHOOKS
@given(value=JSONS)
def test_no_body_whatever_breaks_the_reading(case: Case, value: Any) -> None:
    assert case.provider.parse_webhook
    assert case.provider.sender_from_webhook
    for shaped in (value, {"object": "whatsapp_business_account", "entry": value}):
        body = json.dumps(shaped).encode()
        for event in case.provider.parse_webhook(case.account, {}, body):
            assert isinstance(event, Receipt | Inbound | Unreadable)
            assert msgspec.json.encode(event)
        assert all(case.provider.sender_from_webhook({}, body))


# ---- Asking ------------------------------------------------------------------------------------------


@POLLED
async def test_asking_on_a_broken_wire_is_only_trouble(case: Case) -> None:
    assert case.provider.status_request
    for failure in (wire.NotSent("refused"), wire.MaybeSent("no answer")):
        broken = Broken(failure)
        asked = [LookUp(reference="r", sender_address="s", provider_message_id="p")]
        result = await ask(case.provider.status_request(case.account, asked), broken, broken)
        assert isinstance(result.trouble, NotSent)
        assert (result.receipts, result.absent) == ((), ())


@POLLED
def test_asking_about_nothing_asks_nothing(case: Case) -> None:
    assert case.provider.status_request
    assert play(case.provider.status_request(case.account, []))[0] == []


@POLLED
def test_a_round_of_questions_is_one_request(case: Case) -> None:
    """The limit of requests a minute is kept by a pause between rounds."""
    assert case.provider.status_request
    assert case.provider.polling
    answer = Response(status=200, headers={}, body=b"{}")
    asked = [
        LookUp(reference=f"r{n}", sender_address="s", provider_message_id=f"p{n}")
        for n in range(case.provider.polling.batch)
    ]
    requests, _ = play(case.provider.status_request(case.account, asked), *[answer] * len(asked))
    assert len(requests) == 1


# ---- The record --------------------------------------------------------------------------------------


@EVERY
def test_the_record_agrees_with_itself(case: Case) -> None:
    provider = case.provider
    assert provider.channels
    assert provider.setup_help
    assert (provider.status_request is None) == (provider.polling is None)
    assert (provider.parse_webhook is None) == (provider.verify_webhook is None)
    assert (provider.signature == "none") == (provider.parse_webhook is None)
    assert provider.rate_per_second > 0
    assert provider.in_flight > 0
    assert {field.name for field in record_fields(provider)} >= {"echo", "reply_window", "daily_cap"}


def test_mail_never_shows_its_password() -> None:
    (asked,) = play(
        CASES["smtp"].provider.send(CASES["smtp"].account, CASES["smtp"].outbound), CASES["smtp"].accepted
    )[0]
    assert isinstance(asked, MailEnvelope)
    assert asked.password == SECRET
    assert SECRET not in repr(asked)
