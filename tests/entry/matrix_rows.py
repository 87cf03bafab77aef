"""One row for every operation of the API: how to make a real object and a right request for it.

A new route needs a row here, or the matrix fails and says so. A maker gets a `World` (one organization with a client
that may do everything) and returns the `Call` that a caller with the permission can make successfully. It is called
anew for every cell, so what it makes may be used up.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct

from antiphon.campaigns import service as campaign_service
from antiphon.core import clock, db
from antiphon.core.db import Database
from antiphon.jobs import service as jobs
from antiphon.organizations.jobs import TidyUp
from antiphon.organizations.model import Actor
from antiphon.senders import incidents
from tests.campaigns import make as campaigns
from tests.entry.live import Client

API = "/api/v1"
CANARY = "Zugvogel"  # part of every name and text that a world makes: it must never be seen in another one


class World(Struct, frozen=True):
    """One organization, and a client whose key may do everything in it."""

    database: Database
    org_id: UUID
    client: Client
    numbers: itertools.count[int]

    def name(self) -> str:
        """A name that nothing else has."""
        return f"{CANARY} {self.org_id.hex[-6:]} {next(self.numbers)}"

    def phone(self) -> str:
        """A phone number that nobody else has."""
        return f"+4915112{next(self.numbers):06d}"

    async def make(self, path: str, body: object) -> Any:
        """Create something through the API; what it answered."""
        answer = await self.client.post(API + path, body)
        assert answer.status in (200, 201), f"POST {path}: {answer.status} {answer.content[:2000]!r}"
        return answer.json

    async def contact(self) -> str:
        body = {
            "first_name": self.name(),
            "phone": self.phone(),
            "email": f"{next(self.numbers)}@example.com",
        }
        return (await self.make("/contacts", body))["id"]

    async def group(self) -> str:
        return (await self.make("/groups", {"name": self.name()}))["id"]

    async def template(self) -> Any:
        body = {"name": self.name(), "channel": "whatsapp", "text": f"{CANARY}: Hello {{{{ firstName }}}}"}
        return await self.make("/templates", body | {"language": "en"})

    async def account(self) -> str:
        body = {"provider": "wsapme", "name": self.name(), "credentials": {"token": f"{CANARY}-token"}}
        return (await self.make("/provider-accounts", body))["account"]["id"]

    async def sender(self) -> str:
        body = {
            "account_id": await self.account(),
            "channel": "whatsapp",
            "address": self.phone(),
            "name": self.name(),
        }
        return (await self.make("/senders", body))["id"]

    async def message(self, **more: Any) -> str:
        body = {"sender": await self.sender(), "to": self.phone(), "text": f"{CANARY} text"} | more
        return (await self.make("/messages", body))["ids"][0]

    async def campaign(self, path: str = "/campaigns", **more: Any) -> str:
        """A draft with one recipient."""
        body: dict[str, Any] = {"name": self.name(), "sender": await self.sender(), "text": f"{CANARY} offer"}
        body |= {"tag": "Spring", "follow_up_stage": "Initial"} if path == "/blasts" else {}
        campaign = (await self.make(path, body | more))["id"]
        await self.make(f"{path}/{campaign}/recipients", {"recipients": [{"to": self.phone()}]})
        return campaign

    async def launched(self, path: str) -> str:
        campaign = await self.campaign(path)
        await self.make(f"{path}/{campaign}/launch", {})
        return campaign

    async def incident(self) -> str:
        subject = UUID(await self.sender())
        async with self.database.transaction(self.org_id) as conn:
            await incidents.open_incident(
                conn, self.org_id, "sender", subject, "account_fault", f"{CANARY} refused"
            )
            return str(
                await db.value(
                    conn,
                    "SELECT id FROM incidents WHERE org_id = %(org_id)s AND subject_id = %(id)s",
                    org_id=self.org_id,
                    id=subject,
                )
            )

    async def job(self) -> str:
        async with self.database.transaction(self.org_id) as conn:
            return str(await jobs.enqueue(conn, self.org_id, TidyUp(), key=self.name()))


class Call(Struct, frozen=True):
    """A request: the ids that go into the path, in its order, the body (JSON or a file), and the query."""

    ids: tuple[str, ...] = ()
    json: Any = None
    params: dict[str, str] | None = None
    file: bytes | None = None


class Row(Struct, frozen=True):
    """How an operation is called. `is_silent`: it changes nothing, so it leaves no audit entry.

    `names_others`: ids in the body must be the organization's own, so another one's are refused.
    """

    make: Callable[[World], Awaitable[Call]]
    is_silent: bool = False
    names_others: bool = False


def plain(json: Any = None, params: dict[str, str] | None = None) -> Row:
    """A request that needs nothing to be there."""

    async def make(_: World) -> Call:
        return Call(json=json, params=params)

    return Row(make)


def on(thing: Callable[[World], Awaitable[str]], json: Any = None, *, is_silent: bool = False) -> Row:
    """A request about one thing: its id in the path, and this body."""

    async def make(world: World) -> Call:
        return Call((await thing(world),), json)

    return Row(make, is_silent)


def named(body: Callable[[World], Awaitable[Any]], *, names_others: bool = False) -> Row:
    """A request without an id in its path, whose body is made anew each time."""

    async def make(world: World) -> Call:
        return Call(json=await body(world))

    return Row(make, names_others=names_others)


def soon() -> str:
    return (clock.now() + timedelta(hours=3)).isoformat()


# ---- organizations


async def _key(world: World) -> str:
    return (await world.make("/keys", {"name": world.name(), "scopes": ["jobs:read"]}))["key"]["id"]


async def _new_key(world: World) -> Any:
    return {"name": world.name(), "scopes": ["keys:write"]}


ORGANIZATIONS: dict[str, Row] = {
    "GET /organization": plain(),
    "PATCH /organization": plain({"language": "de"}),
    "POST /keys": named(_new_key),
    "GET /keys": plain(),
    "GET /keys/{key_id}": on(_key),
    "POST /keys/{key_id}/revoke": on(_key),
    "GET /audit-log": plain(),
    "GET /jobs": plain(),
    "GET /jobs/{job_id}": on(World.job),
}

# ---- contacts


async def _new_contact(world: World) -> Any:
    return {"first_name": world.name(), "phone": world.phone()}


async def _new_contacts(world: World) -> Any:
    return {"contacts": [await _new_contact(world), await _new_contact(world)]}


async def _same_change(world: World) -> Any:
    return {"ids": [await world.contact()], "changes": {"company": world.name()}}


async def _contact_ids(world: World) -> Any:
    return {"ids": [await world.contact()]}


async def _address(world: World) -> Call:
    contact = await world.contact()
    added = await world.make(f"/contacts/{contact}/addresses", {"kind": "phone", "value": world.phone()})
    found = [address["id"] for address in added["addresses"] if not address["is_primary"]]
    return Call((contact, found[0]))


async def _new_address(world: World) -> Call:
    return Call((await world.contact(),), {"kind": "phone", "value": world.phone()})


async def _deleted_contact(world: World) -> str:
    contact = await world.contact()
    assert (await world.client.delete(f"{API}/contacts/{contact}")).status == 204
    return contact


async def _suppression(world: World) -> Any:
    return {"channel": "sms", "address": world.phone()}


async def _suppressed(world: World) -> Any:
    body = await _suppression(world)
    await world.make("/suppressions", body)
    return body


async def _new_import(world: World) -> Call:
    file = f"First name,Mobile\n{CANARY},{world.phone()}\n".encode()
    return Call(file=file, params={"group": await world.group(), "dry_run": "true"})


async def _import(world: World) -> str:
    call = await _new_import(world)
    answer = await world.client.request(
        "POST",
        f"{API}/contacts/imports",
        data=call.file,
        params=call.params,
        headers={"Content-Type": "text/csv"},
    )
    assert answer.status == 202, answer.content
    return answer.json["id"]


IMPORTS: dict[str, Row] = {
    "POST /contacts/imports": Row(_new_import, names_others=True),
    "GET /contacts/imports": plain(),
    "GET /contacts/imports/{import_id}": on(_import),
    "POST /contacts/imports/{import_id}/cancel": on(_import),
    "GET /contacts/imports/{import_id}/errors": on(_import),
    "GET /contacts/imports/{import_id}/errors.csv": on(_import),
}

CONTACTS: dict[str, Row] = {
    "GET /contacts": plain(),
    "POST /contacts": named(_new_contact),
    "POST /contacts/bulk": named(_new_contacts),
    "PATCH /contacts/bulk": named(_same_change, names_others=True),
    "POST /contacts/bulk/delete": named(_contact_ids, names_others=True),
    "GET /contacts/{contact_id}": on(World.contact),
    "PATCH /contacts/{contact_id}": on(World.contact, {"company": f"{CANARY} Ltd"}),
    "DELETE /contacts/{contact_id}": on(World.contact),
    "POST /contacts/{contact_id}/addresses": Row(_new_address),
    "DELETE /contacts/{contact_id}/addresses/{address_id}": Row(_address),
    "GET /contacts/{contact_id}/consents": on(World.contact),
    "POST /contacts/{contact_id}/consents": on(
        World.contact, {"channel": "sms", "is_given": True, "source": "form", "wording": f"{CANARY} offers"}
    ),
    "POST /contacts/{contact_id}/restore": on(_deleted_contact),
    "GET /suppressions": plain(),
    "POST /suppressions": named(_suppression),
    "POST /suppressions/lift": named(_suppressed),
}


async def _new_group(world: World) -> Any:
    return {"name": world.name()}


async def _members(world: World) -> Call:
    return Call((await world.group(),), {"contacts": [await world.contact()]})


async def _members_to_remove(world: World) -> Call:
    call = await _members(world)
    await world.make(f"/groups/{call.ids[0]}/members", call.json)
    return call


GROUPS: dict[str, Row] = {
    "GET /groups": plain(),
    "POST /groups": named(_new_group),
    "GET /groups/{group_id}": on(World.group),
    "PATCH /groups/{group_id}": on(World.group, {"description": f"{CANARY} guests"}),
    "DELETE /groups/{group_id}": on(World.group),
    "GET /groups/{group_id}/members": on(World.group),
    "POST /groups/{group_id}/members": Row(_members),
    "POST /groups/{group_id}/members/remove": Row(_members_to_remove),
}

# ---- templates


async def _template(world: World) -> str:
    return (await world.template())["id"]


async def _archived(world: World) -> str:
    template = await _template(world)
    await world.make(f"/templates/{template}/archive", None)
    return template


async def _version(world: World) -> Call:
    template = await world.template()
    return Call((template["id"], template["versions"][0]["id"]))


async def _new_template(world: World) -> Any:
    return {"name": world.name(), "channel": "sms", "text": f"{CANARY}", "language": "en"}


async def _clone(world: World) -> Call:
    return Call((await _template(world),), {"name": world.name()})


TEMPLATES: dict[str, Row] = {
    "GET /templates": plain(),
    "POST /templates": named(_new_template),
    "GET /templates/{template_id}": on(_template),
    "PATCH /templates/{template_id}": on(_template, {"description": f"{CANARY} greeting"}),
    "DELETE /templates/{template_id}": on(_template),
    "POST /templates/{template_id}/activate": on(_archived),
    "POST /templates/{template_id}/archive": on(_template),
    "POST /templates/{template_id}/clone": Row(_clone),
    "POST /templates/{template_id}/preview": on(_template, {}, is_silent=True),
    "GET /templates/{template_id}/versions": on(_template),
    "POST /templates/{template_id}/versions": on(_template, {"language": "de", "text": f"{CANARY} hallo"}),
    "GET /templates/{template_id}/versions/{version_id}": Row(_version),
}

# ---- senders


async def _new_account(world: World) -> Any:
    return {"provider": "wsapme", "name": world.name(), "credentials": {"token": f"{CANARY}-token"}}


async def _rename(world: World) -> Call:
    return Call((await world.account(),), {"name": world.name()})


async def _new_sender(world: World) -> Any:
    return {
        "account_id": await world.account(),
        "channel": "whatsapp",
        "address": world.phone(),
        "name": world.name(),
    }


SENDERS: dict[str, Row] = {
    "GET /providers": plain(),
    "GET /provider-accounts": plain(),
    "POST /provider-accounts": named(_new_account),
    "GET /provider-accounts/{account_id}": on(World.account),
    "PATCH /provider-accounts/{account_id}": Row(_rename),
    "DELETE /provider-accounts/{account_id}": on(World.account),
    "POST /provider-accounts/{account_id}/credentials": on(
        World.account, {"credentials": {"token": "another"}}
    ),
    "GET /provider-accounts/{account_id}/webhook": on(World.account),
    "POST /provider-accounts/{account_id}/webhook": on(World.account),
    "GET /senders": plain(),
    "POST /senders": named(_new_sender, names_others=True),
    "GET /senders/{sender_id}": on(World.sender),
    "PATCH /senders/{sender_id}": on(World.sender, {"rate": 5}),
    "DELETE /senders/{sender_id}": on(World.sender),
    "GET /senders/{sender_id}/lane": on(World.sender),
    "GET /incidents": plain(),
    "POST /incidents/{incident_id}/close": on(World.incident),
}

# ---- messages


async def _new_message(world: World) -> Any:
    return {"sender": await world.sender(), "to": world.phone(), "text": f"{CANARY} text"}


async def _later(world: World) -> str:
    return await world.message(scheduled_for=soon())


async def _reschedule(world: World) -> Call:
    return Call((await _later(world),), {"scheduled_for": soon()})


async def _in_doubt(world: World) -> str:
    """A message that may have been sent and waits for a person."""
    message = await world.message()
    async with world.database.transaction(world.org_id) as conn:
        await db.execute(
            conn,
            "UPDATE outbox SET state = 3, attempt_no = 1 WHERE org_id = %(org_id)s AND message_id = %(id)s",
            org_id=world.org_id,
            id=message,
        )
    return message


MESSAGES: dict[str, Row] = {
    "GET /messages": plain(),
    "POST /messages": named(_new_message, names_others=True),
    "GET /messages/{message_id}": on(World.message),
    "PATCH /messages/{message_id}": Row(_reschedule),
    "POST /messages/{message_id}/cancel": on(_later),
    "GET /messages/{message_id}/explain": on(World.message),
    "GET /messages/{message_id}/history": on(World.message),
    "POST /messages/{message_id}/mark": on(_in_doubt, {"what": "failed", "reason": f"{CANARY} asked"}),
    "POST /messages/{message_id}/resend": on(_in_doubt),
}

# ---- campaigns


def _campaign_rows(path: str) -> dict[str, Row]:
    """The routes that campaigns and blasts share."""

    async def draft(world: World) -> str:
        return await world.campaign(path)

    async def launched(world: World) -> str:
        return await world.launched(path)

    async def scheduled(world: World) -> str:
        campaign = await draft(world)
        await world.make(f"{path}/{campaign}/schedule", {"at": soon()})
        return campaign

    async def paused(world: World) -> str:
        campaign = await launched(world)
        await world.make(f"{path}/{campaign}/pause", {})
        return campaign

    async def new(world: World) -> Any:
        body = {"name": world.name(), "sender": await world.sender(), "text": f"{CANARY} offer"}
        return body | ({"tag": "Spring", "follow_up_stage": "Initial"} if path == "/blasts" else {})

    async def recipient(world: World) -> Call:
        return Call((await draft(world),), {"recipients": [{"to": world.phone()}]})

    async def listed(world: World) -> Call:
        return Call((await draft(world),), {"contacts": [await world.contact()]})

    async def tested(world: World) -> Call:
        return Call((await draft(world),), {"to": [world.phone()]})

    one = f"{path}/{{campaign_id}}"
    return {
        f"GET {path}": plain(),
        f"POST {path}": named(new, names_others=True),
        f"GET {one}": on(draft),
        f"PATCH {one}": on(draft, {"tags": ["spring"]}),
        f"DELETE {one}": on(draft),
        f"GET {one}/preview": on(draft),
        f"POST {one}/launch": on(draft, {}),
        f"POST {one}/schedule": on(draft, {"at": soon()}),
        f"POST {one}/unschedule": on(scheduled),
        f"POST {one}/pause": on(launched, {}),
        f"POST {one}/resume": on(paused),
        f"POST {one}/cancel": on(launched, {}),
        f"POST {one}/recipients": Row(recipient),
        f"POST {one}/recipients/remove": Row(listed),
        f"POST {one}/test": Row(tested),
        f"GET {one}/recipients": on(draft),
        f"GET {one}/recipients.csv": on(draft),
        f"GET {one}/funnel": on(draft),
    }


def _later_campaign_rows(path: str) -> dict[str, Row]:
    """The routes that need a campaign of which something was sent."""

    async def reached(world: World) -> str:
        """A campaign whose one message was sent."""
        campaign = await world.launched(path)
        async with world.database.transaction(world.org_id) as conn:
            found = await campaign_service.get(conn, Actor.operator(world.org_id), UUID(campaign))
            await campaigns.expand(conn, found, world.org_id)
            for message in await campaigns.messages_of(conn, world.org_id, found.id):
                await campaigns.learn(conn, world.org_id, message, "sent")
        return campaign

    async def sold(world: World) -> Call:
        campaign = await reached(world)
        found = await world.client.get(f"{API}{path}/{campaign}/recipients")
        return Call(
            (campaign,), {"message_id": found.json["items"][0]["message_id"], "reason": f"{CANARY} sold"}
        )

    one = f"{path}/{{campaign_id}}"
    return {
        f"POST {one}/follow-up": on(reached, {"stage": "sent", "text": f"{CANARY} again"}),
        f"POST {one}/close": Row(sold),
    }


async def _blast(world: World) -> str:
    return await world.campaign("/blasts")


CAMPAIGNS: dict[str, Row] = {
    **_campaign_rows("/campaigns"),
    **_campaign_rows("/blasts"),
    **_later_campaign_rows("/campaigns"),
    **_later_campaign_rows("/blasts"),
    "POST /blasts/{campaign_id}/send": on(_blast, {}),
    "GET /insights/funnel": plain(),
}

ROWS: dict[str, Row] = (
    ORGANIZATIONS | CONTACTS | IMPORTS | GROUPS | TEMPLATES | SENDERS | MESSAGES | CAMPAIGNS
)
