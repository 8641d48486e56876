"""Scores of tracks, names and events, on cases whose values were worked out by hand."""

import math

import pytest

from facesvc.cli.tracking_pairs import Answer, FoundFace, TrueFace, overlap
from facesvc.cli.tracking_scores import Happening, events, names, naming, tracks
from facesvc.vision.geometry import Box


def at(x: float) -> Box:
    return Box(x, 0, 10, 10)


def there(person: str, x: float, visible: float = 1.0) -> TrueFace:
    return TrueFace(person, at(x), 1.0, visible)


def found(track: str, x: float, name: str = "", *, predicted: bool = False) -> FoundFace:
    return FoundFace(track, name, at(x), predicted)


def answers(*frames: list[FoundFace]) -> list[Answer]:
    return [Answer(number, tuple(faces)) for number, faces in enumerate(frames)]


def test_overlap() -> None:
    assert overlap(at(0), at(0)) == 1
    assert overlap(at(0), at(5)) == pytest.approx(1 / 3)
    assert overlap(at(0), at(10)) == overlap(at(0), Box(0, 10, 10, 10)) == 0


def test_everybody_followed() -> None:
    truth = [[there("ana", x), there("bea", 100 - x)] for x in range(5)]
    scores = tracks(truth, answers(*[[found("2", 100 - x), found("1", x)] for x in range(5)]))
    assert (scores.idf1, scores.idp, scores.idr, scores.recall, scores.precision) == (1, 1, 1, 1, 1)
    assert (scores.switches, scores.fragments) == ((), 0)


def test_nothing_at_all() -> None:
    scores = tracks([], [])
    assert (scores.idf1, scores.switches) == (1, ())
    nobody = tracks([[there("ana", 0)]] * 3, answers([], [], []))
    assert (nobody.idf1, nobody.idp, nobody.idr, nobody.recall) == (0, 1, 0, 0)


def test_a_track_that_breaks_in_two_is_one_switch() -> None:
    # Ten frames, of which track 1 has six and track 2 four: the six agree. IDF1 = 2 * 6 / (10 + 10).
    truth = [[there("ana", 0)]] * 10
    scores = tracks(truth, answers(*[[found("1" if n < 6 else "2", 0)] for n in range(10)]))
    assert (scores.switches, scores.fragments) == (((6, "ana"),), 0)
    assert (scores.idf1, scores.idp, scores.idr) == (0.6, 0.6, 0.6)
    assert (scores.recall, scores.precision) == (1, 1)


def test_two_who_swap_their_tracks_are_two_switches() -> None:
    truth = [[there("ana", 0), there("bea", 50)]] * 4
    before, after = [found("1", 0), found("2", 50)], [found("2", 0), found("1", 50)]
    scores = tracks(truth, answers(before, before, before, after))
    assert (scores.switches, scores.idf1) == (((3, "ana"), (3, "bea")), 0.75)


def test_misses_and_ghosts() -> None:
    # Four faces, two of them found, and one box on nobody: IDF1 = 2 * 2 / (4 + 3).
    truth = [[there("ana", 0)]] * 4
    scores = tracks(truth, answers([found("1", 0)], [], [found("1", 80)], [found("1", 0)]))
    assert (scores.recall, scores.precision) == (0.5, pytest.approx(2 / 3))
    assert scores.idf1 == pytest.approx(4 / 7)
    assert (scores.switches, scores.fragments) == ((), 1)


def test_frames_that_were_not_answered_count_for_nothing() -> None:
    truth = [[there("ana", 0)], [there("ana", 30)], [there("ana", 60)]]
    scores = tracks(truth, [Answer(0, (found("1", 0),)), Answer(2, (found("1", 60),))])
    assert (scores.idf1, scores.recall) == (1, 1)


def test_a_hidden_face_may_be_found_or_not() -> None:
    truth = [[there("ana", 0)], [there("ana", 0, 0.4)], [there("ana", 0, 0.4)], [there("ana", 0)]]
    scores = tracks(truth, answers([found("1", 0)], [], [found("1", 0)], [found("1", 0)]))
    assert (scores.idf1, scores.recall, scores.precision, scores.fragments) == (1, 1, 1, 0)
    lost = tracks(truth, answers([found("1", 0)], [], [], [found("2", 0)]))
    assert (lost.switches, lost.idf1) == (((3, "ana"),), 0.5)


