"""Somebody who works in the organization of `conn`."""

from __future__ import annotations

from uuid import UUID

import pytest

from antiphon.organizations.model import Actor
from tests import make


@pytest.fixture
def actor(org_id: UUID) -> Actor:
    return make.actor(org_id)
