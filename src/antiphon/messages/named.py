"""What a request to send names, found in one statement: senders with their gates, templates with their newest versions,
people by address.

A request of one message costs what its round trips cost (measured: nine statements 2.3 ms of server and 1.8 ms of
PostgreSQL under load, two of them 0.9 and 0.8), so all that can be looked up together is. What is not found here is for
the features' own services to make, or to refuse in their words.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from antiphon.contacts.addresses import fast_email, fast_phone
from antiphon.contacts.reaching import Reachable
from antiphon.core import db
from antiphon.core.channel import AddressKind, Channel
from antiphon.core.db import Connection
from antiphon.senders.model import name_key
from antiphon.templates import service as templates
from antiphon.templates.localize import languages_to_try
from antiphon.templates.model import TemplateVersion

MOST_VERSIONS = 500


class Way(msgspec.Struct, frozen=True):
    """A sender that is named, and the default gates that it has, by class of traffic."""

    id: UUID
    name: str
    name_key: str
    channel: Channel
    is_active: bool
    gates: dict[str, UUID]


class Text(msgspec.Struct, frozen=True):
    """A template that is named, and the id of its newest version in each language."""

    id: UUID
    name_key: str
    status: str
    default_language: str
    versions: dict[str, UUID]

    def version_for(self, language: str | None) -> UUID | None:
        """The version that a contact of this language gets, as `templates.active_version` chooses it; None where the
        template is not active or says nothing."""
        if self.status != "active":
            return None
        tried = languages_to_try(language, self.default_language)
        return next((self.versions[tag] for tag in tried if tag in self.versions), None)


T = TypeVar("T", Way, Text)


class Person(msgspec.Struct, frozen=True):
    """Whose an address is."""

    kind: str
    address: str
    contact_id: UUID
    language: str | None
    variables: dict[str, Any]


class Asked(NamedTuple):
    """What is looked up: senders and templates by id or name, people by what the request calls them."""

    senders: Collection[str]
    templates: Collection[str]
    people: Collection[str]


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, by what the request calls it."""

    senders: dict[str, Way]
    templates: dict[str, Text]
    people: dict[tuple[AddressKind, str], Reachable]


async def look_up(conn: Connection, org_id: UUID, asked: Asked) -> Named:
    """Everything in one statement. What is absent is not there, or written in a way that needs a closer look."""
    pairs = {name: pair for name in asked.people if (pair := _pair(name)) is not None}
    by_id, by_key = _ids_and_keys(asked.senders)
    texts_by_id, texts_by_key = _ids_and_keys(asked.templates)
    wanted = {
        "sender_ids": list(by_id.values()), "sender_keys": list(by_key.values()),
        "template_ids": list(texts_by_id.values()), "template_keys": list(texts_by_key.values()),
        "people": list(pairs.values()),
    }  # fmt: skip
    # one JSON text: the driver needs as long for each array as for all of this
    [(ways, texts, people)] = await db.tuples(conn, NAMED, org_id=org_id, wanted=db.json(wanted))
    found_ways, found_texts = _WAYS.decode(ways), _TEXTS.decode(texts)
    reached = {(AddressKind(one.kind), one.address): one for one in _PEOPLE.decode(people)}
    return Named(
        senders=_by_name(by_id, by_key, found_ways),
        templates=_by_name(texts_by_id, texts_by_key, found_texts),
        people={
            (pair[0], name): Reachable(
                contact_id=one.contact_id, address=one.address, language=one.language, variables=one.variables
            )
            for name, pair in pairs.items()
            if (one := reached.get(pair)) is not None
        },
    )


def _pair(name: str) -> tuple[AddressKind, str] | None:
    """How an address that is written plainly is stored; None: whoever normalizes it needs to know more."""
    if name.startswith("+"):
        phone = fast_phone(name, None)
        return None if phone is None else (AddressKind.PHONE, phone)
    email = fast_email(name) if "@" in name else None
    return None if email is None else (AddressKind.EMAIL, email)


def _ids_and_keys(names: Collection[str]) -> tuple[dict[str, UUID], dict[str, str]]:
    by_id: dict[str, UUID] = {}
    by_key: dict[str, str] = {}
    for name in names:
        try:
            by_id[name] = UUID(name)
        except ValueError:
            by_key[name] = name_key(name)
    return by_id, by_key


def _by_name(by_id: dict[str, UUID], by_key: dict[str, str], found: list[T]) -> dict[str, T]:
    ids, keys = {one.id: one for one in found}, {one.name_key: one for one in found}
    return {name: ids[id_] for name, id_ in by_id.items() if id_ in ids} | {
        name: keys[key] for name, key in by_key.items() if key in keys
    }


