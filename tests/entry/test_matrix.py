"""Who may do what, in whose data: every operation of the OpenAPI document × everybody who might call it."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator
from msgspec import Struct

from antiphon.core import db
from antiphon.core.db import Database
from antiphon.core.roles import DatabaseUrls
from antiphon.entry import openapi, web
from antiphon.organizations.model import ROLE_PERMISSIONS, Permission
from tests import make
from tests.entry import live
from tests.entry.live import Answer, Client
from tests.entry.matrix_rows import API, CANARY, ROWS, Call, World

NOT_FOR_KEYS = ("/health/live", "/health/ready", "/metrics")


class Operation(Struct, frozen=True):
    """One line of the matrix, from the document."""

    name: str
    method: str
    path: str
    permission: str | None

    @property
    def parameters(self) -> int:
        return self.path.count("{")

    @property
    def is_unsafe(self) -> bool:
        return self.method != "GET"


DOCUMENT = openapi.document(web.litestar_application(None))


def _operations() -> list[Operation]:
    return [
        Operation(
            f"{method.upper()} {path.removeprefix(API)}",
            method.upper(),
            path,
            item[method].get("x-permission"),
        )
        for path, item in DOCUMENT["paths"].items()
        for method in openapi.METHODS
        if method in item and path not in NOT_FOR_KEYS
    ]


OPERATIONS = _operations()
KNOWN = [operation for operation in OPERATIONS if operation.name in ROWS]
WITH_IDS = [operation for operation in KNOWN if operation.parameters or ROWS[operation.name].names_others]
WITH_TWO_IDS = [operation for operation in KNOWN if operation.parameters > 1]
each_operation = pytest.mark.parametrize("operation", KNOWN, ids=[operation.name for operation in KNOWN])


@pytest.fixture(scope="module")
def matrix_urls(postgres: Any, template: str) -> Iterator[DatabaseUrls]:
    """One database for the whole matrix: its cells do not disturb each other."""
    name = f"antiphon_test_{os.getpid()}_matrix"
    yield postgres.create(name, template)
    postgres.drop(name)


class Matrix(Struct, frozen=True):
    """A live server, two worlds in it, and keys of the first for everybody."""

    database: Database
    ours: World
    theirs: World
    tokens: dict[str, str]

    async def caller(self, scopes: frozenset[Permission]) -> Client:
        """A client of our world whose key has exactly these scopes."""
        name = ",".join(sorted(scopes))
        if name not in self.tokens:
            self.tokens[name] = await make.token(self.database, self.ours.org_id, scopes)
        return self.ours.client.signed_in(self.tokens[name])


@pytest.fixture(scope="module")
async def matrix(
    matrix_urls: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Matrix]:
    folder = tmp_path_factory.mktemp("matrix")
    async with (
        Database.connect(matrix_urls.app, size=4) as database,
        live.serving(live.services(database, data_dir=folder)) as anonymous,
    ):
        numbers = itertools.count(1)

        async def world() -> World:
            org_id = (await make.organization(database, f"{CANARY} {next(numbers)}")).id
            client = anonymous.signed_in(await make.token(database, org_id))
            return World(database, org_id, client, numbers)

        yield Matrix(database, await world(), await world(), {})


async def send(
    client: Client, operation: Operation, call: Call, ids: tuple[str, ...] | None = None
) -> Answer:
    """The request, with other ids in the path if any are given."""
    found = iter(call.ids if ids is None else ids)
    path = re.sub(r"\{[^}]+\}", lambda _: next(found), operation.path)
    headers = {} if call.file is None else {"Content-Type": "text/csv"}
    return await client.request(
        operation.method, path, json=call.json, data=call.file, params=call.params, headers=headers
    )


def nothing_real(operation: Operation) -> Call:
    """A request that would be answered 404 or 422: who may not call is told so before anything is looked at."""
    return Call(tuple(str(uuid4()) for _ in range(operation.parameters)), {"what": "ever"})


async def audited(matrix: Matrix, client: Client) -> int:
    """How many audit entries this client's key has left."""
    async with matrix.database.transaction(matrix.ours.org_id) as conn:
        return await db.value(
            conn,
            """
            SELECT count(*) FROM audit_log
             WHERE org_id = %(org_id)s
               AND actor_id IN (SELECT id::text FROM api_keys WHERE org_id = %(org_id)s AND prefix = %(prefix)s)
            """,
            org_id=matrix.ours.org_id,
            prefix=cast("str", client.token)[: len("ak_") + 22 + 1 + 6],
        )


