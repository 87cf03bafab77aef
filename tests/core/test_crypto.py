"""What is sealed opens in its own place, with a known key, and nowhere else."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.core.crypto import SealError, Vault
from antiphon.core.settings import Settings

OLD, NEW = "old-key-" + "o" * 32, "new-key-" + "n" * 32
PLACE: dict[str, Any] = {
    "org_id": uuid4(),
    "table": "provider_accounts",
    "column": "credentials",
    "row_id": uuid4(),
}


@given(st.binary(max_size=200))
def test_what_was_sealed_comes_back_and_is_not_readable(plain: bytes) -> None:
    vault = Vault([NEW])
    sealed = vault.seal(plain, **PLACE)
    assert vault.open(sealed, **PLACE) == plain
    assert len(plain) < 8 or plain not in sealed
    assert vault.seal(plain, **PLACE) != sealed


@pytest.mark.parametrize(
    "moved",
    [{"org_id": uuid4()}, {"table": "other"}, {"column": "other"}, {"row_id": uuid4()}],
    ids=lambda m: next(iter(m)),
)
def test_it_cannot_be_opened_in_another_place(moved: dict[str, Any]) -> None:
    vault = Vault([NEW])
    with pytest.raises(SealError, match="another place"):
        vault.open(vault.seal(b"secret", **PLACE), **(PLACE | moved))


def test_a_changed_byte_anywhere_is_noticed() -> None:
    vault = Vault([NEW])
    sealed = vault.seal(b"secret", **PLACE)
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(SealError):
            vault.open(changed, **PLACE)
    with pytest.raises(SealError, match="not a sealed value"):
        vault.open(b"", **PLACE)


def test_a_new_key_seals_while_the_old_one_still_opens() -> None:
    sealed = Vault([OLD]).seal(b"secret", **PLACE)
    both = Vault([NEW, OLD])
    assert both.open(sealed, **PLACE) == b"secret"
    assert not both.is_current(sealed)
    renewed = both.reseal(sealed, **PLACE)
    assert both.is_current(renewed)
    assert Vault([NEW]).open(renewed, **PLACE) == b"secret"
    with pytest.raises(SealError, match="ANTIPHON_SECRET_KEY"):
        Vault([NEW]).open(sealed, **PLACE)


def test_without_a_setting_the_key_is_a_file_only_its_owner_reads(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "fresh")
    sealed = Vault.of(settings).seal(b"secret", **PLACE)
    path = tmp_path / "fresh" / "secret.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["secret.key"]
    assert Vault.of(settings).open(sealed, **PLACE) == b"secret"
    path.chmod(0o644)
    with pytest.raises(SealError, match="chmod 600"):
        Vault.of(settings)


def test_keys_come_from_the_setting_first_and_never_show() -> None:
    vault = Vault.of(Settings(secret_key=f"{NEW}, {OLD}"))
    assert vault.open(Vault([OLD]).seal(b"x", **PLACE), **PLACE) == b"x"
    assert NEW not in repr(vault)
    assert vault.derive("links") == Vault([NEW]).derive("links") != vault.derive("other")
