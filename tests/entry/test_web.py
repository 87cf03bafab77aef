"""What a caller sees: errors that say what to do, headers, limits, health, the reference."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar import get, post

from antiphon.core import logging
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Unavailable
from antiphon.core.roles import DatabaseUrls
from antiphon.entry import openapi
from antiphon.organizations.access import Permission, Unit, public, requires
from antiphon.organizations.model import Actor
from tests import make
from tests.entry import live
from tests.entry.live import Client

ORGANIZATION = "/api/v1/organization"
KEYS = "/api/v1/keys"


@get("/broken", **public(), sync_to_thread=False)
def get_broken() -> None:
    """A defect, with a secret in its text."""
    raise RuntimeError("password=hunter2 in /srv/secret/path.py")


@get("/busy", **public(), sync_to_thread=False)
def get_busy() -> None:
    raise Unavailable("too_busy", "come back later", retry_after=7)


@post("/same", **requires(Permission.ORGANIZATION_WRITE))
async def do_same(unit: Unit) -> None:
    """Breaks a unique key."""
    await unit.write(_do_same)


async def _do_same(conn: Connection, actor: Actor) -> None:
    for _ in range(2):
        await conn.execute("INSERT INTO event_heads (org_id) VALUES (%(org_id)s)", {"org_id": actor.org_id})


@get("/slow", **requires(Permission.ORGANIZATION_READ))
async def get_slow(unit: Unit) -> str:
    return await unit.read(_sleep)


async def _sleep(_: Connection, actor: Actor) -> str:
    await asyncio.sleep(0.8)
    return actor.label


MORE = [get_broken, get_busy, do_same, get_slow]


@pytest.fixture
async def anonymous(database: Database) -> AsyncIterator[Client]:
    async with live.serving(live.services(database), MORE) as client:
        yield client


@pytest.fixture
async def signed_in(anonymous: Client, database: Database) -> Client:
    org = (await make.organization(database)).id
    return anonymous.signed_in(await make.token(database, org))


class Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is refused, and how."""

    method: str = "POST"
    path: str = KEYS
    body: bytes | None = None
    type: str | None = "application/json"
    status: int
    code: str
    says: str


