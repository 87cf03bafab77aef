"""The verbs of senders: accounts at providers, what is sent from, and what has broken."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, structs

from antiphon.core import clock, ids
from antiphon.core.channel import parse_channel
from antiphon.core.crypto import Vault
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, Invalid, NotFound
from antiphon.core.paging import Page, cut, decode_cursor
from antiphon.organizations import audit
from antiphon.organizations.model import Actor
from antiphon.providers import credentials, registry
from antiphon.providers.contract import Account, Provider
from antiphon.providers.credentials import Credentials
from antiphon.senders import model, queries
from antiphon.senders.incidents import close_incident, list_incidents, open_incident
from antiphon.senders.model import (
    AccountRow,
    NewAccount,
    NewSender,
    ProviderAccount,
    Sealed,
    Sender,
    SenderChanges,
    Webhook,
)

__all__ = ["close_incident", "list_incidents", "open_incident"]  # how they are kept is incidents.py

# ---- provider accounts ----------------------------------------------------------------------------


async def add_account(conn: Connection, actor: Actor, vault: Vault, new: NewAccount) -> ProviderAccount:
    """An account whose credentials are sealed from here on. Raises Invalid naming every wrong field."""
    provider = _provider(new.provider)
    given = model.read_credentials(provider, new.credentials)
    secret, now, account_id = model.new_webhook_secret(), clock.now(), ids.new_id()
    row = AccountRow(
        org_id=actor.org_id,
        id=account_id,
        provider=provider.name,
        name=_name(new.name),
        credentials=_seal(vault, actor.org_id, account_id, given, secret),
        webhook_hash=model.webhook_hash(secret),
        status="active",
        created_at=now,
        updated_at=now,
    )
    await queries.add_account(conn, row)
    await audit.record(conn, actor, "provider_account.added", row.id, provider=row.provider, name=row.name)
    return _shown(row, given)


async def get_account(conn: Connection, actor: Actor, vault: Vault, account_id: UUID) -> ProviderAccount:
    """An account, its secrets as asterisks. Raises NotFound."""
    row = await _account(conn, actor.org_id, account_id)
    return _shown(row, _open(vault, row)[0])


async def list_accounts(
    conn: Connection,
    actor: Actor,
    vault: Vault,
    *,
    provider: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[ProviderAccount]:
    """A page of accounts, the newest first, their secrets as asterisks."""
    before = decode_cursor(cursor, UUID)[0] if cursor else None
    found = await queries.list_accounts(conn, actor.org_id, provider=provider, before=before, limit=limit + 1)
    page = cut(found, limit, lambda row: (row.id,))
    return Page([_shown(row, _open(vault, row)[0]) for row in page.items], page.next)


async def rename_account(
    conn: Connection, actor: Actor, vault: Vault, account_id: UUID, name: str
) -> ProviderAccount:
    """Another name for people. Raises NotFound."""
    row = structs.replace(await _lock(conn, actor.org_id, account_id), name=_name(name))
    await queries.save_account(conn, row)
    await audit.record(conn, actor, "provider_account.renamed", account_id, name=row.name)
    return _shown(row, _open(vault, row)[0])


async def rotate_credentials(
    conn: Connection, actor: Actor, vault: Vault, account_id: UUID, given: dict[str, Any]
) -> ProviderAccount:
    """Other credentials from now on. A secret field that is left out, or given as its asterisks, stays as it is.

    Whoever keeps opened accounts must open this one again. Raises NotFound, Invalid naming every wrong field.
    """
    row = await _lock(conn, actor.org_id, account_id)
    provider = registry.get(row.provider)
    before, secret = _open(vault, row)
    kept = {
        field.name: getattr(before, field.name)
        for field in credentials.fields(provider.credentials)
        if field.secret and given.get(field.name, model.MASK) == model.MASK
    }
    after = model.read_credentials(provider, given | kept)
    row = structs.replace(row, credentials=_seal(vault, actor.org_id, row.id, after, secret))
    await queries.save_account(conn, row)
    changed = sorted(f for f in structs.asdict(after) if getattr(after, f) != getattr(before, f))
    await audit.record(conn, actor, "provider_account.credentials_changed", account_id, fields=changed)
    return _shown(row, after)


async def delete_account(conn: Connection, actor: Actor, account_id: UUID) -> None:
    """Delete an account that no sender uses. Raises Conflict while one does."""
    row = await _lock(conn, actor.org_id, account_id)
    used = await queries.count_senders_of(conn, actor.org_id, account_id)
    if used:
        raise Conflict(
            "account_in_use",
            f"{used} sender{'s use' if used > 1 else ' uses'} {row.name!r}; delete them first",
        )
    await queries.delete_account(conn, actor.org_id, account_id)
    await audit.record(conn, actor, "provider_account.deleted", account_id, name=row.name)


async def open_account(
    conn: Connection, org_id: UUID, account_id: UUID, vault: Vault, public_url: str = ""
) -> Account[Any]:
    """The account as a provider's adapter needs it, credentials opened; its webhook address when `public_url` is given.

    Raises NotFound, and SealError for credentials that were moved, changed, or sealed with a key that is not here.
    """
    row = await _account(conn, org_id, account_id)
    opened, secret = _open(vault, row)
    path = model.webhook_path(row.provider, org_id, account_id, secret)
    return Account(
        provider=row.provider, credentials=opened, webhook_url=f"{public_url}{path}" if public_url else None
    )


async def find_account_of_webhook(
    conn: Connection, org_id: UUID, account_id: UUID, provider: str, secret: str
) -> AccountRow | None:
    """The account that a webhook's path names, if the path's secret is its own; the time taken says nothing."""
    row = await queries.find_account(conn, org_id, account_id)
    return row if row is not None and row.knows(secret) and row.provider == provider else None


async def get_webhook(
    conn: Connection, actor: Actor, vault: Vault, account_id: UUID, public_url: str
) -> Webhook:
    """Where the account's provider reaches us, for whoever sets it up there. Raises NotFound."""
    row = await _account(conn, actor.org_id, account_id)
    provider = registry.get(row.provider)
    path = model.webhook_path(row.provider, actor.org_id, row.id, _open(vault, row)[1])
    return Webhook(f"{public_url}{path}", provider.setup_help)


