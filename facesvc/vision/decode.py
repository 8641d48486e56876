"""From bytes to pixels: JPEG, PNG, WebP and BMP, hostile until parsed.

The header is read first, so that size, format and orientation are judged before a pixel is decoded. Plain JPEG goes
through libjpeg-turbo (strict: a truncated file is an error, not a grey half), which can decode at 1/2, 1/4 and 1/8 of
the size for less than the whole price; every other format, and JPEG in CMYK, goes through Pillow.
"""

import io
from dataclasses import dataclass

import numpy as np
import PIL.Image
import simplejpeg
from numpy.typing import NDArray

from facesvc.errors import ImageError
from facesvc.vision import pieces

Pixels = NDArray[np.uint8]

# The limit on pixels is ours, and an error instead of Pillow's warning.
PIL.Image.MAX_IMAGE_PIXELS = None

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_ORIENTATION_TAG = 0x0112
_JPEG_REDUCTIONS = (8, 4, 2)


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused before decoding, and how much of the rest a detector scans, at the scale of the smallest face."""

    max_bytes: int = 16 << 20
    max_pixels: int = 50_000_000
    max_scanned_pixels: int = 4_000_000


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a picture says of itself: size in pixels as stored, EXIF orientation 1 to 8, Pillow's name of the mode."""

    format: str
    width: int
    height: int
    orientation: int
    mode: str

    @property
    def seen_size(self) -> tuple[int, int]:
        """Width and height as a viewer shows it, EXIF applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


@dataclass(frozen=True, slots=True)
class Image:
    """A decoded picture, EXIF applied.

    ``pixels`` is (H, W, 3) uint8 RGB, contiguous; ``width`` and ``height`` are the size of the full picture. Each pixel
    stands for ``reduction`` x ``reduction`` of the full picture; the last row and column may reach beyond it.
    """

    pixels: Pixels
    width: int
    height: int
    reduction: int = 1

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be (H, W, 3) uint8, not {self.pixels.shape} {self.pixels.dtype}")
        if not self.pixels.flags.c_contiguous:
            raise ValueError("pixels must be contiguous: cv2 copies the whole picture at each call otherwise")
        if self.pixels.shape[:2] != (-(-self.height // self.reduction), -(-self.width // self.reduction)):
            size = f"{self.width} x {self.height}"
            raise ValueError(f"pixels {self.pixels.shape} are not those of {size} reduced by {self.reduction}")

    @classmethod
    def of(cls, pixels: Pixels) -> "Image":
        """A picture that is there in full."""
        return cls(np.ascontiguousarray(pixels), pixels.shape[1], pixels.shape[0])

    @property
    def scale(self) -> float:
        """Size of ``pixels`` relative to the full picture, 1 or less."""
        return 1 / self.reduction


def read_header(data: bytes, limits: ImageLimits) -> ImageHeader:
    """Size, format and orientation, without decoding.

    Raises ``ImageError``: IMAGE_EMPTY, IMAGE_TOO_LARGE, IMAGE_ANIMATED or IMAGE_UNDECODABLE.
    """
    check_length(data, limits)
    pieces.check(data)
    header, frames = _parse_header(data)
    if header.width * header.height > limits.max_pixels:
        message = f"the image claims {header.width} x {header.height} pixels; at most {limits.max_pixels:,} are decoded"
        raise ImageError(message, reason="IMAGE_TOO_LARGE")
    if frames > 1:
        raise ImageError(f"the image is an animation of {frames} frames: send a single one", reason="IMAGE_ANIMATED")
    return header


def check_length(data: bytes, limits: ImageLimits) -> None:
    """Raises ``ImageError``: IMAGE_EMPTY or IMAGE_TOO_LARGE."""
    if not data:
        raise ImageError("the image is empty: send the bytes of a JPEG, PNG, WebP or BMP file", reason="IMAGE_EMPTY")
    if len(data) > limits.max_bytes:
        message = f"the image has {len(data):,} bytes; at most {limits.max_bytes:,} are read"
        raise ImageError(message, reason="IMAGE_TOO_LARGE")


def _parse_header(data: bytes) -> tuple[ImageHeader, int]:
    try:
        with PIL.Image.open(io.BytesIO(data), formats=_FORMATS) as file:
            # A phone's JPEG may carry further pictures (MPO); only PNG and WebP are played one after the other.
            name = "JPEG" if file.format == "MPO" else str(file.format)
            frames = 1 if name == "JPEG" else getattr(file, "n_frames", 1)
            return ImageHeader(name, file.width, file.height, _orientation(file), file.mode), frames
    # Pillow's parsers answer hostile bytes with nearly any exception.
    except Exception as error:
        raise ImageError("the image cannot be read: it is no JPEG, PNG, WebP or BMP file, or is damaged") from error


def _orientation(file: PIL.Image.Image) -> int:
    """EXIF orientation, 1 (upright) where it is absent, damaged, out of range, or behind the pixels of a PNG."""
    try:
        # Not file.getexif(): that of a PNG without EXIF decodes all pixels to see whether one follows.
        value = PIL.Image.Image.getexif(file).get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - a damaged EXIF block says nothing about the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def decode(data: bytes, header: ImageHeader, scale: float = 1.0) -> Image:
    """Pixels of the picture whose ``header`` was read from the same bytes.

    :param scale: the smallest scale the caller can use; a JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 that
        is not below it, in CMYK and every other format in full.

    Raises ``ImageError`` (IMAGE_UNDECODABLE) for a truncated or damaged picture.
    """
    width, height = header.seen_size
    is_plain_jpeg = header.format == "JPEG" and header.mode in {"RGB", "L"}
    reduction = next((r for r in _JPEG_REDUCTIONS if scale * r <= 1), 1) if is_plain_jpeg else 1
    try:
        pixels = _decode_jpeg(data, header, reduction) if is_plain_jpeg else _decode_other(data)
        return Image(np.ascontiguousarray(_upright(pixels, header.orientation)), width, height, reduction)
    # Whatever a decoder answers to hostile bytes; the record refuses pixels of another size than the header says.
    except Exception as error:
        raise ImageError("the image is damaged or truncated: its header reads, its pixels do not") from error


def _decode_jpeg(data: bytes, header: ImageHeader, reduction: int) -> Pixels:
    if simplejpeg.decode_jpeg_header(data)[:2] != (header.height, header.width):
        raise ValueError("libjpeg reads another size than the one that was judged")
    pixels: Pixels = simplejpeg.decode_jpeg(
        data, "RGB", min_height=-(-header.height // reduction), min_width=-(-header.width // reduction), strict=True
    )
    return pixels


def _decode_other(data: bytes) -> Pixels:
    with PIL.Image.open(io.BytesIO(data), formats=_FORMATS) as file:
        file.load()
        if file.mode.startswith("I"):  # 16-bit grey; Pillow would clip it at 255 instead of scaling it
            grey = (np.asarray(file).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        if file.mode in {"LA", "PA", "RGBA"} or "transparency" in file.info:
            layer = file.convert("RGBA")
            white = PIL.Image.new("RGBA", layer.size, "white")
            return np.asarray(PIL.Image.alpha_composite(white, layer).convert("RGB"))
        return np.asarray(file.convert("RGB"))


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo the camera's turn: EXIF 2.32, table 6, orientation 1 to 8."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    mirror_rows = orientation in {3, 4, 7, 8}
    mirror_columns = orientation in {2, 3, 6, 7}
    return pixels[:: -1 if mirror_rows else 1, :: -1 if mirror_columns else 1]
