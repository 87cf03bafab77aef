"""What each provider is asked, and what each of its answers means."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from antiphon.core import wire
from antiphon.core.channel import Channel, Purpose
from antiphon.core.wire import Request, Response
from antiphon.providers import keyed, meta_whatsapp, wsapme
from antiphon.providers.contract import (
    Accepted,
    AccountFault,
    ApprovedTemplate,
    LookedUp,
    LookUp,
    NotSent,
    Outcome,
    Rejected,
    TemplateButton,
    TemplateParameter,
    Throttled,
    Unknown,
)
from antiphon.providers.drive import drive
from antiphon.providers.meta_errors import VERDICTS
from tests.providers.cases import (
    KEYED_ACCOUNT,
    META_ACCOUNT,
    SECRET,
    WSAPME_ACCOUNT,
    answer,
    fixture,
    http_request,
    outbound,
    play,
)

# ---- Meta --------------------------------------------------------------------------------------------


def meta(*answers: Response, **changes: Any) -> tuple[list[Any], Outcome]:
    return play(meta_whatsapp.send(META_ACCOUNT, outbound(**changes)), *answers)


OK = answer(200, fixture("meta_whatsapp/accepted.json"))


def test_meta_is_asked_to_send_text() -> None:
    request, body = http_request(meta(OK)[0])
    assert (request.method, request.url) == ("POST", "http://meta.test/v23.0/5550001/messages")
    assert request.headers == {"authorization": f"Bearer {SECRET}-token", "content-type": "application/json"}
    assert body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "60111111111",
        "biz_opaque_callback_data": outbound().reference,
        "type": "text",
        "text": {"body": "Hello Aina", "preview_url": False},
    }


def test_meta_is_asked_to_quote() -> None:
    _, body = http_request(meta(OK, reply_to_provider_id="wamid.AAA")[0])
    assert body["context"] == {"message_id": "wamid.AAA"}


def test_meta_is_asked_for_an_approved_template_with_every_kind_of_parameter() -> None:
    template = ApprovedTemplate(
        name="order_update",
        language="en_US",
        header=(TemplateParameter(kind="document", value="https://cdn.example.com/a.pdf", filename="a.pdf"),),
        body=(
            TemplateParameter(value="Aina"),
            TemplateParameter(value="two\nlines\tand      spaces", name="order"),
        ),
        buttons=(
            TemplateButton(
                index=0,
                sub_type="quick_reply",
                parameter=TemplateParameter(kind="payload", value="TRACK:A-1009"),
            ),
            TemplateButton(index=1, sub_type="url", parameter=TemplateParameter(value="A-1009")),
            TemplateButton(
                index=2,
                sub_type="copy_code",
                parameter=TemplateParameter(kind="coupon_code", value="SAVE10"),
            ),
        ),
    )
    _, body = http_request(meta(OK, template=template, text=None)[0])
    document = {"link": "https://cdn.example.com/a.pdf", "filename": "a.pdf"}
    assert body["type"] == "template"
    assert body["template"] == {
        "name": "order_update",
        "language": {"code": "en_US"},
        "components": [
            {"type": "header", "parameters": [{"type": "document", "document": document}]},
            {
                "type": "body",
                "parameters": [
                    {"type": "text", "text": "Aina"},
                    {"type": "text", "text": "two lines and spaces", "parameter_name": "order"},
                ],
            },
            {
                "type": "button",
                "sub_type": "quick_reply",
                "index": "0",
                "parameters": [{"type": "payload", "payload": "TRACK:A-1009"}],
            },
            {
                "type": "button",
                "sub_type": "url",
                "index": "1",
                "parameters": [{"type": "text", "text": "A-1009"}],
            },
            {
                "type": "button",
                "sub_type": "copy_code",
                "index": "2",
                "parameters": [{"type": "coupon_code", "coupon_code": "SAVE10"}],
            },
        ],
    }


def test_meta_is_asked_for_a_template_without_parameters_plainly() -> None:
    template = ApprovedTemplate(name="hello_world", language="en")
    _, body = http_request(meta(OK, template=template)[0])
    assert body["template"] == {"name": "hello_world", "language": {"code": "en"}}


def error(code: int, status: int = 400, subcode: int = 0, headers: dict[str, str] | None = None) -> Response:
    details = {"code": code, "error_subcode": subcode, "message": "m", "error_data": {"details": "why"}}
    return answer(status, {"error": details}, headers)


# Meta's error page, restated by kind.
FAULTS = [
    0,
    190,
    3,
    10,
    200,
    250,
    299,
    131048,
    131064,
    368,
    131031,
    131042,
    131044,
    131045,
    131037,
    133010,
    131005,
]
PACE = [4, 80007, 613, 130429, 133016]
LATER = [2, 131000, 131016, 131057, 131053, 132069, 139103]
FINAL = [
    *(130497, 131047, 131049, 130472, 131030, 131021, 131051, 131052, 131008, 131009, 100, 33),
    *(131062, 131063, 135000, 137000, 139100, 139101, 139102),
]
TEMPLATE = [132000, 132001, 132005, 132007, 132008, 132012, 132015, 132016, 132018, 132068]


@pytest.mark.parametrize("code", FAULTS)
def test_meta_stops_the_sender(code: int) -> None:
    result = meta(error(code, 403))[1]
    assert isinstance(result, AccountFault)
    assert result.code == str(code)
    assert result.reason.startswith("why")


@pytest.mark.parametrize("code", PACE)
def test_meta_slows_the_sender(code: int) -> None:
    result = meta(error(code, 400, headers={"retry-after": "30"}))[1]
    assert isinstance(result, Throttled)
    assert (result.after, result.scope) == (timedelta(seconds=30), "sender")


def test_meta_slows_one_contact_only() -> None:
    result = meta(error(131056))[1]
    assert isinstance(result, Throttled)
    assert (result.after, result.scope) == (timedelta(seconds=4), "contact")


@pytest.mark.parametrize("code", LATER)
def test_meta_did_not_take_it_and_may_later(code: int) -> None:
    assert isinstance(meta(error(code))[1], NotSent)


@pytest.mark.parametrize("code", FINAL)
def test_meta_will_never_take_this_message(code: int) -> None:
    result = meta(error(code))[1]
    assert isinstance(result, Rejected)
    assert (result.blames, result.suppress, result.withdraws_consent) == ("message", False, False)


@pytest.mark.parametrize("code", TEMPLATE)
def test_meta_will_take_this_template_from_nobody(code: int) -> None:
    result = meta(error(code))[1]
    assert isinstance(result, Rejected)
    assert result.blames == "template"


def test_meta_knows_no_such_person_for_now() -> None:
    result = meta(error(131026))[1]
    assert isinstance(result, Rejected)
    assert (result.suppress, result.suppress_for, result.blames) == (True, timedelta(days=30), "contact")


def test_meta_tells_that_a_person_stopped_marketing() -> None:
    result = meta(error(131050))[1]
    assert isinstance(result, Rejected)
    assert (result.suppress, result.withdraws_consent) == (False, True)


def test_every_code_of_metas_table_is_tested() -> None:
    tested = {*FAULTS, *range(200, 300), *PACE, 131056, *LATER, *FINAL, *TEMPLATE, 131026, 131050, 1}
    assert tested == set(VERDICTS)


META_ANSWERS: dict[str, tuple[Response, type[Any]]] = {
    "an error of its own that says nothing": (error(1, 500), Unknown),
    "a general failure under 500": (error(131000, 500), Unknown),
    "unavailable under 503": (error(131016, 503), NotSent),
    "unavailable under 500": (error(2, 500), NotSent),
    "a code that nobody knows": (error(999_999), Rejected),
    "a code that nobody knows under 401": (error(999_999, 401), AccountFault),
    "a code that nobody knows under 429": (error(999_999, 429), Throttled),
    "a transient error that nobody knows": (
        answer(400, {"error": {"code": 999_999, "is_transient": True}}),
        NotSent,
    ),
    "a phone number id that does not exist": (error(100, 400, 33), AccountFault),
    "an error under 200": (error(131009, 200), Rejected),
    "an error that is no object": (answer(400, {"error": "no"}), Rejected),
    "a code that is a word": (answer(400, {"error": {"code": "oops"}}), Rejected),
    "nothing": (answer(200, b""), Accepted),
    "nothing under 204": (answer(204, b""), Accepted),
    "an empty list": (answer(200, {"messages": []}), Accepted),
    "a redirect": (answer(307, b""), AccountFault),
    "408": (answer(408, b""), Unknown),
    "425": (answer(425, b""), Unknown),
    "404": (answer(404, b""), Rejected),
    "413": (answer(413, b""), Rejected),
    "500": (answer(500, b""), Unknown),
    "502": (answer(502, b""), Unknown),
    "503": (answer(503, b""), Unknown),
    "503 that names a time": (answer(503, b"", {"retry-after": "5"}), Throttled),
    "504": (answer(504, b""), Unknown),
}


@pytest.mark.parametrize("name", META_ANSWERS)
def test_meta_answers(name: str) -> None:
    response, expected = META_ANSWERS[name]
    assert isinstance(meta(response)[1], expected)


def test_meta_holds_a_message_and_says_so() -> None:
    held = answer(200, {"messages": [{"id": "wamid.1", "message_status": "held_for_quality_assessment"}]})
    result = meta(held)[1]
    assert isinstance(result, Accepted)
    assert (result.provider_message_id, result.detail) == (
        "wamid.1",
        "Meta holds it: held_for_quality_assessment",
    )


DATE = {"date": "Thu, 01 Jan 2026 00:00:00 GMT"}
RETRY_AFTER: dict[str, tuple[dict[str, str], timedelta | None]] = {
    "seconds": ({"retry-after": "120"}, timedelta(seconds=120)),
    "a fraction": ({"retry-after": "1.5"}, timedelta(seconds=1.5)),
    "nothing": ({}, None),
    "an empty field": ({"retry-after": ""}, None),
    "zero": ({"retry-after": "0"}, timedelta(seconds=1)),
    "a negative": ({"retry-after": "-5"}, None),
    "far too long": ({"retry-after": "1000000000"}, timedelta(hours=1)),
    "not a number": ({"retry-after": "nan"}, None),
    "infinity": ({"retry-after": "inf"}, timedelta(hours=1)),
    "words": ({"retry-after": "soon"}, None),
    "a date": ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT", **DATE}, timedelta(seconds=30)),
    "a date that has passed": ({"retry-after": "Wed, 31 Dec 2025 23:00:00 GMT", **DATE}, None),
    "a date without a clock to compare": ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, None),
}


@pytest.mark.parametrize("name", RETRY_AFTER)
def test_retry_after(name: str) -> None:
    headers, after = RETRY_AFTER[name]
    result = meta(answer(429, b"", headers))[1]
    assert isinstance(result, Throttled)
    assert result.after == after


# ---- WSAPME ------------------------------------------------------------------------------------------


def wsapme_send(*answers: Response, **changes: Any) -> tuple[list[Any], Outcome]:
    return play(wsapme.send(WSAPME_ACCOUNT, outbound(sender_address="device-1", **changes)), *answers)


def no(message: str, status: int = 200) -> Response:
    return answer(status, {"success": False, "message": message})


@pytest.mark.parametrize(("purpose", "priority"), [(Purpose.MARKETING, "0"), (Purpose.SUPPORT, "1")])
def test_wsapme_is_asked_to_send_text(purpose: Purpose, priority: str) -> None:
    asked, _ = wsapme_send(answer(200, fixture("wsapme/accepted.json")), purpose=purpose)
    request, body = http_request(asked)
    assert (request.method, request.url) == ("POST", "http://wsapme.test/v1/sendMessage2")
    assert request.headers == {"x-wsapme-token": SECRET, "content-type": "application/json"}
    assert body == {
        "device": "device-1",
        "to": "60111111111",
        "message": "Hello Aina",
        "priority": priority,
    }


WSAPME_ANSWERS: dict[str, tuple[Response, type[Any], str | None]] = {
    "accepted": (answer(200, fixture("wsapme/accepted.json")), Accepted, "WMAPI01ABCDEF"),
    "accepted in the flat shape": (answer(200, fixture("wsapme/accepted_flat.json")), Accepted, "WMAPI02"),
    "accepted without an id": (answer(200, fixture("wsapme/accepted_without_id.json")), Accepted, None),
    "a success without a body": (answer(200, b""), Accepted, None),
    "an id that is a number": (answer(200, {"success": True, "messageId": 77}), Accepted, "77"),
    "a bad token": (no("Unauthorised Token"), AccountFault, "token"),
    "401": (answer(401, b""), AccountFault, "http_401"),
    "a phone that is off": (no("Device not connected"), AccountFault, "device"),
    "a phone that is unknown": (no("Device not found"), AccountFault, "device"),
    "a phone that signed out": (no("Session logged out"), AccountFault, "device"),
    "a number without WhatsApp": (no("60111111111 is not on WhatsApp"), Rejected, "not_on_whatsapp"),
    "a number that is not registered": (no("Number not registered on whatsapp"), Rejected, "not_on_whatsapp"),
    "any other refusal": (no("Invalid number"), Rejected, "refused"),
    "a refusal without words": (answer(200, {"success": False}), Rejected, "refused"),
    "a refusal as text": (answer(200, {"success": "false", "message": "Failed"}), Rejected, "refused"),
    "a refusal under 500": (no("Internal error", 500), NotSent, "http_500"),
    "too fast, under 200": (no("Too many requests"), Throttled, "too_many"),
    "429": (answer(429, b""), Throttled, "http_429"),
    "502": (answer(502, b"<html>"), Unknown, "http_502"),
    "the phone could not send it": (
        answer(200, {"success": True, "data": {"key": {"id": "X"}, "status": "ERROR"}}),
        NotSent,
        "ERROR",
    ),
}


@pytest.mark.parametrize("name", WSAPME_ANSWERS)
def test_wsapme_answers(name: str) -> None:
    response, expected, word = WSAPME_ANSWERS[name]
    result = wsapme_send(response)[1]
    assert isinstance(result, expected)
    found = result.provider_message_id if isinstance(result, Accepted) else result.code
    assert found == word
    if isinstance(result, Rejected):
        assert result.suppress is (word == "not_on_whatsapp")


def look_up(number: int) -> LookUp:
    return LookUp(reference=f"r{number}", sender_address="device-1", provider_message_id=f"W{number}")


def test_wsapme_is_asked_for_each_status_until_there_is_trouble() -> None:
    steps = wsapme.status_request(WSAPME_ACCOUNT, [look_up(n) for n in range(6)])
    asked, found = play(
        steps,
        answer(200, fixture("wsapme/status.json")),
        answer(200, fixture("wsapme/status_data.json")),
        no("Message not found"),
        answer(200, {"success": True, "data": {}}),
        answer(429, b"", {"retry-after": "9"}),
    )
    assert len(asked) == 5
    assert isinstance(asked[0], Request)
    assert asked[0].url == "http://wsapme.test/v1/getMessageStatus"
    assert asked[0].body == b'{"device":"device-1","messageId":"W0"}'
    assert [(each.status, each.provider_message_id, each.reference) for each in found.receipts] == [
        ("delivered", "W0", "r0"),
        ("read", "W1", "r1"),
    ]
    assert found.absent == ("r2",)
    assert isinstance(found.trouble, Throttled)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (no("Unauthorised Token"), AccountFault),
        (answer(500, b""), NotSent),
        (answer(400, b""), NotSent),
        (no("Something"), type(None)),
    ],
)
def test_trouble_with_asking_is_never_a_fact_about_the_message(response: Response, expected: type) -> None:
    _, found = play(wsapme.status_request(WSAPME_ACCOUNT, [look_up(1)]), response)
    assert isinstance(found.trouble, expected)
    assert (found.receipts, found.absent) == ((), ())


def test_wsapme_cannot_be_asked_about_a_message_without_an_id() -> None:
    nameless = LookUp(reference="r", sender_address="device-1")
    assert play(wsapme.status_request(WSAPME_ACCOUNT, [nameless])) == ([], LookedUp())


# ---- The keyed test provider --------------------------------------------------------------------------


def keyed_message(**changes: Any) -> Any:
    return outbound(channel=Channel.SMS, sender_address="default", **changes)


def test_the_keyed_provider_gets_the_key() -> None:
    asked, _ = play(keyed.send(KEYED_ACCOUNT, keyed_message()), answer(200, {"id": "k-1"}))
    request, body = http_request(asked)
    assert request.url == "http://keyed.test/keyed/messages"
    assert request.headers["idempotency-key"] == "key-1"
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert body == {"to": "+60111111111", "text": "Hello Aina", "reference": outbound().reference}


CONFLICT = answer(409, {"error": "key_used_with_another_body"})


def test_a_key_that_was_used_with_other_bytes_proves_the_first_try() -> None:
    found = answer(200, {"messages": [{"id": "k-1", "reference": outbound().reference, "status": "sent"}]})
    asked, result = play(keyed.send(KEYED_ACCOUNT, keyed_message()), CONFLICT, found)
    assert isinstance(asked[1], Request)
    assert (asked[1].method, asked[1].url) == (
        "GET",
        f"http://keyed.test/keyed/messages?reference={outbound().reference}",
    )
    assert isinstance(result, Accepted)
    assert result.provider_message_id == "k-1"


@pytest.mark.parametrize("second", [answer(500, b""), answer(200, b"?"), answer(200, {"messages": []})])
def test_the_first_try_arrived_even_if_its_id_cannot_be_had(second: Response) -> None:
    _, result = play(keyed.send(KEYED_ACCOUNT, keyed_message()), CONFLICT, second)
    assert isinstance(result, Accepted)
    assert result.provider_message_id is None


class ConflictThenSilence:
    """Answers the send, and breaks at the look-up."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    async def send(self, request: Any, /) -> Any:
        if request.method == "GET":
            raise self.failure
        return CONFLICT


