"""Vectors are what the network says of the chip, and those of one person are alike."""

import cv2
import numpy as np
import pytest

from facesvc.vision.align import similarity_transform, warp
from facesvc.vision.detection import Detection, Floats, Pixels
from facesvc.vision.embed import _JITTER, Embedder, _jitters, unit


@pytest.fixture(scope="module")
def chips(embedder: Embedder, group: Pixels, six: list[Detection]) -> list[Pixels]:
    return [embedder.align(group, face.landmarks) for face in six]


def reference(embedder: Embedder, chip: Pixels) -> Floats:
    """The network's answer by the plain definition of its input: less the mean, by the deviation, channels first."""
    values = (chip.astype(np.float64) - embedder.mean) / embedder.std
    (vectors,) = embedder.network(np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32))
    return vectors[0] / np.sqrt(np.sum(vectors[0].astype(np.float64) ** 2))


def test_a_vector_is_the_networks_of_unit_length(embedder: Embedder, chips: list[Pixels]) -> None:
    for chip in chips:
        assert chip.shape == (embedder.side, embedder.side, 3)
        vector = embedder.embed(chip)
        assert (vector.shape, vector.dtype) == ((embedder.dimension,), np.float32)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(vector, reference(embedder, chip), atol=1e-5)
        np.testing.assert_array_equal(vector, embedder.embed(chip.copy()))


def test_the_order_of_colours_matters(embedder: Embedder, chips: list[Pixels]) -> None:
    swapped = np.ascontiguousarray(chips[0][:, :, ::-1])
    assert float(embedder.embed(chips[0]) @ embedder.embed(swapped)) < 0.999


def test_six_people_are_six(embedder: Embedder, chips: list[Pixels]) -> None:
    """Each is nearer to a worse picture of himself than to anybody else."""
    plain = np.array([embedder.embed(chip) for chip in chips])
    for spoil in (
        lambda chip: np.ascontiguousarray(chip[:, ::-1]),
        lambda chip: (chip * 0.6).astype(np.uint8),
        lambda chip: cv2.GaussianBlur(chip, (0, 0), 1.5),
    ):
        similarities = plain @ np.array([embedder.embed(spoil(chip)) for chip in chips]).T
        assert similarities.argmax(axis=0).tolist() == list(range(len(chips)))


def test_the_vector_of_the_gallery_is_the_mean_of_its_looks(
    embedder: Embedder, group: Pixels, six: list[Detection]
) -> None:
    face = six[0]
    base = np.vstack([similarity_transform(face.landmarks, embedder.template), [0, 0, 1]])
    looks = [warp(group, jitter @ base, embedder.side) for jitter in _jitters(embedder.side)]
    np.testing.assert_array_equal(looks[0], embedder.align(group, face.landmarks))
    vectors = [embedder.embed(np.ascontiguousarray(view)) for look in looks for view in (look, look[:, ::-1])]
    template = embedder.embed_template(group, face.landmarks)
    assert (template.shape, template.dtype, len(vectors)) == ((embedder.dimension,), np.float32, 2 * len(_JITTER))
    np.testing.assert_allclose(template, unit(np.sum(vectors, axis=0)), atol=1e-6)
    np.testing.assert_array_equal(template, embedder.embed_template(group, face.landmarks))


def test_the_vector_of_the_gallery_is_nearer_to_a_face_cut_out_badly(
    embedder: Embedder, group: Pixels, six: list[Detection], chips: list[Pixels]
) -> None:
    rng = np.random.default_rng(5)
    plain, mean = [], []
    for face, chip in zip(six, chips, strict=True):
        template = embedder.embed_template(group, face.landmarks)
        for _ in range(3):
            noise = rng.normal(0, 0.04 * face.box.width, face.landmarks.shape).astype(np.float32)
            probe = embedder.embed(embedder.align(group, face.landmarks + noise))
            plain.append(float(probe @ embedder.embed(chip)))
            mean.append(float(probe @ template))
    assert np.mean(mean) > np.mean(plain)


def test_looks_are_small_and_balanced() -> None:
    side = 150
    centre = np.array([(side - 1) / 2, (side - 1) / 2, 1])
    moved = [matrix @ centre - centre[:2] for matrix in _jitters(side)]
    for (turn, zoom, right, down), matrix, shift in zip(_JITTER, _jitters(side), moved, strict=True):
        assert np.hypot(*matrix[0, :2]) == pytest.approx(zoom)
        # cv2 counts anticlockwise.
        assert np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])) == pytest.approx(turn)
        np.testing.assert_allclose(shift, (right * side, down * side), atol=1e-9)
    assert np.abs(moved).max() <= 4.1
    assert sum(turn for turn, *_ in _JITTER) == 0


def test_unit_length() -> None:
    np.testing.assert_allclose(unit(np.array([3, 4], np.float32)), [0.6, 0.8])
    np.testing.assert_array_equal(unit(np.zeros(4, np.float32)), np.zeros(4))
    assert unit(np.array([1.0, 1.0])).dtype == np.float32  # type: ignore[arg-type]
