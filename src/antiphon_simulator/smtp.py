"""The mail server: EHLO first, AUTH and STARTTLS as set, strict about the message, replies by rule.

It speaks RFC 5321 through aiosmtpd and checks what a receiving server may check (RFC 5322): each of From, To, Date and
Message-ID once, a Date that is a date, a Message-ID in angle brackets, CRLF line ends only. A mail has no delivered
or read status, so nothing is told afterwards. Each recipient of a mail is one entry of the log; its account is the
envelope's sender and its reference the Message-ID.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import ssl
import traceback
import warnings
from collections.abc import Callable
from email import policy
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session, TLSSetupException

from antiphon_simulator import oracle
from antiphon_simulator.scenario import draw, is_absent
from antiphon_simulator.settings import Fault, SmtpServer
from antiphon_simulator.world import World

HOST = "mx.simulator.example"
ONCE = ("From", "To", "Date", "Message-ID")
AT_MOST_ONCE = ("Subject", "Sender", "Reply-To", "Cc", "MIME-Version", "Content-Type", "List-Unsubscribe")
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
MESSAGE_ID = re.compile(r"<[^<>@\s]+@[^<>@\s]+>")

warnings.filterwarnings("ignore", message="Requiring AUTH while not requiring TLS")
logging.getLogger("mail.log").setLevel(logging.ERROR)  # it warns of its own deprecations at each AUTH


def protocol(world: World, context: Callable[[], ssl.SSLContext]) -> asyncio.Protocol:
    """One connection, under the rules of this moment."""
    fault = world.book.smtp_fault("connect")
    if fault:
        return Greeter(fault)
    rules = world.book.scenario.smtp_server
    return Connection(world, rules, context() if rules.tls != "off" else None)


class Greeter(asyncio.Protocol):
    """A connection that never comes to a conversation."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say the fault's line, or nothing."""
        assert isinstance(transport, asyncio.Transport)
        if self.fault.answer == "hang":
            asyncio.get_running_loop().call_later(self.fault.seconds, transport.close)
            return
        if self.fault.answer == "reply":
            transport.write(self.fault.reply.encode() + b"\r\n")
        if self.fault.answer == "reset":
            transport.abort()
        transport.close()


class Connection(SMTP):
    """A conversation; `Rules` decides, this only adds the step before DATA."""

    def __init__(self, world: World, rules: SmtpServer, context: ssl.SSLContext | None) -> None:
        self.rules = Rules(world, rules)
        super().__init__(
            self.rules,
            data_size_limit=rules.size_limit,
            enable_SMTPUTF8=True,
            hostname=HOST,
            ident="Simulator ESMTP",
            tls_context=context,
            require_starttls=rules.tls == "required",
            auth_required=bool(rules.users),
            auth_require_tls=rules.tls != "off" and bool(rules.users),
            authenticator=self.rules.authenticate,
            loop=asyncio.get_running_loop(),
        )

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        """The DATA command, unless a fault answers it."""
        fault = self.rules.world.book.smtp_fault("data") if self.envelope and self.envelope.rcpt_tos else None
        if fault is None:
            await super().smtp_DATA(arg)
            return
        reply = await self.rules.strike(self, fault)
        if reply:
            await self.push(reply)


