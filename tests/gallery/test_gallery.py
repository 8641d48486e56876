"""What a search returns after each change, and that a reopened gallery says the same."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from galleries import open_gallery

from facesvc.errors import ContractMismatchError, InputError, NotFoundError, PreconditionError
from facesvc.gallery import (
    Candidate,
    Consent,
    DuplicateImageError,
    EmbeddingContract,
    Gallery,
    IdentityConflictError,
    Sample,
    Subject,
)

MakeSubject = Callable[..., Subject]
MakeSample = Callable[..., Sample]
Enrol = Callable[..., list[Sample]]
Find = Callable[..., list[str]]

CONTRACT = "resnet-a/1"
X, Y, Z = (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)


def axis(direction: tuple[int, ...]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array([direction], np.float32)


def test_nobody_is_found_in_an_empty_gallery(gallery: Gallery, enrol: Enrol, find: Find, now: datetime) -> None:
    assert gallery.search(CONTRACT, "nowhere", np.eye(4, dtype=np.float32)[:2], 5, now) == [[], []]
    enrol("ada")
    assert find(X) == []
    enrol("bob", X)
    assert gallery.search(CONTRACT, "office", np.zeros((0, 4), np.float32), 5, now) == []
    assert find(X, collection="lab") == []


def test_a_subject_is_as_similar_as_its_best_sample(gallery: Gallery, enrol: Enrol, now: datetime) -> None:
    [_, best, _] = enrol("ada", Z, (4, 3, 0, 0), Y, external_ids={"card_number": "42"}, display_name="Ada L.")
    enrol("bob", (3, 4, 0, 0))
    [first, second] = gallery.search(CONTRACT, "office", axis(X), 5, now)[0]
    assert first == Candidate("ada", "Ada L.", first.similarity, best.sample_id, {"card_number": "42"})
    assert second.subject_id == "bob"
    assert [first.similarity, second.similarity] == pytest.approx([0.8, 0.6], abs=1e-3)  # of half floats


def test_each_vector_has_its_own_answer(gallery: Gallery, enrol: Enrol, now: datetime) -> None:
    enrol("ada", X)
    enrol("bob", Y)
    found = gallery.search(CONTRACT, "office", np.concatenate([axis(Y), axis(X), axis(Y)]), 1, now)
    assert [[candidate.subject_id for candidate in candidates] for candidates in found] == [["bob"], ["ada"], ["bob"]]


def test_ties_break_by_subject_id_whoever_came_first(enrol: Enrol, find: Find) -> None:
    for number in reversed(range(40)):  # more than are fetched at first, all the same
        enrol(f"p{number:02}", X)
    assert find(X, limit=3) == ["p00", "p01", "p02"]
    assert find(X, limit=100) == [f"p{number:02}" for number in range(40)]


def test_somebody_with_many_samples_hides_nobody(enrol: Enrol, find: Find) -> None:
    enrol("many", *[(100, number, 0, 0) for number in range(50)])
    enrol("near", (1, 2, 0, 0))
    enrol("far", Z)
    assert find(X) == ["many", "near", "far"]
    assert find(X, limit=2) == ["many", "near"]


def test_the_disabled_are_not_found_and_hide_nobody(
    gallery: Gallery, enrol: Enrol, find: Find, make_subject: MakeSubject, now: datetime
) -> None:
    enrol("ada", *[X] * 40)
    enrol("bob", Y)
    gallery.update_subject(make_subject("ada", enabled=False), {"enabled"}, now)
    assert find(X, limit=1) == ["bob"]
    gallery.update_subject(make_subject("ada", enabled=True), {"enabled"}, now)
    assert find(X, limit=1) == ["ada"]


def test_nobody_is_found_past_their_consent(
    gallery: Gallery, enrol: Enrol, find: Find, make_subject: MakeSubject, now: datetime
) -> None:
    hour, moment = timedelta(hours=1), timedelta(microseconds=1)
    enrol("ada", X, consent=Consent("doors", now, now + hour))
    assert find(X, at=now + hour - moment) == ["ada"]
    assert find(X, at=now + hour) == []
    renewed = make_subject("ada", consent=Consent("doors", now, now + 2 * hour))
    gallery.update_subject(renewed, {"consent"}, now)
    assert find(X, at=now + hour) == ["ada"]


def test_a_new_name_is_found_at_once(gallery: Gallery, enrol: Enrol, make_subject: MakeSubject, now: datetime) -> None:
    enrol("ada", X)
    gallery.update_subject(make_subject("ada", display_name="Countess"), {"display_name"}, now)
    assert gallery.search(CONTRACT, "office", axis(X), 1, now)[0][0].display_name == "Countess"


def test_no_sample_is_added_past_the_consent(
    gallery: Gallery, enrol: Enrol, make_sample: MakeSample, now: datetime
) -> None:
    end = now + timedelta(hours=1)
    enrol("ada", X, consent=Consent("doors", now, end))
    with pytest.raises(PreconditionError, match="consent of subject ada has run out") as refused:
        gallery.add_sample(make_sample("ada"), None, end, contract_id=CONTRACT)
    assert refused.value.reason == "CONSENT_EXPIRED"
    assert gallery.sample_count("office") == 1


def test_a_face_of_somebody_else_is_refused(
    gallery: Gallery, enrol: Enrol, find: Find, make_sample: MakeSample, make_subject: MakeSubject, now: datetime
) -> None:
    enrol("ada", X, (5, 0, 0, 1))
    enrol("bob", Y)
    enrol("carl", X, collection_id="lab")
    face = make_sample("bob", (4, 3, 0, 0))
    with pytest.raises(IdentityConflictError, match=r"similarity 0\.800 to subject ada") as refused:
        gallery.add_sample(face, 0.7, now, contract_id=CONTRACT)
    assert refused.value.subject_id == "ada"
    assert refused.value.similarity == pytest.approx(0.8)
    assert face.sample_id not in [sample.sample_id for sample in gallery.list_samples("office", "bob")]
    assert gallery.sample_count("office") == 3
    gallery.update_subject(make_subject("ada", enabled=False), {"enabled"}, now)
    with pytest.raises(IdentityConflictError):
        gallery.add_sample(face, 0.7, now, contract_id=CONTRACT)
    gallery.add_sample(face, 0.9, now, contract_id=CONTRACT)
    assert find((4, 3, 0, 0)) == ["bob"]


def test_a_conflict_begins_at_the_similarity_itself(
    gallery: Gallery, enrol: Enrol, make_sample: MakeSample, now: datetime
) -> None:
    enrol("ada", X)
    enrol("bob")
    with pytest.raises(IdentityConflictError):
        gallery.add_sample(make_sample("bob", X), 1.0, now, contract_id=CONTRACT)
    gallery.add_sample(make_sample("bob", Y), np.nextafter(0.0, 1.0), now, contract_id=CONTRACT)
    gallery.add_sample(make_sample("bob", X), None, now, contract_id=CONTRACT)


def test_ones_own_face_is_no_conflict(gallery: Gallery, enrol: Enrol, make_sample: MakeSample, now: datetime) -> None:
    enrol("ada", *[X] * 40)
    gallery.add_sample(make_sample("ada", X), 0.5, now, contract_id=CONTRACT)
    assert gallery.sample_count("office") == 41


def test_a_refused_sample_is_not_found(
    gallery: Gallery, enrol: Enrol, find: Find, make_sample: MakeSample, now: datetime
) -> None:
    [sample] = enrol("ada", X)
    with pytest.raises(DuplicateImageError):
        gallery.add_sample(make_sample("ada", Y, image_sha256=sample.image_sha256), None, now, contract_id=CONTRACT)
    with pytest.raises(NotFoundError):
        gallery.add_sample(make_sample("nobody", Y), 0.5, now, contract_id=CONTRACT)
    with pytest.raises(InputError, match=r"sample\.vector has 2 values"):
        gallery.add_sample(make_sample("ada", (1, 0)), 0.5, now, contract_id=CONTRACT)
    with pytest.raises(InputError, match=r"sample\.vector is missing"):
        gallery.add_sample(make_sample("ada", vector=None), 0.5, now, contract_id=CONTRACT)
    assert (gallery.sample_count("office"), find(Y)) == (1, ["ada"])


def test_the_erased_are_not_found_and_may_come_again(gallery: Gallery, enrol: Enrol, find: Find, now: datetime) -> None:
    samples = enrol("ada", X, Y)
    enrol("bob", Y)
    receipt = gallery.erase_subject("office", "ada", now)
    assert receipt.sample_ids == tuple(sample.sample_id for sample in samples)
    assert gallery.get_receipt(receipt.receipt_id) == receipt
    assert find(X) == ["bob"]
    enrol("ada", Z)
    assert find(Z) == ["ada", "bob"]
    gallery.erase_subject("office", "ada", now)
    gallery.erase_subject("office", "bob", now)
    assert (find(Z), gallery.collections()) == ([], [])


def test_a_deleted_sample_is_not_found(gallery: Gallery, enrol: Enrol, now: datetime) -> None:
    [first, second] = enrol("ada", X, Y)
    gallery.delete_sample("office", "ada", first.sample_id)
    [candidate] = gallery.search(CONTRACT, "office", axis(X), 1, now)[0]
    assert (candidate.sample_id, candidate.similarity) == (second.sample_id, 0)
    with pytest.raises(NotFoundError):
        gallery.delete_sample("office", "ada", first.sample_id)


def test_it_counts(gallery: Gallery, enrol: Enrol) -> None:
    enrol("ada", X, Y)
    enrol("bob")
    enrol("ada", X, collection_id="lab")
    assert gallery.collections() == ["lab", "office"]
    assert (gallery.subject_count("office"), gallery.sample_count("office")) == (2, 2)
    assert (gallery.subject_count("nowhere"), gallery.sample_count("nowhere")) == (0, 0)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_out_of_bounds_is_refused(gallery: Gallery, now: datetime, limit: int) -> None:
    with pytest.raises(InputError) as refused:
        gallery.search(CONTRACT, "office", axis(X), limit, now)
    assert refused.value.field == "limit"


@pytest.mark.parametrize("vectors", [np.eye(3), np.eye(4) * 2, np.eye(4)[0], np.full((1, 4), np.nan)])
def test_vectors_of_another_kind_are_refused(
    gallery: Gallery, now: datetime, vectors: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> None:
    with pytest.raises(InputError) as refused:
        gallery.search(CONTRACT, "office", vectors.astype(np.float32), 1, now)
    assert refused.value.field == "vectors"


def test_opened_again_it_gives_the_same_answers(
    path: Path, contract: EmbeddingContract, gallery: Gallery, enrol: Enrol, make_subject: MakeSubject, now: datetime
) -> None:
    generator = np.random.default_rng(3)
    for number in range(20):
        enrol(f"p{number}", *map(tuple, generator.normal(size=(3, 4))))
    gallery.erase_subject("office", "p4", now)
    gallery.delete_sample("office", "p5", gallery.list_samples("office", "p5")[1].sample_id)
    gallery.update_subject(make_subject("p6", enabled=False), {"enabled"}, now)
    queries = generator.normal(size=(30, 4))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    before = gallery.search(CONTRACT, "office", queries, 20, now)
    gallery.close()
    with closing(open_gallery(path, contract, now)) as reopened:
        assert reopened.search(CONTRACT, "office", queries, 20, now) == before
        assert reopened.sample_count("office") == 20 * 3 - 3 - 1
        assert reopened.contract == contract
    with pytest.raises(ContractMismatchError):
        open_gallery(path, replace(contract, contract_id="resnet-b/1"), now)


def test_a_repeated_create_changes_nobody(
    gallery: Gallery, enrol: Enrol, find: Find, make_subject: MakeSubject
) -> None:
    gallery.create_subject(make_subject("ada", enabled=False), "r-1")
    assert not gallery.create_subject(make_subject("ada"), "r-1").enabled
    assert not gallery.get_subject("office", "ada").enabled
    enrol("bob", X)
    assert find(X) == ["bob"]
