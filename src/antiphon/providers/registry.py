"""All providers, one word each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antiphon.core.errors import NotFound
from antiphon.providers.contract import Provider
from antiphon.providers.keyed import KEYED
from antiphon.providers.meta_whatsapp import META_WHATSAPP
from antiphon.providers.smtp import SMTP
from antiphon.providers.wsapme import WSAPME

PROVIDERS: Mapping[str, Provider[Any]] = {
    provider.name: provider for provider in (META_WHATSAPP, SMTP, WSAPME, KEYED)
}


def get(name: str) -> Provider[Any]:
    """The provider of this name. Raises NotFound."""
    found = PROVIDERS.get(name)
    if found is None:
        raise NotFound("provider", name)
    return found


def public() -> list[Provider[Any]]:
    """The providers that people are offered."""
    return [provider for provider in PROVIDERS.values() if provider.public]
