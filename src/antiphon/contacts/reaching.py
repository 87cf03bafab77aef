"""Whom a message is for: from addresses or contact ids to contacts, their address on the channel, and what is known of
them for a text. Set-based: a thousand recipients are a few statements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import structs

from antiphon.contacts import address_service
from antiphon.core import db
from antiphon.core.channel import ADDRESS_KIND, AddressKind, Channel
from antiphon.core.db import Connection
from antiphon.core.errors import Invalid
from antiphon.organizations.model import Actor

_INDEX = re.compile(r"addresses\[(\d+)\]\Z")


class Reachable(msgspec.Struct, frozen=True, kw_only=True):
    """A contact as a message needs it. `address` is '' when they have none for the channel."""

    contact_id: UUID
    address: str
    language: str | None
    variables: dict[str, Any]


async def reach(
    conn: Connection, actor: Actor, channel: Channel, names: Sequence[str]
) -> tuple[dict[str, Reachable], dict[str, str]]:
    """For each name (an address, or a contact's id) the contact behind it; an address that nobody has becomes one.

    The second part says of each other name what is wrong with it. With a wrong address among them nobody is reached and
    no contact is made; an unknown id hinders no other.
    """
    ids = {name: UUID(name) for name in names if _is_id(name)}
    addresses = [name for name in names if name not in ids]
    kind = ADDRESS_KIND[channel]
    wrong: dict[str, str] = {}
    values: list[str] = []
    try:
        values = await address_service.normalized(conn, actor, kind, addresses)
    except Invalid as error:
        found = [(_INDEX.match(each.field), each.message) for each in error.errors]
        wrong = {addresses[int(at[1])]: message for at, message in found if at}
    people = await _people(conn, actor.org_id, kind, list(ids.values()), values)
    by_id = {person.contact_id: person for person in people}
    is_readable = not wrong
    wrong |= {name: "there is no contact of this id" for name, id_ in ids.items() if id_ not in by_id}
    if not is_readable:
        return {}, wrong
    reached = {name: by_id[id_] for name, id_ in ids.items() if id_ in by_id}
    at = {person.at: person for person in people}
    missing = list(dict.fromkeys(value for value in values if value not in at))
    if missing:
        at |= await _made(conn, actor, channel, missing)
    reached |= {n: structs.replace(at[v], address=v) for n, v in zip(addresses, values, strict=True)}
    return {name: person.shown for name, person in reached.items()}, wrong


def _is_id(name: str) -> bool:
    try:
        return len(name) == 36 and bool(UUID(name))
    except ValueError:
        return False


class _Person(Reachable, frozen=True, kw_only=True):
    """A contact, and the address by which they were looked for."""

    at: str | None

    @property
    def shown(self) -> Reachable:
        return Reachable(
            contact_id=self.contact_id, address=self.address, language=self.language, variables=self.variables
        )


async def _made(
    conn: Connection, actor: Actor, channel: Channel, values: Sequence[str]
) -> dict[str | None, _Person]:
    """Contacts for addresses that nobody has."""
    owners = await address_service.resolve_many(conn, actor, channel, values)
    people = await _people(conn, actor.org_id, ADDRESS_KIND[channel], [owner for owner, _ in owners], [])
    by_id = {person.contact_id: person for person in people}
    return {value: by_id[owner] for owner, value in owners}


async def _people(
    conn: Connection, org_id: UUID, kind: AddressKind, ids: Sequence[UUID], values: Sequence[str]
) -> list[_Person]:
    return await db.rows(conn, _Person, PEOPLE, org_id=org_id, kind=kind, ids=list(ids), values=list(values))


PEOPLE = """
    SELECT c.id AS contact_id, coalesce(a.of_channel, '') AS address, c.language, wanted.at,
           c.attributes || jsonb_strip_nulls(jsonb_build_object(
               'firstName', c.first_name, 'lastName', c.last_name, 'company', c.company,
               'email', a.email, 'phone', a.phone)) AS variables
      FROM (SELECT named.id, NULL::text AS at FROM unnest(%(ids)s::uuid[]) AS named (id)
             UNION ALL
            SELECT x.contact_id, x.value FROM addresses x
             WHERE x.org_id = %(org_id)s AND x.kind = %(kind)s AND x.value = ANY (%(values)s::text[])
               AND x.deleted_at IS NULL) AS wanted
      JOIN contacts c ON c.org_id = %(org_id)s AND c.id = wanted.id AND c.deleted_at IS NULL
     CROSS JOIN LATERAL (
           SELECT (array_agg(x.value ORDER BY x.is_primary DESC, x.id)
                      FILTER (WHERE x.kind = %(kind)s))[1] AS of_channel,
                  (array_agg(x.value ORDER BY x.is_primary DESC, x.id) FILTER (WHERE x.kind = 'email'))[1] AS email,
                  (array_agg(x.value ORDER BY x.is_primary DESC, x.id) FILTER (WHERE x.kind = 'phone'))[1] AS phone
             FROM addresses x
            WHERE x.org_id = %(org_id)s AND x.contact_id = c.id AND x.deleted_at IS NULL) AS a
"""
