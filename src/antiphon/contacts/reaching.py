"""Whom a message is for: from addresses or contact ids to contacts, their address on the channel, and what is known of
them for a text. Set-based: a thousand recipients are a few statements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from antiphon.contacts import address_service
from antiphon.core import db
from antiphon.core.channel import ADDRESS_KIND, Channel
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

    The second part says of each other name what is wrong with it; if there is any, no contact is made.
    """
    ids = {name: UUID(name) for name in names if _is_id(name)}
    addresses = [name for name in names if name not in ids]
    wrong: dict[str, str] = {}
    owners: dict[str, tuple[UUID, str | None]] = {name: (id_, None) for name, id_ in ids.items()}
    try:
        resolved = await address_service.resolve_many(conn, actor, channel, addresses) if addresses else []
        owners |= dict(zip(addresses, resolved, strict=True))
    except Invalid as error:
        for each in error.errors:
            if found := _INDEX.match(each.field):
                wrong[addresses[int(found[1])]] = each.message
        if not wrong:
            raise
    people = await _people(conn, actor.org_id, channel, [contact_id for contact_id, _ in owners.values()])
    reached: dict[str, Reachable] = {}
    for name, (contact_id, address) in owners.items():
        person = people.get(contact_id)
        if person is None:
            wrong[name] = "there is no contact of this id"
        else:
            reached[name] = person if address is None else msgspec.structs.replace(person, address=address)
    return reached, wrong


def _is_id(name: str) -> bool:
    try:
        return len(name) == 36 and bool(UUID(name))
    except ValueError:
        return False


async def _people(
    conn: Connection, org_id: UUID, channel: Channel, ids: Sequence[UUID]
) -> dict[UUID, Reachable]:
    found = await db.rows(conn, Reachable, PEOPLE, org_id=org_id, kind=ADDRESS_KIND[channel], ids=list(ids))
    return {person.contact_id: person for person in found}


PEOPLE = """
    SELECT c.id AS contact_id, coalesce(a.of_channel, '') AS address, c.language,
           c.attributes || jsonb_strip_nulls(jsonb_build_object(
               'firstName', c.first_name, 'lastName', c.last_name, 'company', c.company,
               'email', a.email, 'phone', a.phone)) AS variables
      FROM contacts c
     CROSS JOIN LATERAL (
           SELECT (array_agg(x.value ORDER BY x.is_primary DESC, x.id) FILTER (WHERE x.kind = %(kind)s))[1] AS of_channel,
                  (array_agg(x.value ORDER BY x.is_primary DESC, x.id) FILTER (WHERE x.kind = 'email'))[1] AS email,
                  (array_agg(x.value ORDER BY x.is_primary DESC, x.id) FILTER (WHERE x.kind = 'phone'))[1] AS phone
             FROM addresses x
            WHERE x.org_id = %(org_id)s AND x.contact_id = c.id AND x.deleted_at IS NULL) AS a
     WHERE c.org_id = %(org_id)s AND c.id = ANY (%(ids)s::uuid[]) AND c.deleted_at IS NULL
"""
