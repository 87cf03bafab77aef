"""Email through an SMTP server of the organization's own.

Replies are read by RFC 5321's code and RFC 3463's enhanced one (`5.1.1` at the beginning of the text); which of them
mean a dead address is from the registry of enhanced codes (RFC 5248). 250 after the content is the last fact that SMTP
gives: there is no receipt for delivered or read. A connection that breaks after the final dot leaves a doubt (RFC
1047).
"""

from __future__ import annotations

import email.policy
import re
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from antiphon.core.channel import Channel, Purpose
from antiphon.core.clock import now
from antiphon.core.wire import MailEnvelope, MailReply
from antiphon.providers.contract import (
    Accepted,
    Account,
    AccountFault,
    NotSent,
    Outbound,
    Outcome,
    Provider,
    Rejected,
    Send,
    Throttled,
    Unknown,
)
from antiphon.providers.credentials import Credentials, Text, plain, secret

CALL_TIMEOUT = timedelta(seconds=60)
GREYLIST_WAIT = timedelta(minutes=5)
FULL_WAIT = timedelta(hours=1)
POLICY = email.policy.SMTP.clone(cte_type="7bit")  # any server takes it, with 8BITMIME or without

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class SmtpCredentials(Credentials, frozen=True, kw_only=True):
    """What opens a mail server."""

    host: Annotated[Text, plain("Server", "The host name of the mail server.")]
    port: Annotated[Port, plain("Port", "587 with STARTTLS, 465 with TLS from the start.")] = 587
    tls: Annotated[
        Literal["starttls", "tls", "none"],
        plain("Encryption", "With STARTTLS, a server that offers none gets nothing."),
    ] = "starttls"
    username: Annotated[Text | None, plain("User name")] = None
    password: Annotated[Text | None, secret("Password")] = None
    return_path: Annotated[
        Text | None, plain("Return path", "Where bounces go; the sender's address if it is empty.")
    ] = None


