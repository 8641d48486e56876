"""Crops live and die with their samples, and a gallery that keeps some wants their key."""

from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from galleries import open_gallery, open_store

from facesvc.errors import DependencyError, InputError
from facesvc.gallery import DuplicateImageError, EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.crops import MAX_CROP_BYTES
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.store import Store

CONTRACT = "resnet-a/1"
MakeSubject = Callable[..., Subject]
MakeSample = Callable[..., Sample]


@pytest.fixture
def kept(store: Store, make_subject: MakeSubject, make_sample: MakeSample) -> tuple[Store, dict[str, int]]:
    """A store with a crop of each of two people, and the row ids of these."""
    row_ids = {}
    for subject_id in ("ada", "bob"):
        store.create_subject(make_subject(subject_id))
        row_ids[subject_id] = store.add_sample(make_sample(subject_id), b"crop of " + subject_id.encode())
    return store, row_ids


def crop_count(store: Store) -> int:
    [(count,)] = store._database.select("SELECT count(*) FROM crops")
    return int(count)


def test_a_crop_comes_out_again_also_after_a_restart(
    path: Path, contract: EmbeddingContract, now: datetime, vault: KeyFile, kept: tuple[Store, dict[str, int]]
) -> None:
    store, row_ids = kept
    assert store.crops.get(row_ids["ada"]) == b"crop of ada"
    assert store.crops.get(999) is None
    store.close()
    content = path.read_bytes()
    assert b"crop of" not in content
    assert vault.path.read_bytes() not in content
    with closing(open_store(path, contract, now, KeyFile(vault.path))) as again:
        assert again.crops.get(row_ids["bob"]) == b"crop of bob"


def test_a_crop_belongs_to_one_sample(kept: tuple[Store, dict[str, int]]) -> None:
    store, row_ids = kept
    sql = "UPDATE crops SET sealed = (SELECT sealed FROM crops WHERE row_id = ?) WHERE row_id = ?"
    store._database.execute(sql, (row_ids["ada"], row_ids["bob"]))
    with pytest.raises(DependencyError, match="was changed, or belongs to something else") as refused:
        store.crops.get(row_ids["bob"])
    assert refused.value.reason == "GALLERY_DAMAGED"


def test_crops_go_with_their_samples(kept: tuple[Store, dict[str, int]], now: datetime) -> None:
    store, row_ids = kept
    store.erase_subject("office", "ada", now)
    assert (crop_count(store), store.crops.get(row_ids["ada"])) == (1, None)
    [sample] = store.list_samples("office", "bob")
    store.delete_sample("office", "bob", sample.sample_id)
    assert (crop_count(store), store._database.select("SELECT * FROM vectors")) == (0, [])


def test_no_crop_is_kept_of_a_refused_sample(
    gallery: Gallery, make_subject: MakeSubject, make_sample: MakeSample, now: datetime
) -> None:
    gallery.create_subject(make_subject())
    first = make_sample()
    gallery.add_sample(first, None, now, contract_id=CONTRACT)
    again = make_sample(image_sha256=first.image_sha256)
    with pytest.raises(DuplicateImageError):
        gallery.add_sample(again, None, now, contract_id=CONTRACT, crop=b"crop")
    for wrong in (b"", b"x" * (MAX_CROP_BYTES + 1)):
        with pytest.raises(InputError, match=f"crop has {len(wrong)} bytes") as refused:
            gallery.add_sample(make_sample(), None, now, contract_id=CONTRACT, crop=wrong)
        assert refused.value.field == "crop"
    assert crop_count(gallery._store) == 0
    assert [sample.sample_id for sample in gallery.list_samples("office", "ada")] == [first.sample_id]
    gallery.add_sample(make_sample(), None, now, contract_id=CONTRACT, crop=b"x" * MAX_CROP_BYTES)


def test_a_missing_key_is_noticed_at_once(
    path: Path, contract: EmbeddingContract, now: datetime, vault: KeyFile, kept: tuple[Store, dict[str, int]]
) -> None:
    kept[0].close()
    vault.path.rename(vault.path.with_suffix(".away"))
    with pytest.raises(DependencyError, match=f"its key is missing: there is none in the file {vault.path}") as refused:
        open_gallery(path, contract, now, KeyFile(vault.path))
    assert refused.value.reason == "KEY_MISSING"
    assert not vault.path.exists()


def test_a_wrong_key_is_noticed_at_once(
    tmp_path: Path, path: Path, contract: EmbeddingContract, now: datetime, kept: tuple[Store, dict[str, int]]
) -> None:
    kept[0].close()
    other = KeyFile(tmp_path / "other")
    other.make()
    with pytest.raises(DependencyError, match="not the one that the gallery was sealed with; put back") as refused:
        open_gallery(path, contract, now, other)
    assert refused.value.reason == "KEY_WRONG"
