"""Every picture that people send is read as a viewer shows it."""

import io
import struct
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image
import pytest
import simplejpeg
from PIL import ImageCms, ImageOps

from facesvc.vision.decode import Image, ImageHeader, ImageLimits, decode, read_header
from facesvc.vision.detection import Pixels

LIMITS = ImageLimits()
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True, "exact": True}, "BMP": {}}
# How the stored picture is turned for each EXIF orientation, so that a viewer shows it upright (EXIF 2.32, table 6).
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: lambda p: p.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


def encoded(picture: Pixels | PIL.Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image = picture if isinstance(picture, PIL.Image.Image) else PIL.Image.fromarray(np.ascontiguousarray(picture))
    image.save(file, kind, **options)
    return file.getvalue()


def read(data: bytes, scale: float = 1.0) -> Image:
    return decode(data, read_header(data, LIMITS), scale)


def difference(a: Pixels, b: Pixels) -> float:
    """Mean absolute difference, 0 to 255."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


def exif_of(orientation: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_give_each_pixel(kind: str, photo: Pixels) -> None:
    data = encoded(photo, kind, **LOSSLESS[kind])
    height, width = photo.shape[:2]
    assert read_header(data, LIMITS) == ImageHeader(kind, width, height, 1, "RGB")
    image = read(data)
    np.testing.assert_array_equal(image.pixels, photo)
    assert (image.width, image.height, image.scale) == (width, height, 1)
    assert image.pixels.flags.c_contiguous


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"restart_marker_rows": 1}])
def test_jpeg_gives_the_picture_as_pillow_reads_it(options: dict[str, object], photo: Pixels) -> None:
    data = encoded(photo, "JPEG", quality=95, **options)
    assert read_header(data, LIMITS).format == "JPEG"
    assert difference(read(data).pixels, np.asarray(PIL.Image.open(io.BytesIO(data)))) < 1
    assert difference(read(data).pixels, photo) < 8


@pytest.mark.parametrize("orientation", STORED)
def test_orientation_turns_the_same_as_pillow_and_back(orientation: int, photo: Pixels) -> None:
    stored = STORED[orientation](photo)
    for kind, options in LOSSLESS.items():
        if kind == "BMP":
            continue
        data = encoded(stored, kind, exif=exif_of(orientation), **options)
        assert read_header(data, LIMITS).orientation == orientation
        np.testing.assert_array_equal(read(data).pixels, photo)
        np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))), photo)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25, 0.125])
@pytest.mark.parametrize("orientation", STORED)
def test_a_turned_jpeg_is_upright_at_every_size(orientation: int, scale: float, group: Pixels) -> None:
    # Whole blocks, so that the reduced picture is the same from whichever corner it is counted.
    upright = cv2.resize(group, (320, 224), interpolation=cv2.INTER_AREA)
    data = encoded(STORED[orientation](upright), "JPEG", quality=95, subsampling=0, exif=exif_of(orientation))
    assert read_header(data, LIMITS).seen_size == (320, 224)
    image = read(data, scale)
    assert (image.width, image.height, image.scale) == (320, 224, scale)
    size = (round(320 * scale), round(224 * scale))
    assert difference(image.pixels, cv2.resize(upright, size, interpolation=cv2.INTER_AREA)) < 3


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "exif",
    [
        exif_of(9).tobytes(),
        exif_of(0).tobytes(),
        exif_of(65535).tobytes(),
        b"Exif\0\0",
        b"Exif\0\0II*\0" + b"\xff" * 40,
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02x\0\0\0",
        bytes(range(256)),
        exif_of(6).tobytes()[:20],
    ],
    ids=["nine", "nought", "large", "empty", "garbage", "text", "bytes", "cut"],
)
def test_wrong_exif_is_no_orientation(exif: bytes, photo: Pixels) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encoded(photo, kind, exif=exif)
        assert read_header(data, LIMITS).orientation == 1
        assert read(data).pixels.shape == photo.shape


def test_exif_behind_the_pixels_of_a_png_is_not_searched_for(photo: Pixels) -> None:
    data = encoded(photo, "PNG", exif=exif_of(6))
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    np.testing.assert_array_equal(read(moved).pixels, photo)


def grey_of(photo: Pixels) -> Pixels:
    return cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_grey(kind: str, photo: Pixels) -> None:
    pixels = read(encoded(grey_of(photo), kind)).pixels
    np.testing.assert_array_equal(pixels, np.repeat(grey_of(photo)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("scale", [1, 0.5])
def test_grey_jpeg_and_webp(scale: float, photo: Pixels) -> None:
    grey = grey_of(photo)[:56, :88]
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    pixels = read(encoded(grey, "JPEG", quality=95), scale).pixels
    height, width = pixels.shape[:2]
    assert difference(pixels, cv2.resize(expected, (width, height), interpolation=cv2.INTER_AREA)) < 4
    assert difference(read(encoded(grey, "WEBP", quality=95)).pixels, expected) < 4


def test_sixteen_bits_are_scaled_not_clipped(photo: Pixels) -> None:
    fine = np.random.default_rng(0).integers(0, 256, photo.shape)
    deep = (photo.astype(np.uint16) << 8) | fine.astype(np.uint16)
    for picture, expected in ((deep, photo), (deep[:, :, 1], np.repeat(photo[:, :, 1:2], 3, axis=2))):
        # cv2 writes BGR.
        written, file = cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)
        assert written
        assert np.abs(read(file.tobytes()).pixels.astype(int) - expected).max() <= 1


def test_transparency_stands_before_white(photo: Pixels) -> None:
    alpha = np.zeros(photo.shape[:2], np.uint8)
    alpha[:20], alpha[20:40] = 255, 128
    half = (photo[20:40].astype(int) * 128 + 255 * 127) / 255
    layered = np.dstack([photo, alpha])
    for kind, options in {"PNG": {}, "WEBP": LOSSLESS["WEBP"]}.items():
        pixels = read(encoded(layered, kind, **options)).pixels
        np.testing.assert_array_equal(pixels[:20], photo[:20])
        assert np.abs(pixels[20:40] - half).max() <= 1
        assert (pixels[40:] == 255).all()
    grey = read(encoded(np.dstack([photo[:, :, 0], alpha]), "PNG")).pixels
    assert (grey[40:] == 255).all()
    np.testing.assert_array_equal(grey[:20, :, 1], photo[:20, :, 0])


@pytest.mark.parametrize("transparency", [0, bytes([0, 255, 255, 255])], ids=["one colour", "table"])
def test_palette_with_transparency(transparency: int | bytes) -> None:
    palette = PIL.Image.new("P", (6, 5), 1)
    palette.putpalette([10, 20, 30, 200, 100, 50, 1, 2, 3, 4, 5, 6])
    palette.putpixel((0, 0), 0)
    pixels = read(encoded(palette, "PNG", transparency=transparency)).pixels
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[4, 5].tolist() == [200, 100, 50]


def test_a_transparent_colour(photo: Pixels) -> None:
    marked = photo.copy()
    marked[0, 0] = (1, 254, 3)
    pixels = read(encoded(marked, "PNG", transparency=(1, 254, 3))).pixels
    assert pixels[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(pixels[1:], marked[1:])


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_one_bit(kind: str, photo: Pixels) -> None:
    black_or_white = grey_of(photo) > 100
    pixels = read(encoded(PIL.Image.fromarray(black_or_white), kind)).pixels
    np.testing.assert_array_equal(pixels, np.repeat(black_or_white[:, :, None], 3, axis=2) * np.uint8(255))


def test_cmyk_jpeg_has_its_colours() -> None:
    patches = {(230, 30, 30): "red", (30, 200, 40): "green", (20, 40, 220): "blue", (250, 250, 250): "white"}
    for colour in patches:
        image = PIL.Image.new("RGB", (16, 16), colour).convert("CMYK")
        data = encoded(image, "JPEG", quality=95)
        # Adobe's marker with inverted inks, as Photoshop and Pillow write them.
        assert b"Adobe" in data
        assert read_header(data, LIMITS).mode == "CMYK"
        # Also when a reduced size would do: what libjpeg cannot convert is decoded in full.
        assert difference(read(data, 0.125).pixels, np.full((16, 16, 3), colour, np.uint8)) < 6


def test_a_colour_profile_is_not_looked_into(photo: Pixels) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("JPEG", "PNG", "WEBP"):
        for content in (profile, b"\xff" * 500):
            assert difference(read(encoded(photo, kind, quality=95, icc_profile=content)).pixels, photo) < 8


def test_a_phones_picture_of_several_is_its_first(group: Pixels, photo: Pixels) -> None:
    data = encoded(PIL.Image.fromarray(group), "MPO", save_all=True, append_images=[PIL.Image.fromarray(photo)])
    assert PIL.Image.open(io.BytesIO(data)).format == "MPO"
    header = read_header(data, LIMITS)
    assert (header.format, header.width, header.height) == ("JPEG", group.shape[1], group.shape[0])
    assert difference(read(data).pixels, group) < 6
    assert read(data, 0.3).reduction == 2


@pytest.mark.parametrize(
    ("scale", "reduction"),
    [(2.5, 1), (1, 1), (0.51, 1), (0.5, 2), (0.26, 2), (0.25, 4), (0.13, 4), (0.125, 8), (0.01, 8)],
)
def test_jpeg_is_decoded_at_the_smallest_size_that_will_do(scale: float, reduction: int, photo: Pixels) -> None:
    image = read(encoded(photo, "JPEG"), scale)
    assert (image.reduction, image.scale) == (reduction, 1 / reduction)
    assert image.scale >= min(scale, 1 / 8)
    assert (image.width, image.height) == (photo.shape[1], photo.shape[0])
    assert read(encoded(photo, "PNG"), scale).reduction == 1


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_odd_sizes_are_rounded_up(reduction: int) -> None:
    for height, width in [(1, 1), (1, 9), (7, 8), (8, 7), (9, 17), (15, 33), (64, 63)]:
        data = simplejpeg.encode_jpeg(np.zeros((height, width, 3), np.uint8))
        image = read(data, 1 / reduction)
        assert image.pixels.shape == (-(-height // reduction), -(-width // reduction), 3)
        assert image.scale == 1 / reduction


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_places_map_back_to_the_full_picture(reduction: int, orientation: int) -> None:
    """The edges of a white square, found in the reduced picture, are where they are in the full one."""
    upright = np.zeros((203, 301, 3), np.uint8)
    upright[96:160, 160:256] = 255
    data = encoded(STORED[orientation](upright), "JPEG", quality=100, subsampling=0, exif=exif_of(orientation))
    image = read(data, 1 / reduction)
    rows, columns = np.nonzero(image.pixels[:, :, 0] > 127)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / image.scale
    # A turned picture of odd size starts with the part of a block.
    np.testing.assert_allclose(found, [160, 96, 256, 160], atol=0 if orientation == 1 else reduction)


def test_a_record_that_does_not_fit_is_refused(photo: Pixels) -> None:
    height, width = photo.shape[:2]
    assert Image.of(photo[:, ::-1]).pixels.flags.c_contiguous
    with pytest.raises(ValueError, match="uint8"):
        Image(photo[:, :, 0], width, height)
    with pytest.raises(ValueError, match="uint8"):
        Image(photo.astype(np.float32), width, height)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contiguous"):
        Image(photo[:, ::-1], width, height)
    with pytest.raises(ValueError, match="reduced by"):
        Image(photo, width, height + 1)
    with pytest.raises(ValueError, match="reduced by"):
        Image(photo, width, height, 2)
