"""Each nasty picture gives pixels of the right size or a refusal that says why, in little memory and time."""

import subprocess
import sys

import numpy as np
import pytest
from fuzz import nasty

from facesvc.errors import ImageError
from facesvc.vision import pieces
from facesvc.vision.decode import ImageLimits, decode, read_header

# Pillow warns of damage that it can live with.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MOST_KB = 96 << 10
MOST_CPU_S = 5.0

ALONE = """
import resource, sys, time
from facesvc.errors import ImageError
from facesvc.vision.decode import ImageLimits, decode, read_header
picture = sys.stdin.buffer.read()
# Loads the readers of all formats.
try:
    read_header(b"none", ImageLimits())
except ImageError:
    pass
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    decode(picture, read_header(picture, ImageLimits()))
except ImageError:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - started)
"""
BOMBS = [
    *("PNG whose text is a bomb", "PNG whose profile is a bomb", "PNG of more pixels than it says"),
    *("JPEG of many scans and pixels", "EXIF of four billion values", "JPEG of a million segments"),
]


@pytest.mark.parametrize("name", [*nasty.READ, *nasty.TURNED])
def test_it_is_read(name: str) -> None:
    data = nasty.made(name)
    for scale in (1.0, 0.125):
        image = decode(data, read_header(data, ImageLimits()), scale)
        assert (image.width, image.height) == nasty.comes(name)
        assert image.pixels.dtype == np.uint8


@pytest.mark.parametrize("name", nasty.REFUSED)
def test_it_is_refused_for_its_reason(name: str) -> None:
    data = nasty.made(name)
    with pytest.raises(ImageError) as refused:
        decode(data, read_header(data, ImageLimits()))
    assert (refused.value.reason, refused.value.field) == (nasty.comes(name), "image.data")
    assert refused.value.message


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_does_no_harm(name: str) -> None:
    # In a process of its own, whose highest memory is nobody else's.
    command = [sys.executable, "-c", ALONE]
    result = subprocess.run(command, input=nasty.made(name), capture_output=True, timeout=60, check=True)
    grown_kb, spent_s = result.stdout.split()
    assert int(grown_kb) < MOST_KB
    assert float(spent_s) < MOST_CPU_S


def test_pieces_are_counted() -> None:
    def is_read(data: bytes) -> bool:
        try:
            decode(data, read_header(data, ImageLimits()))
        except ImageError as error:
            assert "consists of more than" in error.message  # noqa: PT017 - it is one of two outcomes
            return False
        return True

    empty, blank = nasty.segment(0xEF, b""), nasty.chunk(b"aaAa", b"")
    assert is_read(nasty.within_jpeg(empty * (pieces.MAX_SEGMENTS - 20)))  # it has a few of its own
    assert not is_read(nasty.within_jpeg(empty * (pieces.MAX_SEGMENTS + 1)))
    assert is_read(nasty.within_png(blank * (pieces.MAX_CHUNKS - 20)))
    assert not is_read(nasty.within_png(blank * pieces.MAX_CHUNKS))
    assert is_read(nasty.within_jpeg(b"\xff" * pieces.MAX_FILL_BYTES))
    assert not is_read(nasty.within_jpeg(b"\xff" * (pieces.MAX_FILL_BYTES + 1)))
