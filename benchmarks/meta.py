"""A WhatsApp number at Meta's shape: its account, messages handed over, and status webhooks as Meta signs them."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from antiphon.core import ids
from antiphon.core.db import Database
from antiphon.messages import lane_service
from antiphon.organizations import service as organizations
from antiphon.organizations.model import Actor
from antiphon.senders import service as senders
from antiphon.senders.model import NewAccount, NewSender
from benchmarks.stage import VAULT, Stage

APP_SECRET = "app-secret"
NUMBER = "5550001"
NOBODY = UUID(int=0)


class Line(msgspec.Struct, frozen=True):
    """An organization's WhatsApp number, and the path of its webhooks."""

    org_id: UUID
    sender_id: UUID
    account_id: UUID
    path: str


async def line(app: Database) -> Line:
    """A new organization with a number at Meta's."""
    org_id = ids.new_id()
    actor = Actor.operator(org_id)
    credentials = {"access_token": "t", "app_secret": APP_SECRET, "verify_token": "v"}
    async with app.transaction(org_id) as conn:
        await organizations.create(conn, org_id, "Bench", timezone="UTC", country="MY", language="en")
        new = NewAccount(provider="meta_whatsapp", name="bench", credentials=credentials)
        account = await senders.add_account(conn, actor, VAULT, new)
        added = NewSender(account_id=account.id, channel="whatsapp", address=NUMBER)
        sender = await lane_service.add_sender(conn, actor, added)
        webhook = await senders.get_webhook(conn, actor, VAULT, account.id, "http://127.0.0.1")
    return Line(org_id, sender.id, account.id, urlsplit(webhook.url).path)


def handed_over(stage: Stage, line: Line, count: int, campaign_id: UUID = NOBODY) -> list[str]:
    """Messages that are `sent`, loaded past the application with their counts; the provider's names of them."""
    rows = stage.sql(f"""
        WITH made AS (
            INSERT INTO messages (org_id, id, direction, channel, purpose, origin, caused_by, status, stage, sender_id,
                                  address, attempt_no, provider_message_id, campaign_id, day, sent_at)
            SELECT '{line.org_id}', uuid7(), 'out', 'whatsapp', 'marketing', 'campaign', 'bench', 'sent', 'sent',
                   '{line.sender_id}', '+6011' || n, 1, 'wamid.' || gen_random_uuid(),
                   nullif('{campaign_id}'::uuid, '{NOBODY}'), current_date, now()
              FROM generate_series(1, {count}) n RETURNING id, provider_message_id
        ), counted AS (
            INSERT INTO funnel_deltas (org_id, campaign_id, sender_id, channel, day, stage, reason, n)
            VALUES ('{line.org_id}', '{campaign_id}', '{line.sender_id}', 'whatsapp', current_date, 'sent', '', {count})
        )
        INSERT INTO provider_ids (org_id, account_id, provider_message_id, message_id, attempt_no)
        SELECT '{line.org_id}', '{line.account_id}', provider_message_id, id, 1 FROM made RETURNING provider_message_id
    """)
    stage.sql("ANALYZE messages, provider_ids")
    return [name for (name,) in rows]


def status(line: Line, name: str, word: str = "delivered") -> bytes:
    """One signed status of one message, as a request on the wire."""
    body = msgspec.json.encode(
        {"object": "whatsapp_business_account", "entry": [{"id": "1029384756", "changes": [{
            "field": "messages", "value": {
                "messaging_product": "whatsapp",
                "metadata": {"display_phone_number": "60300000000", "phone_number_id": NUMBER},
                "contacts": [{"profile": {"name": "Aina"}, "wa_id": "60111111111"}],
                "statuses": [{
                    "id": name, "status": word, "timestamp": "1767225661", "recipient_id": "60111111111",
                    "conversation": {"id": "c0ffee", "origin": {"type": "utility"}},
                    "pricing": {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "utility"},
                }]}}]}]}
    )  # fmt: skip
    signature = hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST {line.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: facebookexternalua\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\n\r\n"
    )
    return head.encode() + body
