"""Records refuse what is malformed, naming the field as the API does."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from facesvc.errors import InputError
from facesvc.gallery import Consent, EmbeddingContract, Sample, Subject

UNIT = np.array([1, 0, 0, 0], np.float32)

REFUSED_SUBJECTS = [
    ("subject.subject_id", {"subject_id": ""}),
    ("subject.subject_id", {"subject_id": "-ada"}),
    ("subject.subject_id", {"subject_id": "ada\n"}),
    ("subject.subject_id", {"subject_id": "ad a"}),
    ("subject.subject_id", {"subject_id": "ädä"}),
    ("subject.subject_id", {"subject_id": "a" * 129}),
    ("subject.collection_id", {"collection_id": "../office"}),
    ("subject.display_name", {"display_name": "x" * 257}),
    ("subject.display_name", {"display_name": "Ada\x07"}),
    ("subject.display_name", {"display_name": "Ada\nLovelace"}),
    ("subject.display_name", {"display_name": "\ud800"}),
    ("subject.external_ids", {"external_ids": {"Employee": "1"}}),
    ("subject.external_ids", {"external_ids": {"k" * 65: "1"}}),
    ("subject.external_ids", {"external_ids": {f"k{n}": "1" for n in range(33)}}),
    ("subject.external_ids[card]", {"external_ids": {"card": "1" * 1025}}),
    ("subject.metadata", {"metadata": {"1st": "1"}}),
    ("subject.metadata[floor]", {"metadata": {"floor": "\x00"}}),
]

REFUSED_SAMPLES = [
    ("sample.sample_id", {"sample_id": "not-a-ulid"}),
    ("sample.sample_id", {"sample_id": "01arz3ndektsv4rrffq69g5fav"}),
    ("sample.subject_id", {"subject_id": ""}),
    ("sample.collection_id", {"collection_id": "of fice"}),
    ("sample.vector", {"vector": UNIT.astype(np.float64)}),
    ("sample.vector", {"vector": UNIT[None]}),
    ("sample.vector", {"vector": UNIT * 1.002}),
    ("sample.vector", {"vector": UNIT * 0}),
    ("sample.vector", {"vector": np.array([np.nan, 0, 0, 0], np.float32)}),
    ("sample.vector", {"vector": np.array([np.inf, 0, 0, 0], np.float32)}),
    ("sample.vector", {"vector": np.array([], np.float32)}),
    ("sample.quality", {"quality": 1.01}),
    ("sample.quality", {"quality": -0.01}),
    ("sample.quality", {"quality": float("nan")}),
    ("sample.source", {"source": "s" * 257}),
    ("sample.image_sha256", {"image_sha256": b"short"}),
]


@pytest.mark.parametrize(("field", "wrong"), REFUSED_SUBJECTS)
def test_a_malformed_subject_is_refused_by_field(
    make_subject: Callable[..., Subject], field: str, wrong: dict[str, object]
) -> None:
    with pytest.raises(InputError) as refused:
        make_subject(**wrong)
    assert refused.value.field == field
    assert field in refused.value.message


@pytest.mark.parametrize(("field", "wrong"), REFUSED_SAMPLES)
def test_a_malformed_sample_is_refused_by_field(
    make_sample: Callable[..., Sample], field: str, wrong: dict[str, object]
) -> None:
    with pytest.raises(InputError) as refused:
        make_sample(**wrong)
    assert refused.value.field == field


def test_the_longest_of_everything_is_accepted(make_subject: Callable[..., Subject]) -> None:
    entries = {f"k{n:063}": "v" * 1024 for n in range(32)}
    subject = make_subject("a" * 128, display_name="é" * 256, external_ids=entries, metadata=entries)
    assert len(subject.metadata) == 32


def test_a_refusal_does_not_repeat_a_name(make_subject: Callable[..., Subject]) -> None:
    with pytest.raises(InputError) as refused:
        make_subject(display_name="Ada\x07Lovelace")
    assert "Lovelace" not in refused.value.message


def test_a_vector_within_the_tolerance_is_kept_as_a_read_only_copy(make_sample: Callable[..., Sample]) -> None:
    vector = UNIT * np.float32(1.0009)
    sample = make_sample(vector=vector)
    vector[0] = 0
    assert sample.vector is not None
    assert sample.vector[0] == np.float32(1.0009)
    with pytest.raises(ValueError, match="read-only"):
        sample.vector[0] = 0


def test_entries_are_a_copy_that_cannot_be_changed(make_subject: Callable[..., Subject]) -> None:
    metadata = {"floor": "3"}
    subject = make_subject(metadata=metadata)
    metadata["floor"] = "4"
    assert subject.metadata == {"floor": "3"}
    with pytest.raises(TypeError):
        subject.metadata["floor"] = "4"  # type: ignore[index]  # that is the point
    with pytest.raises(FrozenInstanceError):
        subject.enabled = False  # type: ignore[misc]  # that is the point


def test_consent_ends_at_its_expiry(make_subject: Callable[..., Subject], now: datetime) -> None:
    hour = timedelta(hours=1)
    subject = make_subject(consent=Consent("attendance", now - hour, now))
    assert subject.recognisable(now - timedelta(microseconds=1))
    assert not subject.recognisable(now)
    assert make_subject(consent=Consent("attendance", now)).recognisable(now + 10_000 * hour)


def test_consent_cannot_end_before_it_begins(now: datetime) -> None:
    with pytest.raises(InputError) as refused:
        Consent("attendance", now, now)
    assert refused.value.field == "subject.consent.expire_time"


@pytest.mark.parametrize("tz", [None, timezone(timedelta(hours=2))])
def test_a_time_that_is_not_utc_is_our_bug(
    make_subject: Callable[..., Subject], now: datetime, tz: timezone | None
) -> None:
    with pytest.raises(ValueError, match=r"subject\.create_time must be timezone-aware UTC"):
        make_subject(create_time=now.replace(tzinfo=tz))


@pytest.mark.parametrize(("field", "arguments"), [("contract_id", ("", 4)), ("dimension", ("a", 0))])
def test_a_contract_needs_a_name_and_a_dimension(field: str, arguments: tuple[str, int]) -> None:
    with pytest.raises(InputError) as refused:
        EmbeddingContract(*arguments)
    assert refused.value.field == field


def test_a_contract_checks_vectors(contract: EmbeddingContract) -> None:
    contract.check(np.zeros((0, 4), np.float32), "vectors")
    contract.check(np.eye(4, dtype=np.float32), "vectors")
    with pytest.raises(InputError, match="vectors has 3 values, but vectors of resnet-a/1 have 4"):
        contract.check(np.eye(3, dtype=np.float32), "vectors")
