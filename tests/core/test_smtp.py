"""The mail client: against a real server, and against a scripted one that breaks at each step."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from antiphon.core import failpoints
from antiphon.core.clock import boottime
from antiphon.core.db import in_transaction
from antiphon.core.public_address import is_public_address
from antiphon.core.smtp import MAILS_PER_CONNECTION, MailClient
from antiphon.core.wire import MailEnvelope, MailReply, MaybeSent, NotBegun, NotSent

MAIL = b"From: shop@example.com\r\nSubject: hi\r\n\r\nHello\r\n.hidden dot\r\n"


def envelope(port: int, **changes: Any) -> MailEnvelope:
    given: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "tls": "none",
        "sender": "shop@example.com",
        "recipient": "aina@example.net",
        "content": MAIL,
        "timeout": timedelta(seconds=1),
    }
    return MailEnvelope(**(given | changes))


# ---- A real server -----------------------------------------------------------------------------------


class Box:
    """Takes every mail, except for recipients whose name says how they are refused."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, mail: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody"):
            return "550 5.1.1 no such user"
        mail.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, mail: Envelope) -> str:
        if mail.rcpt_tos[0].startswith("spam"):
            return "554 5.7.1 refused"
        self.mails.append(mail)
        return "250 2.0.0 taken"


class Running:
    def __init__(self, port: int, box: Box) -> None:
        self.port = port
        self.box = box
        self.connections = 0


@asynccontextmanager
async def real_server(**options: Any) -> AsyncIterator[Running]:
    box = Box()
    running = Running(0, box)

    def accept() -> SMTP:
        running.connections += 1
        return SMTP(box, hostname="mx.test", enable_SMTPUTF8=options.pop("utf8", False), **options)

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()


async def test_mails_follow_each_other_on_one_connection_and_arrive_as_they_were_given() -> None:
    async with real_server() as server, MailClient(hello_name="us.test") as client:
        for _ in range(3):
            reply = await client.send(envelope(server.port))
            assert reply == MailReply("content", 250, "2.0.0 taken")
        assert server.connections == 1
        assert [mail.content for mail in server.box.mails] == [MAIL] * 3
        assert (server.box.mails[0].mail_from, server.box.mails[0].rcpt_tos) == (
            "shop@example.com",
            ["aina@example.net"],
        )


async def test_a_refused_recipient_does_not_cost_the_connection() -> None:
    async with real_server() as server, MailClient(hello_name="us.test") as client:
        refused = await client.send(envelope(server.port, recipient="nobody@example.net"))
        assert refused == MailReply("recipient", 550, "5.1.1 no such user")
        assert (await client.send(envelope(server.port))).code == 250
        assert (await client.send(envelope(server.port, recipient="spam@example.net"))).code == 554
        assert (await client.send(envelope(server.port))).code == 250
        assert (server.connections, len(server.box.mails)) == (1, 2)


async def test_a_connection_carries_a_hundred_mails_and_no_more() -> None:
    async with real_server() as server, MailClient(hello_name="us.test") as client:
        for _ in range(MAILS_PER_CONNECTION + 1):
            await client.send(envelope(server.port))
        assert (server.connections, len(server.box.mails)) == (2, MAILS_PER_CONNECTION + 1)


async def test_no_more_connections_are_opened_than_allowed() -> None:
    async with real_server() as server, MailClient(connections=3, hello_name="us.test") as client:
        replies = await asyncio.gather(*(client.send(envelope(server.port)) for _ in range(30)))
        assert {reply.code for reply in replies} == {250}
        assert (server.connections, len(server.box.mails)) == (3, 30)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_signing_in_with_a_wrong_password_is_a_reply_to_the_login() -> None:
    def check(server: SMTP, session: Session, mail: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=data.password == b"right", handled=False)

    async with (
        real_server(authenticator=check, auth_required=True, auth_require_tls=False) as server,
        MailClient(hello_name="us.test") as client,
    ):
        wrong = await client.send(envelope(server.port, username="shop", password="wrong"))
        assert (wrong.stage, wrong.code) == ("login", 535)
        assert (await client.send(envelope(server.port, username="shop", password="right"))).code == 250
        unsigned = await client.send(envelope(server.port))
        assert (unsigned.stage, unsigned.code) == ("sender", 530)


async def test_an_address_outside_ascii_needs_a_server_that_takes_it() -> None:
    async with real_server() as server, MailClient(hello_name="us.test") as client:
        refused = await client.send(envelope(server.port, recipient="müller@example.net"))
        assert (refused.stage, refused.code) == ("recipient", 550)
    async with real_server(utf8=True) as server, MailClient(hello_name="us.test") as client:
        assert (await client.send(envelope(server.port, recipient="müller@example.net"))).code == 250


