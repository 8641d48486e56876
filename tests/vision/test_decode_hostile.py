"""Whatever the bytes are, a picture or an ``ImageError`` comes out, in bounded memory."""

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facesvc.errors import ImageError
from facesvc.vision.decode import Image, ImageLimits, decode, read_header

LIMITS = ImageLimits()
KINDS = ("JPEG", "PNG", "WEBP", "BMP")

# Pillow warns of damage that it can live with.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
few = settings(max_examples=60, deadline=None)


def encoded(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def sample() -> PIL.Image.Image:
    """A picture that no format stores in a few bytes."""
    rows, columns = np.mgrid[0:40, 0:56]
    noise = np.random.default_rng(1).integers(0, 40, (40, 56))
    return PIL.Image.fromarray(np.dstack([rows * 3 + noise, columns * 2 + noise, rows + columns]).astype(np.uint8))


FILES = {kind: encoded(sample(), kind) for kind in KINDS} | {
    "progressive JPEG": encoded(sample(), "JPEG", progressive=True),
    "CMYK JPEG": encoded(sample().convert("CMYK"), "JPEG"),
    "JPEG with EXIF": encoded(sample(), "JPEG", exif=bytes(PIL.Image.Exif().tobytes())),
    "palette PNG": encoded(sample().quantize(16), "PNG", transparency=3),
    "lossless WebP": encoded(sample().convert("RGBA"), "WEBP", lossless=True),
    "palette BMP": encoded(sample().quantize(16), "BMP"),
}


def read(data: bytes, scale: float = 1.0) -> Image:
    return decode(data, read_header(data, LIMITS), scale)


def refusal(data: bytes, limits: ImageLimits = LIMITS) -> str:
    with pytest.raises(ImageError) as refused:
        decode(data, read_header(data, limits))
    assert refused.value.field == "image.data"
    assert refused.value.message
    return refused.value.reason


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def claiming(kind: str, width: int, height: int) -> bytes:
    """A file that says it is so large and has no pixel, or only those of another one."""
    if kind == "PNG":
        return png(width, height, chunk(b"IDAT", b""))
    if kind == "BMP":
        return b"BM" + struct.pack("<IHHI IiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    if kind == "WEBP":
        # A lossless stream: a signature, then width and height less one, 14 bits each.
        content = b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little") + bytes(7)
        inside = b"WEBPVP8L" + struct.pack("<I", len(content)) + content
        return b"RIFF" + struct.pack("<I", len(inside)) + inside
    data = bytearray(FILES["JPEG"])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data[: data.index(b"\xff\xda") + 14])


def test_no_bytes() -> None:
    assert refusal(b"") == "IMAGE_EMPTY"


def test_too_many_bytes() -> None:
    data = FILES["BMP"]
    assert refusal(data, ImageLimits(max_bytes=len(data) - 1)) == "IMAGE_TOO_LARGE"
    read_header(data, ImageLimits(max_bytes=len(data)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_on_pixels_is_exact(kind: str) -> None:
    data = FILES[kind]
    pixels = sample().width * sample().height
    assert refusal(data, ImageLimits(max_pixels=pixels - 1)) == "IMAGE_TOO_LARGE"
    assert decode(data, read_header(data, ImageLimits(max_pixels=pixels))).width == sample().width


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_claims_too_much_is_refused_by_its_size(kind: str) -> None:
    # WebP cannot say more than 16,384.
    assert refusal(claiming(kind, *2 * [16_000 if kind == "WEBP" else 30_000])) == "IMAGE_TOO_LARGE"
    assert refusal(claiming(kind, 56, 40)) == "IMAGE_UNDECODABLE"


# WebP's header cannot say nought.
@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG"])
def test_a_header_without_size_is_refused(kind: str) -> None:
    for size in ((0, 5), (5, 0), (0, 0)):
        assert refusal(claiming(kind, *size)) == "IMAGE_UNDECODABLE"


def test_a_bitmap_of_negative_size_is_refused_or_turned() -> None:
    assert refusal(claiming("BMP", -30_000, 30_000)) in {"IMAGE_TOO_LARGE", "IMAGE_UNDECODABLE"}
    top_down = bytearray(FILES["BMP"])
    top_down[22:26] = struct.pack("<i", -sample().height)
    np.testing.assert_array_equal(read(bytes(top_down)).pixels, np.asarray(sample())[::-1])


BOMB = """
import resource, sys
from facesvc.errors import ImageError
from facesvc.vision.decode import ImageLimits, read_header
data = sys.stdin.buffer.read()
resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_header(data, ImageLimits())
except ImageError as error:
    print(error.reason, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident)
"""


def bomb_png(side: int) -> bytes:
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(100 * (3 * side + 1))) for _ in range(side // 100)) + packer.flush()
    return png(side, side, chunk(b"IDAT", rows))


@pytest.mark.parametrize(
    "data",
    [bomb_png(8_000), claiming("WEBP", 16_000, 16_000), claiming("JPEG", 60_000, 60_000)],
    ids=["png", "webp", "jpeg"],
)
def test_a_bomb_is_refused_before_it_is_unpacked(data: bytes) -> None:
    assert len(data) < LIMITS.max_bytes
    # In a process of its own, whose highest memory is nobody else's; 192 MB would be the PNG's pixels.
    result = subprocess.run([sys.executable, "-c", BOMB], input=data, capture_output=True, timeout=60, check=True)
    reason, grown_kb = result.stdout.split()
    assert (reason, int(grown_kb) < 32 << 10) == (b"IMAGE_TOO_LARGE", True)


@pytest.mark.parametrize("kind", KINDS)
def test_one_pixel(kind: str) -> None:
    assert read(encoded(sample().crop((0, 0, 1, 1)), kind)).pixels.shape == (1, 1, 3)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(name: str) -> None:
    data = FILES[name]
    whole = read(data).pixels
    for share in np.linspace(0.02, 0.9, 13):
        assert refusal(data[: int(len(data) * share)]) == "IMAGE_UNDECODABLE"
    for missing in range(1, 25):
        # Only what comes after the last pixel may be missing.
        with contextlib.suppress(ImageError):
            np.testing.assert_array_equal(read(data[:-missing]).pixels, whole)


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.125])
def test_a_truncated_jpeg_is_refused_at_reduced_sizes(scale: float) -> None:
    data = FILES["JPEG"]
    for share in (0.6, 0.8, 0.95):
        cut = data[: int(len(data) * share)]
        with pytest.raises(ImageError):
            decode(cut, read_header(data, LIMITS), scale)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    second = sample().rotate(180)
    assert refusal(encoded(sample(), kind, save_all=True, append_images=[second])) == "IMAGE_ANIMATED"
    np.testing.assert_array_equal(
        read(encoded(sample(), kind, save_all=True, lossless=True)).pixels, np.asarray(sample())
    )


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "ICO", "PDF", "EPS", "JPEG2000", "TGA"])
def test_other_formats_are_refused(kind: str) -> None:
    assert refusal(encoded(sample(), kind)) == "IMAGE_UNDECODABLE"


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b"\0",
        b"\xff\xd8\xff",
        b"BM",
        b"RIFF\0\0\0\0WEBP",
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    assert refusal(data) == "IMAGE_UNDECODABLE"


