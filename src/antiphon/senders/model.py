"""Provider accounts, senders and incidents: values and rules."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from antiphon.core import ids
from antiphon.core.channel import Channel
from antiphon.core.errors import Conflict, FieldError, Invalid
from antiphon.providers import credentials
from antiphon.providers.contract import Provider
from antiphon.providers.credentials import CredentialField, Credentials

Name = Annotated[str, Meta(min_length=1, max_length=200)]
MAX_RATE = 100_000.0
MAX_IN_FLIGHT = 1_024
MASK = "***"  # how a secret that is set is shown


class ProviderAccount(Struct, frozen=True, kw_only=True):
    """An organization's account at a provider. Its secrets are shown as asterisks, to everybody and always."""

    id: UUID
    provider: str
    name: str
    status: Literal["active", "paused"]
    credentials: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class AccountRow(Struct, frozen=True, kw_only=True):
    """A provider account as it is stored: what is secret is sealed."""

    org_id: UUID
    id: UUID
    provider: str
    name: str
    credentials: bytes
    webhook_hash: bytes
    status: Literal["active", "paused"]
    created_at: datetime
    updated_at: datetime

    def __repr__(self) -> str:
        return f"AccountRow({self.id}, {self.provider}, {self.name!r})"

    def knows(self, webhook_secret: str) -> bool:
        """Whether a webhook's path ends in this account's secret; takes the same time for every wrong one."""
        return hmac.compare_digest(self.webhook_hash, webhook_hash(webhook_secret))


class Sealed(Struct, frozen=True):
    """What is encrypted in an account's row: the provider's credentials, and the secret of our path."""

    credentials: msgspec.Raw
    webhook_secret: str

    def __repr__(self) -> str:
        return "Sealed(***)"


class Webhook(Struct, frozen=True):
    """Where the provider reaches us. The address ends in a secret: give it to the provider and to nobody else."""

    url: str
    help: str

    def __repr__(self) -> str:
        return "Webhook(***)"


class Sender(Struct, frozen=True, kw_only=True):
    """The number or address that messages come from, on one channel, and how fast it may send."""

    id: UUID
    account_id: UUID
    provider: str
    channel: Channel
    name: str
    address: str
    rate: float
    daily_cap: int | None
    in_flight: int
    is_active: bool
    created_at: datetime
    updated_at: datetime

    def check_usable(self) -> None:
        """Raises Conflict for a sender that is not active."""
        if not self.is_active:
            raise Conflict(
                "sender_not_active", f"the sender {self.name!r} is not active; resume it or take another"
            )


class NewAccount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account at a provider; GET /providers says which credentials each asks for."""

    provider: str
    name: Name
    credentials: dict[str, Any]


class NewSender(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sender. What is absent is as the provider's record has it; `daily_cap` null means without one."""

    account_id: UUID
    channel: str
    address: str
    name: str | None = None
    rate: float | None = None
    daily_cap: int | UnsetType | None = UNSET
    in_flight: int | None = None


class SenderChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may change of a sender; what is absent stays."""

    name: Name | UnsetType = UNSET
    rate: float | UnsetType = UNSET
    daily_cap: int | UnsetType | None = UNSET
    in_flight: int | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET


class Incident(Struct, frozen=True, kw_only=True):
    """A sender or an endpoint that broke: opened once, closed when it works again or by a person."""

    id: UUID
    subject: Literal["sender", "endpoint"]
    subject_id: UUID
    kind: str
    reason: str
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None


class ProviderInfo(Struct, frozen=True, kw_only=True):
    """What a provider can do and what it asks for, drawn from its record."""

    name: str
    title: str
    channels: list[Channel]
    sender_label: str
    setup_help: str
    credentials: tuple[CredentialField, ...]
    rate_per_second: float
    in_flight: int
    daily_cap: int | None
    rate_scope: Literal["sender", "account"]
    takes_idempotency_key: bool
    echoes_reference: bool
    reply_window_hours: float | None
    has_status_polling: bool
    has_webhooks: bool
    webhook_signature: Literal["signature", "secret_path", "none"]


def describe(provider: Provider[Any]) -> ProviderInfo:
    """A provider's record as people and programs may read it."""
    window = provider.reply_window
    return ProviderInfo(
        name=provider.name,
        title=provider.title,
        channels=sorted(provider.channels),
        sender_label=provider.sender_label,
        setup_help=provider.setup_help,
        credentials=credentials.fields(provider.credentials),
        rate_per_second=provider.rate_per_second,
        in_flight=provider.in_flight,
        daily_cap=provider.daily_cap,
        rate_scope=provider.rate_scope,
        takes_idempotency_key=provider.idempotency is not None,
        echoes_reference=provider.echo is not None,
        reply_window_hours=window.total_seconds() / 3600 if window else None,
        has_status_polling=provider.status_request is not None,
        has_webhooks=provider.parse_webhook is not None,
        webhook_signature=provider.signature,
    )


