"""Each row of the table of views, and how long a decision is carried."""

from dataclasses import replace
from datetime import timedelta
from itertools import count

import numpy as np
import pytest
from evidence import ACCESS, CLOCK0, GOOD, POLICY, POOR, capture, moment, quality, view, views
from hypothesis import given
from hypothesis import strategies as st

from facesvc.stream.case import Case, Due, forgotten, revoked, same_subject_twice
from facesvc.stream.policy import Decision, LivenessScore, Outcome, Policy, View, decide
from facesvc.vision.detection import Floats

VERIFY_S = 3.0
TWO_OF_THREE = replace(POLICY, matches=2, frames=3)
LOOK_S = 0.125  # exact in binary


def unit(*values: float) -> Floats:
    vector = np.array(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))


class Desk:
    """One case; every view is decided on at once, as a look does."""

    def __init__(self, policy: Policy = POLICY, *, verify_s: float = VERIFY_S, scores: float | None = None) -> None:
        self.policy = policy
        self.verify_s = verify_s
        self.score = scores
        self.case = Case()
        self.seconds = 0.0
        self.embedded: list[float] = []
        self._ids = count()

    @property
    def clock(self) -> float:
        return CLOCK0 + self.seconds

    def view(self, said: str, seconds: float = 0.0, *, score: float = 0.9) -> None:
        """After so long, a view: of the person with that name, ``-`` of nobody, ``?`` torn between two."""
        self.seconds += seconds
        # No two are the same picture.
        (one,) = views(said, start=self.seconds - 1e-6 * (500 - len(self.embedded)))
        self.add(one, score=score)
        self.decide()

    def add(self, one: View, *, score: float = 0.9, vector: Floats | None = None) -> None:
        seen = quality(score)
        vector = unit(1, 0) if vector is None else vector
        self.case = self.case.viewed(one, vector, self.score, seen, self.policy, self.verify_s, self.clock)
        self.embedded.append(self.seconds)

    def decide(self, seconds: float = 0.0) -> Decision | None:
        """After so long, without another view."""
        self.seconds += seconds
        made = self.made()
        self.case = self.case.concluded(made, self.clock)
        return self.case.decision

    def made(self) -> Decision:
        evidence = self.case.evidence(GOOD)
        (made,) = decide(
            [evidence], self.policy, capture(self.seconds), moment(self.seconds), lambda: f"id-{next(self._ids)}"
        )
        return made

    def due(self, seconds: float = 0.0, *, score: float = 0.9, contested: bool = False) -> Due | None:
        return self.case.due(quality(score), self.policy, self.clock + seconds, contested=contested)

    def film(self, seconds: float, said: str) -> None:
        """Looks for so long; what is due is embedded and says so."""
        for _ in range(round(seconds / LOOK_S)):
            if self.due() is not None:
                self.view(said)
            else:
                self.decide()
            self.seconds += LOOK_S

    @property
    def name(self) -> str:
        decision = self.case.decision
        return decision.subject.subject_id if decision and decision.subject else ""

    @property
    def holds(self) -> bool:
        """Whether somebody is named, by a decision that has not expired."""
        decision = self.case.decision
        return bool(decision and decision.subject and decision.valid_for(self.clock) > 0)


def test_a_new_face_is_due() -> None:
    assert Desk().due() is Due.NEW
    assert Desk().due(contested=True) is Due.NEW


def test_a_named_face_is_due_once_its_decision_would_soon_expire() -> None:
    desk = Desk()
    desk.view("a")
    assert desk.name == "a"
    assert [desk.due(seconds) for seconds in (0, 2.9, 3.0)] == [None, None, Due.VERIFY]


@pytest.mark.parametrize(("lifetime", "verify_s", "pause"), [(5, 3, 3), (2, 3, 1.2), (5, 1, 1), (60, 3, 3)])
def test_how_long_that_takes_is_the_shorter_of_setting_and_share_of_life(
    lifetime: float, verify_s: float, pause: float
) -> None:
    desk = Desk(replace(POLICY, lifetime=timedelta(seconds=lifetime)), verify_s=verify_s)
    desk.view("a")
    assert desk.due(pause - 0.01) is None
    assert desk.due(pause + 0.01) is Due.VERIFY


def test_a_contested_face_is_due_at_once() -> None:
    desk = Desk()
    desk.view("a")
    assert desk.due(contested=True) is Due.CONTESTED


def test_until_there_are_as_many_views_as_the_policy_needs_the_next_is_due() -> None:
    desk = Desk(TWO_OF_THREE)
    desk.view("a")
    assert desk.due() is Due.OPEN
    desk.view("a", 0.1)
    assert (desk.due(), desk.name) == (None, "a")


