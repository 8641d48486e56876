"""Sealed values open with their key, for what they belong to, unchanged; what is signed is told from what is not."""

import pytest

from facesvc.errors import DependencyError
from facesvc.gallery.crypto import KEY_SIZE, Cipher, SealBrokenError, Signer, associated, is_signed, new_key

KEY = bytes(range(KEY_SIZE))
OWNER = associated("crop", "office", "ada", "1")


@pytest.mark.parametrize("plaintext", [b"", b"a crop", bytes(range(256)) * 300])
def test_what_was_sealed_comes_out_again(plaintext: bytes) -> None:
    sealed = Cipher(KEY).seal(plaintext, OWNER)
    assert Cipher(KEY).unseal(sealed, OWNER) == plaintext
    assert Cipher(KEY).fits(sealed, OWNER)
    assert not plaintext or plaintext not in sealed


def test_the_same_is_sealed_differently_each_time() -> None:
    cipher = Cipher(KEY)
    sealed = {cipher.seal(b"a crop", OWNER) for _ in range(50)}
    assert len({one[1:13] for one in sealed}) == 50  # the nonces


def test_it_opens_for_its_owner_only() -> None:
    sealed = Cipher(KEY).seal(b"a crop", OWNER)
    other = associated("crop", "office", "bob", "1")
    with pytest.raises(SealBrokenError, match="was changed, or belongs to something else; restore a backup") as refused:
        Cipher(KEY).unseal(sealed, other)
    assert isinstance(refused.value, DependencyError)
    assert refused.value.reason == "GALLERY_DAMAGED"
    assert not Cipher(KEY).fits(sealed, other)


def test_it_opens_with_its_key_only() -> None:
    sealed = Cipher(KEY).seal(b"a crop", OWNER)
    assert not Cipher(new_key()).fits(sealed, OWNER)


def test_any_damage_is_noticed() -> None:
    cipher = Cipher(KEY)
    sealed = cipher.seal(b"a crop", OWNER)
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    shortened = [sealed[:length] for length in range(len(sealed))]
    for damaged in (*changed, *shortened, sealed + b"\x00"):
        assert not cipher.fits(damaged, OWNER)


def test_owners_cannot_be_confused() -> None:
    names = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ("a", "b", "c"), ("ü", "bc")]
    assert len({associated(*name) for name in names}) == len(names)


def test_a_tag_is_the_same_for_the_same_with_the_key_only() -> None:
    tag = Cipher(KEY).tag("image", b"picture")
    assert len(tag) == 32
    assert tag == Cipher(KEY).tag("image", b"picture")
    others = {
        Cipher(KEY).tag("image", b"pictura"),
        Cipher(KEY).tag("chunk", b"picture"),
        Cipher(KEY).tag("imagep", b"icture"),
        Cipher(new_key()).tag("image", b"picture"),
    }
    assert tag not in others
    assert len(others) == 4


def test_keys_are_random() -> None:
    assert len({new_key() for _ in range(50)}) == 50
    assert len(new_key()) == KEY_SIZE


def test_a_signature_is_of_one_message_under_one_key() -> None:
    signer = Signer(KEY)
    signature = signer.sign(b"ada is forgotten")
    assert (len(signature), len(signer.public_key)) == (64, 32)
    assert is_signed(b"ada is forgotten", signature, Signer(KEY).public_key)
    assert not is_signed(b"bob is forgotten", signature, signer.public_key)
    assert not is_signed(b"ada is forgotten", signature[::-1], signer.public_key)
    assert not is_signed(b"ada is forgotten", b"", signer.public_key)
    assert not is_signed(b"ada is forgotten", signature, Signer(new_key()).public_key)
    assert not is_signed(b"ada is forgotten", signature, b"short")


def test_signatures_are_those_of_the_standard() -> None:
    # RFC 8032, section 7.1, test 2.
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    public_key = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert (Signer(seed).public_key.hex(), Signer(seed).sign(b"r").hex()) == (public_key, signature)
