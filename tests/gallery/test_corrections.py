"""Two entries of one person, samples of somebody else: nothing is allowed afterwards that was not before."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from facesvc.errors import InputError, NotFoundError, PreconditionError
from facesvc.gallery import Consent, Gallery, Sample, Subject

Enrol = Callable[..., list[Sample]]


def consent(now: datetime, days: float | None) -> Consent:
    """Given ten days ago, for so many days from now on; None: for good."""
    return Consent("doors", now - timedelta(days=10), None if days is None else now + timedelta(days=days))


def test_merged_people_are_one_with_all_that_is_known(gallery: Gallery, enrol: Enrol, now: datetime) -> None:
    enrol("ada", (1, 0, 0, 0), display_name="Ada", external_ids={"card": "1"}, metadata={"site": "oslo"})
    [other] = enrol("ada2", (0, 1, 0, 0), external_ids={"card": "2", "mail": "a@b"}, metadata={"team": "lab"})
    merged, receipt = gallery.merge_subjects("office", "ada", "ada2", now)
    assert (merged.display_name, merged.sample_count) == ("Ada", 2)
    assert merged.external_ids == {"card": "1", "mail": "a@b"}
    assert merged.metadata == {"site": "oslo", "team": "lab"}
    assert receipt.subject_id == "ada2"
    with pytest.raises(NotFoundError):
        gallery.get_subject("office", "ada2")
    assert other.vector is not None
    [[found]] = gallery.search(gallery.contract.contract_id, "office", other.vector[None], 1, now)
    assert (found.subject_id, found.sample_id) == ("ada", other.sample_id)


@pytest.mark.parametrize(
    ("kept", "merged", "expected"), [(5, 3, 3), (3, 5, 3), (None, 5, 5), (5, None, 5), (None, None, None)]
)
def test_of_two_consents_the_one_that_ends_first_holds(
    gallery: Gallery, enrol: Enrol, now: datetime, kept: float | None, merged: float | None, expected: float | None
) -> None:
    enrol("ada", (1, 0, 0, 0), consent=consent(now, kept))
    enrol("ada2", (0, 1, 0, 0), consent=consent(now, merged))
    assert gallery.merge_subjects("office", "ada", "ada2", now)[0].consent == consent(now, expected)


def test_a_consent_of_one_is_that_of_both(gallery: Gallery, enrol: Enrol, now: datetime) -> None:
    enrol("ada", (1, 0, 0, 0))
    enrol("ada2", (0, 1, 0, 0), consent=consent(now, 5))
    assert gallery.merge_subjects("office", "ada", "ada2", now)[0].consent == consent(now, 5)


@pytest.mark.parametrize("expired", ["ada", "ada2"])
def test_a_consent_that_has_run_out_cannot_be_merged_away(
    gallery: Gallery, enrol: Enrol, now: datetime, expired: str
) -> None:
    for name in ("ada", "ada2"):
        enrol(name, (1, 0, 0, 0), consent=consent(now, 5))
    ended = replace(gallery.get_subject("office", expired), consent=consent(now, 0))
    gallery.update_subject(ended, {"consent"}, now)
    with pytest.raises(PreconditionError, match=f"consent of subject {expired} has run out") as refused:
        gallery.merge_subjects("office", "ada", "ada2", now)
    assert refused.value.reason == "CONSENT_EXPIRED"
    assert [one.subject_id for one in gallery.list_subjects("office", 10)[0]] == ["ada", "ada2"]


@pytest.mark.parametrize("disabled", ["ada", "ada2"])
def test_who_was_disabled_stays_so(gallery: Gallery, enrol: Enrol, now: datetime, disabled: str) -> None:
    for name in ("ada", "ada2"):
        enrol(name, (1, 0, 0, 0), enabled=name != disabled)
    assert not gallery.merge_subjects("office", "ada", "ada2", now)[0].enabled


@pytest.mark.parametrize(("kept", "merged", "error"), [("ada", "ada", InputError), ("ada", "bob", NotFoundError)])
def test_what_cannot_be_merged_can_be_asked_before(
    gallery: Gallery, enrol: Enrol, now: datetime, kept: str, merged: str, error: type[Exception]
) -> None:
    enrol("ada", (1, 0, 0, 0))
    for attempt in (gallery.check_merge, gallery.merge_subjects):
        with pytest.raises(error):
            attempt("office", kept, merged, now)
    assert gallery.sample_count("office") == 1


def test_whoever_is_split_off_has_the_same_consent(
    gallery: Gallery, enrol: Enrol, make_subject: Callable[..., Subject], now: datetime
) -> None:
    first, _ = enrol("ada", (1, 0, 0, 0), (0, 1, 0, 0), consent=consent(now, 5))
    gallery.split_subject("office", "ada", [first.sample_id], make_subject("bob"))
    assert gallery.get_subject("office", "bob").consent == consent(now, 5)
    assert [one.sample_id for one in gallery.list_samples("office", "bob")] == [first.sample_id]


def test_whoever_was_erased_is_not_made_known_again_by_a_correction(
    gallery: Gallery, enrol: Enrol, now: datetime
) -> None:
    [sample] = enrol("ada", (1, 0, 0, 0))
    enrol("bob", (0, 1, 0, 0))
    bob = gallery.get_subject("office", "bob")
    gallery.erase_subject("office", "bob", now)
    with pytest.raises(NotFoundError):
        gallery.split_subject("office", "ada", [sample.sample_id], bob, create=False)
    assert [one.subject_id for one in gallery.list_subjects("office", 10)[0]] == ["ada"]
    assert gallery.sample_count("office") == 1


def test_an_erasure_may_depend_on_what_is_so_at_that_moment(gallery: Gallery, enrol: Enrol, now: datetime) -> None:
    enrol("ada", (1, 0, 0, 0), consent=consent(now, 5))
    with pytest.raises(PreconditionError, match="was changed meanwhile") as refused:
        gallery.erase_subject("office", "ada", now, only_if=lambda one: one.consent_expired(now))
    assert refused.value.reason == "SUBJECT_CHANGED"
    assert gallery.get_subject("office", "ada").sample_count == 1
    later = now + timedelta(days=6)
    gallery.erase_subject("office", "ada", later, only_if=lambda one: one.consent_expired(later))
    assert gallery.subject_count("office") == 0
