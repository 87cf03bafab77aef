"""The API keys that this process has seen in force, so that a known key costs no transaction of its own.

Knowing a key is not trusting it: the request's own transaction asks again whether it is in force.
"""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from msgspec import Struct, structs

from antiphon.core import clock
from antiphon.organizations.model import Actor, token_hash

MOST_KEYS = 10_000
NOTE_EVERY = 60.0  # seconds between two notes of a key's use


class KnownKey(Struct, frozen=True):
    """A key by its hash, whose it is, and whether it was believed from memory."""

    hash: bytes
    actor: Actor
    is_checked: bool

    @property
    def unchecked_id(self) -> UUID | None:
        """The key that the transaction must still check; None when that was done in this request."""
        return None if self.is_checked else UUID(self.actor.id)


class KeyRing:
    """Known keys, the least lately used forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, KnownKey] = OrderedDict()
        self._noted: dict[bytes, float] = {}

    def find(self, token: str) -> KnownKey | None:
        """The key, if it was seen in force before; not checked since."""
        known = self._known.get(token_hash(token))
        if known is not None:
            self._known.move_to_end(known.hash)
        return known

    def keep(self, token: str, actor: Actor) -> KnownKey:
        """Remember a key that was just checked."""
        checked = KnownKey(token_hash(token), actor, True)
        self._known[checked.hash] = structs.replace(checked, is_checked=False)
        if len(self._known) > MOST_KEYS:
            oldest, _ = self._known.popitem(last=False)
            self._noted.pop(oldest, None)
        return checked

    def forget(self, known: KnownKey) -> None:
        """A key that turned out to be no longer in force."""
        self._known.pop(known.hash, None)
        self._noted.pop(known.hash, None)

    def is_note_due(self, known: KnownKey) -> bool:
        """Whether the key's use should be written down now; says so at most once a minute."""
        now = clock.boottime()
        if now - self._noted.get(known.hash, -NOTE_EVERY) < NOTE_EVERY:
            return False
        self._noted[known.hash] = now
        return True