# RFC 3463 and 5248: the mailbox or its domain does not exist, does not receive, or is disabled
_DEAD = frozenset({"5.1.0", "5.1.1", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
_FULL = frozenset({"5.2.2", "4.2.2"})
# DMARC, SPF, DKIM or reverse DNS fail: every recipient will say the same
_SENDER_FAULT = frozenset({"5.7.20", "5.7.21", "5.7.22", "5.7.23", "5.7.24", "5.7.25", "5.7.26", "5.7.27"})
_LOGIN_CODES = frozenset({530, 534, 535, 538})
_PROTOCOL_CODES = frozenset({500, 501, 502, 503, 504, 555})
_ENHANCED = re.compile(r"^[245]\.\d{1,3}\.\d{1,3}\b")
_THING, _GONE = (
    "(user|mailbox|recipient|address|account)",
    "(unknown|not found|doesn.t exist|does not exist|invalid",
)
_NOBODY = re.compile(
    rf"(no such|nonexistent|unknown|invalid).{{0,30}}{_THING}|{_THING}.{{0,40}}{_GONE}|unavailable|disabled)",
    re.IGNORECASE,
)
_PACE = re.compile(
    r"too many (messages|mails|connections)|rate.?limit|slow(ing)? down|throttl", re.IGNORECASE
)
_FIELD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,70}")
_OURS = frozenset(
    {
        "from",
        "to",
        "cc",
        "bcc",
        "sender",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "return-path",
        "received",
    }
    | {
        "list-unsubscribe",
        "list-unsubscribe-post",
        "auto-submitted",
        "dkim-signature",
        "in-reply-to",
        "references",
    }
    | {"content-type", "content-transfer-encoding", "content-disposition"}
)
_ADDRESS = re.compile(r"[^\s<>\"\\,;:@\x00-\x1f\x7f]+@[^\s<>\"\\,;:@\x00-\x1f\x7f]+")


def send(account: Account[SmtpCredentials], outbound: Outbound) -> Send:
    """One mail to one recipient."""
    credentials = account.credentials
    sender, recipient = _routed(outbound.sender_address), _routed(outbound.to)
    return_path = _routed(credentials.return_path) if credentials.return_path else sender
    if sender is None or return_path is None:
        return AccountFault(
            code="sender_address", reason=f"{outbound.sender_address!r} is not an email address"
        )
    if recipient is None:
        return Rejected(code="address", reason="the recipient is not an email address", blames="contact")
    if not outbound.text and not outbound.html:
        return Rejected(code="no_content", reason="the message has neither text nor HTML")
    reply = yield MailEnvelope(
        host=credentials.host,
        port=credentials.port,
        tls=credentials.tls,
        username=credentials.username,
        password=credentials.password,
        sender=return_path,
        recipient=recipient,
        content=build_mail(outbound, sender, recipient),
        timeout=CALL_TIMEOUT,
    )
    assert isinstance(reply, MailReply)
    return parse_reply(reply, message_id(outbound, sender))


def message_id(outbound: Outbound, sender: str) -> str:
    """The Message-ID without its brackets: the same on every try, so that a receiver can see a repeat."""
    return f"{outbound.message_id.hex}@{sender.rpartition('@')[2]}"


def build_mail(outbound: Outbound, sender: str, recipient: str) -> bytes:
    """The mail in 7-bit lines: text, HTML or both; one-click unsubscribe for marketing (RFC 8058)."""
    mail = EmailMessage(POLICY)
    mail["From"] = Address(_one_line(outbound.sender_name or ""), addr_spec=sender)
    mail["To"] = Address(addr_spec=recipient)
    mail["Subject"] = _one_line(outbound.subject or "")
    mail["Date"] = format_datetime(outbound.at or now())
    mail["Message-ID"] = f"<{message_id(outbound, sender)}>"
    if outbound.reply_to_provider_id:
        quoted = f"<{_one_line(outbound.reply_to_provider_id).strip('<> ')}>"
        mail["In-Reply-To"] = quoted
        mail["References"] = quoted
    if outbound.purpose in (Purpose.TRANSACTIONAL, Purpose.NOTIFICATION):
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation replies, please
    if outbound.unsubscribe_url and outbound.purpose is Purpose.MARKETING:
        if urlsplit(outbound.unsubscribe_url).scheme == "https":
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        mail["List-Unsubscribe"] = f"<{_one_line(outbound.unsubscribe_url)}>"
    for name, value in outbound.headers.items():
        if _FIELD_NAME.fullmatch(name) and name.lower() not in _OURS:
            mail[name] = _one_line(value)
    if outbound.text:
        mail.set_content(outbound.text)
        if outbound.html:
            mail.add_alternative(outbound.html, subtype="html")
            mail.set_boundary(f"=_{outbound.message_id.hex}")  # else a random one: another try, other bytes
    else:
        mail.set_content(outbound.html or "", subtype="html")
    return mail.as_bytes()


def parse_reply(reply: MailReply, sent_as: str) -> Outcome:
    """What the server's last word means, by the step it belongs to, its code and its enhanced code."""
    found = _ENHANCED.match(reply.text)
    enhanced = found.group() if found else ""
    code = f"{reply.code} {enhanced}".strip()
    reason = f"{reply.code} {reply.text}"[:300].replace("\n", " ")
    payload = {"stage": reply.stage, "reply": reason}
    if reply.stage == "content" and reply.code == 250:
        return Accepted(provider_message_id=sent_as, payload=payload)
    if reply.code == 421 or (400 <= reply.code < 500 and _PACE.search(reply.text)):
        # the server hangs up on this account, or slows it: the next message would fare no better
        return Throttled(after=timedelta(minutes=1), code=code, reason=reason, payload=payload)
    if 400 <= reply.code < 500:
        return NotSent(code=code, reason=reason, after=_wait(reply, enhanced), payload=payload)
    if not 500 <= reply.code < 600:
        kind = Unknown if reply.stage == "content" else NotSent
        return kind(code=code, reason=f"a reply that makes no sense: {reason}", payload=payload)
    if reply.stage in ("connect", "login") or reply.code in _LOGIN_CODES or enhanced in _SENDER_FAULT:
        return AccountFault(code=code, reason=reason, payload=payload)
    if enhanced in _FULL or (reply.code == 552 and not enhanced and reply.stage == "recipient"):
        return NotSent(code=code, reason=reason, after=FULL_WAIT, payload=payload)
    if reply.stage == "sender" and reply.code not in (*_PROTOCOL_CODES, 552):
        return AccountFault(code=code, reason=reason, payload=payload)
    is_dead = enhanced in _DEAD or (
        not enhanced and reply.stage == "recipient" and reply.code in (550, 553) and _is_nobody(reply.text)
    )
    blames = "contact" if is_dead else "message"
    return Rejected(code=code, reason=reason, suppress=is_dead, blames=blames, payload=payload)


def _wait(reply: MailReply, enhanced: str) -> timedelta | None:
    if enhanced in _FULL or (reply.code == 452 and not enhanced):
        return FULL_WAIT
    # greylisting lets the second try in after a few minutes, and never before
    return GREYLIST_WAIT if reply.code in (450, 451) else None


def _is_nobody(text: str) -> bool:
    return _NOBODY.search(text) is not None


def _routed(address: str) -> str | None:
    """The address as it goes over the wire, its domain in ASCII; None if it is none."""
    if not _ADDRESS.fullmatch(address):
        return None
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        return None


def _one_line(text: str) -> str:
    """Text that cannot begin a header field of its own."""
    return " ".join(text.replace("\0", "").split())


SMTP = Provider(
    name="smtp",
    title="Email (SMTP)",
    channels=frozenset({Channel.EMAIL}),
    credentials=SmtpCredentials,
    sender_label="From address",
    setup_help=(
        "Enter your mail server, and as senders the addresses that it may send from. Publish SPF and DKIM for their "
        "domain, or large mailboxes will refuse the mail. With a return path of your own you see bounces there."
    ),
    send=send,
    call_timeout=CALL_TIMEOUT,
    rate_per_second=5,
    in_flight=10,
    daily_cap=None,
    rate_scope="account",  # servers count connections and mails of a user, not of a From address
    idempotency=None,
    echo=None,
    reply_window=None,
)