@pytest.mark.parametrize("failure", [wire.NotSent("x"), wire.MaybeSent("x")])
async def test_a_broken_look_up_does_not_make_what_arrived_doubtful(failure: Exception) -> None:
    silent = ConflictThenSilence(failure)
    result = await drive(keyed.send(KEYED_ACCOUNT, keyed_message()), silent, silent)
    assert isinstance(result, Accepted)


def test_another_conflict_proves_nothing() -> None:
    _, result = play(keyed.send(KEYED_ACCOUNT, keyed_message()), answer(409, {"error": "busy"}))
    assert isinstance(result, Rejected)


def test_the_keyed_provider_says_what_it_never_saw() -> None:
    asked = [LookUp(reference=name, sender_address="default") for name in ("a", "b", "c d", "e")]
    requests, found = play(
        keyed.status_request(KEYED_ACCOUNT, asked),
        answer(200, {"messages": [{"id": "k-1", "reference": "a", "status": "read", "to": "+601"}]}),
        answer(200, {"messages": []}),
        answer(200, b"<html>"),
        answer(401, b""),
    )
    assert isinstance(requests[2], Request)
    assert requests[2].url.endswith("?reference=c%20d")
    assert [(each.status, each.reference) for each in found.receipts] == [("read", "a")]
    assert found.absent == ("b",)
    assert isinstance(found.trouble, AccountFault)