def test_where_liveness_is_required_as_many_scores_are_needed() -> None:
    scored = Desk(ACCESS, scores=0.9)
    for place in range(3):
        assert scored.due() is (Due.OPEN if place else Due.NEW)
        scored.view("a", 0.1)
    assert (scored.due(), scored.name) == (None, "a")
    assert scored.case.evidence(GOOD).liveness == LivenessScore(pytest.approx(0.9), 3)
    # A face at the edge of the picture cannot be scored; it is not embedded ever again for that.
    unscored = Desk(ACCESS)
    unscored.film(20, "a")
    assert unscored.name == ""
    gaps = np.diff(unscored.embedded)
    assert gaps[:4].tolist() == [LOOK_S] * 4
    assert gaps[-1] == pytest.approx(1.2, abs=LOOK_S)


def test_views_that_agree_now_and_then_are_no_reason_to_hurry() -> None:
    desk = Desk(ACCESS)
    for number in range(30):
        desk.view("a--"[number % 3])
    assert desk.due() is None


def test_views_without_a_name_come_at_growing_intervals() -> None:
    desk = Desk(replace(POLICY, lifetime=timedelta(seconds=60)), verify_s=10.0)
    desk.film(20, "-")
    gaps = np.diff(desk.embedded)
    # Five as fast as may be, then after 0.5 s, 1 s, 2 s … of which none is longer than that of a named face.
    assert gaps[:4].tolist() == [LOOK_S] * 4
    assert gaps[4:].tolist() == [0.5, 1, 2, 4, 8]


def test_no_pause_is_longer_than_that_of_a_named_face() -> None:
    desk = Desk(verify_s=3.0)
    desk.film(40, "-")
    assert np.diff(desk.embedded)[7:].tolist() == [3.0] * (len(desk.embedded) - 8)
    assert len(desk.embedded) > 15


def test_a_name_after_misses_is_as_good_as_one_without() -> None:
    desk = Desk()
    desk.film(10, "-")
    desk.view("a")
    assert (desk.name, desk.case.misses, desk.due(2.9), desk.due(3.0)) == ("a", 0, None, Due.VERIFY)


def test_a_clearly_better_view_of_a_face_without_a_name_is_due() -> None:
    desk = Desk()
    for _ in range(6):
        desk.view("-", score=0.6)
    assert desk.due(score=0.75) is None
    assert desk.due(score=0.85) is Due.BETTER
    named = Desk()
    named.view("a", score=0.6)
    assert named.due(score=1.0) is None


def test_a_worse_view_does_not_lower_the_bar_of_a_better_one() -> None:
    desk = Desk()
    for score in (0.9, 0.6, 0.6, 0.6, 0.6, 0.6):
        desk.view("-", score=score)
    assert desk.due(score=1.0) is None


@pytest.mark.parametrize("said", ["", "a", "------"])
@pytest.mark.parametrize("contested", [False, True])
def test_a_face_that_is_not_fit_is_never_due(said: str, contested: bool) -> None:  # noqa: FBT001 - either
    desk = Desk()
    for letter in said:
        desk.view(letter)
    assert desk.case.due(POOR, POLICY, desk.clock + 100, contested=contested) is None
    assert desk.case.due(quality(0.5), POLICY, desk.clock + 100, contested=contested) is not None


def test_a_named_face_is_embedded_so_seldom() -> None:
    desk = Desk()
    desk.film(30, "a")
    assert len(desk.embedded) == 10
    assert desk.name == "a"


def test_a_match_is_renewed_with_every_view_that_agrees() -> None:
    desk = Desk()
    desk.view("a")
    first = desk.case.decision
    desk.view("a", 3)
    second = desk.case.decision
    assert first
    assert second
    assert second.decision_id != first.decision_id
    assert second.expire_clock == pytest.approx(first.expire_clock + 3)


def test_between_views_it_is_the_same_decision() -> None:
    desk = Desk()
    desk.view("a")
    first = desk.case.decision
    assert desk.decide(1) is first
    assert desk.decide(1) is first


@pytest.mark.parametrize("said", ["-", "?"])
def test_a_match_holds_until_it_expires_also_where_views_of_it_fail(said: str) -> None:
    desk = Desk(TWO_OF_THREE)
    desk.view("a")
    desk.view("a")
    first = desk.case.decision
    desk.view(said, 3)
    assert desk.case.decision is first
    for _ in range(3):
        desk.view("-", 0.5)
    assert desk.case.decision is first
    desk.decide(0.49)
    assert desk.name == "a"
    # Five seconds after the last view that agreed.
    desk.decide(0.01)
    assert desk.name == ""
    assert desk.case.views == ()
    assert desk.due() is Due.NEW


