"""Another scene is told from people who walk, and from light that changes."""

import cv2
import numpy as np
import pytest
import skimage.data

from facesvc.vision.detection import Pixels
from facesvc.vision.scene_cut import is_cut, thumbnail


def pixels_of(picture: object) -> Pixels:
    return np.ascontiguousarray(np.asarray(picture)[:, :, :3], np.uint8)


@pytest.fixture(scope="module")
def scenes(group: Pixels, astronaut: Pixels) -> dict[str, Pixels]:
    """Pictures of nothing in common."""
    return {
        "group": group,
        "astronaut": astronaut,
        "coffee": pixels_of(skimage.data.coffee()),
        "cat": pixels_of(skimage.data.chelsea()),
    }


def cut(one: Pixels, other: Pixels) -> bool:
    assert is_cut(thumbnail(one), thumbnail(other)) == is_cut(thumbnail(other), thumbnail(one))
    return is_cut(thumbnail(one), thumbnail(other))


@pytest.mark.parametrize("shape", [(1, 1), (18, 32), (720, 1280), (7, 3000)])
def test_a_thumbnail_is_small_and_grey(shape: tuple[int, int]) -> None:
    small = thumbnail(np.full((*shape, 3), (255, 0, 0), np.uint8))
    assert (small.shape, small.dtype) == ((18, 32), np.float32)
    np.testing.assert_allclose(small, 76, atol=1)


def test_different_scenes_are_cuts_and_the_same_is_none(scenes: dict[str, Pixels]) -> None:
    for name, one in scenes.items():
        for other_name, other in scenes.items():
            assert cut(one, other) == (name != other_name), (name, other_name)


def test_light_and_size_and_noise_are_no_cut(scenes: dict[str, Pixels]) -> None:
    random = np.random.default_rng(0)
    for one in scenes.values():
        assert not cut(one, (one * 0.4).astype(np.uint8))
        assert not cut(one, (one * 0.5 + 127).astype(np.uint8))
        assert not cut(one, np.asarray(cv2.resize(one, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA), np.uint8))  # type: ignore[call-overload]
        assert not cut(one, np.clip(one + random.normal(0, 30, one.shape), 0, 255).astype(np.uint8))
        # A camera that shakes.
        assert not cut(one, np.roll(one, one.shape[1] // 50, axis=1))


def test_somebody_who_walks_in_is_no_cut(group: Pixels, astronaut: Pixels) -> None:
    height, width = group.shape[:2]
    visitor = cv2.resize(astronaut, (width // 5, height // 2))
    with_visitor = group.copy()
    with_visitor[-visitor.shape[0] :, 100 : 100 + visitor.shape[1]] = visitor
    assert not cut(group, with_visitor)


def test_a_camera_that_was_turned_is_a_cut(group: Pixels) -> None:
    assert cut(group, np.ascontiguousarray(group[:, ::-1]))
    assert cut(group, np.roll(group, group.shape[1] // 3, axis=1))


@pytest.mark.parametrize("value", [0, 40, 255])
def test_a_covered_lens_is_another_scene_and_stays_one(value: int, group: Pixels) -> None:
    dark = np.full(group.shape, value, np.uint8)
    noisy = np.clip(dark + np.random.default_rng(1).normal(0, 3, dark.shape), 0, 255).astype(np.uint8)
    assert cut(group, dark)
    assert not cut(dark, noisy)
    assert not cut(dark, np.full(group.shape, 20, np.uint8))


def test_where_there_is_hardly_any_contrast_nothing_is_concluded() -> None:
    ramp = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (18, 1))
    faint, clear = 100 + 12 * ramp, 100 + 60 * ramp
    assert not is_cut(faint, faint[:, ::-1])
    assert not is_cut(faint, 100 + 20 * ramp[:, ::-1])
    assert is_cut(faint, clear)
    assert is_cut(clear, clear[:, ::-1])
