"""Turns a face upright: a similarity transform of its landmarks onto fixed places of a square chip.

The transform is the least-squares one of Umeyama, Least-Squares Estimation of Transformation Parameters Between Two
Point Patterns, 1991, in two dimensions, where it has a closed form in complex numbers.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from facesvc.vision.detection import Floats, Pixels

Matrix = NDArray[np.float64]


def similarity_transform(source: Floats, target: Floats) -> Matrix:
    """The (2, 3) float64 matrix of rotation, scale and shift that takes ``source`` (N, 2) nearest to ``target``.

    Points that all coincide give a pure shift.
    """
    z = source[:, 0].astype(np.float64) + 1j * source[:, 1]
    w = target[:, 0].astype(np.float64) + 1j * target[:, 1]
    z_mean, w_mean = z.mean(), w.mean()
    spread = np.sum(np.abs(z - z_mean) ** 2)
    turn = np.sum(np.conj(z - z_mean) * (w - w_mean)) / spread if spread > 1e-12 else 1.0 + 0j
    shift = w_mean - turn * z_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align(pixels: Pixels, landmarks: Floats, template: Floats, side: int) -> Pixels:
    """The chip of one face, (side, side, 3) uint8 RGB; what lies outside the frame is black.

    :param pixels: (H, W, 3) uint8 RGB, contiguous.
    :param landmarks: (5, 2) float32 in pixels of ``pixels``.
    :param template: (5, 2) float32, where the landmarks go, in pixels of the chip.
    """
    return warp(pixels, similarity_transform(landmarks, template), side)


def warp(pixels: Pixels, matrix: Matrix, side: int) -> Pixels:
    """``pixels`` through a similarity transform, without aliasing where that shrinks by more than half."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:
        pixels, matrix = _shrunk(pixels, matrix, side, int(0.5 / max(scale, 1e-3)) + 1)
    return cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _shrunk(pixels: Pixels, matrix: Matrix, side: int, factor: int) -> tuple[Pixels, Matrix]:
    """The part of the picture that the chip shows, averaged over ``factor`` x ``factor`` pixels, and its transform.

    The part is two averaged pixels wider on each side than the chip needs, so that none of it mixes with the black
    outside unless it lies at the edge of the picture.
    """
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]], np.float64) @ inverse.T
    height, width = pixels.shape[:2]
    margin = 2 * factor
    left, top = np.clip(np.floor(corners.min(axis=0)) - margin, 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + margin, (left + 1, top + 1), (width, height)).astype(int)
    part = pixels[top:bottom, left:right]
    size = (max(1, part.shape[1] // factor), max(1, part.shape[0] // factor))
    zoom = np.array([part.shape[1] / size[0], part.shape[0] / size[1]])
    # x = zoom * (x' + 0.5) - 0.5 + corner, in pixel centres.
    offset = 0.5 * zoom - 0.5 + np.array([left, top])
    composed = np.column_stack([matrix[:, :2] * zoom, matrix[:, :2] @ offset + matrix[:, 2]])
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA), composed  # type: ignore[return-value]