def test_what_an_expired_match_rested_on_is_forgotten() -> None:
    desk = Desk(TWO_OF_THREE)
    for _ in range(3):
        desk.view("a")
    desk.decide(5)
    assert desk.name == ""
    # It takes as many views as the first time.
    desk.view("a", 0.1)
    assert desk.name == ""
    desk.view("a", 0.1)
    assert desk.name == "a"


def test_another_name_replaces_it_once_the_policy_says_so() -> None:
    desk = Desk(TWO_OF_THREE)
    desk.view("a")
    desk.view("a")
    desk.view("b", 3)
    assert (desk.name, desk.due()) == ("a", Due.VERIFY)
    desk.view("b", 0.1)
    assert desk.name == "b"


def test_the_other_name_holds_for_a_life_of_its_own() -> None:
    desk = Desk(TWO_OF_THREE)
    desk.view("a")
    desk.view("a")
    desk.view("b", 3)
    desk.view("b", 0.1)
    desk.decide(4.8)
    assert desk.name == "b"
    desk.decide(0.2)
    assert desk.name == ""


def test_two_names_that_are_as_good_end_a_match() -> None:
    desk = Desk(POLICY)
    desk.view("a")
    desk.view("b", 3)
    assert (desk.name, desk.case.decision and desk.case.decision.outcome) == ("", Outcome.AMBIGUOUS)


def test_a_spoof_ends_a_match() -> None:
    desk = Desk(ACCESS, scores=0.9)
    for _ in range(3):
        desk.view("a", 0.1)
    assert desk.name == "a"
    desk.score = 0.0
    desk.view("a", 1)
    assert desk.name == "a"
    for _ in range(3):
        desk.view("a", 0.1)
    assert desk.case.decision is not None
    assert desk.case.decision.outcome is Outcome.SPOOF


def test_a_decision_that_is_no_match_stays_the_same_while_nothing_changes() -> None:
    desk = Desk()
    desk.view("-")
    first = desk.case.decision
    assert first
    assert desk.decide(1) is first
    desk.view("-", 1)
    second = desk.case.decision
    assert second
    assert (first.frames_looked_at, second.frames_looked_at) == (1, 2)
    for _ in range(3):
        desk.view("-")
    settled = desk.case.decision
    assert settled
    assert settled.settled
    desk.view("-", 1)
    assert desk.case.decision is settled
    # It expires as a match does.
    assert desk.decide(5) is not settled


@pytest.mark.parametrize("step", [timedelta(hours=-1), timedelta(hours=1)])
def test_steps_of_the_wall_clock_neither_hold_a_name_back_nor_extend_it(step: timedelta) -> None:
    desk = Desk()
    desk.view("a")
    desk.seconds += 3
    stepped = replace(capture(desk.seconds), time=capture(desk.seconds).time + step)
    desk.add(View(stepped, view(("a", 0.95)).candidates))
    now = replace(moment(desk.seconds), time=moment(desk.seconds).time + step)
    (made,) = decide([desk.case.evidence(GOOD)], POLICY, stepped, now, lambda: "after")
    case = desk.case.concluded(made, desk.clock)
    assert case.decision
    assert (case.decision.decision_id, case.decision.expire_clock) == ("after", desk.clock + 5)
    assert case.concluded(made, desk.clock + 5).decision is None


@given(st.text("ab-?", max_size=40), st.lists(st.floats(0, 4), min_size=40, max_size=40), st.sampled_from([1, 2, 3]))
def test_nobody_is_named_for_longer_than_a_life_after_a_view_that_says_so(
    said: str, pauses: list[float], matches: int
) -> None:
    desk = Desk(replace(POLICY, matches=matches))
    named: dict[str, float] = {}
    for letter, pause in zip(said, pauses, strict=False):
        desk.decide(pause)
        assert not desk.holds or desk.seconds - named[desk.name] < 5 + 1e-6
        named[letter] = desk.seconds
        desk.view(letter)
        assert not desk.holds or desk.seconds - named[desk.name] < 5 + 1e-6
        assert not desk.name or desk.case.decision.frames_agreeing >= matches
        assert len(desk.case.views) <= 5
        assert len(desk.case.vectors) <= 3


