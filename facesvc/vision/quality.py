"""How fit a face is for recognition: size, sharpness, light, pose, and one number made of them.

The pose comes from the five landmarks alone: the affine camera that explains them best, seen as a scaled orthographic
one (DeMenthon and Davis, Model-Based Object Pose in 25 Lines of Code, 1995).
"""

import math
from dataclasses import dataclass, fields

import cv2
import numpy as np

from facesvc.vision.detection import Detection, Floats, Pixels

# A mean face, with the distance of the eyes as the unit: x to the right, y down, z towards the viewer. x and y are the
# places of the landmarks in a frontal chip, z those of common head models: the nose stands 0.44 before the eyes.
_HEAD = np.array(
    [(-0.50, 0.0, 0.0), (0.50, 0.0, 0.0), (0.0, 0.58, 0.44), (-0.42, 1.07, 0.03), (0.42, 1.07, 0.03)], np.float64
)
_HEAD_CENTRED = _HEAD - _HEAD.mean(axis=0)
_HEAD_INVERSE = np.linalg.pinv(_HEAD_CENTRED)

# Where a part of the quality is nought, and where it is full. Sharpness: LFW faces of 55 pixels have 0.08 to 0.25;
# blurred by two of their pixels 0.03 to 0.07, by four 0.01 to 0.06.
_FACE_PIXELS = (12.0, 60.0)
_YAW_DEGREES = (60.0, 20.0)
_PITCH_DEGREES = (50.0, 20.0)
_BRIGHTNESS_DARK = (0.04, 0.16)
_BRIGHTNESS_LIGHT = (0.98, 0.88)
_SHARPNESS = (0.025, 0.08)
_DETECTION_SCORE = (0.5, 0.9)


@dataclass(frozen=True, slots=True)
class QualityParts:
    """Fitness in each respect, 0 (useless) to 1 (as good as makes a difference); the least of them is the score."""

    size: float
    sharpness: float
    light: float
    pose: float
    detection: float


PARTS = tuple(field.name for field in fields(QualityParts))


@dataclass(frozen=True, slots=True)
class Quality:
    """The fitness of one face; ``score``, ``sharpness`` and ``brightness`` are 0 to 1, angles are degrees.

    ``yaw`` is the turn to the viewer's right, ``pitch`` the nod downwards, ``roll`` the tilt clockwise.
    """

    score: float
    face_pixels: float
    sharpness: float
    brightness: float
    yaw: float
    pitch: float
    roll: float
    parts: QualityParts

    @property
    def weakest(self) -> str:
        """The part that decides the score: size, sharpness, light, pose or detection."""
        return min(PARTS, key=lambda name: float(getattr(self.parts, name)))


def head_pose(landmarks: Floats) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees of the head with these ``landmarks`` (5, 2); nought where they coincide.

    The roll is that of the line through the eyes; yaw and pitch are those of the head turned upright by it.
    """
    points = landmarks.astype(np.float64)
    eyes_right, eyes_down = points[1] - points[0]
    roll = math.atan2(eyes_down, eyes_right)
    points = points @ np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    right, down = (_HEAD_INVERSE @ (points - points.mean(axis=0))).T
    if min(np.linalg.norm(right), np.linalg.norm(down)) < 1e-9:
        return 0.0, 0.0, 0.0
    right, down = right / np.linalg.norm(right), down / np.linalg.norm(down)
    forward = np.cross(right, down)
    yaw = np.degrees(np.arctan2(right[2], np.hypot(right[0], right[1])))
    pitch = np.degrees(np.arctan2(down[2], max(float(forward[2]), 1e-6)))
    return float(yaw), float(pitch), math.degrees(roll)


def evenness(landmarks: Floats) -> float:
    """How evenly the picture of a head with these ``landmarks`` (5, 2) is scaled: 0 to 1, nought where they coincide.

    A head keeps about 1 however it is turned; of a flat picture, tilted by an angle about any axis, the cosine is left.
    """
    points = landmarks.astype(np.float64)
    wide, narrow = np.linalg.svd(_HEAD_INVERSE @ (points - points.mean(axis=0)), compute_uv=False)
    return float(narrow / wide) if wide > 1e-9 else 0.0


def sharpness_of(grey: Pixels) -> float:
    """Share of the contrast that a slight blur takes away, 0 (nothing left to blur) to 1.

    :param grey: (H, W) uint8, an aligned chip, so that the measure does not depend on the size of the face.
    """
    # The middle only: hair, background and the black beyond the frame would outweigh the face.
    values = _middle(grey).astype(np.float32)
    fine = values - cv2.GaussianBlur(values, (0, 0), 1.5)
    return float(np.clip(fine.std() / max(float(values.std()), 8.0), 0, 1))


def _middle(grey: Pixels) -> Pixels:
    rows, columns = grey.shape[0] // 5, grey.shape[1] // 5
    return grey[rows:-rows, columns:-columns]


def assess(detection: Detection, chip: Pixels, scale: float) -> Quality:
    """The quality of a face.

    :param chip: the aligned face, (S, S, 3) uint8 RGB.
    :param scale: size of the picture that ``detection`` is measured in, relative to the full one.
    """
    grey: Pixels = cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
    brightness = float(_middle(grey).mean()) / 255
    sharpness = sharpness_of(grey)
    yaw, pitch, roll = head_pose(detection.landmarks)
    face_pixels = min(detection.box.width, detection.box.height) / scale
    parts = QualityParts(
        size=_ramp(face_pixels, _FACE_PIXELS),
        sharpness=_ramp(sharpness, _SHARPNESS),
        light=min(_ramp(brightness, _BRIGHTNESS_DARK), _ramp(brightness, _BRIGHTNESS_LIGHT)),
        pose=min(_ramp(abs(yaw), _YAW_DEGREES), _ramp(abs(pitch), _PITCH_DEGREES)),
        detection=_ramp(detection.score, _DETECTION_SCORE),
    )
    score = min(float(getattr(parts, name)) for name in PARTS)
    return Quality(score, face_pixels, sharpness, brightness, yaw, pitch, roll, parts)


def _ramp(value: float, nought_and_full: tuple[float, float]) -> float:
    nought, full = nought_and_full
    return float(np.clip((value - nought) / (full - nought), 0, 1))
