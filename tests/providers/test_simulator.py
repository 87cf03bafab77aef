"""Every adapter over real sockets, the simulator at the other end: its log says what arrived, whatever we heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from antiphon.core.channel import Channel
from antiphon.core.http import Client
from antiphon.core.smtp import MailClient
from antiphon.providers.contract import (
    Accepted,
    Account,
    AccountFault,
    ApprovedTemplate,
    Inbound,
    LookUp,
    NotSent,
    Outbound,
    Outcome,
    Provider,
    Receipt,
    Rejected,
    Send,
    TemplateParameter,
    Throttled,
    Unknown,
)
from antiphon.providers.drive import ask, drive
from antiphon.providers.keyed import KeyedCredentials
from antiphon.providers.meta_whatsapp import MetaWhatsappCredentials
from antiphon.providers.registry import PROVIDERS
from antiphon.providers.smtp import SmtpCredentials
from antiphon.providers.wsapme import WsapmeCredentials
from tests.providers.cases import mail, outbound
from tests.simulator_process import Json, Simulator

SIMULATED = {"meta_whatsapp": "meta", "wsapme": "wsapme", "smtp": "smtp", "keyed": "keyed"}
SENDERS = {"meta_whatsapp": "5550001", "wsapme": "device-1", "smtp": "shop@example.com", "keyed": "shop"}
EVERY = pytest.mark.parametrize("name", SIMULATED)
BY_HTTP = pytest.mark.parametrize("name", [name for name in SIMULATED if name != "smtp"])
SHORT = timedelta(seconds=1)


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    async with Simulator.start(tmp_path_factory.mktemp("simulator")) as simulator:
        yield simulator


class World:
    """A simulator that knows our accounts, and our clients."""

    def __init__(self, sim: Simulator, http: Client, smtp: MailClient) -> None:
        self.sim, self.http, self.smtp = sim, http, smtp

    def account(self, name: str) -> Account[Any]:
        sim = self.sim
        credentials: dict[str, Any] = {
            "meta_whatsapp": MetaWhatsappCredentials(
                access_token="token", app_secret="secret", verify_token="word", base_url=sim.url
            ),
            "wsapme": WsapmeCredentials(token="token", base_url=f"{sim.url}/v1"),
            "smtp": SmtpCredentials(host="127.0.0.1", port=sim.smtp_port, tls="none"),
            "keyed": KeyedCredentials(token="token", signing_secret="secret", base_url=f"{sim.url}/keyed"),
        }
        return Account(provider=name, credentials=credentials[name])

    async def send(self, name: str, timeout: timedelta | None = None, **changes: Any) -> Outcome:
        message = message_for(name, **changes)
        steps = PROVIDERS[name].send(self.account(name), message)
        return await drive(hurried(steps, timeout) if timeout else steps, self.http, self.smtp)


def message_for(name: str, **changes: Any) -> Outbound:
    message_id = uuid4()
    fields: dict[str, Any] = {
        "message_id": message_id,
        "reference": message_id.hex,
        "key": message_id.hex,
        "sender_address": SENDERS[name],
    }
    make = mail if name == "smtp" else outbound
    return make(**(fields | changes))


def hurried(steps: Send, timeout: timedelta) -> Send:
    """The same send with less patience."""
    request = next(steps)
    while True:
        try:
            try:
                answer = yield msgspec.structs.replace(request, timeout=timeout)
            except Exception as failure:
                request = steps.throw(failure)
            else:
                request = steps.send(answer)
        except StopIteration as done:
            return done.value


@pytest.fixture
async def world(running: Simulator) -> AsyncIterator[World]:
    await running.reset(settings=True)
    nowhere = "http://127.0.0.1:9/hook"  # the simulator keeps what it tried to tell
    await running.account("meta", "5550001", token="token", secret="secret", verify_token="word", url=nowhere)
    await running.account("wsapme", "device-1", token="token", url=nowhere)
    await running.account("keyed", "shop", token="token", secret="secret", url=nowhere)
    await running.scenario({each: {"webhook_retries": 0} for each in ("meta", "wsapme", "keyed")})
    async with Client() as http, MailClient(hello_name="us.test") as smtp:
        yield World(running, http, smtp)


async def arrived(world: World) -> list[Json]:
    return await world.sim.log(verdict="accepted")


# ---- The good day ------------------------------------------------------------------------------------


@EVERY
async def test_a_message_arrives_as_it_was_meant(name: str, world: World) -> None:
    result = await world.send(name, text="Grüße 🙏 Aina")
    assert isinstance(result, Accepted)
    (entry,) = await arrived(world)
    assert entry["text"] == "Grüße 🙏 Aina"
    assert entry["recipient"].lstrip("+") in ("60111111111", "aina@example.net")
    if name == "smtp":
        assert result.provider_message_id
        assert entry["reference"] == f"<{result.provider_message_id}>"
    else:
        assert entry["message_id"] == result.provider_message_id


async def test_an_approved_template_is_taken_with_its_parameters(world: World) -> None:
    await world.sim.template("welcome", language="en_US", body=2, header="text", header_parameters=1)
    template = ApprovedTemplate(
        name="welcome",
        language="en_US",
        header=(TemplateParameter(value="Shop"),),
        body=(TemplateParameter(value="Aina"), TemplateParameter(value="two\nlines")),
    )
    assert isinstance(await world.send("meta_whatsapp", template=template, text=None), Accepted)
    short = msgspec.structs.replace(template, body=template.body[:1])
    result = await world.send("meta_whatsapp", template=short, text=None)
    assert isinstance(result, Rejected)
    assert (result.code, result.blames) == ("132000", "template")


@BY_HTTP
async def test_what_the_provider_tells_is_verified_and_read(name: str, world: World) -> None:
    await world.sim.scenario({SIMULATED[name]: {"read": 1.0, "replied": 1.0, "quoted": 1.0}})
    message = message_for(name)
    result = await drive(PROVIDERS[name].send(world.account(name), message), world.http, world.smtp)
    assert isinstance(result, Accepted)
    await world.sim.settled()
    provider = PROVIDERS[name]
    events = [
        event for hook in await world.sim.webhooks() for event in told(provider, world.account(name), hook)
    ]
    receipts = [event for event in events if isinstance(event, Receipt)]
    assert [each.status for each in receipts] == ["sent", "delivered", "read"]
    assert {each.provider_message_id for each in receipts} == {result.provider_message_id}
    if provider.echo:
        assert {each.reference for each in receipts} == {message.reference}
    (reply,) = [event for event in events if isinstance(event, Inbound)]
    assert reply.sender_address == "+60111111111"
    assert reply.text == "Thank you"
    if name != "wsapme":  # whose inbound names neither message nor device
        assert (reply.recipient, reply.reply_to_provider_id) == (SENDERS[name], result.provider_message_id)


def told(provider: Provider[Any], account: Account[Any], hook: Json) -> list[Any]:
    assert provider.verify_webhook
    assert provider.parse_webhook
    headers = {key.lower(): value for key, value in hook["headers"].items()}
    body = hook["body"].encode()
    assert provider.verify_webhook(account, "POST", headers, {}, body)
    if provider.signature == "signature":
        assert not provider.verify_webhook(account, "POST", headers, {}, body + b" ")
    return provider.parse_webhook(account, headers, body)


@pytest.mark.parametrize("encoding", ["json", "form", "form_json"])
async def test_wsapmes_encodings_are_all_read(encoding: str, world: World) -> None:
    nowhere = "http://127.0.0.1:9/hook"
    await world.sim.account("wsapme", "device-1", token="token", url=nowhere, encoding=encoding)
    await world.sim.scenario({"wsapme": {"read": 1.0, "replied": 1.0}})
    result = await world.send("wsapme")
    assert isinstance(result, Accepted)
    await world.sim.settled()
    account = world.account("wsapme")
    events = [
        each for hook in await world.sim.webhooks() for each in told(PROVIDERS["wsapme"], account, hook)
    ]
    assert [each.status for each in events if isinstance(each, Receipt)] == ["sent", "delivered", "read"]
    assert [each.text for each in events if isinstance(each, Inbound)] == ["Thank you"]


@pytest.mark.parametrize("name", ["wsapme", "keyed"])
async def test_asking_brings_the_truth(name: str, world: World) -> None:
    await world.sim.scenario({SIMULATED[name]: {"read": 1.0, "statuses": "poll"}})
    message = message_for(name)
    result = await drive(PROVIDERS[name].send(world.account(name), message), world.http, world.smtp)
    assert isinstance(result, Accepted)
    await world.sim.settled()
    status_request = PROVIDERS[name].status_request
    assert status_request
    known = LookUp(
        reference=message.reference,
        sender_address=SENDERS[name],
        provider_message_id=result.provider_message_id,
    )
    unknown = LookUp(reference="never-sent", sender_address=SENDERS[name], provider_message_id="never")
    found = await ask(status_request(world.account(name), [known, unknown]), world.http, world.smtp)
    assert [(each.status, each.reference) for each in found.receipts] == [("read", message.reference)]
    assert found.absent == ("never-sent",)
    assert found.trouble is None


# ---- The bad day -------------------------------------------------------------------------------------


@EVERY
async def test_an_address_that_nobody_has(name: str, world: World) -> None:
    await world.sim.scenario({SIMULATED[name]: {"absent": 1.0}})
    result = await world.send(name)
    if name == "meta_whatsapp":  # it accepts, and tells later
        assert isinstance(result, Accepted)
        await world.sim.settled()
        (event,) = told(PROVIDERS[name], world.account(name), (await world.sim.webhooks())[-1])
        assert (event.status, event.code, event.suppress) == ("failed", "131026", True)
        return
    assert isinstance(result, Rejected)
    assert (result.suppress, result.blames) == (True, "contact")


@EVERY
async def test_too_fast_is_throttled(name: str, world: World) -> None:
    await world.sim.scenario({SIMULATED[name]: {"rate": 0.01, "burst": 1, "retry_after": "7"}})
    assert isinstance(await world.send(name), Accepted)
    result = await world.send(name)
    assert isinstance(result, Throttled)
    if name != "smtp":
        assert result.after == timedelta(seconds=7)
    assert len(await arrived(world)) == 1


@BY_HTTP
async def test_a_wrong_token_is_the_accounts_fault(name: str, world: World) -> None:
    await world.sim.account(SIMULATED[name], SENDERS[name], token="another", secret="secret")
    assert isinstance(await world.send(name), AccountFault)


async def test_a_wrong_password_is_the_accounts_fault(world: World) -> None:
    await world.sim.scenario({"smtp_server": {"users": {"shop": "right"}}})
    assert isinstance(await world.send("smtp"), AccountFault)


async def test_a_phone_that_is_off_is_the_accounts_fault(world: World) -> None:
    await world.sim.account("wsapme", "device-1", token="token", connected=False)
    assert isinstance(await world.send("wsapme"), AccountFault)


# what the simulator does wrong -> what we may say, and whether it had arrived
FAULTS: dict[str, tuple[tuple[type[Any], ...], bool]] = {
    "reset": ((Unknown,), True),
    "close": ((Unknown,), True),
    "hang": ((Unknown,), True),
    "half": ((Unknown,), True),
    "half_hang": ((Unknown,), True),
    "garbage": ((Unknown,), True),
    "drip": ((Unknown,), True),
    "wrong_length": ((Unknown,), True),
    "endless_headers": ((Unknown,), True),
    "endless_body": ((Unknown,), True),
    "gzip_bomb": ((Unknown,), True),
    "not_json": ((Accepted,), True),
    "empty": ((Accepted,), True),
    "no_content": ((Accepted,), True),
    "deep": ((Accepted,), True),
    "nan": ((Accepted,), True),
    "status": ((Unknown,), False),
    "redirect": ((AccountFault,), False),
}


@BY_HTTP
@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_goes_wrong_a_message_is_never_called_unsent_when_it_arrived(
    name: str, fault: str, world: World
) -> None:
    await world.sim.fault(provider=SIMULATED[name], answer=fault)
    result = await world.send(name, timeout=SHORT)
    expected, has_arrived = FAULTS[fault]
    assert isinstance(result, expected)
    assert len(await arrived(world)) == has_arrived
    if isinstance(result, Accepted):
        assert result.provider_message_id is None
    assert isinstance(await world.send(name), Accepted)  # the next one is not hurt


@pytest.mark.parametrize(
    ("fault", "expected", "has_arrived"),
    [
        ({"answer": "close", "at": "connect"}, NotSent, False),
        ({"answer": "close", "at": "ehlo"}, NotSent, False),
        ({"answer": "close", "at": "mail"}, NotSent, False),
        ({"answer": "reset", "at": "rcpt"}, NotSent, False),
        ({"answer": "close", "at": "data"}, NotSent, False),
        ({"answer": "hang", "at": "data"}, NotSent, False),
        ({"answer": "close", "at": "final"}, Unknown, True),
        ({"answer": "reset", "at": "final"}, Unknown, True),
        ({"answer": "hang", "at": "final"}, Unknown, True),
        ({"answer": "reply", "at": "final", "reply": "451 4.3.0 local error"}, NotSent, False),
        ({"answer": "reply", "at": "final", "reply": "554 5.7.1 refused"}, Rejected, False),
        ({"answer": "reply", "at": "rcpt", "reply": "450 4.2.0 greylisted"}, NotSent, False),
        ({"answer": "reply", "at": "mail", "reply": "421 4.3.2 closing"}, Throttled, False),
    ],
    ids=str,
)
async def test_whatever_goes_wrong_with_mail(
    fault: Json, expected: type[Any], has_arrived: bool, world: World
) -> None:
    await world.sim.fault(provider="smtp", **fault)
    result = await world.send("smtp", timeout=SHORT)
    assert isinstance(result, expected)
    assert len(await arrived(world)) == has_arrived
    assert isinstance(await world.send("smtp"), Accepted)


async def test_under_the_same_key_a_message_arrives_once(world: World) -> None:
    message = message_for("keyed", channel=Channel.SMS)
    account = world.account("keyed")
    await world.sim.fault(provider="keyed", answer="reset", count=2)
    outcomes = [
        await drive(PROVIDERS["keyed"].send(account, each), world.http, world.smtp)
        for each in (message, message, message, msgspec.structs.replace(message, text="other words"))
    ]
    assert [type(each) for each in outcomes] == [Unknown, Unknown, Accepted, Accepted]
    assert {each.provider_message_id for each in outcomes if isinstance(each, Accepted)} == {
        (await arrived(world))[0]["message_id"]
    }
    assert len(await arrived(world)) == 1


async def test_many_at_once_all_arrive_once(world: World) -> None:
    results = await asyncio.gather(
        *(world.send(name, text=f"number {n}") for n in range(50) for name in SIMULATED)
    )
    assert all(isinstance(each, Accepted) for each in results)
    summary = await world.sim.summary()
    assert summary["duplicates"] == {"recipient_text": [], "reference": [], "key": []}
    assert len(await arrived(world)) == len(results)
