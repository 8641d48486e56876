"""Each piece of news is told once, and again only when it is new."""

import pytest
from sightings import INSIDE, at, sighting

from facesvc.stream.news import News, Reporter
from facesvc.stream.policy import Outcome
from facesvc.stream.presence import Camera, Direction

UNKNOWN, SPOOF = Outcome.UNKNOWN, Outcome.SPOOF


def told(reporter: Reporter, clock: float, name: str = "jane", **fields: object) -> list[News]:
    return reporter.note(sighting(name, seen_time=at(clock), **fields), clock)  # type: ignore[arg-type]


def test_somebody_who_stays_in_view_is_seen_once() -> None:
    reporter = Reporter(10.0)
    assert [bool(told(reporter, second)) for second in range(30)] == [True] + [False] * 29


def test_somebody_who_was_out_of_view_is_seen_again() -> None:
    reporter = Reporter(10.0)
    found = [bool(told(reporter, clock)) for clock in (0, 9, 18, 28)]
    assert found == [True, False, False, True]


def test_others_come_and_go_meanwhile() -> None:
    reporter = Reporter(10.0)
    passages = [(0, "jane"), (5, "joe"), (9, "jane"), (14, "joe"), (18, "jane"), (24, "joe")]
    assert [bool(told(reporter, clock, name)) for clock, name in passages] == [True, True, False, False, False, True]


def test_cameras_and_galleries_are_apart() -> None:
    reporter = Reporter(10.0)
    assert told(reporter, 0)
    assert told(reporter, 1, camera=Camera("yard", "", Direction.EXIT))
    assert told(reporter, 2, collection_id="guests")
    assert not told(reporter, 3)


def test_a_zone_is_not_needed_to_be_seen() -> None:
    assert told(Reporter(10.0), 0, camera=Camera("gate", "", Direction.INSIDE)) == [News.SEEN]


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.MATCH])
def test_only_a_match_is_seen(outcome: Outcome) -> None:
    assert told(Reporter(10.0), 0, outcome=outcome) == []


def test_who_is_forgotten_is_new() -> None:
    reporter = Reporter(10.0)
    told(reporter, 0)
    reporter.forget("default", "jane")
    assert told(reporter, 1) == [News.SEEN]


def test_an_unknown_person_is_told_once_for_a_track_when_settled() -> None:
    reporter = Reporter(10.0)
    assert not told(reporter, 0, track_id="t", outcome=UNKNOWN, settled=False)
    assert told(reporter, 1, track_id="t", outcome=UNKNOWN) == [News.UNKNOWN_PERSON]
    assert not told(reporter, 2, track_id="t", outcome=UNKNOWN)
    assert told(reporter, 3, track_id="u", outcome=UNKNOWN) == [News.UNKNOWN_PERSON]


def test_a_track_that_was_somebody_becomes_no_stranger() -> None:
    reporter = Reporter(10.0)
    assert told(reporter, 0, track_id="t") == [News.SEEN]
    assert not told(reporter, 1, track_id="t", outcome=UNKNOWN)


def test_a_spoof_attempt_is_told_once_for_a_track() -> None:
    reporter = Reporter(10.0)
    assert told(reporter, 0, track_id="t", outcome=SPOOF) == [News.SPOOF_ATTEMPT]
    assert not told(reporter, 1, track_id="t", outcome=SPOOF)
    assert told(reporter, 2, track_id="u", outcome=SPOOF) == [News.SPOOF_ATTEMPT]


def test_a_track_of_another_camera_is_another_track() -> None:
    reporter = Reporter(10.0)
    other = Camera("other", "lobby", Direction.INSIDE)
    assert told(reporter, 0, track_id="t", outcome=SPOOF)
    assert told(reporter, 1, track_id="t", outcome=SPOOF, camera=other)


@pytest.mark.parametrize("outcome", [UNKNOWN, SPOOF])
def test_without_a_track_nothing_is_told_of_strangers(outcome: Outcome) -> None:
    assert told(Reporter(10.0), 0, outcome=outcome) == []


def test_those_who_left_long_ago_are_forgotten() -> None:
    reporter = Reporter(10.0)
    for number in range(1000):
        told(reporter, number, f"visitor-{number}", track_id=f"t{number}")
    assert len(reporter._last_seen) <= 10
    assert len(reporter._tracks) <= 121


def test_a_track_that_goes_on_is_not_forgotten() -> None:
    reporter = Reporter(10.0)
    found = [told(reporter, clock, track_id="t", outcome=UNKNOWN) for clock in range(0, 1000, 50)]
    assert found == [[News.UNKNOWN_PERSON]] + [[]] * 19


def test_at_most_so_many_are_remembered() -> None:
    reporter = Reporter(10.0, most=5)
    for number in range(100):
        told(reporter, 0, f"visitor-{number}", track_id=f"t{number}", camera=INSIDE)
    assert len(reporter._last_seen) == 5
    assert len(reporter._tracks) == 5