def test_a_pairing_stays_while_it_holds() -> None:
    # From the second frame on the other box fits better, but hers has not left her.
    truth = [[there("ana", 0)]] * 3
    scores = tracks(truth, answers([found("1", 0)], [found("1", 3), found("2", 0)], [found("1", 3), found("2", 0)]))
    assert (scores.switches, scores.recall, scores.precision) == ((), 1, 0.6)


def test_the_track_of_somebody_hidden_can_become_another_ones() -> None:
    truth = [[there("ana", 0)], [there("bea", 0)], [there("ana", 3), there("bea", 0)]]
    scores = tracks(truth, answers([found("1", 0)], [found("1", 0)], [found("2", 3), found("1", 0)]))
    assert (scores.switches, scores.recall) == (((2, "ana"),), 1)


def test_names_face_by_face() -> None:
    truth = [[there("ana", 0), there("bea", 50), there("guest", 90)]] * 4
    scores = names(
        truth,
        answers(
            [found("1", 0), found("2", 50), found("3", 90)],
            [found("1", 0, "ana"), found("2", 50), found("3", 90)],
            [found("1", 0, "ana"), found("2", 50, "ana"), found("3", 90)],
            [found("1", 0, "ana"), found("2", 50, "bea"), found("3", 90, "bea"), found("4", 200, "ana")],
        ),
        frozenset({"ana", "bea"}),
    )
    assert scores.recall == 4 / 8
    assert scores.precision == 4 / 7
    assert scores.wrong_frames == 3
    assert scores.wrong == (("bea", "ana"), ("guest", "bea"), ("nobody", "ana"))
    assert scores.adrift == 0


def test_a_box_off_its_face_is_no_wrong_name() -> None:
    truth = [[there("ana", 0), there("bea", 50)]] * 4
    scores = names(
        truth,
        answers(
            [found("1", 0, "ana"), found("2", 50, "bea")],
            [found("1", 8, "ana"), found("2", 90, "bea", predicted=True)],
            [found("1", 50, "ana", predicted=True)],
            [found("1", 20, "ana")],
        ),
        frozenset({"ana", "bea"}),
    )
    assert (scores.recall, scores.adrift) == (2 / 8, 3 / 6)
    assert scores.wrong == (("nobody", "ana"),)
    assert scores.precision == 2 / 3


def test_time_to_the_first_right_name() -> None:
    truth = [[], [there("ana", 0, 0.3)], *[[there("ana", 0), there("bea", 50), there("guest", 90)]] * 6]
    said = [
        Answer(2, (found("1", 0), found("2", 50)), 0.1),
        Answer(4, (found("1", 0, "bea"), found("2", 50)), 0.1),
        Answer(5, (found("1", 0, "ana"), found("2", 50)), 0.25),
        Answer(6, (found("1", 0, "ana"), found("2", 50), found("3", 90)), 0.1),
    ]
    result = naming(truth, said, frozenset({"ana", "bea", "absent"}), fps=10)
    assert (result.named, result.never) == (1, ("bea",))
    assert result.p50_s == result.p99_s == result.longest_s == pytest.approx(0.3 + 0.25)


def test_nobody_named() -> None:
    result = naming([[there("ana", 0)]], answers([found("1", 0)]), frozenset({"ana"}), fps=10)
    assert (result.named, result.never) == (0, ("ana",))
    assert math.isnan(result.longest_s)


def test_events_are_paired_by_kind_person_and_time() -> None:
    expected = [Happening("arrived", "ana", 1), Happening("left", "ana", 9), Happening("arrived", "bea", 2)]
    got = [
        Happening("arrived", "ana", 1.4),
        Happening("arrived", "ana", 5),
        Happening("left", "ana", 15),
        Happening("arrived", "guest", 2),
    ]
    scores = events(expected, got, tolerance_s=2)
    assert (scores.precision, scores.recall) == (0.25, pytest.approx(1 / 3))
    assert scores.missing == (expected[1], expected[2])
    assert set(scores.extra) == set(got[1:])
    assert events([], [], 1).precision == events([], [], 1).recall == 1


def test_each_event_is_paired_once() -> None:
    twice = [Happening("seen", "ana", 1), Happening("seen", "ana", 2)]
    assert events(twice, twice[:1], 5).recall == 0.5
    assert events(twice[:1], twice, 5).precision == 0.5