WRONG: dict[str, Wrong] = {
    "a path that is no route": Wrong(method="GET", path="/api/v1/nothing", status=404, code="not_found", says="/docs"),
    "an id that is none": Wrong(method="GET", path=f"{KEYS}/17", status=404, code="not_found", says="/docs"),
    "a method that is not possible": Wrong(
        method="DELETE", path=ORGANIZATION, status=405, code="method_not_allowed", says="Allow"
    ),
    "no body": Wrong(status=400, code="malformed_json", says="no body"),
    "half a body": Wrong(body=b'{"name": "x", ', status=400, code="malformed_json", says="not JSON"),
    "bytes that are no text": Wrong(body=b'{"name": "\xff"}', status=400, code="malformed_json", says="not JSON"),
    "a body without an end of nesting": Wrong(
        body=b'{"name":' + b"[" * 100_000, status=400, code="malformed_json", says="nested"
    ),
    "JSON that calls itself text": Wrong(
        body=b"{}", type="text/plain", status=415, code="unsupported_media_type", says="text/plain"
    ),
    "a form": Wrong(
        body=b"name=x", type="application/x-www-form-urlencoded", status=415, code="unsupported_media_type", says="form"
    ),
    "JSON without a type": Wrong(
        body=b"{}", type="", status=415, code="unsupported_media_type", says="application/json"
    ),
    "a text where a list must be": Wrong(
        body=b'{"name": "x", "scopes": "all"}', status=422, code="invalid", says="scopes"
    ),
    "a query that is no number": Wrong(
        method="GET", path=f"{KEYS}?limit=many", status=422, code="invalid", says="limit"
    ),
    "a NUL in a filter": Wrong(
        method="GET", path="/api/v1/audit-log?action=%00", status=422, code="value_not_storable", says="NUL"
    ),
    "a NUL deep inside of a value": Wrong(
        method="PATCH", path=ORGANIZATION, body=b'{"settings": {"a": ["\\u0000"]}}', status=422,
        code="value_not_storable", says="cannot be stored",
    ),
    "more than ten megabytes": Wrong(
        body=b'{"name": "' + b"x" * 11_000_000 + b'"}', status=413, code="too_large", says="bytes"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
async def test_says_what_was_wrong_with(signed_in: Client, what: str) -> None:
    wrong = WRONG[what]
    headers = {} if wrong.type is None else {"Content-Type": wrong.type}
    answer = await signed_in.request(wrong.method, wrong.path, data=wrong.body, headers=headers)
    assert (answer.status, answer.code) == (wrong.status, wrong.code), answer.content
    assert wrong.says in answer.json["detail"]
    assert answer.json["status"] == wrong.status
    assert set(answer.json) <= {"type", "title", "status", "code", "detail", "errors"}
    _assert_is_guarded(answer)


def _assert_is_guarded(answer: live.Answer) -> None:
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


async def test_a_method_that_is_not_possible_comes_with_those_that_are(signed_in: Client) -> None:
    answer = await signed_in.delete(ORGANIZATION)
    assert {"GET", "PATCH"} <= set(answer.headers["allow"].split(", "))


async def test_a_defect_tells_the_log_everything_and_the_caller_nothing(anonymous: Client) -> None:
    log = io.StringIO()
    logging.setup("info", "json", log)
    answer = await anonymous.get("/broken", headers={"X-Request-Id": "caller-id-1"})
    assert (answer.status, answer.code) == (500, "internal_error")
    assert answer.json["request_id"] == "caller-id-1"
    assert not re.search(rb"hunter2|RuntimeError|Traceback|\.py", answer.content)
    line = log.getvalue()
    assert "caller-id-1" in line
    assert "RuntimeError" in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("caller-id-1", True),
        ("short", False),
        ("x" * 65, False),
        ("with space in it", False),
        ("<script>alert", False),
    ],
)
async def test_a_request_has_an_id_the_callers_own_if_it_is_harmless(
    anonymous: Client, given: str, kept: bool
) -> None:
    answer = await anonymous.get("/health/live", headers={"X-Request-Id": given})
    assert (answer.headers["x-request-id"] == given) is kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{8,64}", answer.headers["x-request-id"])


async def test_unavailable_says_when_to_come_back(anonymous: Client) -> None:
    answer = await anonymous.get("/busy")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "too_busy", "7")


async def test_a_broken_rule_of_the_database_is_a_conflict(signed_in: Client) -> None:
    answer = await signed_in.post("/same")
    assert (answer.status, answer.code) == (409, "already_exists")


async def test_a_pool_that_is_used_up_is_503_and_nothing_waits_for_ever(db_urls: DatabaseUrls) -> None:
    async with Database.connect(db_urls.app, size=1, wait=0.2) as narrow:
        org = (await make.organization(narrow)).id
        token = await make.token(narrow, org)
        async with live.serving(live.services(narrow), MORE) as anonymous:
            client = anonymous.signed_in(token)
            assert (await client.get("/slow")).status == 200  # the key is known now
            answers = await asyncio.gather(client.get("/slow"), client.get("/slow"))
            assert sorted(answer.status for answer in answers) == [200, 503]
            refused = next(answer for answer in answers if answer.status == 503)
            assert (refused.code, refused.headers["retry-after"]) == ("database_away", "5")
            assert (await client.get("/slow")).status == 200


async def test_without_a_database_it_lives_and_is_not_ready() -> None:
    nowhere = "postgresql://antiphon_app:x@127.0.0.1:1/nothing"
    async with (
        Database.connect(nowhere, size=2, wait=0.3) as database,
        live.serving(live.services(database)) as client,
    ):
        assert (await client.get("/health/live")).status == 200
        answer = await client.get("/health/ready")
        assert (answer.status, answer.code) == (503, "database_away")
        assert "retry-after" in answer.headers