async def test_an_address_cannot_carry_a_command() -> None:
    async with real_server() as server, MailClient(hello_name="us.test") as client:
        with pytest.raises(NotSent):
            await client.send(envelope(server.port, recipient="a@example.net>\r\nRCPT TO:<b@example.net"))
        assert server.box.mails == []


# ---- TLS ---------------------------------------------------------------------------------------------


def certificate(folder: Path, *, name: str = "127.0.0.1", days: int = 1) -> ssl.SSLContext:
    """A server's context with a certificate that signs itself, written to `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_with_starttls_the_mail_travels_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with (
        real_server(tls_context=context, require_starttls=True) as server,
        MailClient(hello_name="us.test") as client,
    ):
        plain = await client.send(envelope(server.port))
        assert (plain.stage, plain.code) == ("sender", 530)
        assert (await client.send(envelope(server.port, tls="starttls"))).code == 250
        assert len(server.box.mails) == 1


@pytest.mark.parametrize(
    ("case", "changes", "is_trusted"),
    [
        ("signed by nobody we know", {}, False),
        ("for another name", {"name": "127.0.0.2"}, True),
        ("expired", {"days": -1}, True),
    ],
)
async def test_a_certificate_that_is_wrong_gets_nothing(
    case: str, changes: Mapping[str, Any], is_trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificate(tmp_path, **changes)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with real_server(tls_context=context) as server, MailClient(hello_name="us.test") as client:
        with pytest.raises(NotSent):
            await client.send(envelope(server.port, tls="starttls"))
        assert server.box.mails == []


async def test_a_server_without_starttls_gets_nothing_when_it_is_required() -> None:
    async with real_server() as server, MailClient(hello_name="us.test") as client:
        with pytest.raises(NotSent, match="STARTTLS"):
            await client.send(envelope(server.port, tls="starttls"))
        assert server.box.mails == []


# ---- A scripted server -------------------------------------------------------------------------------

Script = dict[str, bytes | None]


class Scripted:
    """Answers each step as the script says; None hangs up, and so does b"" after it was silent for a while."""

    def __init__(self, script: Script) -> None:
        self.script: Script = {
            "connect": b"220 hi\r\n",
            "EHLO": b"250 scripted\r\n",
            "RSET": b"250 forgotten\r\n",
            "MAIL": b"250 go on\r\n",
            "RCPT": b"250 go on\r\n",
            "DATA": b"354 speak\r\n",
            "dot": b"250 taken\r\n",
            "QUIT": b"221 bye\r\n",
        } | script
        self.port = 0
        self.connections = 0
        self.contents: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if await self._say(writer, "connect"):
                while line := await reader.readline():
                    verb = line[:4].decode().upper()
                    if not await self._say(writer, verb):
                        return
                    if verb == "DATA" and (self.script["DATA"] or b"").startswith(b"354"):
                        self.contents.append(await reader.readuntil(b"\r\n.\r\n"))
                        if not await self._say(writer, "dot"):
                            return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, step: str) -> bool:
        line = self.script.get(step, b"500 what\r\n")
        if line is None:
            return False
        if not line:
            await asyncio.sleep(2)
            return False
        writer.write(line)
        await writer.drain()
        return True


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Scripted]:
    state = Scripted(script)
    server = await asyncio.start_server(state.serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()


BEFORE_THE_DOT: dict[str, Script] = {
    "hangs up at once": {"connect": None},
    "says nothing": {"connect": b""},
    "greets with nonsense": {"connect": b"HTTP/1.1 400 Bad Request\r\n\r\n"},
    "hangs up at EHLO": {"EHLO": None},
    "hangs up at MAIL": {"MAIL": None},
    "is silent at MAIL": {"MAIL": b""},
    "hangs up at RCPT": {"RCPT": None},
    "hangs up at DATA": {"DATA": None},
    "is silent at DATA": {"DATA": b""},
}
AFTER_THE_DOT: dict[str, Script] = {
    "hangs up": {"dot": None},
    "is silent": {"dot": b""},
    "talks nonsense": {"dot": b"nonsense\r\n"},
    "stops in the middle": {"dot": b"25"},
}


@pytest.mark.parametrize("name", BEFORE_THE_DOT)
async def test_what_fails_before_the_dot_was_not_sent(name: str) -> None:
    async with scripted(BEFORE_THE_DOT[name]) as server, MailClient(hello_name="us.test") as client:
        try:
            reply = await client.send(envelope(server.port))
        except NotSent:
            pass
        else:  # a server that turns us away in words
            assert reply.stage == "connect"
        assert server.contents == []


@pytest.mark.parametrize("name", AFTER_THE_DOT)
async def test_what_fails_after_the_dot_may_have_been_sent(name: str) -> None:
    async with scripted(AFTER_THE_DOT[name]) as server, MailClient(hello_name="us.test") as client:
        with pytest.raises(MaybeSent):
            await client.send(envelope(server.port))
        assert len(server.contents) == 1


REPLIES: dict[str, tuple[Script, MailReply]] = {
    "no service": (
        {"connect": b"554 5.3.2 closed\r\n"},
        MailReply("connect", 554, "5.3.2 closed"),
    ),
    "too many": ({"MAIL": b"421 4.7.0 later\r\n"}, MailReply("sender", 421, "4.7.0 later")),
    "greylisted": ({"RCPT": b"450 4.7.1 wait\r\n"}, MailReply("recipient", 450, "4.7.1 wait")),
    "many lines": (
        {"RCPT": b"550-5.1.1 no\r\n550 5.1.1 such user\r\n"},
        MailReply("recipient", 550, "5.1.1 no\n5.1.1 such user"),
    ),
    "refused at DATA": ({"DATA": b"451 4.3.0 oops\r\n"}, MailReply("content", 451, "4.3.0 oops")),
    "refused after the dot": ({"dot": b"552 5.3.4 big\r\n"}, MailReply("content", 552, "5.3.4 big")),
}


@pytest.mark.parametrize("name", REPLIES)
async def test_every_reply_comes_with_its_step(name: str) -> None:
    script, expected = REPLIES[name]
    async with scripted(script) as server, MailClient(hello_name="us.test") as client:
        assert await client.send(envelope(server.port)) == expected


async def test_a_server_that_hung_up_in_between_costs_nothing() -> None:
    async with scripted({"RSET": None}) as server, MailClient(hello_name="us.test") as client:
        for _ in range(3):
            assert (await client.send(envelope(server.port))).code == 250
        assert (server.connections, len(server.contents)) == (3, 3)


async def test_a_canceled_dialogue_is_never_used_again() -> None:
    async with scripted({}) as server, MailClient(hello_name="us.test") as client:
        server.script["dot"] = b""
        task = asyncio.create_task(client.send(envelope(server.port)))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.script["dot"] = b"250 taken\r\n"
        assert (await client.send(envelope(server.port))).code == 250
        assert server.connections == 2


async def test_no_mail_leaves_while_a_transaction_is_open() -> None:
    async with scripted({}) as server, MailClient(hello_name="us.test") as client:
        token = in_transaction.set(True)
        try:
            with pytest.raises(RuntimeError, match="no network call while a transaction is open"):
                await client.send(envelope(server.port))
        finally:
            in_transaction.reset(token)
        assert server.connections == 0


async def test_after_the_wall_no_content_is_written() -> None:
    async with scripted({}) as server, MailClient(hello_name="us.test") as client:
        with pytest.raises(NotBegun):
            await client.send(envelope(server.port), not_after=boottime() - 0.001)
        assert server.contents == []
        assert (await client.send(envelope(server.port), not_after=boottime() + 60)).code == 250


async def test_a_typed_mail_server_must_be_public() -> None:
    async with scripted({}) as server:
        async with MailClient(hello_name="us.test", check_address=is_public_address) as client:
            for host, port in (("127.0.0.1", 25), ("localhost", 587), ("127.0.0.1", server.port)):
                with pytest.raises(NotSent):
                    await client.send(envelope(port, host=host))
        assert server.connections == 0


FAILPOINTS: list[tuple[str, int]] = [("request_half_written", 0), ("request_written", 1), ("answer_read", 1)]


@pytest.mark.parametrize(("name", "mails"), FAILPOINTS)
async def test_the_failpoints_stand_where_they_say(name: str, mails: int) -> None:
    async with scripted({}) as server, MailClient(hello_name="us.test") as client:
        failpoints.arm(f"{name}=raise")
        try:
            with pytest.raises(failpoints.Reached):
                await client.send(envelope(server.port))
        finally:
            failpoints.arm("")
        await asyncio.sleep(0.05)
        assert len(server.contents) == mails


async def test_closing_says_goodbye() -> None:
    said: list[str] = []

    class Listening(Scripted):
        async def _say(self, writer: asyncio.StreamWriter, step: str) -> bool:
            said.append(step)
            return await super()._say(writer, step)

    state = Listening({})
    server = await asyncio.start_server(state.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with contextlib.closing(server):
        async with MailClient(hello_name="us.test") as client:
            await client.send(envelope(port))
    assert said[-1] == "QUIT"
