"""Each row of the table of verdicts, and its edges."""

from dataclasses import replace

import numpy as np
import pytest

from facesvc.vision.detection import Detection
from facesvc.vision.fitness import Bar, Verdict, judge
from facesvc.vision.geometry import Box
from facesvc.vision.pipeline import Analysis, Face, StageTimes
from facesvc.vision.quality import Quality, QualityParts

BAR = Bar(face_pixels=40, quality=0.5, yaw=30, pitch=25)


def face(
    *,
    side: float = 100,
    pixels: float = 100,
    score: float = 1.0,
    yaw: float = 0,
    pitch: float = 0,
    brightness: float = 0.5,
    weakest: str = "size",
) -> Face:
    parts = replace(QualityParts(1.0, 1.0, 1.0, 1.0, 1.0), **{weakest: score})
    quality = Quality(score, pixels, 0.3, brightness, yaw, pitch, 0.0, parts)
    return Face(Detection(Box(0, 0, side, side), np.zeros((5, 2), np.float32), 1.0), quality, None)


def analysis(*faces: Face) -> Analysis:
    return Analysis(1000, 1000, faces, 0, StageTimes(), 40.0)


def test_nobody() -> None:
    verdict = judge(analysis(), BAR)
    assert (verdict.verdict, verdict.face) == (Verdict.FACE_NOT_FOUND, None)
    assert verdict.advice


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.FIT),
        ({"pixels": 40.0}, Verdict.FIT),
        ({"pixels": 39.9}, Verdict.FACE_TOO_SMALL),
        ({"yaw": 30.0}, Verdict.FIT),
        ({"yaw": 30.1}, Verdict.EXTREME_POSE),
        ({"yaw": -30.1}, Verdict.EXTREME_POSE),
        ({"pitch": 25.0}, Verdict.FIT),
        ({"pitch": 25.1}, Verdict.EXTREME_POSE),
        ({"pitch": -25.1}, Verdict.EXTREME_POSE),
        ({"score": 0.5}, Verdict.FIT),
        ({"score": 0.49}, Verdict.LOW_QUALITY),
        # The first row that fits.
        ({"pixels": 1.0, "yaw": 90.0, "score": 0.0}, Verdict.FACE_TOO_SMALL),
        ({"yaw": 90.0, "score": 0.0}, Verdict.EXTREME_POSE),
    ],
)
def test_one_face(change: dict[str, float], verdict: Verdict) -> None:
    only = face(**change)  # type: ignore[arg-type]
    found = judge(analysis(only), BAR)
    assert (found.verdict, found.face) == (verdict, only)
    assert bool(found.advice) == (verdict is not Verdict.FIT)


@pytest.mark.parametrize(("share", "verdict"), [(0.26, Verdict.MULTIPLE_FACES), (0.24, Verdict.FIT)])
def test_a_second_face_counts_by_its_area(share: float, verdict: Verdict) -> None:
    largest = face(side=100)
    found = judge(analysis(largest, face(side=100 * share**0.5)), BAR)
    assert (found.verdict, found.face) == (verdict, largest)


def test_a_quarter_is_a_rival_and_rivals_come_before_all_else() -> None:
    found = judge(analysis(face(side=100, pixels=1), face(side=50), face(side=50), face(side=49)), BAR)
    assert found.verdict is Verdict.MULTIPLE_FACES
    assert "3 faces" in found.advice


@pytest.mark.parametrize(
    ("weakest", "brightness", "word"),
    [
        ("sharpness", 0.5, "blurred"),
        ("light", 0.1, "too dark"),
        ("light", 0.95, "too bright"),
        ("detection", 0.5, "(detection)"),
    ],
)
def test_the_advice_names_what_is_wrong(weakest: str, brightness: float, word: str) -> None:
    found = judge(analysis(face(score=0.1, weakest=weakest, brightness=brightness)), BAR)
    assert found.verdict is Verdict.LOW_QUALITY
    assert word in found.advice


def test_the_advice_never_says_that_enough_is_too_little() -> None:
    assert "is 39 pixels wide, 40 are needed" in judge(analysis(face(pixels=39.9)), BAR).advice