@pytest.mark.parametrize("name", FILES)
def test_the_header_of_another_picture_is_refused(name: str) -> None:
    header = read_header(FILES[name], LIMITS)
    for other in (replace(header, width=header.width - 1), replace(header, height=header.height + 1)):
        for scale in (1.0, 0.125):
            with pytest.raises(ImageError):
                decode(FILES[name], other, scale)


def refused_or_read(data: bytes, scale: float) -> None:
    try:
        header = read_header(data, LIMITS)
        image = decode(data, header, scale)
    except ImageError as error:
        assert error.reason in {"IMAGE_EMPTY", "IMAGE_TOO_LARGE", "IMAGE_ANIMATED", "IMAGE_UNDECODABLE"}  # noqa: PT017
    else:
        assert (image.width, image.height) == header.seen_size


scales = st.sampled_from([1.0, 0.5, 0.25, 0.125])
starts = st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\x40\0\0\0WEBPVP8 ", b"GIF89a"])


@few
@given(starts, st.binary(max_size=300), scales)
def test_random_bytes(start: bytes, data: bytes, scale: float) -> None:
    refused_or_read(start + data, scale)


@few
@given(st.sampled_from(sorted(FILES)), st.integers(0, 1 << 16), scales)
def test_truncations(name: str, length: int, scale: float) -> None:
    refused_or_read(FILES[name][: length % len(FILES[name])], scale)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.integers(0, 1 << 16) | st.integers(0, 200), st.integers(0, 7)), min_size=1, max_size=8),
    scales,
)
def test_bit_flips(name: str, places: list[tuple[int, int]], scale: float) -> None:
    changed = bytearray(FILES[name])
    for place, bit in places:
        changed[place % len(changed)] ^= 1 << bit
    refused_or_read(bytes(changed), scale)
