"""An organization whose account takes webhooks: its sender, messages that it handed over, and what a provider posts."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, LiteralString
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from antiphon.core import clock, db, ids
from antiphon.core.crypto import Vault
from antiphon.core.db import Database
from antiphon.messages import claim, lane_service, lanes, record
from antiphon.messages.sending import OutgoingMessage, send
from antiphon.organizations.model import Actor
from antiphon.providers.contract import Accepted
from antiphon.senders import service as senders
from antiphon.senders.model import NewAccount, NewSender, Sender
from tests import make
from tests.entry.live import SECRET, Answer, Client

VAULT = Vault([SECRET])
APP_SECRET = "app-secret"
VERIFY_TOKEN = "our word"
NUMBER = "5550001"
META = {"access_token": "token", "app_secret": APP_SECRET, "verify_token": VERIFY_TOKEN}
DEVICE = "60300000000"
WSAPME = {"token": "token"}
Json = dict[str, Any]


class Shop(msgspec.Struct, frozen=True):
    """One organization, one account, one sender."""

    database: Database
    actor: Actor
    account_id: UUID
    sender: Sender
    path: str

    @property
    def org_id(self) -> UUID:
        return self.actor.org_id

    async def hand_over(self, *names: str, to: str = "+60111111111", hours: int = 0) -> list[UUID]:
        """A message to somebody for each of the provider's names, accepted under it (so many hours ago)."""
        made: list[UUID] = []
        for name in names:
            message = OutgoingMessage(sender=str(self.sender.id), to=to, text=f"Hello, {name}")
            async with self.database.transaction(self.org_id) as conn:
                made += (await send(conn, self.actor, [message])).ids
            await self._dispatch(name)
        if hours:
            await self.ask(
                "UPDATE messages SET sent_at = now() - make_interval(hours => %(hours)s)"
                " WHERE org_id = %(org_id)s AND id = ANY(%(ids)s) RETURNING id",
                hours=hours,
                ids=made,
            )
        return made

    async def enqueue(self, to: str = "+60111111111", **fields: Any) -> UUID:
        """A message that waits."""
        fields.setdefault("text", "Later")
        message = OutgoingMessage(sender=str(self.sender.id), to=to, **fields)
        async with self.database.transaction(self.org_id) as conn:
            return (await send(conn, self.actor, [message])).ids[0]

    async def hand_over_to_crowd(self, names: Sequence[str]) -> list[UUID]:
        """The same in one go, to as many people."""
        messages = [
            OutgoingMessage(sender=str(self.sender.id), to=f"+601{20_000_000 + n}", text="Hello")
            for n in range(len(names))
        ]
        async with self.database.transaction(self.org_id) as conn:
            made = (await send(conn, self.actor, messages)).ids
        await self._dispatch(*names)
        return made

    async def _dispatch(self, *names: str) -> None:
        lane, claimed = await self.claim(len(names))
        told = [
            record.Told(
                claimed=each,
                outcome=Accepted(provider_message_id=name),
                at=clock.now(),
            )
            for each, name in zip(sorted(claimed, key=lambda c: c.message_id), names, strict=True)
        ]
        async with self.database.transaction(self.org_id) as conn:
            await record.record(conn, lane, told, poll=None, doubt_after=timedelta(minutes=15))

    async def claim(self, room: int = 10) -> tuple[lanes.Owned, list[claim.Claimed]]:
        """What a dispatcher would take now."""
        worker = ids.new_id()
        async with self.database.transaction(self.org_id) as conn:
            await db.execute(
                conn,
                "UPDATE lanes SET lease_until = now(), tokens = burst WHERE org_id = %(org_id)s",
                org_id=self.org_id,
            )
            lane = await lanes.take(conn, self.org_id, self.sender.id, worker)
            assert lane is not None
            _, claimed = await claim.claim(
                conn, lane, worker, room=room, call_timeout=timedelta(seconds=10), lease=15, replay=None
            )
        return lane, claimed

    async def post(
        self, client: Client, body: bytes | Json, *, secret: str = APP_SECRET, path: str | None = None
    ) -> Answer:
        """As Meta posts it: the raw bytes signed."""
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"content-type": "application/json", "x-hub-signature-256": signature(raw, secret)}
        return await client.post(path or self.path, data=raw, headers=headers)

    async def ask(self, sql: LiteralString, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the organization."""
        async with self.database.transaction(self.org_id) as conn:
            return await db.tuples(conn, sql, org_id=self.org_id, **parameters)

    async def status(self, message_id: UUID) -> str:
        [(status,)] = await self.ask(
            "SELECT status FROM messages WHERE org_id = %(org_id)s AND id = %(id)s", id=message_id
        )
        return status

    async def kept(self) -> list[tuple[int, int, int, int, int]]:
        """Of every webhook kept: receipts, inbound, unreadable, unmatched, parked."""
        return [
            (row[0], row[1], row[2], row[3], row[4])
            for row in await self.ask(
                "SELECT receipts, inbound, unreadable, unmatched, parked FROM provider_events"
                " WHERE org_id = %(org_id)s ORDER BY id"
            )
        ]


async def build(
    database: Database,
    provider: str = "meta_whatsapp",
    credentials: Mapping[str, Any] = META,
    address: str = NUMBER,
) -> Shop:
    """A committed one."""
    organization = await make.organization(database, "Harbour Tours", country="MY")
    actor = Actor.operator(organization.id)
    async with database.transaction(organization.id) as conn:
        new = NewAccount(provider=provider, name="test", credentials=dict(credentials))
        account = await senders.add_account(conn, actor, VAULT, new)
        added = NewSender(
            account_id=account.id, channel="whatsapp", address=address, rate=10_000, in_flight=1000
        )
        sender = await lane_service.add_sender(conn, actor, added)
        webhook = await senders.get_webhook(conn, actor, VAULT, account.id, "http://shop.example")
    return Shop(database, actor, account.id, sender, urlsplit(webhook.url).path)


# ---- what Meta posts ------------------------------------------------------------------------------


def signature(body: bytes, secret: str = APP_SECRET) -> str:
    """`X-Hub-Signature-256` of these bytes."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def envelope(*values: Json, number: str = NUMBER) -> Json:
    """One webhook with one change for each value."""
    metadata = {"display_phone_number": DEVICE, "phone_number_id": number}
    changes = [
        {"field": "messages", "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}
        for value in values
    ]
    return {"object": "whatsapp_business_account", "entry": [{"id": "1029384756", "changes": changes}]}


def status(name: str, word: str = "delivered", **more: Any) -> Json:
    """One entry of `statuses`."""
    at = str(int(clock.now().timestamp()))
    return {"id": name, "status": word, "timestamp": at, "recipient_id": "60111111111", **more}


def statuses(*entries: Json, number: str = NUMBER) -> Json:
    return envelope({"statuses": list(entries)}, number=number)


def text(words: str, name: str, sender: str = "60111111111", **more: Any) -> Json:
    """One entry of `messages`."""
    at = str(int(clock.now().timestamp()))
    return {
        "from": sender, "id": name, "timestamp": at, "type": "text", "text": {"body": words}, **more,
    }  # fmt: skip


def messages(*entries: Json, profile: str = "Aina", number: str = NUMBER) -> Json:
    contacts = [{"profile": {"name": profile}, "wa_id": entry.get("from")} for entry in entries]
    return envelope({"contacts": contacts, "messages": list(entries)}, number=number)
