"""Each row of the outcome table, and the rule that nobody is there twice."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.gallery import Candidate
from facesvc.stream.policy import (
    Decision,
    Evidence,
    Outcome,
    Policy,
    decide,
    false_positive_identification_rate,
)
from facesvc.vision.quality import Quality

T0 = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy("test", 1e-3, threshold=0.9, margin=0.01, minimum_quality=0.5, lifetime=timedelta(seconds=5))
GOOD = Quality(0.9, 80, 0.2, 0.5, 0, 0, 0, "size")


def candidate(subject_id: str, similarity: float) -> Candidate:
    return Candidate(subject_id, subject_id.title(), similarity, "sample", {})


def face(*candidates: tuple[str, float], quality: Quality = GOOD) -> Evidence:
    return Evidence(quality, [candidate(*one) for one in candidates])


def decided(*faces: Evidence) -> list[Decision]:
    ids = iter(range(1000))
    return decide(faces, POLICY, capture_time=T0, now=T0 + timedelta(seconds=1), new_id=lambda: str(next(ids)))


@pytest.mark.parametrize(
    ("evidence", "outcome"),
    [
        (face(), Outcome.UNKNOWN),
        (face(("a", 0.89)), Outcome.UNKNOWN),
        (face(("a", 0.9)), Outcome.MATCH),
        (face(("a", 0.95), ("b", 0.93)), Outcome.MATCH),
        (face(("a", 0.95), ("b", 0.945)), Outcome.AMBIGUOUS),
        (face(("a", 0.901), ("b", 0.895)), Outcome.AMBIGUOUS),
        (face(("a", 0.99), quality=Quality(0.4, 9, 0.2, 0.5, 0, 0, 0, "size")), Outcome.LOW_QUALITY),
    ],
)
def test_a_face_gets_the_outcome_of_its_row(evidence: Evidence, outcome: Outcome) -> None:
    (decision,) = decided(evidence)
    assert decision.outcome is outcome
    assert (decision.subject is not None) == (outcome is Outcome.MATCH)


def test_a_decision_knows_its_times_and_expires() -> None:
    (decision,) = decided(face(("a", 0.95)))
    assert decision.capture_time == T0
    assert decision.decision_time > T0
    assert decision.expire_time - decision.capture_time == POLICY.lifetime


def test_a_picture_from_the_future_buys_no_time() -> None:
    (decision,) = decide([face()], POLICY, capture_time=T0 + timedelta(hours=1), now=T0, new_id=lambda: "x")
    assert decision.expire_time == T0 + POLICY.lifetime


def test_the_best_face_keeps_the_name() -> None:
    outcomes = [d.outcome for d in decided(face(("a", 0.93)), face(("a", 0.97)), face(("b", 0.95)))]
    assert outcomes == [Outcome.UNKNOWN, Outcome.MATCH, Outcome.MATCH]


def test_of_two_equal_faces_the_first_keeps_the_name() -> None:
    outcomes = [d.outcome for d in decided(face(("a", 0.95)), face(("a", 0.95)))]
    assert outcomes == [Outcome.MATCH, Outcome.UNKNOWN]


def test_an_ambiguous_face_takes_nobodys_name() -> None:
    outcomes = [d.outcome for d in decided(face(("a", 0.99), ("b", 0.985)), face(("a", 0.95)))]
    assert outcomes == [Outcome.AMBIGUOUS, Outcome.MATCH]


@pytest.mark.parametrize("weakest", ["size", "sharpness", "light", "pose", "detection"])
def test_low_quality_says_why(weakest: str) -> None:
    (decision,) = decided(face(quality=Quality(0.1, 9, 0.0, 0.1, 50, 0, 0, weakest)))
    assert decision.low_quality_reason


def test_no_face_is_no_decision() -> None:
    assert decided() == []


@given(st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.8, 1)), max_size=3), max_size=8))
def test_nobody_is_named_twice_and_nobody_below_the_threshold(faces: list[list[tuple[str, float]]]) -> None:
    unique = [dict(sorted(one, key=lambda c: c[1])).items() for one in faces]
    evidence = [face(*sorted(one, key=lambda c: -c[1])) for one in unique]
    decisions = decided(*evidence)
    named = [d.subject.subject_id for d in decisions if d.subject]
    assert len(named) == len(set(named))
    assert all(d.subject.similarity >= POLICY.threshold for d in decisions if d.subject)
    assert len({d.decision_id for d in decisions}) == len(decisions) == len(faces)


def test_the_rate_for_a_gallery_is_that_of_independent_comparisons() -> None:
    random = np.random.default_rng(0)
    people, rate = 50, 0.01
    hits = (random.random((20_000, people)) < rate).any(axis=1).mean()
    assert false_positive_identification_rate(rate, people) == pytest.approx(hits, abs=0.02)
    assert false_positive_identification_rate(rate, 0) == 0
