"""Each row of the outcome table, how long a decision holds by both clocks, and the rule that nobody is there twice."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count

import numpy as np
import pytest
from evidence import ACCESS, CLOCK0, GOOD, POLICY, POOR, T0, candidate, capture, moment, quality, view, views
from hypothesis import given
from hypothesis import strategies as st

from facesvc.stream.policy import (
    Capture,
    Decision,
    Evidence,
    LivenessScore,
    Moment,
    Outcome,
    Policy,
    View,
    decide,
    false_positive_identification_rate,
    named_by,
)

ONE_OF_ONE = POLICY.of_one_picture
TWO_OF_THREE = replace(POLICY, matches=2, frames=3)
ALIVE = LivenessScore(0.8, 3)


def face(*seen: View, liveness: LivenessScore | None = None) -> Evidence:
    return Evidence(GOOD, seen, liveness)


def decided(*faces: Evidence, policy: Policy = ONE_OF_ONE, now: Moment | None = None) -> list[Decision]:
    """Right after the newest view where ``now`` is not given."""
    ids = count()
    newest = max((view.capture.clock - CLOCK0 for face in faces for view in face.views), default=0.0)
    at = now or moment(newest)
    return decide(faces, policy, capture(newest), at, lambda: f"decision-{next(ids)}")


def of(said: str, policy: Policy, liveness: LivenessScore | None = None) -> Decision:
    """What is concluded from views that said so, a second apart, right after the last."""
    (decision,) = decided(face(*views(said), liveness=liveness), policy=policy, now=moment(len(said) - 1))
    return decision


@pytest.mark.parametrize(
    ("candidates", "outcome"),
    [
        ([], Outcome.UNKNOWN),
        ([("a", 0.89)], Outcome.UNKNOWN),
        ([("a", 0.9)], Outcome.MATCH),
        ([("a", 0.95), ("b", 0.93)], Outcome.MATCH),
        ([("a", 0.95), ("b", 0.945)], Outcome.AMBIGUOUS),
        ([("a", 0.901), ("b", 0.895)], Outcome.AMBIGUOUS),
        ([("a", 0.89), ("b", 0.885)], Outcome.UNKNOWN),
    ],
)
def test_one_view_gets_the_outcome_of_its_row(candidates: list[tuple[str, float]], outcome: Outcome) -> None:
    (decision,) = decided(face(view(*candidates)))
    assert decision.outcome is outcome
    assert decision.subject == (candidate(*candidates[0]) if outcome is Outcome.MATCH else None)
    assert list(decision.candidates) == [candidate(*one) for one in candidates]
    assert decision.settled


@pytest.mark.parametrize(
    ("said", "policy", "outcome", "agreeing", "settled"),
    [
        ("a", TWO_OF_THREE, Outcome.UNKNOWN, 0, False),
        ("aa", TWO_OF_THREE, Outcome.MATCH, 2, True),
        ("a-a", TWO_OF_THREE, Outcome.MATCH, 2, True),
        ("a--", TWO_OF_THREE, Outcome.UNKNOWN, 2, True),
        ("ab", TWO_OF_THREE, Outcome.UNKNOWN, 0, False),
        ("aab", TWO_OF_THREE, Outcome.MATCH, 2, True),
        ("---", TWO_OF_THREE, Outcome.UNKNOWN, 3, True),
        ("--", TWO_OF_THREE, Outcome.UNKNOWN, 2, False),
        ("?", TWO_OF_THREE, Outcome.UNKNOWN, 1, False),
        ("??", TWO_OF_THREE, Outcome.AMBIGUOUS, 2, False),
        ("?-?", TWO_OF_THREE, Outcome.AMBIGUOUS, 2, True),
        ("?aa", TWO_OF_THREE, Outcome.MATCH, 2, True),
        # Views before the last n count no more.
        ("aa--", TWO_OF_THREE, Outcome.UNKNOWN, 2, True),
        ("aabb", TWO_OF_THREE, Outcome.MATCH, 2, True),
        ("a", POLICY, Outcome.MATCH, 1, True),
        ("----", POLICY, Outcome.UNKNOWN, 4, False),
        ("-----", POLICY, Outcome.UNKNOWN, 5, True),
        ("ab", POLICY, Outcome.AMBIGUOUS, 1, False),
        ("abb", POLICY, Outcome.MATCH, 2, True),
        ("abab-", POLICY, Outcome.AMBIGUOUS, 2, True),
        ("??a??", POLICY, Outcome.MATCH, 1, True),
        ("?----", POLICY, Outcome.AMBIGUOUS, 1, True),
    ],
)
def test_k_of_the_last_n_views_decide(
    said: str,
    policy: Policy,
    outcome: Outcome,
    agreeing: int,
    settled: bool,  # noqa: FBT001 - a column of the table
) -> None:
    decision = of(said, policy)
    assert (decision.outcome, decision.frames_agreeing, decision.settled) == (outcome, agreeing, settled)
    assert decision.frames_looked_at == min(len(said), policy.frames)
    assert (decision.subject is not None) == (outcome is Outcome.MATCH)


def test_most_votes_name_the_face_and_the_newest_of_them_is_the_basis() -> None:
    seen = [view(("b", 0.99)), view(("a", 0.93), seconds=1), view(("a", 0.91), seconds=2), view(("b", 0.99), seconds=3)]
    (decision,) = decided(face(*seen[:3]), policy=POLICY, now=moment(3))
    assert decision.subject == candidate("a", 0.91)
    assert decision.capture_time == capture(2).time
    (decision,) = decided(face(*seen[:3], view(("x", 0.1), seconds=3)), policy=POLICY, now=moment(3))
    # The last view names nobody: the decision rests on, and expires counted from, the one before.
    assert (decision.subject, decision.capture_time) == (candidate("a", 0.91), capture(2).time)
    assert decision.expire_clock == CLOCK0 + 2 + 5


def test_what_is_no_match_rests_on_the_newest_view() -> None:
    decision = of("a-", TWO_OF_THREE)
    assert decision.capture_time == capture(1).time
    assert [one.subject_id for one in decision.candidates] == ["x"]


@pytest.mark.parametrize(
    ("liveness", "outcome", "settled"),
    [
        (None, Outcome.UNKNOWN, False),
        (LivenessScore(0.9, 2), Outcome.UNKNOWN, False),
        (LivenessScore(0.1, 2), Outcome.UNKNOWN, False),
        (LivenessScore(0.49, 3), Outcome.SPOOF, True),
        (LivenessScore(0.5, 3), Outcome.MATCH, True),
    ],
)
def test_where_liveness_is_required_nobody_is_named_without_it(
    liveness: LivenessScore | None,
    outcome: Outcome,
    settled: bool,  # noqa: FBT001 - a column of the table
) -> None:
    decision = of("aaa", ACCESS, liveness)
    assert (decision.outcome, decision.settled, decision.liveness) == (outcome, settled, liveness)
    assert (decision.subject is not None) == (outcome is Outcome.MATCH)
    # Also not where it is known to be nobody, and in spite of liveness nobody is named who is not.
    assert of("---", ACCESS, liveness).outcome is (outcome if outcome is Outcome.SPOOF else Outcome.UNKNOWN)
    free = replace(ACCESS, liveness_required=False)
    assert of("aaa", free, liveness).outcome is Outcome.MATCH


def test_a_spoof_is_one_by_all_its_views() -> None:
    assert of("aab", ACCESS, LivenessScore(0.1, 3)).frames_agreeing == 3


@pytest.mark.parametrize(
    ("weakest", "words"),
    [
        ("size", "80 pixels wide"),
        ("sharpness", "blurred"),
        ("light", "too dark"),
        ("pose", "yaw 7, pitch -3"),
        ("detection", "not sure that this is a face"),
    ],
)
def test_without_a_fit_view_the_quality_is_low_and_says_why(weakest: str, words: str) -> None:
    (decision,) = decided(Evidence(quality(0.1, weakest), ()))
    assert (decision.outcome, decision.subject, decision.candidates) == (Outcome.LOW_QUALITY, None, ())
    assert words in decision.low_quality_reason
    assert (decision.frames_looked_at, decision.capture_time) == (0, capture().time)


def test_too_bright_is_not_too_dark() -> None:
    (decision,) = decided(Evidence(replace(quality(0.1, "light"), brightness=0.95), ()))
    assert decision.low_quality_reason == "the face is too bright"


def test_a_face_with_fit_views_is_judged_by_them_also_where_it_is_seen_badly_now() -> None:
    (decision,) = decided(Evidence(POOR, [view(("a", 0.95))]), policy=POLICY)
    assert (decision.outcome, decision.low_quality_reason) == (Outcome.MATCH, "")


@pytest.mark.parametrize(("policy", "settled"), [(ONE_OF_ONE, True), (POLICY, False)])
def test_low_quality_is_final_for_a_picture_only(policy: Policy, settled: bool) -> None:  # noqa: FBT001 - a column
    (decision,) = decided(Evidence(POOR, ()), policy=policy)
    assert decision.settled == settled


def test_a_decision_knows_its_times_and_expires_counted_from_the_picture() -> None:
    (decision,) = decided(face(view(("a", 0.95))), now=moment(2))
    assert (decision.capture_time, decision.decision_time) == (T0, T0 + timedelta(seconds=2))
    assert decision.expire_time == T0 + timedelta(seconds=5)
    assert decision.expire_clock == CLOCK0 + 5
    assert [decision.valid_for(CLOCK0 + seconds) for seconds in (2, 4.5, 5, 6)] == [3, 0.5, 0, 0]


def test_a_decision_about_an_old_picture_is_born_expired() -> None:
    (decision,) = decided(face(view(("a", 0.95))), now=moment(60))
    assert decision.expire_time < decision.decision_time
    assert decision.valid_for(CLOCK0 + 60) == 0


def test_a_picture_from_the_future_buys_no_time() -> None:
    ahead = View(Capture(T0 + timedelta(hours=1), CLOCK0 + 3600), [candidate("a", 0.95)])
    (decision,) = decided(face(ahead), now=moment())
    assert (decision.expire_time, decision.expire_clock) == (T0 + timedelta(seconds=5), CLOCK0 + 5)


@given(
    taken=st.floats(-100, 100),
    age=st.floats(0, 100),
    camera_off=st.floats(-1e5, 1e5),
    step=st.floats(-1e5, 1e5),
)
def test_no_step_of_any_clock_that_is_set_extends_a_decision(
    taken: float, age: float, camera_off: float, step: float
) -> None:
    """The camera's clock is off, and the wall clock was stepped between capture and decision."""
    captured = Capture(T0 + timedelta(seconds=taken + camera_off), CLOCK0 + taken)
    now = Moment(T0 + timedelta(seconds=taken + age + step), CLOCK0 + taken + age)
    (decision,) = decided(face(View(captured, [candidate("a", 0.95)])), now=now)
    life = POLICY.lifetime.total_seconds()
    assert decision.valid_for(now.clock) == pytest.approx(max(0, life - age), abs=1e-6)
    # By the wall it lasts no longer than by the clock that is never set, from now on, and never longer than it is.
    left = (decision.expire_time - now.time).total_seconds()
    assert left <= life - age + 1e-5
    assert decision.expire_time <= captured.time + POLICY.lifetime


