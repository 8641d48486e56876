"""Boxes and names in pictures."""

import numpy as np
import pytest

from facesvc.cli.draw import Label, draw, label_of, name_of
from facesvc.v1 import common_pb2, recognition_pb2

GREY = np.full((240, 320, 3), 90, np.uint8)
GREEN = (34, 160, 84)


def face(outcome: str, name: str = "", subject_id: str = "", similarity: float = 0.0) -> recognition_pb2.RecognizedFace:
    subject = common_pb2.Candidate(subject_id=subject_id, display_name=name, similarity=similarity)
    return recognition_pb2.RecognizedFace(
        face=common_pb2.Face(box=common_pb2.BoundingBox(left=10, top=20, width=30, height=40)),
        decision=common_pb2.Decision(
            outcome=common_pb2.Outcome.Value(f"OUTCOME_{outcome}"), subject=subject if subject_id else None
        ),
    )


def changed(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what differs."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_a_match_has_its_name_and_similarity() -> None:
    label = label_of(face("MATCH", "Jane Doe", "jane", 0.934))

    assert label.text == "Jane Doe  0.93"
    assert label.box == (10, 20, 40, 60)


def test_a_match_without_a_name_has_its_id() -> None:
    assert name_of(face("MATCH", "", "jane")) == "jane"


def test_a_match_that_a_camera_is_not_told_more_of() -> None:
    assert label_of(face("MATCH")).text == "somebody"


@pytest.mark.parametrize(
    ("outcome", "text"),
    [("UNKNOWN", "unknown"), ("LOW_QUALITY", "low quality"), ("AMBIGUOUS", "ambiguous"), ("SPOOF", "spoof")],
)
def test_all_else_has_its_outcome(outcome: str, text: str) -> None:
    assert label_of(face(outcome)).text == text


def test_outcomes_differ_in_colour() -> None:
    assert len({label_of(face(outcome)).colour for outcome in ("MATCH", "UNKNOWN", "AMBIGUOUS", "SPOOF")}) == 4


def test_a_name_is_one_line_without_control_characters() -> None:
    assert label_of(face("MATCH", "Jane\nDoe\x1b[2J", "jane")).text == "Jane Doe[2J  0.00"


def test_the_picture_itself_is_left_alone() -> None:
    before = GREY.copy()

    drawn = draw(before, [Label((100, 100, 160, 180), "Jane", GREEN)])

    assert (before == GREY).all()
    assert (drawn == GREEN).all(axis=2).any()


def test_nothing_to_draw_is_the_same_picture() -> None:
    assert (draw(GREY, []) == GREY).all()


def test_the_name_stands_above_its_box() -> None:
    left, top, _, bottom = changed(GREY, draw(GREY, [Label((100, 100, 160, 180), "Jane", GREEN)]))

    assert (left, bottom) == (pytest.approx(100, abs=2), pytest.approx(180, abs=2))
    assert 75 <= top < 95


def test_the_name_stands_below_where_there_is_no_room_above() -> None:
    _, _, _, bottom = changed(GREY, draw(GREY, [Label((100, 2, 160, 80), "Jane", GREEN)]))

    assert bottom > 90


@pytest.mark.parametrize(
    "box", [(-50, -50, 400, 300), (300, 100, 500, 200), (100, 230, 160, 400), (-90, -90, -50, -50)]
)
def test_a_box_may_reach_beyond_the_picture(box: tuple[float, float, float, float]) -> None:
    assert draw(GREY, [Label(box, "a rather long name " * 5, GREEN)]).shape == GREY.shape


def test_the_smallest_picture() -> None:
    assert draw(np.zeros((1, 1, 3), np.uint8), [Label((0, 0, 1, 1), "Jane", GREEN)]).shape == (1, 1, 3)


@pytest.mark.parametrize("names", [("é", "ë"), ("Ж", "Ш"), ("王", "伟"), ("ș", "ş")])
def test_letters_of_many_scripts_are_told_apart(names: tuple[str, str]) -> None:
    one, other = (draw(GREY, [Label((100, 100, 160, 180), name * 3, GREEN)]) for name in names)

    assert (one != other).any()