# ---- the document and the rows


def test_every_operation_has_a_row() -> None:
    missing = sorted(operation.name for operation in OPERATIONS if operation.name not in ROWS)
    assert not missing, (
        f"add a row to tests/entry/matrix_rows.py for each of: {missing}. A row says how to make a real object and a "
        'right request: "POST /things/{thing_id}/end": on(World.thing, {"reason": "…"})'
    )


def test_every_row_has_an_operation() -> None:
    known = {operation.name for operation in OPERATIONS}
    assert not sorted(set(ROWS) - known), (
        "these rows of tests/entry/matrix_rows.py belong to no route: remove them"
    )


def test_every_route_says_who_may_call_it() -> None:
    app = web.litestar_application(None)
    silent = [
        f"{method} {route.path}"
        for route in app.routes
        for handler in getattr(route, "route_handlers", [])
        for method in handler.http_methods
        if method != "OPTIONS"
        and not route.path.startswith("/openapi")
        and not ({"permission", "public"} & set(handler.opt))
    ]
    assert not silent, f"give each of these **requires(Permission.…) or **public(): {silent}"


def test_every_operation_of_the_api_needs_a_permission() -> None:
    assert not [operation.name for operation in OPERATIONS if operation.permission is None]


# ---- who may


@each_operation
async def test_nobody_gets_in_without_a_key(matrix: Matrix, operation: Operation) -> None:
    answer = await send(matrix.ours.client.signed_in(None), operation, nothing_real(operation))
    assert (answer.status, answer.code) == (401, "unauthorized")


@each_operation
async def test_every_other_permission_together_is_not_enough(matrix: Matrix, operation: Operation) -> None:
    assert operation.permission is not None
    caller = await matrix.caller(frozenset(Permission) - {Permission(operation.permission)})
    answer = await send(caller, operation, nothing_real(operation))
    assert (answer.status, answer.code) == (403, "permission_missing")
    assert operation.permission in answer.json["detail"]


@each_operation
@pytest.mark.parametrize("role", ROLE_PERMISSIONS)
async def test_each_role_may_what_its_permissions_say(
    matrix: Matrix, operation: Operation, role: str
) -> None:
    permissions = ROLE_PERMISSIONS[cast("Any", role)]
    row = ROWS[operation.name]
    caller = await matrix.caller(permissions)
    if operation.permission not in permissions:
        answer = await send(caller, operation, nothing_real(operation))
        assert (answer.status, answer.code) == (403, "permission_missing")
        return
    call = await row.make(matrix.ours)
    before = await audited(matrix, caller)
    answer = await send(caller, operation, call)
    told = f"{operation.name} as {role}: {answer.status} {answer.content[:1000]!r}"
    entries = await audited(matrix, caller) - before
    assert answer.status in (200, 201, 202, 204), told
    _assert_as_documented(operation, answer)
    if operation.is_unsafe and not row.is_silent:
        assert entries >= 1, f"{told}: a change without an audit entry; call audit.record in its service"
    else:
        assert entries == 0, told


def _assert_as_documented(operation: Operation, answer: Answer) -> None:
    """A success has the shape that the document promises."""
    promised = DOCUMENT["paths"][API + operation.name.split(" ")[1]][operation.method.lower()]["responses"]
    content = promised[str(answer.status)].get("content", {})
    if "application/json" in content:
        schema = content["application/json"]["schema"] | {"components": DOCUMENT["components"]}
        judge = cast("Any", Draft202012Validator(schema))
        wrong = [error.message for error in judge.iter_errors(answer.json)]
        assert not wrong, f"{operation.name} answers otherwise than openapi.json says: {wrong[:5]}"
    else:
        assert answer.status == 204 or answer.headers["content-type"].split(";")[0] in content


# ---- in whose data


