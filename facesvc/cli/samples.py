"""Pictures of people that come with installed packages, for the demo and the benchmark."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesvc.errors import DependencyError

GROUP = "t1.jpg"
"""1280 x 886 pixels, six people."""
GUEST = "Tom_Hanks_54745.png"
"""112 x 112 pixels, one person."""


def sample_picture(name: str) -> bytes:
    """A picture of the insightface package, as encoded; the package is not imported for it."""
    spec = find_spec("insightface")
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError("the package insightface is not installed: pip install insightface")
    path = Path(spec.submodule_search_locations[0]) / "data" / "images" / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise DependencyError(f"{path} cannot be read: {error.strerror}; reinstall insightface") from error


def astronaut() -> NDArray[np.uint8]:
    """A portrait, (512, 512, 3) uint8 RGB."""
    import skimage.data  # noqa: PLC0415 - slow to import, and only the demo needs it

    return np.ascontiguousarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]
