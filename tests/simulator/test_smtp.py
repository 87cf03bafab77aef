"""The mail server, with the standard library's client as the other side."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any, TypeVar

import pytest

from tests.simulator_process import Simulator

T = TypeVar("T")


def mail(to: str = "aina@example.com", text: str = "Hello Aina") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "shop@example.org"
    message["To"] = to
    message["Subject"] = "Offer"
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain="example.org")
    message.set_content(text)
    return message


async def talk(sim: Simulator, what: Callable[[smtplib.SMTP], T]) -> T:
    """A conversation in a thread of its own."""

    def conversation() -> T:
        client = smtplib.SMTP("127.0.0.1", sim.smtp_port, local_hostname="client.example", timeout=3)
        try:
            return what(client)
        finally:
            client.close()

    return await asyncio.to_thread(conversation)


async def test_a_mail_is_taken_and_logged_for_each_recipient(sim: Simulator) -> None:
    message = mail()
    refused = await talk(
        sim, lambda client: client.send_message(message, to_addrs=["aina@example.com", "ben@example.com"])
    )
    assert refused == {}
    entries = await sim.log(verdict="accepted")
    assert [entry["recipient"] for entry in entries] == ["aina@example.com", "ben@example.com"]
    assert {(entry["account"], entry["reference"], entry["text"]) for entry in entries} == {
        ("shop@example.org", str(message["Message-ID"]), "Hello Aina")
    }
    await talk(sim, lambda client: client.send_message(message))
    duplicates = (await sim.summary())["duplicates"]["recipient_text"]
    assert [one["of"][1] for one in duplicates] == ["aina@example.com"]


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "no Date": lambda raw: b"\r\n".join(line for line in raw.split(b"\r\n") if not line.startswith(b"Date:")),
    "no Message-ID": lambda raw: b"\r\n".join(
        line for line in raw.split(b"\r\n") if not line.startswith(b"Message-ID:")
    ),
    "two From": lambda raw: b"From: other@example.org\r\n" + raw,
    "two Subjects": lambda raw: b"Subject: more\r\n" + raw,
    "a Message-ID without brackets": lambda raw: raw.replace(b"Message-ID: <", b"Message-ID: x"),
    "a Date that is none": lambda raw: raw.replace(b"Date: ", b"Date: soon "),
    "a bare line feed": lambda raw: raw.replace(b"Hello", b"Hel\nlo"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_mail_that_breaks_a_rule_is_refused(case: str, sim: Simulator) -> None:
    raw = BROKEN[case](mail().as_bytes(policy=mail().policy.clone(linesep="\r\n")))

    def conversation(client: smtplib.SMTP) -> tuple[int, bytes]:
        client.ehlo()
        client.mail("shop@example.org")
        client.rcpt("aina@example.com")
        client.docmd("DATA")
        client.send(raw + b"\r\n.\r\n")
        return client.getreply()

    code, text = await talk(sim, conversation)
    assert (code, text[:5]) == (550, b"5.6.0")
    assert [entry["verdict"] for entry in await sim.log()] == ["refused"]


async def test_it_wants_ehlo_first(sim: Simulator) -> None:
    assert (await talk(sim, lambda client: client.docmd("MAIL", "FROM:<a@example.org>")))[0] == 503
    assert (await talk(sim, lambda client: client.helo()))[0] == 502


async def test_a_mailbox_that_does_not_exist_is_5_1_1(sim: Simulator) -> None:
    await sim.scenario({"smtp": {"absent_suffixes": ["gone"]}})
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refusal:
        await talk(sim, lambda client: client.send_message(mail("gone@example.com")))
    assert refusal.value.recipients["gone@example.com"] == (550, b"5.1.1 No such user here")


async def test_a_sender_above_its_rate_is_put_off(sim: Simulator) -> None:
    await sim.scenario({"smtp": {"rate": 1, "burst": 1}})
    await talk(sim, lambda client: client.send_message(mail()))
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refusal:
        await talk(sim, lambda client: client.send_message(mail()))
    assert next(iter(refusal.value.recipients.values()))[0] == 450


REPLIES: dict[str, tuple[str, str, type[Exception]]] = {
    "421 at EHLO": ("ehlo", "421 4.3.2 Closing", smtplib.SMTPHeloError),
    "451 at MAIL": ("mail", "451 4.3.0 Later", smtplib.SMTPSenderRefused),
    "450 at RCPT": ("rcpt", "450 4.2.0 Greylisted", smtplib.SMTPRecipientsRefused),
    "552 at DATA": ("data", "552 5.3.4 Too big", smtplib.SMTPDataError),
    "554 after the dot": ("final", "554 5.7.1 Spam", smtplib.SMTPDataError),
}


@pytest.mark.parametrize("case", REPLIES)
async def test_a_reply_comes_at_the_step_asked_for_once(case: str, sim: Simulator) -> None:
    at, reply, error = REPLIES[case]
    await sim.fault(provider="smtp", answer="reply", at=at, reply=reply)
    with pytest.raises(error):
        await talk(sim, lambda client: client.send_message(mail()))
    assert (await sim.summary())["accepted"] == 0
    await talk(sim, lambda client: client.send_message(mail()))
    assert (await sim.summary())["accepted"] == 1


async def test_a_421_greeting_ends_the_connection(sim: Simulator) -> None:
    await sim.fault(provider="smtp", answer="reply", at="connect", reply="421 4.3.2 Too busy")
    with pytest.raises(smtplib.SMTPConnectError):
        await talk(sim, lambda client: client.noop())


@pytest.mark.parametrize("accept", [True, False])
async def test_a_drop_after_the_final_dot_hides_whether_it_was_taken(accept: bool, sim: Simulator) -> None:
    await sim.fault(provider="smtp", answer="reset", accept=accept)
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
        await talk(sim, lambda client: client.send_message(mail()))
    assert [entry["verdict"] for entry in await sim.log()] == ["accepted" if accept else "fault"]


async def test_silence_after_the_final_dot_outlasts_the_client(sim: Simulator) -> None:
    await sim.fault(provider="smtp", answer="hang")
    with pytest.raises((TimeoutError, socket.timeout, smtplib.SMTPServerDisconnected)):
        await talk(sim, lambda client: client.send_message(mail()))
    assert (await sim.summary())["accepted"] == 1


async def trusting(sim: Simulator) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=await sim.control("GET", "/certificate"))


async def test_starttls_and_auth_are_demanded_when_set(sim: Simulator) -> None:
    await sim.scenario({"smtp_server": {"tls": "required", "users": {"shop": "pass word"}}})
    context = await trusting(sim)
    assert (await talk(sim, lambda client: (client.ehlo(), client.mail("a@example.org"))))[1][0] == 530

    def signed_in(password: str, send: bool = True) -> Callable[[smtplib.SMTP], Any]:
        def conversation(client: smtplib.SMTP) -> Any:
            client._host = "127.0.0.1"  # pyright: ignore  # smtplib names the host for TLS from here
            client.starttls(context=context)
            client.login("shop", password)
            return client.send_message(mail()) if send else None

        return conversation

    await talk(sim, signed_in("pass word"))
    assert (await sim.summary())["accepted"] == 1
    with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
        await talk(sim, signed_in("wrong"))
    assert refusal.value.smtp_code == 535


@pytest.mark.parametrize("certificate", ["expired", "wrong_host"])
async def test_a_bad_certificate_is_seen_by_the_client(certificate: str, sim: Simulator) -> None:
    await sim.scenario({"smtp_server": {"certificate": certificate}})
    context = await trusting(sim)

    with pytest.raises(ssl.SSLCertVerificationError):
        await talk(sim, lambda client: client.starttls(context=context))


async def test_starttls_may_be_stripped(sim: Simulator) -> None:
    await sim.scenario({"smtp_server": {"tls": "off"}})
    with pytest.raises(smtplib.SMTPNotSupportedError):
        await talk(sim, lambda client: client.starttls())
