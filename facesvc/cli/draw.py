"""Draws results into pictures: a box and a label for each face, in the colour of its outcome."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facesvc.cli.console import printable
from facesvc.v1 import common_pb2, recognition_pb2

Pixels = NDArray[np.uint8]

_WHITE, _SHADOW = (255, 255, 255), (16, 16, 16)
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
        return decision.subject.display_name or decision.subject.subject_id
    return outcome_name(decision.outcome).replace("_", " ").lower()


def label_of(face: recognition_pb2.RecognizedFace) -> Label:
    """What is drawn for a recognised face: name and similarity of a match, the outcome of all else."""
    box, decision = face.face.box, face.decision
    text = printable(name_of(face))
    if decision.outcome == common_pb2.OUTCOME_MATCH:
        text = f"{text}  {decision.subject.similarity:.2f}"
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    return Label(corners, text, _COLOURS.get(decision.outcome, _COLOURS[common_pb2.OUTCOME_UNKNOWN]))


def draw(pixels: Pixels, labels: Sequence[Label]) -> Pixels:
    """A copy of ``pixels`` (H, W, 3) uint8 RGB with ``labels`` drawn in; text above its box where there is room."""
    picture = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(picture)
    size = max(12, round(min(picture.size) / 36))
    font = ImageFont.load_default(size)
    for label in labels:
        left, top, right, bottom = (round(value) for value in label.box)
        canvas.rectangle((left, top, right, bottom), outline=label.colour, width=max(2, size // 8))
        _write(canvas, font, label, (left, top, bottom), picture.size)
    return np.asarray(picture)


def _write(
    canvas: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    label: Label,
    place: tuple[int, int, int],
    size: tuple[int, int],
) -> None:
    left, top, bottom = place
    width, height = (round(value) for value in canvas.textbbox((0, 0), label.text, font=font)[2:])
    pad = max(3, height // 4)
    left = max(0, min(left, size[0] - width - 2 * pad))
    above = top - height - 2 * pad
    upper = above if above >= 0 else min(bottom, size[1] - height - 2 * pad)
    canvas.rectangle((left, upper, left + width + 2 * pad, upper + height + 2 * pad), fill=label.colour)
    canvas.text((left + pad + 1, upper + pad + 1), label.text, fill=_SHADOW, font=font)
    canvas.text((left + pad, upper + pad), label.text, fill=_WHITE, font=font)
