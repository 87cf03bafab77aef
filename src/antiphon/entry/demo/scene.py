"""What the demo's organization has: an account and a sender at the simulated provider, a template, 500 guests."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from antiphon.core.errors import Invalid
from antiphon.entry.cli.session import Session
from antiphon.entry.demo.simulator import Simulator
from antiphon.messages import lane_service
from antiphon.providers import registry
from antiphon.providers.contract import PollRule, Provider
from antiphon.senders import service as senders
from antiphon.senders.model import NewAccount, NewSender, Sender
from antiphon.templates import service as templates
from antiphon.templates.model import NewTemplate, TemplateDetail, Variable

PROVIDER = "wsapme"
DEVICE = "60110000000"
TOKEN = "the demo's token"
SENDER = "Demo phone"
TEMPLATE = "Open house"
GROUP = "Guests"
RATE = 20.0  # messages a second
COUNTRY = "MY"
TIMEZONE = "Asia/Kuala_Lumpur"
COLUMNS = {"Setuju terima mesej": "consent"}
CONSENT = "wants to hear of our open house"
TEXT = (
    "Hi {{firstName}}! Our Hari Raya open house is on {{day}}, 3 to 9 pm, at our {{bandar}} branch. "
    "Will you come? Reply STOP and we never write again."
)
DAY = "Saturday, 5 April"


def guests() -> Path:
    """The file that ships with the program."""
    return Path(str(files("antiphon.entry.demo").joinpath("guests.csv")))


async def make_sender(found: Session, simulator: Simulator) -> Sender:
    """The account, the sender, and the account's other half at the simulator."""
    async with found.database.transaction(found.actor.org_id) as conn:
        account = await senders.add_account(
            conn,
            found.actor,
            found.vault,
            NewAccount(provider=PROVIDER, name=SENDER, credentials=_open(simulator)),
        )
        sender = await lane_service.add_sender(
            conn, found.actor,
            NewSender(account_id=account.id, channel="whatsapp", address=DEVICE, name=SENDER, rate=RATE, in_flight=16),
        )  # fmt: skip
    await introduce(found, sender, simulator)
    return sender


async def introduce(found: Session, sender: Sender, simulator: Simulator) -> None:
    """Tell each of the two where the other is today."""
    await found.do(senders.rotate_credentials, found.vault, sender.account_id, _open(simulator))
    public_url = found.settings.public_url
    webhook = await found.do(senders.get_webhook, found.vault, sender.account_id, public_url)
    await simulator.account(PROVIDER, DEVICE, token=TOKEN, url=webhook.url)


def _open(simulator: Simulator) -> dict[str, Any]:
    return {"token": TOKEN, "base_url": f"{simulator.url}/v1"}


async def make_template(found: Session) -> TemplateDetail:
    """What the open house's invitation says."""
    variables = {
        "day": Variable(sample=DAY),
        "bandar": Variable(sample="Ipoh", default="Kuala Lumpur", description="the guest's town"),
    }
    new = NewTemplate(name=TEMPLATE, channel="whatsapp", text=TEXT, variables=variables)
    return await found.do(templates.create, new)


async def find_sender(found: Session) -> Sender:
    """The sender that an earlier start made. Raises Invalid when it is gone."""
    for sender in (await found.do(senders.list_senders, limit=200)).items:
        if sender.name == SENDER:
            return sender
    raise Invalid(f"the demo's sender {SENDER!r} is gone; start with another ANTIPHON_DATA_DIR")


def impatient(name: str) -> Provider[Any]:
    """A provider whose messages are asked about within seconds, so that a day plays in half a minute."""
    provider = registry.get(name)
    if provider.polling is None:
        return provider
    soon = timedelta(seconds=1.5)
    rules = tuple(
        PollRule(status=rule.status, first_after=soon, every=2 * soon, limit=rule.limit)
        for rule in provider.polling.rules
    )
    return dataclasses.replace(
        provider, polling=dataclasses.replace(provider.polling, per_minute=1200, rules=rules)
    )