_WAYS = msgspec.json.Decoder(list[Way])
_TEXTS = msgspec.json.Decoder(list[Text])
_PEOPLE = msgspec.json.Decoder(list[Person])

NAMED = """
    WITH asked AS MATERIALIZED (SELECT %(wanted)s::jsonb AS of)
    SELECT (SELECT coalesce(json_agg(json_build_object(
                       'id', s.id, 'name', s.name, 'name_key', s.name_key, 'channel', s.channel,
                       'is_active', s.is_active,
                       'gates', (SELECT coalesce(json_object_agg(g.class, g.id), '{}') FROM gates g
                                  WHERE g.org_id = %(org_id)s AND g.lane_id = s.id AND g.cause = 'default'
                                    AND g.cause_id = %(org_id)s))), '[]')::text
              FROM senders s
             WHERE s.org_id = %(org_id)s AND s.deleted_at IS NULL
               AND s.id = ANY (ARRAY (
                   SELECT j.value::uuid FROM asked, jsonb_array_elements_text(asked.of -> 'sender_ids') j
                    UNION ALL
                   SELECT x.id FROM asked, jsonb_array_elements_text(asked.of -> 'sender_keys') j
                     JOIN senders x ON x.org_id = %(org_id)s AND x.deleted_at IS NULL AND x.name_key = j.value))),
           (SELECT coalesce(json_agg(json_build_object(
                       'id', t.id, 'name_key', t.name_key, 'status', t.status,
                       'default_language', t.default_language,
                       'versions', (SELECT coalesce(json_object_agg(v.language, v.id), '{}')
                                      FROM (SELECT DISTINCT ON (y.language) y.language, y.id FROM template_versions y
                                             WHERE y.org_id = %(org_id)s AND y.template_id = t.id
                                             ORDER BY y.language, y.version DESC) v))), '[]')::text
              FROM templates t
             WHERE t.org_id = %(org_id)s AND t.deleted_at IS NULL
               AND t.id = ANY (ARRAY (
                   SELECT j.value::uuid FROM asked, jsonb_array_elements_text(asked.of -> 'template_ids') j
                    UNION ALL
                   SELECT x.id FROM asked, jsonb_array_elements_text(asked.of -> 'template_keys') j
                     JOIN templates x ON x.org_id = %(org_id)s AND x.deleted_at IS NULL AND x.name_key = j.value))),
           (SELECT coalesce(json_agg(json_build_object(
                       'kind', p.kind, 'address', p.value, 'contact_id', p.contact_id, 'language', p.language,
                       'variables', p.variables)), '[]')::text
              FROM (SELECT wanted.kind, wanted.value, c.id AS contact_id, c.language,
                           c.attributes || jsonb_strip_nulls(jsonb_build_object(
                               'firstName', c.first_name, 'lastName', c.last_name, 'company', c.company,
                               'email', known.email, 'phone', known.phone)) AS variables
                      FROM asked
                     CROSS JOIN LATERAL (
                           SELECT j.value ->> 0 AS kind, j.value ->> 1 AS value
                             FROM jsonb_array_elements(asked.of -> 'people') j) wanted
                     CROSS JOIN LATERAL (
                           SELECT a.contact_id FROM addresses a
                            WHERE a.org_id = %(org_id)s AND a.kind = wanted.kind AND a.value = wanted.value
                              AND a.deleted_at IS NULL OFFSET 0) owner
                     CROSS JOIN LATERAL (
                           SELECT x.* FROM contacts x
                            WHERE x.org_id = %(org_id)s AND x.id = owner.contact_id AND x.deleted_at IS NULL
                           OFFSET 0) c
                     CROSS JOIN LATERAL (
                           SELECT (array_agg(x.value ORDER BY x.is_primary DESC, x.id)
                                      FILTER (WHERE x.kind = 'email'))[1] AS email,
                                  (array_agg(x.value ORDER BY x.is_primary DESC, x.id)
                                      FILTER (WHERE x.kind = 'phone'))[1] AS phone
                             FROM addresses x
                            WHERE x.org_id = %(org_id)s AND x.contact_id = c.id AND x.deleted_at IS NULL) known) p)
"""


# ---- versions --------------------------------------------------------------------------------------

_versions: dict[tuple[UUID, UUID], TemplateVersion] = {}


async def version(conn: Connection, org_id: UUID, version_id: UUID) -> TemplateVersion:
    """A version by its id, fetched once by a process: it never changes."""
    found = _versions.get((org_id, version_id))
    if found is None:
        if len(_versions) >= MOST_VERSIONS:
            _versions.clear()
        found = _versions[org_id, version_id] = await templates.get_version(conn, org_id, version_id)
    return found
