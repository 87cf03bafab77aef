"""Routes of providers, accounts at them, and incidents. A sender's own routes stand beside its lane, in messages."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Router, delete, get, patch, post
from msgspec import Struct, structs

from antiphon.core.crypto import Vault
from antiphon.core.db import Connection
from antiphon.core.paging import Page, check_limit
from antiphon.organizations.access import Permission, StrictBody, Unit, requires
from antiphon.organizations.model import Actor
from antiphon.providers import registry
from antiphon.senders import incidents, model, service
from antiphon.senders.model import Incident, Name, NewAccount, ProviderAccount, ProviderInfo, Webhook


@get("/providers", **requires(Permission.SENDERS_READ), sync_to_thread=False)
def list_providers() -> list[ProviderInfo]:
    """The providers: what each can do, and which credentials it asks for."""
    return [model.describe(provider) for provider in registry.public()]


class CreatedAccount(Struct, frozen=True, kw_only=True):
    """The account, and where its provider reaches us (null when the request is repeated: ask for it again)."""

    account: ProviderAccount
    webhook: Webhook | None

    def without_secret(self) -> CreatedAccount:
        """What a repeated request gets."""
        return structs.replace(self, webhook=None)


@post("/provider-accounts", **requires(Permission.SENDERS_WRITE), dto=StrictBody[NewAccount], return_dto=None)
async def add_account(unit: Unit, data: NewAccount) -> CreatedAccount:
    """Store an account at a provider. Its credentials are encrypted and never shown again."""
    return await unit.write(_add_account, unit.services.vault, unit.services.settings.public_url, data)


async def _add_account(
    conn: Connection, actor: Actor, vault: Vault, public_url: str, data: NewAccount
) -> CreatedAccount:
    account = await service.add_account(conn, actor, vault, data)
    return CreatedAccount(
        account=account, webhook=await service.get_webhook(conn, actor, vault, account.id, public_url)
    )


@get("/provider-accounts", **requires(Permission.SENDERS_READ))
async def list_accounts(
    unit: Unit, provider: str | None = None, limit: int | None = None, cursor: str | None = None
) -> Page[ProviderAccount]:
    """Accounts at providers, the newest first; what is secret is shown as asterisks."""
    return await unit.read(
        service.list_accounts,
        unit.services.vault,
        provider=provider,
        limit=check_limit(limit),
        cursor=cursor,
    )


@get("/provider-accounts/{account_id:uuid}", **requires(Permission.SENDERS_READ))
async def get_account(unit: Unit, account_id: UUID) -> ProviderAccount:
    """One account; what is secret is shown as asterisks."""
    return await unit.read(service.get_account, unit.services.vault, account_id)


class AccountChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may change of an account, beside its credentials."""

    name: Name


@patch(
    "/provider-accounts/{account_id:uuid}",
    **requires(Permission.SENDERS_WRITE),
    dto=StrictBody[AccountChanges],
    return_dto=None,
)
async def rename_account(unit: Unit, account_id: UUID, data: AccountChanges) -> ProviderAccount:
    """Give the account another name."""
    return await unit.write(service.rename_account, unit.services.vault, account_id, data.name)


class NewCredentials(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All fields; a secret one that is left out stays as it is."""

    credentials: dict[str, Any]


@post(
    "/provider-accounts/{account_id:uuid}/credentials",
    **requires(Permission.SENDERS_WRITE),
    dto=StrictBody[NewCredentials],
    return_dto=None,
    status_code=200,
)
async def rotate_credentials(unit: Unit, account_id: UUID, data: NewCredentials) -> ProviderAccount:
    """Use other credentials from now on."""
    return await unit.write(service.rotate_credentials, unit.services.vault, account_id, data.credentials)


@get("/provider-accounts/{account_id:uuid}/webhook", **requires(Permission.SENDERS_WRITE))
async def get_webhook(unit: Unit, account_id: UUID) -> Webhook:
    """Where the provider reaches us. The address ends in a secret: give it to the provider and to nobody else."""
    return await unit.read(
        service.get_webhook, unit.services.vault, account_id, unit.services.settings.public_url
    )


class RenewedWebhook(Struct, frozen=True, kw_only=True):
    """The new address (null when the request is repeated: ask for it again)."""

    webhook: Webhook | None

    def without_secret(self) -> RenewedWebhook:
        """What a repeated request gets."""
        return structs.replace(self, webhook=None)


@post("/provider-accounts/{account_id:uuid}/webhook", **requires(Permission.SENDERS_WRITE), status_code=200)
async def renew_webhook(unit: Unit, account_id: UUID) -> RenewedWebhook:
    """Make a new webhook address; the old one is refused from now on."""
    return await unit.write(
        _renew_webhook, unit.services.vault, account_id, unit.services.settings.public_url
    )


async def _renew_webhook(
    conn: Connection, actor: Actor, vault: Vault, account_id: UUID, public_url: str
) -> RenewedWebhook:
    return RenewedWebhook(webhook=await service.renew_webhook(conn, actor, vault, account_id, public_url))


@delete("/provider-accounts/{account_id:uuid}", **requires(Permission.SENDERS_WRITE))
async def delete_account(unit: Unit, account_id: UUID) -> None:
    """Delete an account that no sender uses."""
    await unit.write(service.delete_account, account_id)


@get("/incidents", **requires(Permission.INCIDENTS_READ))
async def list_incidents(
    unit: Unit,
    open: bool | None = None,  # noqa: A002 - the word in the address
    subject_id: UUID | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Page[Incident]:
    """What broke, the newest first: senders and endpoints."""
    return await unit.read(
        service.list_incidents, is_open=open, subject_id=subject_id, limit=check_limit(limit), cursor=cursor
    )


@post("/incidents/{incident_id:uuid}/close", **requires(Permission.SENDERS_WRITE), status_code=200)
async def close_incident(unit: Unit, incident_id: UUID) -> Incident:
    """Say that it is over."""
    return await unit.write(incidents.close_incident_by_hand, incident_id)


router = Router(
    "/",
    route_handlers=[
        list_providers,
        add_account,
        list_accounts,
        get_account,
        rename_account,
        rotate_credentials,
        get_webhook,
        renew_webhook,
        delete_account,
        list_incidents,
        close_incident,
    ],
    tags=["Senders"],
)
