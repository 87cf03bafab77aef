"""Tokens, permissions and the ring of known keys."""

from __future__ import annotations

import itertools
from uuid import UUID

import pytest

from antiphon.core import ids
from antiphon.organizations import keyring, model
from antiphon.organizations.keyring import KeyRing
from antiphon.organizations.model import ROLE_PERMISSIONS, Actor, Permission

ORG = ids.new_id()


def actor() -> Actor:
    return Actor(ORG, "key", str(ids.new_id()), frozenset(Permission))


def test_a_token_names_its_organization_and_hides_its_secret() -> None:
    token, prefix = model.new_token(ORG)
    assert model.token_organization(token) == ORG
    assert token.startswith(prefix)
    secret = token.split("_", 2)[2]
    assert len(secret) == 43  # 256 bits
    assert secret[model.SHOWN :] not in prefix
    assert model.new_token(ORG)[0] != token


NO_TOKENS = [
    "",
    "ak",
    "ak_",
    "ak__secretsecretsecretsecretsecretsecret",
    f"xx_{ids.short(ORG)}_{'s' * 43}",
    f"ak_{ids.short(ORG)}_short",
    f"ak_{'z' * 22}_{'s' * 43}",
    f"ak_{ids.short(ORG)[:-1]}_{'s' * 43}",
]


@pytest.mark.parametrize("text", NO_TOKENS)
def test_is_no_token(text: str) -> None:
    assert model.token_organization(text) is None


def test_each_role_may_all_that_the_one_below_may() -> None:
    roles = [ROLE_PERMISSIONS[role] for role in ("viewer", "user", "manager", "admin")]
    for below, above in itertools.pairwise(roles):
        assert below < above


def test_a_scope_that_we_no_longer_know_gives_nothing() -> None:
    assert model.permissions_of(["contacts:read", "contacts:fly"]) == {Permission.CONTACTS_READ}


def test_an_actor_is_labeled_by_kind_and_id() -> None:
    assert Actor.operator(ORG).label == "operator:command line"
    assert Actor.system(ORG, "pump").label == "system:pump"


def test_a_key_is_checked_once_and_believed_until_its_transaction_asks() -> None:
    ring, token, who = KeyRing(), "ak_token", actor()
    assert ring.find(token) is None
    assert ring.keep(token, who).unchecked_id is None
    found = ring.find(token)
    assert found is not None
    assert found.unchecked_id == UUID(who.id)
    ring.forget(found)
    assert ring.find(token) is None


def test_the_ring_forgets_who_was_not_seen_for_the_longest() -> None:
    ring = KeyRing()
    for number in range(keyring.MOST_KEYS):
        ring.keep(f"token {number}", actor())
    assert ring.find("token 0") is not None
    ring.keep("one more", actor())
    assert ring.find("token 0") is not None
    assert ring.find("token 1") is None


def test_use_is_noted_once_a_minute() -> None:
    ring = KeyRing()
    known = ring.keep("token", actor())
    assert [ring.is_note_due(known) for _ in range(3)] == [True, False, False]
