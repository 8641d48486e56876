"""Receipts of erasures: what they list, and that nobody else can have written them."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from galleries import open_store

from facesvc.errors import DependencyError, NotFoundError
from facesvc.gallery import EmbeddingContract, ErasureReceipt, Sample, Subject
from facesvc.gallery.crypto import is_signed
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.store import Store

MakeSubject = Callable[..., Subject]
MakeSample = Callable[..., Sample]


@pytest.fixture
def erased(store: Store, make_subject: MakeSubject, make_sample: MakeSample, now: datetime) -> ErasureReceipt:
    """The receipt of somebody with two samples, one of them with a crop."""
    store.create_subject(make_subject("ada", display_name="Ada Lovelace"))
    for crop in (b"crop", None):
        store.add_sample(make_sample("ada"), crop)
    return store.erase_subject("office", "ada", now, event_count=7)


def is_sound(receipt: ErasureReceipt) -> bool:
    return is_signed(receipt.document.encode(), receipt.signature, receipt.public_key)


def test_it_lists_what_was_erased_and_no_name(store: Store, erased: ErasureReceipt, now: datetime) -> None:
    assert (erased.collection_id, erased.subject_id, erased.erase_time) == ("office", "ada", now)
    assert (len(erased.sample_ids), erased.crop_count, erased.event_count) == (2, 1, 7)
    said = json.loads(erased.document)
    assert said == {
        "receipt_id": erased.receipt_id,
        "collection_id": "office",
        "subject_id": "ada",
        "erase_time": "2026-03-02T08:30:15.123457+00:00",
        "event_count": 7,
        "crop_count": 1,
        "plugin_note_count": 0,
        "sample_ids": list(erased.sample_ids),
        "backup_names": [],
        "unreached_backups": [],
        "box_ids": [],
    }


def test_it_can_be_checked_with_the_public_key_alone(erased: ErasureReceipt) -> None:
    assert is_sound(erased)
    assert (len(erased.signature), len(erased.public_key)) == (64, 32)
    assert not is_sound(replace(erased, document=erased.document.replace("ada", "bob")))
    assert not is_sound(replace(erased, signature=bytes(64)))
    assert not is_sound(replace(erased, signature=b""))
    assert not is_sound(replace(erased, public_key=bytes(range(32))))
    assert not is_sound(replace(erased, public_key=b"short"))


def test_it_is_there_after_a_restart(
    path: Path, contract: EmbeddingContract, vault: KeyFile, store: Store, erased: ErasureReceipt, now: datetime
) -> None:
    assert store.receipts.get(erased.receipt_id) == erased
    store.close()
    with closing(open_store(path, contract, now, vault)) as again:
        assert again.receipts.get(erased.receipt_id) == erased
        with pytest.raises(NotFoundError, match="there is no receipt 'x'"):
            again.receipts.get("x")


def test_what_becomes_known_later_is_signed_as_well(
    path: Path, contract: EmbeddingContract, vault: KeyFile, store: Store, erased: ErasureReceipt, now: datetime
) -> None:
    later = replace(erased, backup_names=("monday",), unreached_backups=("sunday",), box_ids=("a", "b"))
    completed = store.receipts.complete(later)
    assert is_sound(completed)
    assert completed.document != erased.document
    store.close()
    with closing(open_store(path, contract, now, vault)) as again:
        assert again.receipts.get(erased.receipt_id) == completed


def test_everybody_gets_receipts_of_the_same_signer(
    store: Store, erased: ErasureReceipt, make_subject: MakeSubject, now: datetime
) -> None:
    store.create_subject(make_subject("bob"))
    other = store.erase_subject("office", "bob", now)
    assert other.public_key == erased.public_key
    assert other.receipt_id != erased.receipt_id
    assert not is_sound(replace(other, document=erased.document))


def test_those_who_follow_the_changes_learn_who_was_erased(
    store: Store, make_subject: MakeSubject, make_sample: MakeSample, now: datetime
) -> None:
    for subject_id in ("ada", "bob", "carl"):
        store.create_subject(make_subject(subject_id))
    before = store.change
    first = store.erase_subject("office", "bob", now)
    between = store.change
    store.erase_subject("office", "ada", now - timedelta(days=1))  # a clock that was set back
    assert store.receipts.erased_after(before) == [("office", "bob"), ("office", "ada")]
    assert store.receipts.erased_after(between) == [("office", "ada")]
    assert store.receipts.erased_after(store.change) == []
    assert store.receipts.find(first.receipt_id) == (first, between)
    assert store.changed_since(before) == [("office", "bob"), ("office", "ada")]
    store.add_sample(make_sample("carl"))
    assert store.changed_since(between) == [("office", "carl"), ("office", "ada")]


def test_somebody_who_was_erased_twice_has_two(store: Store, make_subject: MakeSubject, now: datetime) -> None:
    receipts = []
    for _ in range(2):
        store.create_subject(make_subject("ada"))
        receipts.append(store.erase_subject("office", "ada", now))
    assert len({receipt.receipt_id for receipt in receipts}) == 2
    assert store.receipts.last_of("office", "ada") == receipts[1]
    with pytest.raises(NotFoundError):
        store.receipts.last_of("office", "bob")


def test_a_damaged_one_is_named(store: Store, erased: ErasureReceipt) -> None:
    store._database.execute("UPDATE receipts SET receipt = '{'")
    with pytest.raises(DependencyError, match=f"receipt {erased.receipt_id} is damaged"):
        store.receipts.get(erased.receipt_id)