async def renew_webhook(
    conn: Connection, actor: Actor, vault: Vault, account_id: UUID, public_url: str
) -> Webhook:
    """A new secret in the webhook's address; the old address is refused from now on. Raises NotFound."""
    row = await _lock(conn, actor.org_id, account_id)
    opened, secret = _open(vault, row)[0], model.new_webhook_secret()
    sealed = _seal(vault, actor.org_id, row.id, opened, secret)
    await queries.save_account(
        conn, structs.replace(row, credentials=sealed, webhook_hash=model.webhook_hash(secret))
    )
    await audit.record(conn, actor, "provider_account.webhook_renewed", account_id)
    return await get_webhook(conn, actor, vault, account_id, public_url)


def provider_named(name: str) -> Provider[Any]:
    """The provider's record. Raises NotFound."""
    return registry.get(name)


# ---- senders --------------------------------------------------------------------------------------


async def add_sender(conn: Connection, actor: Actor, new: NewSender) -> Sender:
    """A sender. The caller gives it a lane in the same transaction.

    Raises NotFound for the account, Invalid naming what is wrong, Conflict for a name or an address that is taken.
    """
    account = await _account(conn, actor.org_id, new.account_id)
    provider, channel, now = registry.get(account.provider), parse_channel(new.channel), clock.now()
    if channel not in provider.channels:
        raise Invalid.field(
            "channel",
            f"{provider.title} does not carry it; it carries {', '.join(sorted(provider.channels))}",
            channel,
        )
    address = model.check_sender_address(provider, channel, new.address)
    sender = Sender(
        id=ids.new_id(),
        account_id=account.id,
        provider=account.provider,
        channel=channel,
        name=_name(new.name or f"{provider.title} {address}"[:200]),
        address=address,
        rate=provider.rate_per_second if new.rate is None else new.rate,
        daily_cap=provider.daily_cap if new.daily_cap is UNSET else new.daily_cap,
        in_flight=provider.in_flight if new.in_flight is None else new.in_flight,
        is_active=True,
        created_at=now,
        updated_at=now,
    )
    _check_pace(sender)
    if not await queries.add_sender(conn, actor.org_id, sender, model.name_key(sender.name)):
        raise await _sender_taken(conn, actor.org_id, sender)
    await audit.record(
        conn,
        actor,
        "sender.added",
        sender.id,
        name=sender.name,
        channel=sender.channel,
        address=sender.address,
    )
    return sender


async def update_sender(conn: Connection, actor: Actor, sender_id: UUID, changes: SenderChanges) -> Sender:
    """Change name or pace, pause (`is_active` false) or resume. The caller tells the lane in the same transaction."""
    before = await queries.lock_sender(conn, actor.org_id, sender_id)
    given = {name: value for name, value in structs.asdict(changes).items() if value is not UNSET}
    if isinstance(changes.name, str):
        given["name"] = _name(changes.name)
    after = structs.replace(before, **given, updated_at=clock.now())
    _check_pace(after)
    key = model.name_key(after.name)
    if await queries.find_sender(conn, actor.org_id, name_key=key, account_id=None, address=None) not in (
        None,
        sender_id,
    ):
        raise _name_taken(after.name)
    await queries.save_sender(conn, actor.org_id, after, key)
    await audit.record(conn, actor, "sender.updated", sender_id, name=after.name, changed=given)
    return after


async def pause_sender(conn: Connection, actor: Actor, sender_id: UUID) -> Sender:
    """Send nothing from it until it is resumed; what waits, waits."""
    return await update_sender(conn, actor, sender_id, SenderChanges(is_active=False))


