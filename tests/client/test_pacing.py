"""How light, how many, how soon again: values only."""

import random

from hypothesis import given
from hypothesis import strategies as st

from facesvc.client.pacing import LEVELS, Allowance, Backoff, Level, Lightening

SLOW, FAST, FAIR = 0.3, 0.05, 0.15


def told(lightening: Lightening, way_s: float, results: int) -> int:
    """So many results at the present level; the place after them."""
    for _ in range(results):
        lightening.arrived(way_s, lightening.place)
    return lightening.place


def lightened(places: int, smallest_face: float = 0) -> Lightening:
    lightening = Lightening(smallest_face)
    assert told(lightening, SLOW, 5 * places) == places
    return lightening


def test_each_level_is_lighter_than_the_one_before() -> None:
    sizes = [(level.share, level.quality) for level in LEVELS]
    assert sizes == sorted(sizes, reverse=True)
    assert LEVELS[0].share == 1


def test_a_slow_way_makes_pictures_lighter_a_level_every_five_results() -> None:
    lightening = Lightening(0)
    assert [told(lightening, SLOW, 1) for _ in range(10)] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]
    assert told(lightening, SLOW, 1000) == len(LEVELS) - 1


def test_two_slow_results_of_five_are_not_slow() -> None:
    lightening = Lightening(0)
    for _ in range(20):
        for way in (SLOW, FAIR, SLOW, FAIR, FAIR):
            lightening.arrived(way, 0)
    assert lightening.place == 0


def test_a_fast_way_makes_them_heavier_again_after_thirty() -> None:
    lightening = lightened(2)
    assert told(lightening, FAST, 29) == 2
    assert told(lightening, FAIR, 1) == 2
    assert told(lightening, FAST, 29) == 2
    assert told(lightening, FAST, 1) == 1
    assert told(lightening, FAST, 30) == 0
    assert told(lightening, FAST, 1000) == 0


def test_a_level_that_proved_too_heavy_is_tried_ever_more_rarely() -> None:
    lightening = lightened(1)
    needed = []
    for _ in range(8):
        needed.append(0)
        while lightening.place == 1:
            told(lightening, FAST, 1)
            needed[-1] += 1
        assert told(lightening, SLOW, 5) == 1
    assert needed == [30, 60, 120, 240, 480, 960, 960, 960]


def test_a_level_that_proved_right_is_forgiven() -> None:
    lightening = lightened(1)
    told(lightening, FAST, 30)
    told(lightening, SLOW, 5)
    told(lightening, FAST, 60)
    told(lightening, FAST, 30)
    told(lightening, SLOW, 5)
    assert told(lightening, FAST, 30) == 0


def test_results_of_an_earlier_level_are_not_counted() -> None:
    lightening = lightened(1)
    for _ in range(100):
        lightening.arrived(SLOW, 0)
    assert lightening.place == 1


@given(st.floats(12, 400), st.floats(12, 400), st.integers(0, len(LEVELS) - 1))
def test_no_picture_is_so_small_that_a_face_that_matters_is_lost(smallest: float, minimum: float, place: int) -> None:
    lightening = lightened(place, smallest)
    lightening.look_for(minimum)
    share = lightening.level.share
    assert LEVELS[place].share <= share <= 1
    assert share == 1 or smallest * share >= minimum * (1 - 1e-9)


def test_who_does_not_say_which_face_matters_gets_no_smaller_pictures() -> None:
    lightening = lightened(len(LEVELS) - 1)
    lightening.look_for(40)
    assert lightening.level == Level(LEVELS[-1].quality, 1.0)
    named = lightened(len(LEVELS) - 1, 80)
    assert named.level.share == 1
    named.look_for(40)
    assert named.level.share == 0.5


def test_only_at_the_lightest_one_frame_waits_for_the_other() -> None:
    assert not lightened(len(LEVELS) - 2).one_at_a_time
    assert lightened(len(LEVELS) - 1).one_at_a_time


def test_a_credit_is_spent_once() -> None:
    allowance = Allowance(0, 5)
    assert allowance.wait_s(0, one_at_a_time=False) == 5
    allowance.grant(2)
    allowance.grant(-7)
    for _ in range(2):
        assert allowance.wait_s(1, one_at_a_time=False) == 0
        allowance.spend(1)
    assert allowance.wait_s(1, one_at_a_time=False) == 5
    assert allowance.wait_s(6, one_at_a_time=False) == 0


def test_one_at_a_time_waits_for_the_answer_not_for_the_credit() -> None:
    allowance = Allowance(0, 5)
    allowance.grant(9)
    allowance.spend(1)
    assert allowance.wait_s(2, one_at_a_time=True) == 4
    assert allowance.wait_s(2, one_at_a_time=False) == 0
    allowance.answered(1, 2)
    assert allowance.wait_s(2, one_at_a_time=True) == 0


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20))
def test_whatever_is_granted_the_allowance_is_bounded(grants: list[int]) -> None:
    allowance = Allowance(0, 5)
    for grant in grants:
        allowance.grant(grant)
    sent = 0
    while allowance.wait_s(0, one_at_a_time=False) == 0:
        allowance.spend(0)
        sent += 1
    assert sent <= 64


@given(st.integers(0, 10**6))
def test_pauses_double_up_to_half_a_minute_each_up_to_a_half_shorter(seed: int) -> None:
    backoff = Backoff(random.Random(seed), 0.5)
    pauses = [backoff.pause_s() for _ in range(40)]
    wanted = [min(0.5 * 2**attempt, 30) for attempt in range(40)]
    assert all(want / 2 <= pause <= want for pause, want in zip(pauses, wanted, strict=True))
    assert len(set(pauses[10:])) > 1
    backoff.reset()
    assert backoff.pause_s() <= 0.5