def test_the_best_face_keeps_the_name() -> None:
    decisions = decided(face(view(("a", 0.93))), face(view(("a", 0.97))), face(view(("b", 0.95))))
    assert [one.outcome for one in decisions] == [Outcome.UNKNOWN, Outcome.MATCH, Outcome.MATCH]
    assert decisions[0].subject is None
    # Who lost it is still told what it was like.
    assert decisions[0].candidates == [candidate("a", 0.93)]


def test_of_two_equal_faces_the_first_keeps_the_name() -> None:
    outcomes = [one.outcome for one in decided(face(view(("a", 0.95))), face(view(("a", 0.95))))]
    assert outcomes == [Outcome.MATCH, Outcome.UNKNOWN]


def test_an_ambiguous_face_takes_nobodys_name() -> None:
    outcomes = [one.outcome for one in decided(face(view(("a", 0.99), ("b", 0.985))), face(view(("a", 0.95))))]
    assert outcomes == [Outcome.AMBIGUOUS, Outcome.MATCH]


def test_a_spoof_takes_nobodys_name() -> None:
    spoof = face(*views("aaa", similarity=0.99), liveness=LivenessScore(0.1, 3))
    outcomes = [one.outcome for one in decided(spoof, face(*views("aaa"), liveness=ALIVE), policy=ACCESS)]
    assert outcomes == [Outcome.SPOOF, Outcome.MATCH]