async def test_is_ready_when_the_schema_is_this_programs(anonymous: Client, db_urls: DatabaseUrls) -> None:
    answer = await anonymous.get("/health/ready")
    assert (answer.status, answer.json["status"]) == (200, "ok")
    owner = await Connection.connect(db_urls.owner, autocommit=True)
    async with owner:
        await owner.execute(
            "DELETE FROM schema_versions WHERE version = (SELECT max(version) FROM schema_versions)"
        )
    behind = await anonymous.get("/health/ready")
    assert (behind.status, behind.code) == (503, "schema_differs")
    assert "antiphon migrate" in behind.json["detail"]


async def test_figures_name_routes_and_no_ids(signed_in: Client) -> None:
    key = (await signed_in.get(KEYS)).json["items"][0]["id"]
    await signed_in.get(f"{KEYS}/{key}")
    await signed_in.get("/api/v1/no-such-thing")
    answer = await signed_in.get("/metrics")
    text = answer.content.decode()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'route="/api/v1/keys/{key_id}",status="200"' in text
    assert key not in text
    assert "no-such-thing" not in text


# ---- the reference and the document


async def test_the_reference_needs_no_network(anonymous: Client) -> None:
    page = await anonymous.get("/docs")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    text = page.content.decode()
    assert not re.search(r"(src|href)=[\"'](https?:)?//", text)
    assert "<style" not in text
    assert not re.search(r"<script(?! src=)", text)
    for path in re.findall(r"(?:src|href)=\"([^\"]+)\"", text):
        asset = await anonymous.get(path)
        assert asset.status == 200, path
        assert len(asset.content) > 50
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert (await anonymous.get("/docs/assets/..%2f..%2fcore.py")).status == 404
    assert (await anonymous.get("/docs/assets/swagger-editor.js")).status == 404


async def test_the_document_that_is_served_is_the_one_of_the_program(anonymous: Client) -> None:
    answer = await anonymous.get("/openapi.json")
    served = answer.json
    del (
        served["paths"]["/same"],
        served["paths"]["/slow"],
        served["paths"]["/broken"],
        served["paths"]["/busy"],
    )
    assert served == msgspec.json.decode(openapi.render())
    assert served["openapi"].startswith("3.1")


def test_every_operation_has_a_word_of_its_own_a_summary_and_a_tag() -> None:
    document = msgspec.json.decode(openapi.render())
    tags = {tag["name"] for tag in document["tags"]}
    ids: list[str] = []
    for path, item in document["paths"].items():
        for method in openapi.METHODS:
            if (operation := item.get(method)) is not None:
                ids.append(operation["operationId"])
                assert operation.get("description"), f"{method} {path} has no docstring"
                assert set(operation["tags"]) <= tags, (
                    f"{method} {path}: describe {operation['tags']} in openapi.TAGS"
                )
                assert "x-permission" in operation or path in {"/health/live", "/health/ready", "/metrics"}
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][a-z_]+", name) for name in ids)


def test_a_stale_document_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert openapi.main(["--check"]) == 1
    assert "make openapi" in capsys.readouterr().err
    assert openapi.main([]) == 0
    assert openapi.main(["--check"]) == 0
    file = tmp_path / openapi.FILE
    file.write_bytes(file.read_bytes().replace(b'"title": "Antiphon"', b'"title": "Antiphony"'))
    assert openapi.main(["--check"]) == 1


def test_the_committed_document_is_the_one_of_the_program() -> None:
    committed = Path(__file__).parents[2] / openapi.FILE
    assert openapi.is_current(committed.parent), "run make openapi"


def test_a_problem_is_described_as_it_is_sent() -> None:
    document: dict[str, Any] = msgspec.json.decode(openapi.render())
    problem = document["components"]["schemas"]["Problem"]
    assert problem["required"] == ["type", "title", "status", "code", "detail"]
    patch = document["paths"]["/api/v1/organization"]["patch"]
    assert set(patch["responses"]) == {"200", "400", "401", "403", "404", "409", "413", "415", "422", "503"}
    assert {"$ref": "#/components/parameters/IdempotencyKey"} in patch["parameters"]