async def resume_sender(conn: Connection, actor: Actor, sender_id: UUID) -> Sender:
    """Send from it again; what had broken counts as repaired."""
    sender = await update_sender(conn, actor, sender_id, SenderChanges(is_active=True))
    await close_incident(conn, actor.org_id, sender_id, closed_by=actor.label)
    return sender


async def delete_sender(conn: Connection, actor: Actor, sender_id: UUID) -> Sender:
    """Delete a sender; its name and address are free again. The caller sees to what still waits in its lane."""
    sender = await queries.lock_sender(conn, actor.org_id, sender_id)
    await queries.delete_sender(conn, actor.org_id, sender_id)
    await audit.record(conn, actor, "sender.deleted", sender_id, name=sender.name)
    return structs.replace(sender, is_active=False)


async def get_sender(conn: Connection, org_id: UUID, sender_id: UUID) -> Sender:
    """A sender. Raises NotFound."""
    return await queries.get_sender(conn, org_id, sender_id)


async def find_named(conn: Connection, org_id: UUID, name: str) -> Sender | None:
    """The sender of that name, in any case."""
    found = await queries.find_sender(
        conn, org_id, name_key=model.name_key(name), account_id=None, address=None
    )
    return await queries.get_sender(conn, org_id, found) if found else None


async def usable_sender(conn: Connection, org_id: UUID, id_or_name: str) -> Sender:
    """The sender that somebody means by an id or a name. Raises NotFound, and Conflict when it is not active."""
    try:
        sender = await queries.get_sender(conn, org_id, UUID(id_or_name))
    except ValueError:
        named = await find_named(conn, org_id, id_or_name)
        if named is None:
            raise NotFound("sender", id_or_name) from None
        sender = named
    sender.check_usable()
    return sender


async def list_senders(
    conn: Connection,
    actor: Actor,
    *,
    channel: str | None = None,
    account_id: UUID | None = None,
    is_active: bool | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Sender]:
    """A page of senders, the newest first."""
    found = await queries.list_senders(
        conn,
        actor.org_id,
        channel=parse_channel(channel) if channel else None,
        account_id=account_id,
        is_active=is_active,
        before=decode_cursor(cursor, UUID)[0] if cursor else None,
        limit=limit + 1,
    )
    return cut(found, limit, lambda sender: (sender.id,))


# ---- helpers --------------------------------------------------------------------------------------


def _provider(name: str) -> Provider[Any]:
    try:
        return registry.get(name.strip().lower())
    except NotFound:
        there = ", ".join(provider.name for provider in registry.public())
        raise Invalid.field("provider", f"there is none of this name; there are {there}", name[:80]) from None


async def _account(conn: Connection, org_id: UUID, account_id: UUID) -> AccountRow:
    row = await queries.find_account(conn, org_id, account_id)
    if row is None:
        raise NotFound("provider account", account_id)
    return row


async def _lock(conn: Connection, org_id: UUID, account_id: UUID) -> AccountRow:
    row = await queries.lock_account(conn, org_id, account_id)
    if row is None:
        raise NotFound("provider account", account_id)
    return row


def _seal(vault: Vault, org_id: UUID, account_id: UUID, given: Credentials, secret: str) -> bytes:
    plain = msgspec.json.encode(Sealed(msgspec.Raw(credentials.stored(given)), secret))
    return vault.seal(
        plain, org_id=org_id, table="provider_accounts", column="credentials", row_id=account_id
    )


def _open(vault: Vault, row: AccountRow) -> tuple[Credentials, str]:
    plain = vault.open(
        row.credentials, org_id=row.org_id, table="provider_accounts", column="credentials", row_id=row.id
    )
    sealed = msgspec.json.decode(plain, type=Sealed)
    kind = registry.get(row.provider).credentials
    return credentials.read(kind, bytes(sealed.credentials)), sealed.webhook_secret


def _shown(row: AccountRow, opened: Credentials) -> ProviderAccount:
    return ProviderAccount(
        id=row.id,
        provider=row.provider,
        name=row.name,
        status=row.status,
        credentials=credentials.redacted(opened),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _name(name: str) -> str:
    text = " ".join(name.split())
    if not text or len(text) > 200 or not text.isprintable():
        raise Invalid.field("name", "must have 1 to 200 characters, on one line", name[:80])
    return text


def _check_pace(sender: Sender) -> None:
    wrong = model.check_pace(sender.rate, sender.daily_cap, sender.in_flight)
    if wrong:
        raise Invalid("the sender cannot be so: " + "; ".join(f"{e.field} {e.message}" for e in wrong), wrong)


async def _sender_taken(conn: Connection, org_id: UUID, sender: Sender) -> Conflict:
    same_name = await queries.find_sender(
        conn, org_id, name_key=model.name_key(sender.name), account_id=None, address=None
    )
    if same_name is not None:
        return _name_taken(sender.name)
    return Conflict(
        "sender_address_taken", f"this account has a sender {sender.address} already; change that one instead"
    )


def _name_taken(name: str) -> Conflict:
    return Conflict("sender_name_taken", f"there is a sender named {name!r} already; choose another name")
