"""Simulated attacks: frames of a camera that show the victim, each otherwise, and the same ones for the same seed."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
import skimage.data

from facesvc.cli import attacks
from facesvc.vision.detection import Pixels
from facesvc.vision.geometry import Box

FACE = Box(170, 70, 110, 140)
Attack = Callable[[Pixels, Box, int, int], Iterator[Pixels]]


@pytest.fixture
def portrait() -> Pixels:
    return np.ascontiguousarray(skimage.data.astronaut())


def likeness(frame: Pixels, part: Pixels) -> float:
    """How like ``part`` the most similar place of the frame is, at any of some sizes: the best correlation."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    plain = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    sizes = [cv2.resize(plain, None, fx=zoom, fy=zoom) for zoom in np.arange(0.6, 2, 0.1)]
    return max(float(cv2.matchTemplate(grey, one, cv2.TM_CCOEFF_NORMED).max()) for one in sizes)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [*attacks.ATTACKS.values(), attacks.filmed])
def test_frames_show_the_victim_and_move(attack: Attack, portrait: Pixels) -> None:
    frames = list(attack(portrait, FACE, 3, 7))
    assert [(frame.shape, frame.dtype) for frame in frames] == [((480, 640, 3), np.uint8)] * 3
    assert all(likeness(frame, portrait[70:210, 170:280]) > 0.6 for frame in frames)
    assert np.abs(frames[0].astype(int) - frames[2]).mean() > 3
    np.testing.assert_array_equal(frames[1], list(attack(portrait, FACE, 2, 7))[1])
    assert np.abs(frames[0].astype(int) - next(attack(portrait, FACE, 1, 8))).mean() > 3


@pytest.mark.parametrize("attack", [*attacks.ATTACKS.values(), attacks.filmed])
@pytest.mark.parametrize("box", [Box(-30, -30, 60, 60), Box(100, 130, 80, 60), Box(0, 0, 200, 150)])
def test_any_face_of_any_picture_will_do(attack: Attack, box: Box, portrait: Pixels) -> None:
    (frame,) = attack(np.ascontiguousarray(portrait[:150, :200]), box, 1, 0)
    assert frame.shape == (480, 640, 3)


def test_a_held_up_photo_has_a_border_and_something_behind_it(portrait: Pixels) -> None:
    white = np.full_like(portrait, 255)
    (paper,) = attacks.held_up(white, FACE, 1, 3)
    (near,) = attacks.close_up(white, FACE, 1, 3)
    room = [corner.mean(axis=(0, 1)) for corner in (paper[:40, :40], paper[:40, -40:])]
    assert np.abs(paper[220:260, 300:340].mean(axis=(0, 1)) - room).max() > 20
    # So near, there is paper all over: only the light of the lamp changes from left to right.
    assert near.std(axis=0).mean() < 5


def test_a_screen_has_a_grid_where_paper_has_none(portrait: Pixels) -> None:
    grey = np.full_like(portrait, 150)
    (paper,), (screen,) = attacks.held_up(grey, FACE, 1, 3), attacks.replayed(grey, FACE, 1, 3)
    middle = slice(200, 280), slice(280, 360)
    assert screen[middle].std(axis=(0, 1)).max() > 1.5 * paper[middle].std(axis=(0, 1)).max()
