"""Picture files: which are some, what they hold, and how the drawn ones are written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from facesvc.cli.console import complain
from facesvc.errors import DependencyError, ImageError, InputError
from facesvc.vision.decode import ImageLimits, decode, read_header

Pixels = NDArray[np.uint8]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})

_MIB = 1 << 20
_JPEG_QUALITY = 92
_NAMED_WHEN_SKIPPED = 3


def is_picture(path: Path) -> bool:
    """Whether a file's name says that it is a picture."""
    return path.suffix.lower() in SUFFIXES


def looks_like_picture(path: Path) -> bool:
    """Whether a file's name, or else its first bytes, say that it is a picture."""
    if is_picture(path):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise _unreadable(path, error) from error
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"BM")) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def read(path: Path, max_bytes: int) -> bytes:
    """The bytes of a picture file; one over ``max_bytes`` is not read. Raises ``ImageError``."""
    try:
        if not path.is_file():
            raise ImageError(f"{path} is no file" if path.exists() else f"{path} does not exist")
        size = path.stat().st_size
        if size > max_bytes:
            message = f"{path} has {size / _MIB:.1f} MiB, the server takes {max_bytes / _MIB:.1f}: save it smaller"
            raise ImageError(message, reason="IMAGE_TOO_LARGE")
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def pictures_and_others(folder: Path) -> tuple[list[Path], list[Path]]:
    """The pictures in a folder, and what else is there, in order of the names; hidden files are not."""
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    pictures = [path for path in found if is_picture(path) and not path.is_dir()]
    return pictures, [path for path in found if path not in set(pictures)]


def mention_skipped(folder: Path, skipped: Sequence[Path]) -> None:
    """Say what of a folder is not looked at."""
    if skipped:
        names = [f"{path.name}/" if path.is_dir() else path.name for path in skipped[:_NAMED_WHEN_SKIPPED]]
        more = f" and {len(skipped) - len(names)} more" if len(skipped) > len(names) else ""
        complain(f"{folder}: skipped, not pictures: {', '.join(names)}{more}")


def pixels_of(data: bytes) -> Pixels:
    """A picture as the server sees it, (H, W, 3) uint8 RGB, EXIF applied. Raises ``ImageError``."""
    return decode(data, read_header(data, ImageLimits(max_bytes=len(data) + 1))).pixels


def check_writable(path: Path) -> None:
    """Refuse a name that no picture can be written to, before the work is done. Raises ``InputError``."""
    if not is_picture(path):
        raise InputError(f"cannot write a picture to {path}: choose a name that ends in {', '.join(sorted(SUFFIXES))}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")


def write(path: Path, pixels: Pixels) -> None:
    """Write (H, W, 3) uint8 RGB in the format that the name says. Raises ``DependencyError``."""
    try:
        PIL.Image.fromarray(pixels).save(path, quality=_JPEG_QUALITY)
    except OSError as error:
        raise DependencyError(f"{path} cannot be written: {error.strerror or error}") from error


def _unreadable(path: Path, error: OSError) -> ImageError:
    return ImageError(f"{path} cannot be read: {error.strerror or error}")
