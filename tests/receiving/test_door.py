"""Who may come in, with what: paths, secrets, signatures, handshakes, sizes. What is refused leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest

from antiphon.core import ids
from antiphon.senders import service as senders
from tests.entry.live import Client
from tests.receiving import shop as shops
from tests.receiving.shop import APP_SECRET, META, VAULT, VERIFY_TOKEN, Shop, signature, status, statuses

BODY = msgspec.json.encode(statuses(status("wamid.1")))


def mended(path: str, place: int, word: str) -> str:
    """The path with another word at this place: 2 provider, 3 organization, 4 account, 5 secret."""
    parts = path.split("/")
    parts[place] = word
    return "/".join(parts)


STRANGER = ids.short(ids.new_id())
WRONG_PATHS: dict[str, Callable[[str], str]] = {
    "another secret": lambda path: mended(path, 5, "x" * 27),
    "no secret": lambda path: path.rpartition("/")[0],
    "an empty secret": lambda path: mended(path, 5, ""),
    "a secret with more behind it": lambda path: f"{path}/more",
    "a secret that is not ASCII": lambda path: mended(path, 5, "gehe%C3%AFm"),
    "an account that does not exist": lambda path: mended(path, 4, STRANGER),
    "an organization that does not exist": lambda path: mended(path, 3, STRANGER),
    "an organization that is no id": lambda path: mended(path, 3, "lakeside"),
    "another provider's name": lambda path: mended(path, 2, "wsapme"),
    "a provider that nobody knows": lambda path: mended(path, 2, "carrier-pigeon"),
    "nothing": lambda path: "/webhooks",
}


@pytest.mark.parametrize("wrong", WRONG_PATHS.values(), ids=WRONG_PATHS.keys())
async def test_whatever_is_wrong_in_the_path_gets_one_answer(
    shop: Shop, client: Client, wrong: Callable[[str], str]
) -> None:
    path = wrong(shop.path)
    for method in ("POST", "GET"):
        headers = {"x-hub-signature-256": signature(BODY)}
        answer = await client.request(method, path, data=BODY, headers=headers)
        assert (answer.status, answer.code) == (404, "not_found")
        assert answer.json["detail"] == "there is no webhook address of this kind in this organization"
    assert await shop.kept() == []


SIGNATURES = {
    "none": {},
    "an empty one": {"x-hub-signature-256": ""},
    "one of another secret": {"x-hub-signature-256": signature(BODY, "another")},
    "one of another body": {"x-hub-signature-256": signature(BODY + b" ")},
    "without the algorithm": {"x-hub-signature-256": signature(BODY)[7:]},
    "with one letter changed": {"x-hub-signature-256": signature(BODY)[:-1] + "x"},
    "in capitals": {"x-hub-signature-256": signature(BODY).upper()},
    "with bytes outside ASCII": {"x-hub-signature-256": "sha256=é" + signature(BODY)[8:]},
    "under the old name only": {"x-hub-signature": signature(BODY)},
    "very long": {"x-hub-signature-256": "sha256=" + "a" * 8_000},
}


@pytest.mark.parametrize("headers", SIGNATURES.values(), ids=SIGNATURES.keys())
async def test_a_signature_that_does_not_fit_is_refused(
    shop: Shop, client: Client, headers: dict[str, str]
) -> None:
    [message] = await shop.hand_over("wamid.1")
    answer = await client.post(shop.path, data=BODY, headers=headers)
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert await shop.status(message) == "sent"
    assert await shop.kept() == []


async def test_one_byte_changed_in_the_body_is_refused(shop: Shop, client: Client) -> None:
    changed = BODY.replace(b"delivered", b"deliverex")
    answer = await client.post(shop.path, data=changed, headers={"x-hub-signature-256": signature(BODY)})
    assert answer.status == 401
    assert await shop.kept() == []


async def test_another_organizations_signature_opens_nothing(shop: Shop, client: Client) -> None:
    other = await shops.build(shop.database, credentials=META | {"app_secret": "theirs"})
    assert (await shop.post(client, BODY, secret="theirs")).status == 401
    assert (await other.post(client, BODY, secret="theirs")).status == 200
    assert (await shop.kept(), len(await other.kept())) == ([], 1)


# ---- the handshake --------------------------------------------------------------------------------


def question(**more: str) -> dict[str, str]:
    return {
        "hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKEN, "hub.challenge": "1158201444", **more,
    }  # fmt: skip


async def test_metas_question_is_answered_with_its_challenge(shop: Shop, client: Client) -> None:
    answer = await client.get(shop.path, params=question())
    assert (answer.status, answer.content) == (200, b"1158201444")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "asked",
    [
        question(**{"hub.verify_token": "another"}), question(**{"hub.verify_token": ""}),
        question(**{"hub.mode": "unsubscribe"}), {},
    ],
)  # fmt: skip
async def test_who_does_not_know_our_word_is_told_no(
    shop: Shop, client: Client, asked: dict[str, str]
) -> None:
    answer = await client.get(shop.path, params=asked)
    assert (answer.status, answer.code) == (403, "handshake_refused")


async def test_a_provider_without_a_handshake_is_told_where_it_is(shop: Shop, client: Client) -> None:
    gateway = await shops.build(shop.database, "wsapme", shops.WSAPME, shops.DEVICE)
    answer = await client.get(gateway.path)
    assert (answer.status, answer.content) == (200, b"This is where WSAPME sends its webhooks.")


async def test_no_other_method_is_possible(shop: Shop, client: Client) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        answer = await client.request(method, shop.path, data=b"{}")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")
    assert await shop.kept() == []


# ---- bodies ---------------------------------------------------------------------------------------

UNREADABLE = {
    "cut short": BODY[: len(BODY) // 2],
    "empty": b"",
    "not JSON": b"<xml/>",
    "not UTF-8": b'{"object": "\xff\xfe"}',
    "a list": b"[1, 2]",
    "a number": b"5",
    "nested too deep": b"[" * 100_000,
    "of another object": b'{"object": "page", "entry": []}',
    "a lone surrogate": b'{"object": "\\ud800"}',
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_what_is_signed_and_makes_no_sense_is_kept_and_counted(
    shop: Shop, client: Client, body: bytes
) -> None:
    answer = await shop.post(client, body)
    assert answer.status == 200
    [(kept, unreadable, note)] = await shop.ask(
        "SELECT body, unreadable, note FROM provider_events WHERE org_id = %(org_id)s"
    )
    assert (bytes(kept), unreadable) == (body, 1)
    assert note


async def test_the_raw_bytes_are_kept_with_the_headers_that_prove_them(shop: Shop, client: Client) -> None:
    body = BODY.replace(b"whatsapp_business_account", b"whatsapp_business\\u005faccount")
    headers = {
        "x-hub-signature-256": signature(body), "Authorization": "Bearer secret", "Cookie": "session=secret",
    }  # fmt: skip
    assert (await client.post(shop.path, data=body, headers=headers)).status == 200
    [(kept, shown)] = await shop.ask("SELECT body, headers FROM provider_events WHERE org_id = %(org_id)s")
    assert bytes(kept) == body
    assert shown["x-hub-signature-256"] == signature(body)
    assert "secret" not in str(shown)


async def test_three_megabytes_are_taken_and_one_byte_more_is_not(shop: Shop, client: Client) -> None:
    body = BODY + b" " * (3 * 1024 * 1024 - len(BODY))
    assert (await shop.post(client, body)).status == 200
    answer = await shop.post(client, body + b" ")
    assert (answer.status, answer.code) == (413, "too_large")
    assert len(await shop.kept()) == 1


async def test_an_enormous_body_without_a_length_is_refused_before_it_is_read(
    shop: Shop, client: Client
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 1024 * 1024

    async with client.session.post(client.url + shop.path, data=endless()) as answer:
        assert answer.status == 413
    assert await shop.kept() == []


async def test_a_connection_that_ends_in_the_body_leaves_nothing(shop: Shop, client: Client) -> None:
    where = urlsplit(client.url)
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    head = f"POST {shop.path} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: {signature(BODY)}\r\n"
    writer.write(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:100])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await shop.post(client, BODY)).status == 200
    assert len(await shop.kept()) == 1


# ---- what changes while the server runs -----------------------------------------------------------


async def test_a_renewed_address_works_within_a_second_and_the_old_one_ends_within_seconds(
    shop: Shop, client: Client
) -> None:
    assert (await shop.post(client, BODY)).status == 200
    async with shop.database.transaction(shop.org_id) as conn:
        webhook = await senders.renew_webhook(conn, shop.actor, VAULT, shop.account_id, "http://x")
    renewed = urlsplit(webhook.url).path
    await asyncio.sleep(1.1)
    assert (await shop.post(client, BODY, path=renewed)).status == 200
    assert (await shop.post(client, BODY)).status == 404


async def test_an_account_that_was_deleted_is_closed_within_seconds(shop: Shop, client: Client) -> None:
    assert (await shop.post(client, BODY)).status == 200
    async with shop.database.transaction(shop.org_id) as conn:
        await senders.delete_sender(conn, shop.actor, shop.sender.id)
        await senders.delete_account(conn, shop.actor, shop.account_id)
    await asyncio.sleep(3.1)
    assert (await shop.post(client, BODY)).status == 404


async def test_a_new_app_secret_is_believed_within_a_second(shop: Shop, client: Client) -> None:
    assert (await shop.post(client, BODY)).status == 200
    async with shop.database.transaction(shop.org_id) as conn:
        await senders.rotate_credentials(
            conn, shop.actor, VAULT, shop.account_id, META | {"app_secret": "new"}
        )
    await asyncio.sleep(1.1)
    assert (await shop.post(client, BODY, secret="new")).status == 200
    assert (await shop.post(client, BODY, secret=APP_SECRET)).status == 401


async def test_many_connections_at_once_are_all_answered(shop: Shop, client: Client) -> None:
    names = [f"wamid.{n}" for n in range(200)]
    messages = await shop.hand_over_to_crowd(names)
    connector = aiohttp.TCPConnector(limit=64)
    async with aiohttp.ClientSession(connector=connector) as session:
        crowd = Client(client.url, session)
        answers = await asyncio.gather(*(shop.post(crowd, statuses(status(name))) for name in names))
    assert {answer.status for answer in answers} == {200}
    assert await shop.ask(
        "SELECT status, count(*) FROM messages WHERE org_id = %(org_id)s GROUP BY status"
    ) == [("delivered", len(messages))]
