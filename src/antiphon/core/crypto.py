"""Secrets at rest: AES-256-GCM, each ciphertext bound to the one place where it may be opened."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from antiphon.core.settings import Settings

_VERSION = 1
_ID_BYTES = 4
_NONCE_BYTES = 12
_HEADER = 1 + _ID_BYTES + _NONCE_BYTES


class SealError(ValueError):
    """A sealed value that cannot be opened here; the text says why, never what is in it."""


class Vault:
    """Seals and opens with the keys of this installation: the first seals, every one opens."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise SealError("no key: set ANTIPHON_SECRET_KEY")
        self._keys = {_stretched(key, "key id", _ID_BYTES): AESGCM(_stretched(key, "seal")) for key in keys}
        self._current = _stretched(keys[0], "key id", _ID_BYTES)
        self._root = keys[0]

    @classmethod
    def of(cls, settings: Settings) -> Vault:
        """With the keys of ANTIPHON_SECRET_KEY, else with those of `<data_dir>/secret.key`, made when it is missing."""
        text = settings.secret_key or _key_file(settings.data_dir / "secret.key")
        return cls([key.strip() for key in text.replace("\n", ",").split(",") if key.strip()])

    def seal(self, plain: bytes, *, org_id: UUID, table: str, column: str, row_id: UUID) -> bytes:
        """Encrypt for one column of one row of one organization; nowhere else can it be opened."""
        nonce = os.urandom(_NONCE_BYTES)
        hidden = self._keys[self._current].encrypt(nonce, plain, _place(org_id, table, column, row_id))
        return bytes([_VERSION]) + self._current + nonce + hidden

    def open(self, sealed: bytes, *, org_id: UUID, table: str, column: str, row_id: UUID) -> bytes:
        """What was sealed for exactly this place. Raises SealError when moved, changed, or without its key."""
        where = f"{table}.{column} of row {row_id}"
        if len(sealed) < _HEADER or sealed[0] != _VERSION:
            raise SealError(f"{where} is not a sealed value")
        key = self._keys.get(sealed[1 : 1 + _ID_BYTES])
        if key is None:
            raise SealError(
                f"{where} was sealed with a key that is not here (id {sealed[1 : 1 + _ID_BYTES].hex()}): "
                "add it to ANTIPHON_SECRET_KEY, after the first, or bring back the secret.key file"
            )
        try:
            nonce, hidden = sealed[1 + _ID_BYTES : _HEADER], sealed[_HEADER:]
            return key.decrypt(nonce, hidden, _place(org_id, table, column, row_id))
        except InvalidTag:
            raise SealError(f"{where} was changed, or belongs to another place") from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was sealed with the first key; else `reseal` it."""
        return sealed[1 : 1 + _ID_BYTES] == self._current

    def reseal(self, sealed: bytes, *, org_id: UUID, table: str, column: str, row_id: UUID) -> bytes:
        """The same secret under the first key, so that an old key can be retired."""
        plain = self.open(sealed, org_id=org_id, table=table, column=column, row_id=row_id)
        return self.seal(plain, org_id=org_id, table=table, column=column, row_id=row_id)

    def derive(self, purpose: str) -> bytes:
        """A 32-byte key for another purpose (signed links, …), which tells nothing about the ones that seal."""
        return _stretched(self._root, f"purpose {purpose}")

    def __repr__(self) -> str:
        return f"Vault({len(self._keys)} keys)"


def _stretched(key: str, use: str, length: int = 32) -> bytes:
    kdf = HKDF(algorithm=SHA256(), length=length, salt=None, info=f"antiphon 1 {use}".encode())
    return kdf.derive(key.encode())


def _place(org_id: UUID, table: str, column: str, row_id: UUID) -> bytes:
    return b"\0".join((org_id.bytes, table.encode(), column.encode(), row_id.bytes))


def _key_file(path: Path) -> str:
    """The file's keys, one a line; made with one key, readable by its owner only, when there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        fresh = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            path.hardlink_to(fresh)  # whole or not at all, and the first of several processes wins
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    if path.stat().st_mode & 0o077:
        raise SealError(f"{path} can be read by others: chmod 600 {path}")
    return path.read_text()
