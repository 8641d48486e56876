"""Draws results into pictures: a box and a label for each face, in the colour of its outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from facesvc.cli.console import printable
from facesvc.v1 import common_pb2, recognition_pb2

Pixels = NDArray[np.uint8]

_WHITE = (255, 255, 255)
_SMALLEST_TEXT = 12  # pixels
_ASCENT = 0.85  # of a line is above the baseline, as far as capitals and accents go
_WEIGHT = 500  # of 100 (thin) to 900 (black)
_COLOURS = {
    common_pb2.OUTCOME_MATCH: (34, 160, 84),
    common_pb2.OUTCOME_AMBIGUOUS: (214, 140, 20),
    common_pb2.OUTCOME_UNKNOWN: (110, 118, 130),
    common_pb2.OUTCOME_LOW_QUALITY: (150, 150, 160),
    common_pb2.OUTCOME_SPOOF: (200, 40, 40),
}


@dataclass(frozen=True, slots=True)
class Label:
    """A box in pixels (left, top, right, bottom), what stands at it, and its colour as RGB."""

    box: tuple[float, float, float, float]
    text: str
    colour: tuple[int, int, int]


def outcome_name(outcome: common_pb2.Outcome.ValueType) -> str:
    """An outcome without its prefix, such as MATCH."""
    return common_pb2.Outcome.Name(outcome).removeprefix("OUTCOME_")


def name_of(face: recognition_pb2.RecognizedFace) -> str:
    """The name of a match, the outcome of all else, such as ``unknown``."""
    decision = face.decision
    if decision.outcome == common_pb2.OUTCOME_MATCH:
        # A camera is not told who it is, unless its token says so.
        return decision.subject.display_name or decision.subject.subject_id or "somebody"
    return outcome_name(decision.outcome).replace("_", " ").lower()


def label_of(face: recognition_pb2.RecognizedFace) -> Label:
    """What is drawn for a recognised face: name and similarity of a match, the outcome of all else."""
    box, decision = face.face.box, face.decision
    text = printable(name_of(face))
    if decision.HasField("subject"):
        text = f"{text}  {decision.subject.similarity:.2f}"
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    return Label(corners, text, _COLOURS.get(decision.outcome, _COLOURS[common_pb2.OUTCOME_UNKNOWN]))


def draw(pixels: Pixels, labels: Sequence[Label]) -> Pixels:
    """A copy of ``pixels`` (H, W, 3) uint8 RGB with ``labels`` drawn in; text above its box where there is room."""
    canvas = np.array(pixels, order="C")
    size = max(_SMALLEST_TEXT, round(min(canvas.shape[:2]) / 36))
    for label in labels:
        left, top, right, bottom = (round(value) for value in label.box)
        cv2.rectangle(canvas, (left, top), (right, bottom), label.colour, max(2, size // 8), cv2.LINE_AA)
    # Last, so that no box crosses a name.
    for label in labels:
        _write(canvas, label, size)
    return canvas


def _write(canvas: Pixels, label: Label, size: int) -> None:
    height, width = canvas.shape[:2]
    left, top, _, bottom = (round(value) for value in label.box)
    text_width = cv2.getTextSize((width, height), label.text, (0, 0), _font(), size, _WEIGHT)[2]
    pad = max(3, size // 4)
    tall = size + 2 * pad
    left = max(0, min(left, width - text_width - 2 * pad))
    upper = top - tall if top >= tall else max(0, min(bottom, height - tall))
    cv2.rectangle(canvas, (left, upper), (left + text_width + 2 * pad, upper + tall), label.colour, cv2.FILLED)
    baseline = upper + pad + round(_ASCENT * size)
    cv2.putText(canvas, label.text, (left + pad, baseline), _WHITE, _font(), size, _WEIGHT)


@cache
def _font() -> cv2.FontFace:
    """OpenCV's own: it has the letters of every script that a name is likely to be written in."""
    return cv2.FontFace("sans")
