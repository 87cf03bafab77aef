"""People who belong to an organization, each with a role there. One person may belong to several."""

from __future__ import annotations

from uuid import UUID

from msgspec import Struct

from antiphon.core import db, ids
from antiphon.core.db import Connection
from antiphon.core.errors import Invalid
from antiphon.organizations import audit
from antiphon.organizations.model import Actor, Role

LONGEST_EMAIL = 254


class User(Struct, frozen=True, kw_only=True):
    """A person who may sign in."""

    id: UUID
    email: str
    name: str


async def add_member(conn: Connection, actor: Actor, email: str, name: str, role: Role) -> User:
    """Give somebody a role in the organization; whoever is known by this email stays who they are.

    Raises Invalid for what is no email address.
    """
    address = email.strip().lower()
    local, at, domain = address.rpartition("@")
    if not (at and local and "." in domain and " " not in address and len(address) <= LONGEST_EMAIL):
        raise Invalid.field("email", "must be an email address, like anna@example.com", email[:80])
    user = await db.one(
        conn, User, ADD_USER, id=ids.new_id(), email=address, name=name.strip()[:200] or local[:200]
    )
    await db.execute(conn, ADD_MEMBERSHIP, org_id=actor.org_id, user_id=user.id, role=role)
    await audit.record(conn, actor, "member.added", user.id, role=role)
    return user


ADD_USER = """
    INSERT INTO users (id, email, name) VALUES (%(id)s, %(email)s, %(name)s)
        ON CONFLICT (email) DO UPDATE SET email = excluded.email
    RETURNING id, email, name
"""

ADD_MEMBERSHIP = """
    INSERT INTO memberships (org_id, user_id, role) VALUES (%(org_id)s, %(user_id)s, %(role)s)
        ON CONFLICT (org_id, user_id) DO UPDATE SET role = excluded.role
"""