class Rules:
    """What is said at each step. Its methods' names and shapes are aiosmtpd's."""

    def __init__(self, world: World, server: SmtpServer) -> None:
        self.world = world
        self.server = server

    async def handle_HELO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str) -> str:  # noqa: N802
        """We want EHLO."""
        return "502 5.5.1 EHLO required"

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """What this server can; AUTH only if there are users."""
        fault = self.world.book.smtp_fault("ehlo")
        if fault:
            reply = await self.strike(server, fault)
            return [reply] if reply else []
        session.host_name = hostname
        return [line for line in responses if self.server.users or not line.startswith("250-AUTH")]

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, credentials: Any
    ) -> AuthResult:
        """Name and password, compared in constant time."""
        fault = self.world.book.smtp_fault("auth")
        if fault and fault.reply:
            return AuthResult(success=False, handled=False, message=fault.reply)
        if not isinstance(credentials, LoginPassword):
            return AuthResult(success=False, handled=False)
        wanted = self.server.users.get(credentials.login.decode(errors="replace"), "")
        good = bool(wanted) and hmac.compare_digest(wanted.encode(), credentials.password)
        verdict: oracle.Verdict = "answered" if good else "refused"
        user = credentials.login.decode(errors="replace")
        self.world.oracle.record(
            oracle.entry("smtp", "auth", verdict, account=user, code="" if good else "535")
        )
        return AuthResult(success=good, handled=False, auth_data=credentials)

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the sender."""
        fault = self.world.book.smtp_fault("mail")
        if fault:
            return await self.strike(server, fault, sender=address)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient who exists, within the sender's rate."""
        sender = envelope.mail_from or ""
        fault = self.world.book.smtp_fault("rcpt", address)
        if fault:
            return await self.strike(server, fault, sender=sender, recipient=address)
        behavior = self.world.book.behavior("smtp", sender)
        if not self.world.buckets.take("smtp", sender, behavior):
            self._record("throttled", sender, address, code="450")
            return "450 4.7.1 Too many messages, slow down"
        if is_absent(self.world.book.scenario.seed, "smtp", address, behavior):
            self._record("refused", sender, address, code="5.1.1")
            return "550 5.1.1 No such user here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """The final dot: judge the mail, log it for each recipient, and only then answer."""
        content = envelope.original_content or b""
        sender = envelope.mail_from or ""
        mail, wrong = read(content)
        text, reference = text_of(mail), str(mail.get("Message-ID") or "")
        fault = self.world.book.smtp_fault("final", envelope.rcpt_tos[0], text)
        verdict: oracle.Verdict = "refused" if wrong else "accepted"
        if fault and not fault.accepts:
            verdict = "fault"
        for recipient in envelope.rcpt_tos:
            entry = self._record(
                verdict,
                sender,
                recipient,
                body=content,
                text=text,
                reference=reference,
                message_id=f"{reference}/{recipient}" if verdict == "accepted" else "",
                code="5.6.0" if wrong else "",
                detail=wrong,
                answer=fault.answer if fault else "",
            )
            if verdict == "accepted":
                self.world.lifecycle.begin(entry)
        behavior = self.world.book.behavior("smtp", sender)
        if behavior.latency.mean or behavior.latency.least:
            await asyncio.sleep(draw(Random(len(self.world.oracle.entries)), behavior.latency))
        if fault:
            return await self.strike(server, fault)
        return f"550 5.6.0 {wrong}" if wrong else f"250 2.0.0 OK queued as {oracle.sha256(content)[:12]}"

    async def strike(self, server: SMTP, fault: Fault, sender: str = "", recipient: str = "") -> str:
        """Let a fault happen; the reply that is left to say. A sender or recipient is logged as refused by it."""
        if sender or recipient:
            self._record("fault", sender, recipient, code=fault.reply[:3], answer=fault.answer)
        transport = server.transport
        assert isinstance(transport, asyncio.Transport)
        match fault.answer:
            case "reply" | "error" | "status":
                if fault.reply.startswith("421"):
                    asyncio.get_running_loop().call_later(0.02, transport.close)
                return fault.reply or "451 4.3.0 Try again later"
            case "hang":
                await asyncio.sleep(fault.seconds)
                return "451 4.3.0 That took too long"
            case "garbage":
                return "\x16\x03 not a reply"
            case "half":
                transport.write(b"25")
                transport.close()
            case "reset":
                transport.abort()
            case _:
                transport.close()
        raise ConnectionResetError("cut by a fault")

    async def handle_exception(self, error: Exception) -> str:
        """A caller that breaks off a handshake is no news; a mistake of ours is said on standard error."""
        if not isinstance(error, TLSSetupException | ConnectionError):
            traceback.print_exception(error)
        return f"451 4.3.0 The simulator is broken: {type(error).__name__}"

    def _record(self, verdict: oracle.Verdict, sender: str, recipient: str, **fields: Any) -> oracle.Entry:
        entry = oracle.entry("smtp", "send", verdict, account=sender, recipient=recipient, **fields)
        return self.world.oracle.record(entry)


def read(content: bytes) -> tuple[EmailMessage, str]:
    """The mail, and the first rule that it breaks (empty: none)."""
    mail = BytesParser(policy=policy.default).parsebytes(content)
    try:
        return mail, _first_wrong(mail, content)
    except (MessageError, ValueError, IndexError) as problem:
        return mail, f"unreadable: {problem}"


def _first_wrong(mail: EmailMessage, content: bytes) -> str:
    if BARE.search(content):
        return "a line ends without CRLF"
    for name in ONCE:
        found = len(mail.get_all(name, []))
        if found != 1:
            return f"header {name} is there {found} times, must be once"
    for name in AT_MOST_ONCE:
        if len(mail.get_all(name, [])) > 1:
            return f"header {name} is there more than once"
    if not MESSAGE_ID.fullmatch(str(mail["Message-ID"]).strip()):
        return f"Message-ID {mail['Message-ID']} is not <left@right>"
    if parsedate_to_datetime(str(mail["Date"])).tzinfo is None:
        return f"Date {mail['Date']} has no zone"
    if "@" not in str(mail["From"]):
        return f"From {mail['From']} is no address"
    return ""


def text_of(mail: EmailMessage) -> str:
    """What a person reads: the plain part, else the HTML."""
    try:
        part = mail.get_body(("plain", "html"))
        return str(part.get_content()).rstrip() if part else ""
    except (KeyError, LookupError, ValueError):
        return ""
