"""The route kit: who may, in whose data, in which transaction. Every api.py is written with it.

    @post("/", **requires(Permission.CONTACTS_WRITE), dto=StrictBody[NewContact], return_dto=None)
    async def create_contact(unit: Unit, data: NewContact) -> Contact:
        return await unit.write(service.create, data)

The guard knows the key before anything is read. A key that this process has seen is checked again by the first
statement of the request's own transaction: a revoked one is refused at once, a known one costs no transaction more.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Operation
from litestar.serialization import encode_json

from antiphon.core.crypto import Vault
from antiphon.core.db import Connection, Database
from antiphon.core.errors import Forbidden, Invalid, Unauthorized
from antiphon.core.settings import Settings
from antiphon.organizations import idempotency, queries, service
from antiphon.organizations.body import StrictBody
from antiphon.organizations.keyring import KeyRing, KnownKey
from antiphon.organizations.model import Actor, Permission
from antiphon.organizations.together import Together

__all__ = [
    "Moment",
    "Permission",
    "Services",
    "StrictBody",
    "Unit",
    "moment",
    "provide_unit",
    "public",
    "requires",
]

T = TypeVar("T")
Item = TypeVar("Item")
P = ParamSpec("P")
AnyConnection = ASGIConnection[Any, Any, Any, Any]
AnyRequest = Request[Any, Any, Any]

SCHEMES = ("bearer", "apiKey")
"""The names of the two ways to send a key, as the OpenAPI document declares them."""


class Services(msgspec.Struct, frozen=True):
    """What a request may use; built once, by entry."""

    database: Database
    settings: Settings
    vault: Vault
    keys: KeyRing = msgspec.field(default_factory=KeyRing)
    together: Together = msgspec.field(default_factory=Together)


def requires(permission: Permission) -> dict[str, Any]:
    """The declaration of a route that needs one permission: guard, security and x-permission."""
    return {
        "guards": [_guard(permission)],
        "security": [{scheme: []} for scheme in SCHEMES],
        "operation_class": _operation(permission),
        "opt": {"permission": permission},
    }


def public() -> dict[str, Any]:
    """The declaration of a route that anybody may call."""
    return {"security": [{}], "opt": {"public": True}}


@cache
def _guard(permission: Permission) -> Callable[[AnyConnection, BaseRouteHandler], Awaitable[None]]:
    async def guard(connection: AnyConnection, handler: BaseRouteHandler) -> None:
        known = await _sign_in(connection, permission, "unit" in handler.parsed_fn_signature.parameters)
        if permission not in known.actor.permissions:
            raise Forbidden(
                "permission_missing",
                f"this key has no permission {permission}; make one whose scopes include it",
            )
        connection.scope["user"] = known

    return guard


@cache
def _operation(permission: Permission) -> type[Operation]:
    @dataclass
    class PermittedOperation(Operation):
        x_permission: str = field(default=permission.value, metadata={"alias": "x-permission"})

    return PermittedOperation


async def _sign_in(connection: AnyConnection, permission: Permission, opens_unit: bool) -> KnownKey:
    """Who sent the request. A known key with the permission is believed for now if its unit will check it again."""
    services: Services = connection.app.state.services
    token = _token(connection.headers)
    known = services.keys.find(token)
    if known is None or not opens_unit or permission not in known.actor.permissions:
        actor = await service.authenticate(services.database, token)
        known = services.keys.keep(token, actor)
    return known


def _token(headers: Mapping[str, str]) -> str:
    given = headers.get("authorization")
    if given is None:
        token = headers.get("x-api-key")
        if token is None:
            raise Unauthorized("send an API key: `Authorization: Bearer ak_…`, or `X-API-Key: ak_…`")
        return token.strip()
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized(f"Authorization must be `Bearer ak_…`; {scheme[:20]!r} is not supported")
    return token.strip()


class RequestUnit:
    """One request's way into its organization's data: a transaction when asked for, nothing held else."""

    def __init__(self, request: AnyRequest, services: Services, known: KnownKey) -> None:
        self.services = services
        self.actor: Actor = known.actor
        self._request = request
        self._known = known

    async def read(
        self, fn: Callable[Concatenate[Connection, Actor, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`await fn(conn, actor, …)` in a read-only transaction."""
        async with self.transaction(read_only=True) as conn:
            return await fn(conn, self.actor, *args, **kwargs)

    async def write(
        self, fn: Callable[Concatenate[Connection, Actor, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`await fn(conn, actor, …)` in a transaction; with an Idempotency-Key, once.

        A repeated request leaves by `idempotency.Replayed`, which the application answers with the stored answer: what
        `fn` returned, under the route's status. One write per request, and return its result unchanged. A result that
        shows a secret has `without_secret()`, which is what a repeated request gets.
        """
        call = await self._call()
        if call is None:
            async with self.transaction() as conn:
                return await fn(conn, self.actor, *args, **kwargs)
        org_id = self.actor.org_id
        first = idempotency.first(org_id, self._known.unchecked_id, call)
        async with self._used(), self.services.database.transaction(org_id, first=first) as conn:
            await idempotency.begin(conn, org_id, call)
            result = await fn(conn, self.actor, *args, **kwargs)
            status = self._request.route_handler.status_code
            kept = b"" if status == 204 else encode_json(idempotency.without_secret(result))
            answer = idempotency.Answer(status, kept)
            await idempotency.finish(conn, org_id, call, answer)
        return result

    async def write_together(
        self,
        each: Callable[[Connection, Actor, list[Item]], Awaitable[list[T | None]]],
        alone: Callable[[Connection, Actor, Item], Awaitable[T]],
        item: Item,
    ) -> T:
        """`write(alone, item)`, or its like in a transaction that other requests with the same key share.

        `each` answers the usual items, and None for one that needs a closer look and is left to `alone`; so is every
        request with an Idempotency-Key.
        """
        if self._request.headers.get("idempotency-key") is None:
            begin = partial(self.transaction, is_shared=True)
            result = await self.services.together.write(each, self.actor, begin, item)
            if result is not None:
                return result
        return await self.write(alone, item)

    @contextlib.asynccontextmanager
    async def transaction(
        self, *, read_only: bool = False, is_shared: bool = False
    ) -> AsyncIterator[Connection]:
        """A transaction for a route that needs several; it knows nothing of Idempotency-Key. One that is shared checks
        the key in any case: others may have come after this request was signed in."""
        org_id, key_id = self.actor.org_id, self._known.unchecked_id
        if is_shared and self.actor.kind == "key":
            key_id = UUID(self.actor.id)
        first = None if key_id is None else queries.is_key_in_force(org_id, key_id)
        async with (
            self._used(),
            self.services.database.transaction(org_id, read_only=read_only, first=first) as conn,
        ):
            if first is not None and conn.first_row is None:
                raise Unauthorized(idempotency.KEY_ENDED)
            yield conn

    @contextlib.asynccontextmanager
    async def _used(self) -> AsyncIterator[None]:
        """Around the transaction: forget a key that is refused, note one that was used."""
        try:
            yield
        except Unauthorized:
            self.services.keys.forget(self._known)
            raise
        if self.services.keys.is_note_due(self._known):
            await service.note_use(self.services.database, self.actor)

    async def _call(self) -> idempotency.Call | None:
        request = self._request
        key = request.headers.get("idempotency-key")
        if key is None:
            return None
        scope = request.scope
        return idempotency.call_of(
            key, scope["method"], scope["path"], scope["query_string"], await request.body()
        )


Unit = NamedDependency[RequestUnit]
"""How a route declares it: `async def get_contact(unit: Unit, …)`."""


async def provide_unit(request: AnyRequest) -> RequestUnit:
    """The dependency `unit`; a plain value, so that nothing is left open when something else fails."""
    return RequestUnit(request, request.app.state.services, request.scope["user"])


Moment = (
    Annotated[datetime, msgspec.Meta(tz=True, description="RFC 3339, with a time zone")]
    | Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999, description="Unix milliseconds")]
)
"""A time as requests may write it."""


EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def moment(given: datetime | int, name: str = "at") -> datetime:
    """A request's time as a value, in UTC. Raises Invalid for one without a time zone, and for one that can only be
    meant otherwise: near the ends of the calendar no time zone can be reckoned with."""
    if not isinstance(given, int) and given.tzinfo is None:
        raise Invalid.field(name, "must name its time zone, as in 2027-03-15T09:30:00Z", given.isoformat())
    at = datetime.fromtimestamp(given / 1000, UTC) if isinstance(given, int) else given
    if not EARLIEST <= at < LATEST:
        raise Invalid.field(name, "must be between the years 2000 and 2199", at.isoformat())
    return at.astimezone(UTC)