# ---- webhooks -------------------------------------------------------------------------------------


def new_webhook_secret() -> str:
    """The secret end of an account's webhook path: 160 bits."""
    return secrets.token_urlsafe(20)


def webhook_hash(secret: str) -> bytes:
    """What is stored of it in the open."""
    return hashlib.sha256(secret.encode()).digest()


def webhook_path(provider: str, org_id: UUID, account_id: UUID, secret: str) -> str:
    """The path that the account's provider calls."""
    return f"/webhooks/{provider}/{ids.short(org_id)}/{ids.short(account_id)}/{secret}"


# ---- credentials ----------------------------------------------------------------------------------


def read_credentials(provider: Provider[Any], given: Mapping[str, Any]) -> Credentials:
    """The credentials, read by the provider's own form. Raises Invalid naming every wrong field, never its value."""
    form = credentials.fields(provider.credentials)
    named = {field.name: field for field in form}
    wrong = [
        FieldError(
            f"credentials.{name[:80]}",
            f"is not a field of {provider.title}; there are {', '.join(named) or 'none'}",
        )
        for name in given
        if name not in named
    ]
    types = {field.name: field.type for field in msgspec.structs.fields(provider.credentials)}
    for field in form:
        value = given.get(field.name, "")
        if value == "" and field.required:
            wrong.append(FieldError(f"credentials.{field.name}", f"is missing ({field.label})"))
        elif value != "" and (why := _why_not(value, types[field.name], field)):
            wrong.append(FieldError(f"credentials.{field.name}", why))
    if not wrong:
        try:
            return credentials.read(provider.credentials, given)
        except (msgspec.ValidationError, ValueError) as error:
            wrong.append(FieldError("credentials", _without_values(str(error), form, given)))
    raise Invalid(
        f"the credentials for {provider.title} are not complete: "
        + "; ".join(f"{e.field} {e.message}" for e in wrong),
        wrong,
        "credentials_invalid",
    )


def _why_not(value: Any, kind: Any, field: CredentialField) -> str | None:
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        if field.choices:
            return f"must be one of {', '.join(field.choices)} ({field.label})"
        return "has not the right form" if field.secret else f"{str(error)[:1].lower()}{str(error)[1:]}"
    return None


def _without_values(text: str, form: tuple[CredentialField, ...], given: Mapping[str, Any]) -> str:
    secret = any(field.secret and str(given.get(field.name) or "\0") in text for field in form)
    return "are not accepted together" if secret else text


# ---- senders --------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"[^@\s<>,;:\"()\[\]\\]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}\Z"
)
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_SHORT_CODE = re.compile(r"[0-9]{3,8}\Z")
_WORD_SENDER = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 &_.-]{1,11}\Z")
_AS_PROVIDER_SAYS = re.compile(r"[^\s\x00-\x1f\x7f]{1,320}\Z")


def check_sender_address(provider: Provider[Any], channel: Channel, address: str) -> str:
    """The address in its one spelling. Raises Invalid with what this channel and provider ask for."""
    text = address.strip()
    match channel:
        case Channel.EMAIL:
            text = text[: text.rfind("@") + 1] + text[text.rfind("@") + 1 :].lower()
            right, wanted = _EMAIL.match(text), "an email address, like news@example.com"
        case Channel.SMS | Channel.MMS | Channel.VOICE:
            compact = re.sub(r"[\s()./-]", "", text) if text.startswith("+") else text
            text = f"+{compact[1:]}" if compact.startswith("+") else compact
            right = _NUMBER.match(text) or _SHORT_CODE.match(text) or _WORD_SENDER.match(text)
            wanted = "a number in international form (+4915112345678), a short code, or up to 11 letters and digits"
        case _:
            right, wanted = (
                _AS_PROVIDER_SAYS.match(text),
                f"{provider.title}'s “{provider.sender_label}”, without spaces",
            )
    if right is None:
        raise Invalid.field("address", f"must be {wanted}", address[:80])
    return text


def check_pace(rate: float, daily_cap: int | None, in_flight: int) -> list[FieldError]:
    """What is wrong with how fast a sender should send."""
    wrong: list[FieldError] = []
    if not 0 < rate <= MAX_RATE:
        wrong.append(
            FieldError("rate", f"must be more than 0 and at most {MAX_RATE:,.0f} messages a second", rate)
        )
    if daily_cap is not None and not 1 <= daily_cap <= 2_000_000_000:
        wrong.append(FieldError("daily_cap", "must be at least 1, or null for none", daily_cap))
    if not 1 <= in_flight <= MAX_IN_FLIGHT:
        wrong.append(FieldError("in_flight", f"must be from 1 to {MAX_IN_FLIGHT}", in_flight))
    return wrong


def name_key(name: str) -> str:
    """What makes two names the same: case and spaces do not tell them apart."""
    return " ".join(name.split()).casefold()
