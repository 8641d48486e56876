"""Whether a picture is fit to enrol somebody by: one verdict, by the first row that fits.

=================  =================================================================================
verdict            when
=================  =================================================================================
FACE_NOT_FOUND     there is no face
MULTIPLE_FACES     a second face is at least a quarter as large as the largest: either could be meant
FACE_TOO_SMALL     the face has too few pixels
EXTREME_POSE       the head is turned too far away
LOW_QUALITY        blurred, too dark, too bright, or hardly a face
FIT                all else
=================  =================================================================================
"""

import enum
import math
from dataclasses import dataclass

from facesvc.vision.pipeline import Analysis, Face

_SHARE_OF_THE_LARGEST = 0.25


class Verdict(enum.Enum):
    """What a picture is worth for enrolment."""

    FIT = "FIT"
    FACE_NOT_FOUND = "FACE_NOT_FOUND"
    MULTIPLE_FACES = "MULTIPLE_FACES"
    FACE_TOO_SMALL = "FACE_TOO_SMALL"
    EXTREME_POSE = "EXTREME_POSE"
    LOW_QUALITY = "LOW_QUALITY"


@dataclass(frozen=True, slots=True)
class Bar:
    """What a face must reach: pixels of its shorter side, quality 0 to 1, degrees."""

    face_pixels: float
    quality: float
    yaw: float
    pitch: float


@dataclass(frozen=True, slots=True)
class Fitness:
    """The verdict, what to do in words, and the face that was judged, where there was one."""

    verdict: Verdict
    advice: str
    face: Face | None = None


def judge(analysis: Analysis, bar: Bar) -> Fitness:
    """The fitness of a picture whose faces stand largest first."""
    if not analysis.faces:
        return Fitness(Verdict.FACE_NOT_FOUND, "no face was found: use a photo that shows the face clearly")
    face, *others = analysis.faces
    rivals = [other for other in others if _area(other) >= _SHARE_OF_THE_LARGEST * _area(face)]
    if rivals:
        advice = f"{len(rivals) + 1} faces could be meant: crop the photo to one person"
        return Fitness(Verdict.MULTIPLE_FACES, advice, face)
    quality = face.quality
    if quality.face_pixels < bar.face_pixels:
        has, needs = math.floor(quality.face_pixels), math.ceil(bar.face_pixels)
        advice = f"the face is {has} pixels wide, {needs} are needed: come closer"
        return Fitness(Verdict.FACE_TOO_SMALL, advice, face)
    if abs(quality.yaw) > bar.yaw or abs(quality.pitch) > bar.pitch:
        turn, tilt = round(quality.yaw), round(quality.pitch)
        advice = f"the head is turned by {turn} and tilted by {tilt} degrees: look at the camera"
        return Fitness(Verdict.EXTREME_POSE, advice, face)
    if quality.score < bar.quality:
        advice = {
            "sharpness": "the face is blurred: hold still, clean the lens",
            "light": f"the face is too {'dark' if quality.brightness < 0.5 else 'bright'}: change the light",
        }.get(quality.weakest, f"the face is hard to make out ({quality.weakest}): use another photo")
        return Fitness(Verdict.LOW_QUALITY, advice, face)
    return Fitness(Verdict.FIT, "", face)


def _area(face: Face) -> float:
    return face.detection.box.area
