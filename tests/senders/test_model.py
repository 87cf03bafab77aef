"""Credentials by their form, addresses by their channel, paths by their secret."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest

from antiphon.core import ids
from antiphon.core.channel import Channel
from antiphon.core.errors import Invalid
from antiphon.providers import registry
from antiphon.providers.credentials import Credentials, secret
from antiphon.senders import model
from antiphon.senders.model import AccountRow, Sealed, Webhook

GOOD: dict[str, dict[str, Any]] = {
    "wsapme": {"token": "wsap-secret-1"},
    "smtp": {
        "host": "mail.example.com",
        "port": "465",
        "tls": "tls",
        "username": "u",
        "password": "smtp-secret-2",
    },
    "meta_whatsapp": {
        "access_token": "EAAG-secret-3",
        "app_secret": "app-secret-4",
        "verify_token": "verify-secret-5",
    },
}
SECRETS = ("wsap-secret-1", "smtp-secret-2", "EAAG-secret-3", "app-secret-4", "verify-secret-5")

WRONG: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("nothing", "meta_whatsapp", {}, ["access_token", "app_secret", "verify_token"]),
    ("an empty field", "wsapme", {"token": ""}, ["token"]),
    ("a field of another provider", "wsapme", {"token": "x", "app_secret": "y"}, ["app_secret"]),
    ("a number for a text", "wsapme", {"token": 5}, ["token"]),
    ("a port that is none", "smtp", {"host": "h", "port": 70_000}, ["port"]),
    ("a word that is not offered", "smtp", {"host": "h", "tls": "ssl3"}, ["tls"]),
    ("three at once", "smtp", {"port": "x", "tls": 1, "pasword": "y"}, ["pasword", "host", "port", "tls"]),
    ("a text without measure", "wsapme", {"token": "t" * 5_000}, ["token"]),
]


@pytest.mark.parametrize("provider", GOOD)
def test_reads_what_the_form_asks_for(provider: str) -> None:
    read = model.read_credentials(registry.get(provider), GOOD[provider])
    for name, value in GOOD[provider].items():
        assert str(getattr(read, name)) == value
    shown = f"{read!r} {read} {msgspec.structs.asdict(read)!r}".partition(" {")[0]
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize(("what", "provider", "given", "fields"), WRONG, ids=[case[0] for case in WRONG])
def test_names_every_wrong_field_and_no_secret(
    what: str, provider: str, given: dict[str, Any], fields: list[str]
) -> None:
    with pytest.raises(Invalid) as refused:
        model.read_credentials(registry.get(provider), given)
    assert [error.field for error in refused.value.errors] == [f"credentials.{name}" for name in fields], what
    assert all(error.value is None for error in refused.value.errors)


class Talkative(Credentials, frozen=True, kw_only=True):
    """Credentials whose own checks say too much."""

    token: Annotated[str, secret("Token")]
    plan: Annotated[Literal["gold-6", "silver-7"], secret("Plan")] = "gold-6"

    def __post_init__(self) -> None:
        if self.token != "right":
            raise ValueError(f"{self.token} is not right")


@pytest.mark.parametrize("given", [{"token": "hidden-9"}, {"token": "right", "plan": "hidden-9"}])
def test_a_secret_is_in_no_message(given: dict[str, str]) -> None:
    provider = dataclasses.replace(registry.get("wsapme"), credentials=Talkative)
    with pytest.raises(Invalid) as refused:
        model.read_credentials(provider, given)
    assert "hidden-9" not in f"{refused.value.detail} {refused.value.errors}"


def test_what_holds_a_secret_does_not_show_it() -> None:
    now = datetime.now(UTC)
    row = AccountRow(
        org_id=ids.new_id(),
        id=ids.new_id(),
        provider="wsapme",
        name="x",
        credentials=b"sealed-8",
        webhook_hash=model.webhook_hash("path-7"),
        status="active",
        created_at=now,
        updated_at=now,
    )
    shown = f"{row!r} {Sealed(msgspec.Raw(b'6'), 'path-7')!r} {Webhook('https://x/path-7', '')!r}"
    assert "path-7" not in shown
    assert "sealed-8" not in shown
    assert row.knows("path-7")
    assert not row.knows("path-8")
    assert not row.knows("")


ADDRESSES: list[tuple[str, str, Channel, str, str | None]] = [
    ("an email address", "smtp", Channel.EMAIL, "News@Example.COM", "News@example.com"),
    ("an email address with a name", "smtp", Channel.EMAIL, "News <news@example.com>", None),
    ("two email addresses", "smtp", Channel.EMAIL, "a@example.com,b@example.com", None),
    ("a header in an email address", "smtp", Channel.EMAIL, "a@example.com\r\nBcc: b@example.com", None),
    ("an email address without a domain", "smtp", Channel.EMAIL, "news@localhost", None),
    ("a number as people write it", "keyed", Channel.SMS, "+49 (151) 123-456 78", "+4915112345678"),
    ("a national number", "keyed", Channel.SMS, "0151 12345678", None),
    ("a short code", "keyed", Channel.SMS, "72404", "72404"),
    ("a word", "keyed", Channel.SMS, "Haff Sail", "Haff Sail"),
    ("a word that is too long", "keyed", Channel.SMS, "Stettiner Haff", None),
    ("a phone number's id", "meta_whatsapp", Channel.WHATSAPP, " 106540352242922 ", "106540352242922"),
    ("a device", "wsapme", Channel.WHATSAPP, "4915112345678", "4915112345678"),
    ("a blank inside", "meta_whatsapp", Channel.WHATSAPP, "1065 4035", None),
    ("nothing", "meta_whatsapp", Channel.WHATSAPP, "  ", None),
    ("a line end", "wsapme", Channel.WHATSAPP, "a\nb", None),
]


@pytest.mark.parametrize(
    ("what", "provider", "channel", "given", "kept"), ADDRESSES, ids=[case[0] for case in ADDRESSES]
)
def test_a_senders_address(what: str, provider: str, channel: Channel, given: str, kept: str | None) -> None:
    if kept is not None:
        assert model.check_sender_address(registry.get(provider), channel, given) == kept, what
        return
    with pytest.raises(Invalid) as refused:
        model.check_sender_address(registry.get(provider), channel, given)
    assert [error.field for error in refused.value.errors] == ["address"]


@pytest.mark.parametrize(
    ("rate", "cap", "in_flight", "fields"),
    [
        (20.0, None, 16, []),
        (0.0, 0, 0, ["rate", "daily_cap", "in_flight"]),
        (float("nan"), 1, 1, ["rate"]),
        (float("inf"), 3_000_000_000, 1_025, ["rate", "daily_cap", "in_flight"]),
    ],
)
def test_a_pace_has_bounds(rate: float, cap: int | None, in_flight: int, fields: list[str]) -> None:
    assert [error.field for error in model.check_pace(rate, cap, in_flight)] == fields


@pytest.mark.parametrize("provider", registry.public(), ids=lambda provider: provider.name)
def test_every_provider_is_described_by_its_record(provider: Any) -> None:
    shown = model.describe(provider)
    assert shown.name == provider.name
    assert shown.credentials
    assert shown.channels == sorted(provider.channels)
    assert shown.has_webhooks == (provider.parse_webhook is not None)
    msgspec.json.encode(shown)