@pytest.mark.parametrize("operation", WITH_IDS, ids=[operation.name for operation in WITH_IDS])
async def test_another_organizations_ids_are_like_ids_that_nobody_has(
    matrix: Matrix, operation: Operation
) -> None:
    """Their real ids in our request: the answer is the one for random ids, letter for letter, and nothing changes."""
    row = ROWS[operation.name]
    call = await row.make(matrix.theirs)
    before = await _rows_of(matrix, matrix.theirs)
    answer = await send(matrix.ours.client, operation, call)
    if operation.parameters:
        random = tuple(str(uuid4()) for _ in call.ids)
        nobodys = await send(matrix.ours.client, operation, call, random)
        assert (answer.status, answer.code) == (nobodys.status, nobodys.code) == (404, "not_found"), (
            answer.content
        )
        assert _without(answer.content, call.ids) == _without(nobodys.content, random)
    else:
        assert answer.status in (404, 409, 422), answer.content
    assert await _rows_of(matrix, matrix.theirs) == before


def _without(content: bytes, ids: tuple[str, ...]) -> bytes:
    for identifier in ids:
        content = content.replace(identifier.encode(), b"(id)")
    return content


def _foreign(matrix: Matrix, answer: Answer) -> bool:
    """Whether the other world's names or ids are in an answer of ours."""
    names = f"{CANARY} {matrix.theirs.org_id.hex[-6:]}".encode()
    return names in answer.content or str(matrix.theirs.org_id).encode() in answer.content


async def _rows_of(matrix: Matrix, world: World) -> int:
    """How much the world's audit log holds: a change would have added to it."""
    async with matrix.database.transaction(world.org_id) as conn:
        return await db.value(
            conn, "SELECT count(*) FROM audit_log WHERE org_id = %(org_id)s", org_id=world.org_id
        )


@pytest.mark.parametrize("operation", WITH_TWO_IDS, ids=[operation.name for operation in WITH_TWO_IDS])
async def test_our_own_ids_after_their_organizations_are_not_found_either(
    matrix: Matrix, operation: Operation
) -> None:
    """Two ids in one path: ours and theirs mixed are not a way in."""
    ours = await ROWS[operation.name].make(matrix.ours)
    theirs = await ROWS[operation.name].make(matrix.theirs)
    for mixed in ((ours.ids[0], *theirs.ids[1:]), (theirs.ids[0], *ours.ids[1:])):
        answer = await send(matrix.ours.client, operation, ours, mixed)
        assert (answer.status, answer.code) == (404, "not_found"), mixed


async def test_lists_show_what_is_ours_and_nothing_of_theirs(matrix: Matrix) -> None:
    for world in (matrix.theirs, matrix.ours):
        await world.message()
        await world.campaign()
        await world.incident()
        await world.template()
        await world.group()
    lists = [operation for operation in KNOWN if operation.method == "GET" and not operation.parameters]
    shown = 0
    for operation in lists:
        answer = await send(matrix.ours.client, operation, await ROWS[operation.name].make(matrix.ours))
        assert answer.status == 200
        assert not _foreign(matrix, answer), operation.name
        shown += CANARY.encode() in answer.content
    assert shown >= 8, "the canaries were not planted, so their absence proves nothing"


async def test_a_cursor_of_theirs_shows_nothing_of_theirs(matrix: Matrix) -> None:
    for _ in range(3):
        await matrix.theirs.contact()
    page = await matrix.theirs.client.get(f"{API}/contacts", params={"limit": "1"})
    assert page.json["next"] is not None
    answer = await matrix.ours.client.get(f"{API}/contacts", params={"cursor": page.json["next"]})
    assert answer.status == 200
    assert not _foreign(matrix, answer)


async def test_no_operation_tells_a_secret(matrix: Matrix) -> None:
    """What a provider's account was given is never shown again, by no route that reads."""
    account = await matrix.ours.account()
    for path in ("", f"/{account}", f"/{account}/webhook"):
        answer = await matrix.ours.client.get(f"{API}/provider-accounts{path}")
        assert answer.status == 200
        assert f"{CANARY}-token".encode() not in answer.content


def test_role_permissions_are_as_declared() -> None:
    """The table of roles, written out: a change of a role is a change here too."""
    reads = {permission for permission in Permission if permission.endswith(":read")}
    assert ROLE_PERMISSIONS["admin"] == set(Permission)
    assert set(Permission) - ROLE_PERMISSIONS["manager"] == {"organization:write", "keys:read", "keys:write"}
    assert ROLE_PERMISSIONS["manager"] - ROLE_PERMISSIONS["user"] == {
        "audit:read", "templates:write", "senders:write", "campaigns:launch",
    }  # fmt: skip
    assert ROLE_PERMISSIONS["viewer"] == reads - {"keys:read", "audit:read"}
