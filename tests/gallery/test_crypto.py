"""Sealed values open with their key, for what they belong to, unchanged; anything else is refused by name."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from facesvc.errors import DependencyError
from facesvc.gallery.crypto import KEY_SIZE, Vault, associated

OWNER = associated("crop", "office", "ada", "1")


@pytest.fixture
def key_path(vault: Vault) -> Path:
    return vault.key_path


@pytest.mark.parametrize("plaintext", [b"", b"a crop", bytes(range(256)) * 300])
def test_what_was_sealed_comes_out_again(key_path: Path, plaintext: bytes) -> None:
    sealed = Vault(key_path).seal(plaintext, OWNER)
    assert Vault(key_path).unseal(sealed, OWNER) == plaintext
    assert not plaintext or plaintext not in sealed


def test_the_same_is_sealed_differently_each_time(vault: Vault) -> None:
    sealed = {vault.seal(b"a crop", OWNER) for _ in range(50)}
    assert len({one[1:13] for one in sealed}) == 50  # the nonces


def test_it_opens_for_its_owner_only(vault: Vault) -> None:
    sealed = vault.seal(b"a crop", OWNER)
    with pytest.raises(DependencyError, match="damaged, or was moved here") as refused:
        vault.unseal(sealed, associated("crop", "office", "bob", "1"))
    assert refused.value.reason == "CROP_DAMAGED"


def test_any_damage_is_noticed(vault: Vault) -> None:
    sealed = vault.seal(b"a crop", OWNER)
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    shortened = [sealed[:length] for length in range(len(sealed))]
    for damaged in (*changed, *shortened, sealed + b"\x00"):
        with pytest.raises(DependencyError) as refused:
            vault.unseal(damaged, OWNER)
        assert refused.value.reason == "CROP_DAMAGED"


def test_owners_cannot_be_confused() -> None:
    names = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ("a", "b", "c"), ("ü", "bc")]
    assert len({associated(*name) for name in names}) == len(names)


def test_a_key_is_made_when_it_is_first_needed_and_kept(vault: Vault, key_path: Path) -> None:
    assert not key_path.parent.exists()
    vault.seal(b"", OWNER)
    key = key_path.read_bytes()
    assert len(key) == KEY_SIZE
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_path.parent.stat().st_mode) == 0o700
    assert list(key_path.parent.iterdir()) == [key_path]
    Vault.open(key_path).seal(b"", OWNER)
    assert key_path.read_bytes() == key


def test_two_vaults_never_share_a_key(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Vault.open(tmp_path / name)
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


def test_those_who_make_a_key_at_once_end_up_with_the_same(key_path: Path) -> None:
    together = Barrier(8)

    def seal(_: int) -> bytes:
        together.wait()
        return Vault(key_path).seal(b"a crop", OWNER)

    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(seal, range(8)))
    assert [Vault(key_path).unseal(one, OWNER) for one in sealed] == [b"a crop"] * 8
    assert list(key_path.parent.iterdir()) == [key_path]


def test_unsealing_makes_no_key(vault: Vault, key_path: Path) -> None:
    with pytest.raises(DependencyError, match=rf"{key_path} does not exist; put back the key file") as refused:
        vault.unseal(b"", OWNER)
    assert refused.value.reason == "KEY_MISSING"
    assert not key_path.parent.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_key_that_others_could_read_is_refused(key_path: Path, mode: int) -> None:
    Vault.open(key_path)
    key_path.chmod(mode)
    with pytest.raises(
        DependencyError, match=rf"{key_path} is open to others .*mode {mode:o}\); chmod 600 it"
    ) as refused:
        Vault.open(key_path)
    assert refused.value.reason == "KEY_EXPOSED"
    key_path.chmod(0o400)
    Vault.open(key_path)


@pytest.mark.parametrize(("size", "said"), [(0, "0"), (31, "31"), (33, "more"), (10_000, "more")])
def test_a_key_of_another_length_is_refused(key_path: Path, size: int, said: str) -> None:
    key_path.parent.mkdir()
    key_path.touch(0o600)
    key_path.write_bytes(b"k" * size)
    with pytest.raises(DependencyError, match=rf"{key_path} must hold 32 bytes and holds {said}; restore") as refused:
        Vault.open(key_path)
    assert refused.value.reason == "KEY_DAMAGED"
    assert key_path.read_bytes() == b"k" * size


def test_a_path_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, said in [(tmp_path, "Is a directory"), (tmp_path / "file" / "key", "(Not a directory|File exists)")]:
        with pytest.raises(DependencyError, match=rf"key file {path} cannot be used \({said}\)") as refused:
            Vault.open(path)
        assert refused.value.reason == "KEY_UNREADABLE"


def test_a_check_tells_its_key_from_any_other(tmp_path: Path, vault: Vault) -> None:
    check = vault.make_check(OWNER)
    vault.verify(check, OWNER)
    other = Vault.open(tmp_path / "other")
    with pytest.raises(DependencyError, match=rf"the key in {other.key_path} is not the one .*put back") as refused:
        other.verify(check, OWNER)
    assert refused.value.reason == "KEY_WRONG"
