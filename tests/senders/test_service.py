"""Accounts, senders and incidents in the database: sealed, paced, said once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from antiphon.core import db, ids
from antiphon.core.crypto import SealError, Vault
from antiphon.core.db import Connection
from antiphon.core.errors import Conflict, Invalid, NotFound
from antiphon.organizations.model import Actor
from antiphon.senders import incidents, service
from antiphon.senders.model import NewAccount, NewSender, ProviderAccount, SenderChanges
from tests import make

URL = "https://messages.example.com"


@pytest.fixture
def actor(org_id: UUID) -> Actor:
    return make.actor(org_id)


@pytest.fixture(scope="module")
def vault() -> Vault:
    return Vault(["a key for tests only, with 32 letters"])


async def wsapme(
    conn: Connection, actor: Actor, vault: Vault, token: str = "wsap-secret-1"
) -> ProviderAccount:
    return await service.add_account(
        conn, actor, vault, NewAccount(provider="WSAPME", name="Shop", credentials={"token": token})
    )


async def everything_stored(conn: Connection, org_id: UUID) -> str:
    found = await db.tuples(
        conn,
        """
        SELECT a.name, encode(a.credentials, 'escape'), encode(a.webhook_hash, 'escape'),
               (SELECT string_agg(l.action || l.detail::text, ' ') FROM audit_log l WHERE l.org_id = %(org_id)s)
          FROM provider_accounts a WHERE a.org_id = %(org_id)s
        """,
        org_id=org_id,
    )
    return repr(found)


async def test_credentials_are_sealed_and_shown_as_asterisks(
    conn: Connection, actor: Actor, org_id: UUID, vault: Vault
) -> None:
    made = await wsapme(conn, actor, vault)
    assert made.credentials == {"token": "***", "base_url": "https://api.wsapme.com/v1"}
    assert await service.get_account(conn, actor, vault, made.id) == made
    assert (await service.list_accounts(conn, actor, vault)).items == [made]
    opened = await service.open_account(conn, org_id, made.id, vault, URL)
    assert opened.credentials.token == "wsap-secret-1"
    webhook = await service.get_webhook(conn, actor, vault, made.id, URL)
    assert opened.webhook_url == webhook.url
    stored = await everything_stored(conn, org_id)
    assert "wsap-secret-1" not in stored
    assert webhook.url.rpartition("/")[2] not in stored
    assert "wsap-secret-1" not in f"{opened!r} {opened}"


async def test_credentials_swapped_between_rows_or_moved_do_not_open(
    conn: Connection, actor: Actor, org_id: UUID, vault: Vault
) -> None:
    one = await wsapme(conn, actor, vault, "one")
    other = await wsapme(conn, actor, vault, "other")
    await db.execute(
        conn,
        """
        UPDATE provider_accounts a SET credentials = b.credentials FROM provider_accounts b
         WHERE a.org_id = %(org_id)s AND b.org_id = %(org_id)s AND a.id = ANY(%(ids)s) AND b.id = ANY(%(ids)s)
           AND a.id <> b.id
        """,
        org_id=org_id,
        ids=[one.id, other.id],
    )
    for account in (one, other):
        with pytest.raises(SealError, match="belongs to another place"):
            await service.open_account(conn, org_id, account.id, vault)


async def test_another_key_does_not_open_and_an_old_one_beside_it_does(
    conn: Connection, actor: Actor, org_id: UUID, vault: Vault
) -> None:
    made = await wsapme(conn, actor, vault)
    before = await service.get_webhook(conn, actor, vault, made.id, URL)
    new_key = "another key for tests, also 32 letters"
    with pytest.raises(SealError, match="a key that is not here"):
        await service.open_account(conn, org_id, made.id, Vault([new_key]))
    both = Vault([new_key, "a key for tests only, with 32 letters"])
    assert (await service.open_account(conn, org_id, made.id, both)).credentials.token == "wsap-secret-1"
    assert await service.get_webhook(conn, actor, both, made.id, URL) == before


async def test_rotation_keeps_what_is_not_given_and_says_which_fields_changed(
    conn: Connection, actor: Actor, org_id: UUID, vault: Vault
) -> None:
    made = await wsapme(conn, actor, vault)
    url = (await service.get_webhook(conn, actor, vault, made.id, URL)).url
    kept = await service.rotate_credentials(
        conn, actor, vault, made.id, {"token": "***", "base_url": "http://127.0.0.1:9"}
    )
    assert kept.credentials == {"token": "***", "base_url": "http://127.0.0.1:9"}
    assert (await service.open_account(conn, org_id, made.id, vault)).credentials.token == "wsap-secret-1"
    await service.rotate_credentials(conn, actor, vault, made.id, {"token": "wsap-new"})
    opened = (await service.open_account(conn, org_id, made.id, vault)).credentials
    assert (opened.token, opened.base_url) == ("wsap-new", "https://api.wsapme.com/v1")
    assert (await service.get_webhook(conn, actor, vault, made.id, URL)).url == url
    with pytest.raises(Invalid):
        await service.rotate_credentials(conn, actor, vault, made.id, {"token": "x", "tokn": "y"})
    fields = await db.tuples(
        conn,
        """
        SELECT detail->'fields' FROM audit_log
         WHERE org_id = %(org_id)s AND action = 'provider_account.credentials_changed' ORDER BY id
        """,
        org_id=org_id,
    )
    assert fields == [(["base_url"],), (["base_url", "token"],)]
    assert "wsap-new" not in await everything_stored(conn, org_id)


async def test_a_webhooks_path_finds_its_account_until_it_is_renewed(
    conn: Connection, actor: Actor, org_id: UUID, vault: Vault
) -> None:
    made = await wsapme(conn, actor, vault)
    url = (await service.get_webhook(conn, actor, vault, made.id, URL)).url
    base, provider, org, account, secret = url.rsplit("/", 4)
    assert (base, provider) == (f"{URL}/webhooks", "wsapme")
    assert (ids.parse_short(org), ids.parse_short(account)) == (org_id, made.id)

    async def finds(provider: str, secret: str) -> bool:
        return await service.find_account_of_webhook(conn, org_id, made.id, provider, secret) is not None

    assert await finds("wsapme", secret)
    assert not await finds("smtp", secret)
    assert not await finds("wsapme", secret[:-1])
    assert not await finds("wsapme", "")
    renewed = await service.renew_webhook(conn, actor, vault, made.id, URL)
    assert not await finds("wsapme", secret)
    assert await finds("wsapme", renewed.url.rpartition("/")[2])


async def test_an_account_in_use_is_not_deleted(
    conn: Connection, actor: Actor, org_id: UUID, vault: Vault
) -> None:
    made = await wsapme(conn, actor, vault)
    sender = await service.add_sender(conn, actor, device(made))
    with pytest.raises(Conflict, match="delete them first"):
        await service.delete_account(conn, actor, made.id)
    await service.delete_sender(conn, actor, sender.id)
    await service.delete_account(conn, actor, made.id)
    with pytest.raises(NotFound):
        await service.open_account(conn, org_id, made.id, vault)


def device(account: ProviderAccount, **more: Any) -> NewSender:
    given: dict[str, Any] = {"account_id": account.id, "channel": "whatsapp", "address": "4915112345678"}
    return NewSender(**(given | more))


async def test_a_sender_has_its_providers_pace_unless_told_otherwise(
    conn: Connection, actor: Actor, org_id: UUID, vault: Vault
) -> None:
    made = await wsapme(conn, actor, vault)
    provider = service.provider_named("wsapme")
    first = await service.add_sender(conn, actor, device(made))
    assert (first.rate, first.daily_cap, first.in_flight) == (
        provider.rate_per_second,
        provider.daily_cap,
        provider.in_flight,
    )
    assert (first.name, first.provider) == (f"{provider.title} 4915112345678", "wsapme")
    told = device(made, address="2", name="Second", rate=7.5, daily_cap=None, in_flight=3)
    second = await service.add_sender(conn, actor, told)
    assert (second.rate, second.daily_cap, second.in_flight) == (7.5, None, 3)
    assert await service.get_sender(conn, org_id, second.id) == second
    page = await service.list_senders(conn, actor, channel="whatsapp", limit=1)
    assert page.items == [second]
    rest = await service.list_senders(conn, actor, channel="whatsapp", limit=1, cursor=page.next)
    assert (rest.items, rest.next) == ([first], None)


async def test_names_and_addresses_are_taken_once(conn: Connection, actor: Actor, vault: Vault) -> None:
    made = await wsapme(conn, actor, vault)
    first = await service.add_sender(conn, actor, device(made, name="Shop"))
    with pytest.raises(Conflict) as taken:
        await service.add_sender(conn, actor, device(made, name=" SHOP ", address="2"))
    assert taken.value.code == "sender_name_taken"
    with pytest.raises(Conflict) as taken:
        await service.add_sender(conn, actor, device(made, name="Other"))
    assert taken.value.code == "sender_address_taken"
    second = await service.add_sender(conn, actor, device(made, name="Other", address="2"))
    with pytest.raises(Conflict):
        await service.update_sender(conn, actor, second.id, SenderChanges(name="shop"))
    await service.delete_sender(conn, actor, first.id)
    assert (await service.update_sender(conn, actor, second.id, SenderChanges(name="shop"))).name == "shop"


async def test_a_wrong_sender_is_refused(conn: Connection, actor: Actor, vault: Vault) -> None:
    made = await wsapme(conn, actor, vault)
    for more, fields in (
        ({"channel": "email", "address": "a@example.com"}, ["channel"]),
        ({"channel": "pigeon"}, ["channel"]),
        ({"address": "a b"}, ["address"]),
        ({"rate": 0.0, "in_flight": 5_000}, ["rate", "in_flight"]),
        ({"name": "a\x07b"}, ["name"]),
    ):
        with pytest.raises(Invalid) as refused:
            await service.add_sender(conn, actor, device(made, **more))
        assert [error.field for error in refused.value.errors] == fields
    with pytest.raises(NotFound):
        await service.add_sender(conn, actor, device(made, account_id=ids.new_id()))


async def test_a_paused_sender_is_not_usable(
    conn: Connection, actor: Actor, org_id: UUID, vault: Vault
) -> None:
    sender = await service.add_sender(conn, actor, device(await wsapme(conn, actor, vault), name="Shop"))
    assert (await service.usable_sender(conn, org_id, "sHOP")).id == sender.id
    assert (await service.usable_sender(conn, org_id, str(sender.id))).id == sender.id
    await service.pause_sender(conn, actor, sender.id)
    await service.open_incident(conn, org_id, "sender", sender.id, "account", "wrong token")
    with pytest.raises(Conflict):
        await service.usable_sender(conn, org_id, "Shop")
    assert (await service.resume_sender(conn, actor, sender.id)).is_active
    assert (await service.list_incidents(conn, actor, is_open=True)).items == []
    with pytest.raises(NotFound):
        await service.usable_sender(conn, org_id, "nobody")


async def test_an_incident_is_said_once_until_it_is_closed(
    conn: Connection, actor: Actor, org_id: UUID
) -> None:
    subject = ids.new_id()

    async def opens(kind: str = "account") -> bool:
        return await service.open_incident(conn, org_id, "sender", subject, kind, "the token was refused")

    assert [await opens(), await opens(), await opens("breaker")] == [True, False, True]
    assert await service.close_incident(conn, org_id, subject, "account") == 1
    assert await service.close_incident(conn, org_id, subject, "account") == 0
    assert await opens()
    page = await service.list_incidents(conn, actor, subject_id=subject, limit=2)
    rest = await service.list_incidents(conn, actor, subject_id=subject, limit=2, cursor=page.next)
    assert [one.kind for one in (*page.items, *rest.items)] == ["account", "breaker", "account"]
    assert [one.closed_at is None for one in (*page.items, *rest.items)] == [True, True, False]
    by_hand = await incidents.close_incident_by_hand(conn, actor, page.items[0].id)
    assert by_hand.closed_by == actor.label
    with pytest.raises(Conflict):
        await incidents.close_incident_by_hand(conn, actor, page.items[0].id)
    assert await service.close_incident(conn, org_id, subject) == 1


async def test_another_organizations_things_do_not_exist(
    conn: Connection, actor: Actor, vault: Vault
) -> None:
    made = await wsapme(conn, actor, vault)
    sender = await service.add_sender(conn, actor, device(made))
    stranger = make.actor(ids.new_id())
    for attempt in (
        service.get_account(conn, stranger, vault, made.id),
        service.open_account(conn, stranger.org_id, made.id, vault),
        service.get_webhook(conn, stranger, vault, made.id, URL),
        service.renew_webhook(conn, stranger, vault, made.id, URL),
        service.rename_account(conn, stranger, vault, made.id, "x"),
        service.rotate_credentials(conn, stranger, vault, made.id, {"token": "x"}),
        service.delete_account(conn, stranger, made.id),
        service.add_sender(conn, stranger, device(made)),
        service.get_sender(conn, stranger.org_id, sender.id),
        service.update_sender(conn, stranger, sender.id, SenderChanges(rate=1.0)),
        service.delete_sender(conn, stranger, sender.id),
        service.usable_sender(conn, stranger.org_id, str(sender.id)),
    ):
        with pytest.raises(NotFound):
            await attempt
    secret = (await service.get_webhook(conn, actor, vault, made.id, URL)).url.rpartition("/")[2]
    assert await service.find_account_of_webhook(conn, stranger.org_id, made.id, "wsapme", secret) is None


async def test_an_unknown_provider_is_refused_with_the_known_ones(
    conn: Connection, actor: Actor, vault: Vault
) -> None:
    with pytest.raises(Invalid, match="wsapme"):
        await service.add_account(conn, actor, vault, NewAccount(provider="pigeon", name="x", credentials={}))
