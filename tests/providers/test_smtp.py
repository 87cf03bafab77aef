"""Mail: what is written, and what each reply means."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import pytest

from antiphon.core.channel import Purpose
from antiphon.core.wire import MailEnvelope, MailReply
from antiphon.providers import smtp
from antiphon.providers.contract import (
    Accepted,
    Account,
    AccountFault,
    NotSent,
    Outcome,
    Rejected,
    Throttled,
    Unknown,
)
from tests.providers.cases import MESSAGE_ID, SMTP_ACCOUNT, mail, play

TAKEN = MailReply("content", 250, "2.0.0 OK")


def envelope(**changes: Any) -> MailEnvelope:
    (asked,), _ = play(smtp.send(SMTP_ACCOUNT, mail(**changes)), TAKEN)
    assert isinstance(asked, MailEnvelope)
    return asked


def written(**changes: Any) -> EmailMessage:
    return email.message_from_bytes(envelope(**changes).content, policy=email.policy.default)


def test_a_mail_of_text_and_html_is_written() -> None:
    at = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    found = written(
        text="Hällo\n.dot\n", html="<p>Hällo</p>", subject="Grüße 🙏", sender_name="Shop, Ltd", at=at
    )
    assert found["From"] == '"Shop, Ltd" <shop@example.com>'
    assert found["To"] == "aina@example.net"
    assert found["Subject"] == "Grüße 🙏"
    assert found["Date"].datetime == at
    assert found["Message-ID"] == f"<{MESSAGE_ID.hex}@example.com>"
    assert found["MIME-Version"] == "1.0"
    assert found.get_content_type() == "multipart/alternative"
    parts = [part for part in found.walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    assert [part.get_content().split() for part in parts] == [["Hällo", ".dot"], ["<p>Hällo</p>"]]


@pytest.mark.parametrize(
    ("text", "html", "kind"), [("a", None, "text/plain"), (None, "<p>a</p>", "text/html")]
)
def test_a_mail_of_one_kind_has_one_part(text: str | None, html: str | None, kind: str) -> None:
    found = written(text=text, html=html)
    assert (found.get_content_type(), found.is_multipart()) == (kind, False)


def test_every_byte_is_ascii_and_every_line_ends_well() -> None:
    content = envelope(text="Hällo " * 400, html="<p>ü</p>" * 500, subject="ö" * 200).content
    assert content.isascii()
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert max(map(len, content.split(b"\r\n"))) <= 998


def test_the_same_mail_has_the_same_bytes() -> None:
    at = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    assert envelope(html="<p>a</p>", at=at) == envelope(html="<p>a</p>", at=at)


def test_the_envelope_names_server_sender_and_recipient() -> None:
    found = envelope()
    assert (found.host, found.port, found.tls, found.username) == ("mx.test", 587, "starttls", "shop")
    assert (found.sender, found.recipient) == ("shop@example.com", "aina@example.net")


def test_bounces_go_to_the_return_path() -> None:
    credentials = smtp.SmtpCredentials(host="mx.test", return_path="bounces@example.com")
    account = Account(provider="smtp", credentials=credentials)
    (asked,), _ = play(smtp.send(account, mail()), TAKEN)
    assert isinstance(asked, MailEnvelope)
    assert asked.sender == "bounces@example.com"
    assert b"From: shop@example.com" in asked.content


def test_a_domain_outside_ascii_travels_in_its_ascii_form() -> None:
    assert envelope(to="a@münchen.example").recipient == "a@xn--mnchen-3ya.example"


UNSUBSCRIBE = "https://u.example.com/o/OPAQUE"


@pytest.mark.parametrize(
    ("purpose", "url", "fields"),
    [
        (Purpose.MARKETING, UNSUBSCRIBE, (f"<{UNSUBSCRIBE}>", "List-Unsubscribe=One-Click")),
        (Purpose.MARKETING, "http://u.example.com/x", ("<http://u.example.com/x>", None)),
        (Purpose.MARKETING, None, (None, None)),
        (Purpose.TRANSACTIONAL, UNSUBSCRIBE, (None, None)),
    ],
)
def test_marketing_can_be_left_with_one_click(
    purpose: Purpose, url: str | None, fields: tuple[Any, Any]
) -> None:
    found = written(purpose=purpose, unsubscribe_url=url)
    assert (found["List-Unsubscribe"], found["List-Unsubscribe-Post"]) == fields


@pytest.mark.parametrize(
    ("purpose", "automatic"),
    [(Purpose.TRANSACTIONAL, "auto-generated"), (Purpose.SUPPORT, None), (Purpose.MARKETING, None)],
)
def test_what_a_machine_sends_says_so(purpose: Purpose, automatic: str | None) -> None:
    assert written(purpose=purpose)["Auto-Submitted"] == automatic


def test_a_reply_belongs_to_its_thread() -> None:
    found = written(reply_to_provider_id="abc@example.net")
    assert (found["In-Reply-To"], found["References"]) == ("<abc@example.net>", "<abc@example.net>")


INJECTIONS: dict[str, dict[str, Any]] = {
    "in the subject": {"subject": "Hi\r\nBcc: evil@example.org"},
    "in the subject, by a bare CR": {"subject": "Hi\rBcc: evil@example.org"},
    "in the name of the sender": {"sender_name": "Shop\nBcc: evil@example.org"},
    "in a value": {"headers": {"X-Tag": "a\r\nBcc: evil@example.org"}},
    "in a name": {"headers": {"X-Tag: a\r\nBcc": "evil@example.org"}},
    "as a field of ours": {"headers": {"Bcc": "evil@example.org", "From": "evil@example.org"}},
    "in the unsubscribe address": {
        "purpose": Purpose.MARKETING,
        "unsubscribe_url": "https://u.example.com/\r\nBcc: evil@example.org",
    },
    "in the message that is quoted": {"reply_to_provider_id": "a@b>\r\nBcc: evil@example.org"},
}


@pytest.mark.parametrize("name", INJECTIONS)
def test_no_header_field_can_be_injected(name: str) -> None:
    found = written(**INJECTIONS[name])
    assert found["Bcc"] is None
    assert found.get_all("From") == ["shop@example.com"] or "Shop" in found["From"]
    assert found.get_content().strip() == "Hello Aina"


def test_more_fields_may_be_given() -> None:
    assert written(headers={"X-Campaign": "spring"})["X-Campaign"] == "spring"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "aina",
        "@example.net",
        "aina@",
        "a b@example.net",
        "a@b@c",
        "a@example.net\r\nRCPT TO:<b@c>",
        "<a@b>",
        "a@b,c@d",
    ],
)
def test_what_is_no_address_is_asked_of_nobody(address: str) -> None:
    asked, result = play(smtp.send(SMTP_ACCOUNT, mail(to=address)))
    assert asked == []
    assert isinstance(result, Rejected)
    asked, result = play(smtp.send(SMTP_ACCOUNT, mail(sender_address=address)))
    assert asked == []
    assert isinstance(result, AccountFault)


def reply(stage: Any, code: int, text: str = "") -> Outcome:
    return play(smtp.send(SMTP_ACCOUNT, mail()), MailReply(stage, code, text))[1]


def test_a_mail_that_was_taken_is_known_by_its_message_id() -> None:
    result = reply("content", 250, "2.0.0 queued as 4bX")
    assert isinstance(result, Accepted)
    assert result.provider_message_id == f"{MESSAGE_ID.hex}@example.com"
    assert "queued as 4bX" in result.payload["reply"]


MINUTES5, HOUR = timedelta(minutes=5), timedelta(hours=1)
WAITING: list[tuple[str, int, str, timedelta | None]] = [
    ("recipient", 450, "4.2.0 greylisted, come back in 5 minutes", MINUTES5),
    ("recipient", 451, "4.7.1 try later", MINUTES5),
    ("content", 451, "4.3.0 local error", MINUTES5),
    ("recipient", 452, "4.2.2 mailbox full", HOUR),
    ("recipient", 452, "too many recipients", HOUR),
    ("recipient", 552, "5.2.2 mailbox full", HOUR),
    ("recipient", 552, "over quota", HOUR),
    ("recipient", 550, "5.2.2 quota", HOUR),
    ("login", 454, "4.7.0 temporary failure", None),
    ("connect", 420, "later", None),
]


@pytest.mark.parametrize(("stage", "code", "text", "after"), WAITING)
def test_what_may_work_later_is_not_sent(stage: str, code: int, text: str, after: timedelta | None) -> None:
    result = reply(stage, code, text)
    assert isinstance(result, NotSent)
    assert result.after == after


DEAD = [
    (550, "5.1.1 no such user"),
    (550, "5.1.0 bad destination"),
    (550, "5.1.6 moved"),
    (550, "5.1.10 null MX"),
    (553, "5.1.3 bad syntax"),
    (550, "5.2.1 disabled"),
    (550, "No such user here"),
    (550, "Requested action not taken: mailbox unavailable"),
    (550, "User unknown in virtual mailbox table"),
    (550, "The recipient address does not exist"),
]


@pytest.mark.parametrize(("code", "text"), DEAD)
def test_a_dead_address_is_suppressed(code: int, text: str) -> None:
    result = reply("recipient", code, text)
    assert isinstance(result, Rejected)
    assert (result.suppress, result.blames) == (True, "contact")


REFUSED = [
    ("recipient", 554, "5.7.1 relay access denied"),
    ("recipient", 550, "5.7.1 blocked by policy"),
    ("recipient", 550, "Message rejected as spam by policy"),
    ("content", 554, "5.7.1 spam"),
    ("content", 552, "5.3.4 too big"),
    ("content", 552, "message size exceeds limit"),
    ("sender", 552, "5.3.4 too big"),
    ("content", 550, "5.6.0 bad content"),
    ("recipient", 501, "5.1.7 syntax"),
    ("sender", 503, "5.5.1 bad sequence"),
    ("recipient", 502, "not implemented"),
    ("recipient", 504, "not implemented"),
]


@pytest.mark.parametrize(("stage", "code", "text"), REFUSED)
def test_a_refusal_is_final_and_suppresses_nobody(stage: str, code: int, text: str) -> None:
    result = reply(stage, code, text)
    assert isinstance(result, Rejected)
    assert not result.suppress


FAULTS = [
    ("login", 535, "5.7.8 wrong"),
    ("login", 534, "5.7.9 application password required"),
    ("sender", 530, "5.7.0 authentication required"),
    ("sender", 538, "5.7.11 encryption required"),
    ("sender", 550, "5.7.1 sender not allowed"),
    ("sender", 553, "5.7.1 not owned by user"),
    ("connect", 554, "5.7.1 your address is blocked"),
    ("content", 550, "5.7.26 unauthenticated mail is not accepted"),
    ("recipient", 550, "5.7.23 SPF validation failed"),
]


@pytest.mark.parametrize(("stage", "code", "text"), FAULTS)
def test_what_would_happen_to_every_mail_stops_the_sender(stage: str, code: int, text: str) -> None:
    assert isinstance(reply(stage, code, text), AccountFault)


@pytest.mark.parametrize("stage", ["connect", "login", "sender", "recipient", "content"])
def test_a_server_that_hangs_up_slows_the_sender(stage: str) -> None:
    assert isinstance(reply(stage, 421, "4.3.2 closing"), Throttled)


@pytest.mark.parametrize("text", ["4.7.1 Too many messages, slow down", "4.7.0 rate limit exceeded"])
def test_a_server_that_wants_less_slows_the_sender(text: str) -> None:
    assert isinstance(reply("recipient", 450, text), Throttled)


@pytest.mark.parametrize(("stage", "expected"), [("recipient", NotSent), ("content", Unknown)])
def test_a_reply_that_makes_no_sense_is_a_doubt_only_after_the_dot(stage: str, expected: type) -> None:
    assert isinstance(reply(stage, 354, "what"), expected)
