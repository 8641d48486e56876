"""The converted graphs give the numbers of the networks they were made from."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from facesvc.models import default_pack, dlib_resnet, mtcnn
from facesvc.models.runtime import Network

GOLDEN = json.loads((Path(__file__).parent / "golden_dlib_resnet.json").read_text())["cases"]

Floats = NDArray[np.float32]
Networks = dict[str, Network]


def prepared(chips: NDArray[np.uint8]) -> Floats:
    """Chips (N, 150, 150, 3) uint8 RGB as dlib's network takes them."""
    mean = np.array(default_pack.EMBEDDER.mean, np.float32)
    scaled = (chips.astype(np.float32) - mean) / np.float32(default_pack.EMBEDDER.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"a{case['a']}b{case['b']}k{case['k']}")
def test_embedder_gives_dlibs_numbers(case: dict[str, int], networks: Networks) -> None:
    y, x, channel = np.mgrid[0:150, 0:150, 0:3]
    chip = ((case["a"] * y + case["b"] * x + case["k"] * channel) % 256).astype(np.uint8)
    (embeddings,) = networks["embedder"](prepared(chip[None]))
    np.testing.assert_allclose(embeddings[0], case["embedding"], rtol=0, atol=1e-5)


def test_embedder_gives_dlibs_numbers_for_faces(networks: Networks, shared: Path) -> None:
    golden = np.load(shared / "data/golden/dlib_resnet_faces.npz")
    (embeddings,) = networks["embedder"](prepared(golden["chips"]))
    np.testing.assert_allclose(embeddings, golden["embeddings"], rtol=0, atol=1e-5)


def test_preprocessing_in_the_manifest_is_that_of_the_converters() -> None:
    embedder, detector = default_pack.EMBEDDER, default_pack.DETECTOR
    assert (embedder.mean, embedder.std) == (dlib_resnet.MEAN_RGB, dlib_resnet.STD)
    assert (embedder.side, default_pack.DIMENSION) == (dlib_resnet.INPUT_SIDE, dlib_resnet.DIMENSION)
    assert (detector.mean, detector.std) == (mtcnn.MEAN_RGB, mtcnn.STD)


@pytest.mark.parametrize(("height", "width"), [(12, 12), (12, 13), (13, 12), (40, 63), (97, 30)])
def test_pnet_takes_any_size_from_12(height: int, width: int, networks: Networks) -> None:
    boxes, scores = networks["pnet"](np.zeros((1, 3, height, width), np.float32))
    rows, columns = (height + 1) // 2 - 5, (width + 1) // 2 - 5
    assert boxes.shape == (1, 4, rows, columns)
    assert scores.shape == (1, 1, rows, columns)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_rnet_and_onet_take_batches(count: int, networks: Networks) -> None:
    rnet = networks["rnet"](np.zeros((count, 3, 24, 24), np.float32))
    onet = networks["onet"](np.zeros((count, 3, 48, 48), np.float32))
    assert [output.shape for output in rnet] == [(count, 4), (count, 1)]
    assert [output.shape for output in onet] == [(count, 4), (count, 10), (count, 1)]
    assert networks["onet"].output_names == ("boxes", "landmarks", "scores")


class Reference:
    """MTCNN's layers the textbook way, on one image (rows, columns, channels); float64."""

    def __init__(self, arrays: list[Floats]) -> None:
        self.arrays: Iterator[Floats] = iter(arrays)

    def convolution(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        kernel, bias = next(self.arrays), next(self.arrays)
        windows = sliding_window_view(x, kernel.shape[:2], axis=(0, 1))
        return np.einsum("yxcij,ijco->yxo", windows, kernel) + bias  # type: ignore[no-any-return]

    def dense(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ next(self.arrays) + next(self.arrays)

    def prelu(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(x >= 0, x, next(self.arrays) * x)

    def pool(self, x: NDArray[np.float64], side: int, *, same: bool) -> NDArray[np.float64]:
        if same:
            missing = [max((-(-size // 2) - 1) * 2 + side - size, 0) for size in x.shape[:2]]
            pads = [(total // 2, total - total // 2) for total in missing]
            x = np.pad(x, [*pads, (0, 0)], constant_values=-np.inf)
        windows: NDArray[np.float64] = sliding_window_view(x, (side, side), axis=(0, 1))
        return windows[::2, ::2].max(axis=(3, 4))  # type: ignore[no-any-return]

    @staticmethod
    def face_score(logits: NDArray[np.float64]) -> NDArray[np.float64]:
        powers = np.exp(logits)
        return powers[..., 1] / powers.sum(axis=-1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [(12, 12), (31, 44)])
def test_pnet_against_the_textbook(size: tuple[int, int], weights: dict[str, bytes], networks: Networks) -> None:
    image = np.random.default_rng(1).uniform(-1, 1, (*size, 3)).astype(np.float32)
    net = Reference(mtcnn.read_arrays(weights["pnet"]))
    x = net.pool(net.prelu(net.convolution(image.astype(np.float64))), 2, same=True)
    x = net.prelu(net.convolution(net.prelu(net.convolution(x))))
    boxes, scores = networks["pnet"](np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
    np.testing.assert_allclose(boxes[0].transpose(1, 2, 0), net.convolution(x), atol=1e-4)
    np.testing.assert_allclose(scores[0, 0], net.face_score(net.convolution(x)), atol=1e-4)


def test_rnet_against_the_textbook(weights: dict[str, bytes], networks: Networks) -> None:
    crop = np.random.default_rng(2).uniform(-1, 1, (24, 24, 3)).astype(np.float32)
    net = Reference(mtcnn.read_arrays(weights["rnet"]))
    x = net.pool(net.prelu(net.convolution(crop.astype(np.float64))), 3, same=True)
    x = net.prelu(net.convolution(net.pool(net.prelu(net.convolution(x)), 3, same=False)))
    x = net.prelu(net.dense(x.transpose(1, 0, 2).reshape(-1)))
    boxes, scores = networks["rnet"](np.ascontiguousarray(crop.transpose(2, 0, 1)[None]))
    np.testing.assert_allclose(boxes[0], net.dense(x), atol=1e-4)
    np.testing.assert_allclose(scores[0, 0], net.face_score(net.dense(x)), atol=1e-4)


def test_onet_against_the_textbook(weights: dict[str, bytes], networks: Networks) -> None:
    crop = np.random.default_rng(3).uniform(-1, 1, (48, 48, 3)).astype(np.float32)
    net = Reference(mtcnn.read_arrays(weights["onet"]))
    x = net.pool(net.prelu(net.convolution(crop.astype(np.float64))), 3, same=True)
    x = net.pool(net.prelu(net.convolution(x)), 3, same=False)
    x = net.prelu(net.convolution(net.pool(net.prelu(net.convolution(x)), 2, same=True)))
    x = net.prelu(net.dense(x.transpose(1, 0, 2).reshape(-1)))
    boxes, landmarks, scores = networks["onet"](np.ascontiguousarray(crop.transpose(2, 0, 1)[None]))
    np.testing.assert_allclose(boxes[0], net.dense(x), atol=1e-4)
    np.testing.assert_allclose(landmarks[0], net.dense(x), atol=1e-4)
    np.testing.assert_allclose(scores[0, 0], net.face_score(net.dense(x)), atol=1e-4)