def test_likeness_is_that_of_the_most_similar_of_the_last_views() -> None:
    desk = Desk()
    assert desk.case.likeness(unit(1, 0)) is None
    for vector in (unit(1, 0), unit(0, 1), unit(-1, 0)):
        desk.add(view(("a", 0.95)), vector=vector)
    assert desk.case.likeness(unit(1, 1)) == pytest.approx(0.5**0.5)
    desk.add(view(("a", 0.95)), vector=unit(-1, 0))
    assert desk.case.likeness(unit(1, 0)) == pytest.approx(0)  # the first view is forgotten


def test_liveness_is_the_mean_of_the_views_that_were_scored() -> None:
    desk = Desk()
    for score in (0.2, None, 0.9, 0.4):
        desk.score = score
        desk.view("a")
    assert desk.case.evidence(GOOD).liveness == LivenessScore(pytest.approx(0.5), 3)


def test_liveness_is_that_of_the_last_views() -> None:
    desk = Desk()
    for score in (*[0.9] * 30, *[0.1] * 8):
        desk.score = score
        desk.view("a")
    assert desk.case.evidence(GOOD).liveness == LivenessScore(pytest.approx(0.1), 5)


def test_a_change_of_models_forgets_all_that_was_made_of_vectors() -> None:
    desk = Desk()
    desk.score = 0.7
    desk.view("a")
    case = forgotten(desk.case)
    assert (case.views, case.vectors, case.decision) == ((), (), None)
    assert (case.scores, desk.case.scores) == ((), (0.7,))
    assert case.due(GOOD, POLICY, CLOCK0, contested=False) is Due.NEW


def test_enough_unlike_views_make_it_another() -> None:
    assert [replace(Case(), unlike=unlike).is_another for unlike in (0, 2, 3)] == [False, False, True]
    desk = Desk()
    desk.case = replace(desk.case, unlike=2)
    desk.view("a")
    assert desk.case.unlike == 0


def named(name: str, similarity: float) -> Case:
    desk = Desk()
    desk.add(view((name, similarity)))
    desk.decide()
    return desk.case


def test_of_two_cases_with_one_name_the_less_similar_loses() -> None:
    assert same_subject_twice([named("a", 0.93), named("b", 0.99), named("a", 0.95)], CLOCK0) == {0}
    assert same_subject_twice([named("a", 0.95), named("a", 0.95)], CLOCK0) == {1}
    assert same_subject_twice([named("a", 0.93), named("a", 0.95), named("a", 0.94), named("a", 0.96)], CLOCK0) == {
        0,
        1,
        2,
    }
    assert same_subject_twice([Case(), named("a", 0.93), Case()], CLOCK0) == set()


def test_the_same_picture_again_is_the_same_view() -> None:
    desk = Desk(TWO_OF_THREE)
    (one,) = views("a")
    for _ in range(3):
        desk.add(one)
        desk.decide()
    assert (len(desk.case.views), desk.name) == (1, "")


def test_views_of_long_ago_do_not_vote() -> None:
    desk = Desk(TWO_OF_THREE)
    desk.view("a")
    desk.view("a", 60)
    assert desk.name == ""
    desk.view("a", 0.1)
    assert desk.name == "a"


def test_a_genuine_past_is_no_proof_of_life() -> None:
    desk = Desk(ACCESS, scores=0.9)
    for _ in range(5):
        desk.view("a", 0.1)
    assert desk.name == "a"
    # Later somebody holds up a picture: every view is due at once, and after as many as the policy needs it is one.
    desk.score = 0.05
    desk.case = desk.case.unproven()
    for _ in range(3):
        desk.view("a", 0.1)
        assert desk.due() is not None
    assert desk.case.decision is not None
    assert desk.case.decision.outcome is Outcome.SPOOF


def test_a_score_that_is_missing_is_no_score() -> None:
    desk = Desk(ACCESS, scores=0.9)
    for _ in range(3):
        desk.view("a", 0.1)
    desk.score = None
    desk.film(10, "a")
    assert desk.name == ""


def test_a_revoked_name_is_gone_at_once_and_the_track_is_looked_at_again() -> None:
    desk = Desk()
    desk.view("a")
    desk.case = revoked(desk.case)
    assert (desk.name, desk.due()) == ("", Due.NEW)
    assert desk.case.vectors


def test_of_two_claims_the_one_that_is_renewed_wins() -> None:
    carried, renewed = Desk(), Desk()
    carried.view("a")
    renewed.view("a")
    carried.case = replace(carried.case, decided_clock=CLOCK0 - 4.5)
    assert same_subject_twice([carried.case, renewed.case], CLOCK0) == {0}
    assert same_subject_twice([renewed.case, carried.case], CLOCK0) == {1}
