"""``facesvc compare``: the faces of one picture against the largest of another."""

from pathlib import Path

import numpy as np
import pytest
from cli.running import Facesvc

from facesvc.cli.compare import _numbers
from facesvc.cli.pictures import write
from facesvc.v1 import recognition_pb2


def test_the_same_person_is_found_among_others(facesvc: Facesvc, faces: dict[str, Path], pictures: Path) -> None:
    result = facesvc("compare", faces["Bea"], pictures / "t1.jpg")

    assert result.status == 0
    assert result.out.count(" yes ") == 1
    assert result.out.count(" no ") == 5
    assert "a false-match rate (FMR) of 0.001" in result.out


def test_what_is_withheld_is_no_number() -> None:
    stranger = recognition_pb2.ComparedFace(similarity=-1, distance=2)
    known = recognition_pb2.ComparedFace(similarity=0.273, distance=1.2058)
    assert (_numbers(stranger), _numbers(known)) == (("below", ""), ("0.273", "1.206"))


def test_nobody_alike_is_exit_1(facesvc: Facesvc, faces: dict[str, Path], pictures: Path) -> None:
    result = facesvc("compare", faces["Bea"], pictures / "Tom_Hanks_54745.png")

    assert result.status == 1
    assert " yes " not in result.out


def test_json_has_box_similarity_and_distance_of_each_face(
    facesvc: Facesvc, faces: dict[str, Path], pictures: Path
) -> None:
    result = facesvc("compare", faces["Bea"], pictures / "t1.jpg", "--json")

    answer = result.json
    best = answer["faces"][0]
    assert result.status == 0
    assert best["same_person"]
    assert best["similarity"] >= answer["threshold"]
    assert best["distance"] == pytest.approx((2 - 2 * best["similarity"]) ** 0.5, abs=1e-3)
    assert set(best["box"]) == set(answer["reference_box"]) == {"left", "top", "width", "height"}


def test_a_reference_without_a_face_is_said(facesvc: Facesvc, faces: dict[str, Path], blank: Path) -> None:
    result = facesvc("compare", blank, faces["Bea"])

    assert result.status == 1
    assert f"{blank} shows no face to compare with" in result.err
    assert facesvc("compare", blank, faces["Bea"], "--json").json["reference_box"] is None


def test_a_picture_without_a_face_is_said(facesvc: Facesvc, faces: dict[str, Path], blank: Path) -> None:
    result = facesvc("compare", faces["Bea"], blank)

    assert result.status == 1
    assert f"{blank} shows no face" in result.err


@pytest.mark.parametrize("place", [0, 1])
def test_the_picture_that_cannot_be_read_is_named(
    facesvc: Facesvc, faces: dict[str, Path], tmp_path: Path, place: int
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    pair = [faces["Bea"], faces["Bea"]]
    pair[place] = broken

    result = facesvc("compare", *pair)

    assert result.status == 2
    assert result.err.startswith(f"facesvc: {broken}: the image cannot be read")


def test_a_policy_that_cannot_be_honoured_is_exit_2(facesvc: Facesvc, faces: dict[str, Path]) -> None:
    result = facesvc("compare", faces["Bea"], faces["Bea"], "--policy", "access")

    assert result.status == 2
    assert "policy access cannot be honoured" in result.err


def test_no_server_is_one_line_that_says_what_to_do(facesvc: Facesvc, faces: dict[str, Path]) -> None:
    result = facesvc("compare", faces["Bea"], faces["Bea"], "--server", "127.0.0.1:1")

    assert result.status == 2
    assert result.err == "facesvc: no server answers at 127.0.0.1:1: start one with `facesvc serve`\n"


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """A picture of nobody."""
    path = tmp_path / "blank.png"
    write(path, np.full((120, 160, 3), 127, np.uint8))
    return path
