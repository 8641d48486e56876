"""The faces that the default pack's embedder is made int8 with: cut from two pictures that come with insightface.

Where the faces are is written down here, so no detector takes part and the same pictures give the same chips. They are
cut without care on purpose: chips aligned by landmarks gave the same accuracy on LFW.
"""

import io
from collections.abc import Iterator

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from facesvc.errors import WeightsError
from facesvc.models.packs import EmbedderSpec

Floats = NDArray[np.float32]

# Six people in the group picture: left, top, right, bottom in pixels.
_GROUP_FACES = ((880, 64, 1027, 200), (724, 342, 862, 477), (35, 263, 187, 398), (246, 149, 386, 269),
                (1113, 274, 1247, 396), (446, 265, 590, 407))  # fmt: skip


def chips(group: bytes, guest: bytes, spec: EmbedderSpec) -> Iterator[Floats]:
    """Seven faces and their mirror images, each (1, 3, side, side) float32 as the embedder of ``spec`` takes it.

    ``group`` is a picture of six people and ``guest`` of one, encoded. Raises ``WeightsError`` for others.
    """
    mean, std = np.array(spec.mean, np.float32), np.float32(spec.std)
    for face in _faces(group, guest):
        chip = np.asarray(face.resize((spec.side, spec.side), PIL.Image.Resampling.BICUBIC), np.float32)
        ordered = chip if spec.colour_order == "RGB" else chip[..., ::-1]
        blob = ((ordered - mean) / std).transpose(2, 0, 1)[None]
        yield np.ascontiguousarray(blob)
        yield np.ascontiguousarray(blob[..., ::-1])


def _faces(group: bytes, guest: bytes) -> list[PIL.Image.Image]:
    try:
        with PIL.Image.open(io.BytesIO(group)) as picture:
            people = picture.convert("RGB")
        with PIL.Image.open(io.BytesIO(guest)) as picture:
            return [*(people.crop(box) for box in _GROUP_FACES), picture.convert("RGB")]
    except OSError as error:
        raise WeightsError(f"a picture to quantise with cannot be decoded: {error}; reinstall pillow") from error