def test_no_face_is_no_decision() -> None:
    assert decided() == []


def test_who_is_named_by_a_view() -> None:
    assert [named_by(one, POLICY) for one in views("a-?")] == ["a", "", ""]


candidates = st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.85, 1)), max_size=3, unique_by=lambda one: one[0])
looks = st.lists(candidates.map(lambda one: view(*sorted(one, key=lambda other: -other[1]))), max_size=7)
scores = st.none() | st.builds(LivenessScore, st.floats(0, 1), st.integers(1, 9))


@given(
    st.lists(st.tuples(looks, scores), max_size=8),
    st.integers(1, 5).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    st.booleans(),
)
def test_nobody_is_named_twice_and_nobody_without_enough_views_that_say_so(
    faces: list[tuple[Sequence[View], LivenessScore | None]],
    k_of_n: tuple[int, int],
    liveness_required: bool,  # noqa: FBT001 - drawn
) -> None:
    policy = replace(ACCESS, matches=k_of_n[0], frames=k_of_n[1], liveness_required=liveness_required)
    decisions = decided(*(face(*seen, liveness=liveness) for seen, liveness in faces), policy=policy)
    named = [decision.subject.subject_id for decision in decisions if decision.subject]
    assert len(named) == len(set(named))
    assert len({decision.decision_id for decision in decisions}) == len(decisions) == len(faces)
    for decision, (seen, liveness) in zip(decisions, faces, strict=True):
        assert (decision.outcome is Outcome.LOW_QUALITY) == (not seen)
        if decision.subject is None:
            continue
        last = seen[-policy.frames :]
        agreeing = [one for one in last if named_by(one, policy) == decision.subject.subject_id]
        assert decision.frames_agreeing == len(agreeing) >= policy.matches
        assert decision.subject == agreeing[-1].candidates[0]
        assert decision.subject.similarity >= policy.threshold
        if liveness_required:
            assert liveness is not None
            assert liveness.score >= policy.liveness_threshold


def test_the_rate_for_a_gallery_is_that_of_independent_comparisons() -> None:
    random = np.random.default_rng(0)
    people, rate = 50, 0.01
    hits = (random.random((20_000, people)) < rate).any(axis=1).mean()
    assert false_positive_identification_rate(rate, people) == pytest.approx(hits, abs=0.02)
    assert false_positive_identification_rate(rate, 0) == 0
