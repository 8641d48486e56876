"""Pictures that nobody should send, written here byte by byte; none of them is kept in a file.

Of each is known what has to come of it: a picture of a size, or a refusal for a reason. More of them, those that one
format or another makes easy, stand in ``vision/test_decode_hostile.py``.
"""

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
import PIL.Image
from api.pictures import textured
from vision.test_decode_hostile import FILES, chunk, claiming, encoded, png, sample

UNDECODABLE, TOO_LARGE, ANIMATED, EMPTY = (
    f"IMAGE_{what}" for what in ("UNDECODABLE", "TOO_LARGE", "ANIMATED", "EMPTY")
)
SIZE = (56, 40)  # of ``sample``
_JPEG, _PNG = FILES["JPEG"], FILES["PNG"]


def small() -> Sequence[bytes]:
    """A few kilobytes each: good ones, and bad ones of every kind."""
    good = (textured(side=96), *(FILES[name] for name in ("PNG", "WEBP", "BMP", "CMYK JPEG")))
    return (*good, good[0][:200], claiming("PNG", 30_000, 30_000), b"GIF89a", b"")


def segment(code: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes((0xFF, code)) + struct.pack(">H", len(content) + 2) + content


def within_jpeg(*segments: bytes) -> bytes:
    """A sound JPEG with more segments in front."""
    return _JPEG[:2] + b"".join(segments) + _JPEG[2:]


def within_png(*chunks: bytes) -> bytes:
    """A sound PNG with more chunks behind its header."""
    return _PNG[:33] + b"".join(chunks) + _PNG[33:]


def exif(*entries: bytes, count: int | None = None, following: int = 0) -> bytes:
    """EXIF whose first directory has these entries of 12 bytes, or says that it has ``count``."""
    said = len(entries) if count is None else count
    directory = struct.pack(">H", said) + b"".join(entries) + struct.pack(">I", following)
    return segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08" + directory)


def orientation(kind: int, count: int, value: bytes) -> bytes:
    """An entry of EXIF about how a picture is turned."""
    return struct.pack(">HHI", 0x0112, kind, count) + value


def many_scans(side: int, components: int = 3) -> bytes:
    """A progressive JPEG that libjpeg finds sound, with a scan for each bit of each coefficient: 882 a component.

    Each scan says in a few bytes that all blocks end where they begin.
    """
    blocks = (-(-side // 8)) ** 2
    every = range(1, components + 1)
    tables = segment(0xC4, b"\0\1" + bytes(15) + b"\0" + b"\x10\1" + bytes(15) + b"\xe0")
    frame = struct.pack(">BHHB", 8, side, side, components) + b"".join(bytes((one, 0x11, 0)) for one in every)
    first = bytes((components,)) + b"".join(bytes((one, 0)) for one in every) + bytes(3)
    start = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, frame) + tables
    start += segment(0xDA, first) + bytes(-(-blocks * components // 8))
    runs = _bits("".join("0" + format(run - 16384, "014b") for run in _runs(blocks)))
    scans = [
        segment(0xDA, bytes((1, one, 0, place, place, (0 if bit == 13 else bit + 1) << 4 | bit))) + runs
        for place in range(1, 64)
        for bit in range(13, -1, -1)
        for one in every
    ]
    return start + b"".join(scans) + b"\xff\xd9"


def _runs(blocks: int) -> list[int]:
    """Lengths of 16,384 to 32,767 that reach over so many blocks."""
    return [max(16384, min(32767, blocks - at)) for at in range(0, blocks, 32767)]


def _bits(text: str) -> bytes:
    text += "1" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8)).replace(b"\xff", b"\xff\0")


def packed_zeros(megabytes: int) -> bytes:
    """Zeros as zlib packs them, a thousandth of their size."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def bitmap(width: int, height: int, bits: int, body: bytes, *, compression: int = 0) -> bytes:
    """A BMP, with a palette where it has one."""
    palette = b"".join(bytes((one, 0, one, 0)) for one in range(1 << bits)) if bits <= 8 else b""
    start = 54 + len(palette)
    numbers = (start + len(body), 0, 0, start, 40, width, height, 1, bits, compression, len(body), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", *numbers) + palette + body


def tiff(width: int, height: int) -> bytes:
    """A TIFF that claims a size."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((256, width), (257, height)))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + bytes(4)


def _sixteen_bits() -> bytes:
    grey = np.arange(40 * 56, dtype=np.uint16).reshape(40, 56) * 29
    return encoded(PIL.Image.fromarray(grey), "PNG")


def _animated(kind: str) -> bytes:
    return encoded(sample(), kind, save_all=True, append_images=[sample().rotate(180)])


def _with_profile(profile: bytes) -> bytes:
    return encoded(sample(), "PNG", icc_profile=profile)


def _arithmetic() -> bytes:
    """The frame says that its bits are coded arithmetically; they are not."""
    data = bytearray(_JPEG)
    data[data.index(b"\xff\xc0") + 1] = 0xC9
    return bytes(data)


def _turned(value: int) -> bytes:
    return within_jpeg(exif(orientation(3, 1, struct.pack(">HH", value, 0))))


READ: Mapping[str, Callable[[], bytes]] = {
    "CMYK JPEG": lambda: FILES["CMYK JPEG"],
    "grey JPEG": lambda: encoded(sample().convert("L"), "JPEG"),
    "16-bit PNG": _sixteen_bits,
    "1-bit PNG": lambda: encoded(sample().convert("1"), "PNG"),
    "PNG of grey and alpha": lambda: encoded(sample().convert("LA"), "PNG"),
    "palette PNG with transparency": lambda: FILES["palette PNG"],
    "BMP of 1 bit": lambda: bitmap(56, 40, 1, bytes(8 * 40)),
    "BMP of 4 bits": lambda: bitmap(56, 40, 4, bytes(28 * 40)),
    "BMP in runs": lambda: bitmap(56, 40, 8, b"\x38\7\0\0" * 40 + b"\0\1", compression=1),
    "BMP from the top": lambda: bitmap(56, -40, 24, bytes(56 * 3 * 40)),
    "EXIF that goes round": lambda: within_jpeg(exif(following=8)),
    "EXIF of 65,535 entries": lambda: within_jpeg(exif(count=65_535)),
    "EXIF that points beyond": lambda: within_jpeg(exif(orientation(3, 9, b"\xff\xff\xff\xf0"))),
    "EXIF of four billion values": lambda: within_jpeg(exif(orientation(3, 0xFFFFFFFF, bytes(4)))),
    "EXIF turned by text": lambda: within_jpeg(exif(orientation(2, 4, b"six\0"))),
    "EXIF turned by nothing": lambda: within_jpeg(exif(orientation(5, 1, bytes(4)))),
    "EXIF of nothing": lambda: within_jpeg(segment(0xE1, b"Exif\0\0")),
    "JPEG with garbage behind": lambda: _JPEG + b"\xff\xda\xff" * 100_000,
    "PNG with garbage behind": lambda: _PNG + bytes(300_000),
    "JPEG that is a zip too": lambda: _JPEG + b"PK\5\6" + bytes(18),
    "JPEG with a GIF in a comment": lambda: within_jpeg(segment(0xFE, b"GIF89a" + bytes(99))),
    "JPEG that says it has other pictures": lambda: within_jpeg(segment(0xE2, b"MPF\0MM\0*\0\0\0\x08\0\0")),
    "PNG of more pixels than it says": lambda: png(56, 40, chunk(b"IDAT", packed_zeros(100))),
}
REFUSED: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", EMPTY),
    "one byte": (lambda: b"\xff", UNDECODABLE),
    "truncated JPEG": (lambda: _JPEG[:-200], UNDECODABLE),
    "JPEG of 65,535 by 65,535": (lambda: claiming("JPEG", 65_535, 65_535), TOO_LARGE),
    "JPEG of no width": (lambda: claiming("JPEG", 0, 40), UNDECODABLE),
    "PNG of four billion by two": (lambda: claiming("PNG", 2**31 - 1, 2), TOO_LARGE),
    "PNG of a negative size": (lambda: claiming("PNG", 2**32 - 1, 2), TOO_LARGE),
    "BMP of no height": (lambda: bitmap(56, 0, 24, b""), UNDECODABLE),
    "BMP of the least height": (lambda: bitmap(56, -(2**31), 24, b""), TOO_LARGE),
    "BMP of two billion by two billion": (lambda: bitmap(2**31 - 1, 2**31 - 1, 24, b""), TOO_LARGE),
    "BMP in runs of nothing": (lambda: bitmap(56, 40, 8, b"\0\0" * 40_000, compression=1), UNDECODABLE),
    "TIFF of four billion by four billion": (lambda: tiff(2**32 - 1, 2**32 - 1), UNDECODABLE),
    "GIF of 65,535 by 65,535": (lambda: b"GIF89a" + b"\xff" * 4 + bytes(30), UNDECODABLE),
    "animated PNG": (lambda: _animated("PNG"), ANIMATED),
    "animated WebP": (lambda: _animated("WEBP"), ANIMATED),
    "PNG of the wrong name": (lambda: b"\xff\xd8\xff" + _PNG, UNDECODABLE),
    "JPEG coded arithmetically, as it says": (_arithmetic, UNDECODABLE),
    "JPEG of fill bytes alone": (lambda: b"\xff\xd8" + b"\xff" * (4 << 20) + b"\0", UNDECODABLE),
    "JPEG of a thousand scans": (lambda: many_scans(64, 2), UNDECODABLE),
    "JPEG of many scans and pixels": (lambda: many_scans(7000), UNDECODABLE),
    "JPEG of a million segments": (lambda: within_jpeg(segment(0xEF, b"") * 1_000_000), UNDECODABLE),
    "JPEG of a million fill bytes": (lambda: within_jpeg(b"\xff" * 1_000_000), UNDECODABLE),
    "PNG of a million chunks": (lambda: within_png(chunk(b"aaAa", b"") * 1_000_000), UNDECODABLE),
    "PNG whose text is a bomb": (lambda: within_png(chunk(b"zTXt", b"a\0\0" + packed_zeros(100))), UNDECODABLE),
    "PNG whose profile is a bomb": (lambda: within_png(chunk(b"iCCP", b"a\0\0" + packed_zeros(100))), UNDECODABLE),
}
TURNED: Mapping[str, tuple[Callable[[], bytes], int]] = {
    f"turned by {value}": (partial(_turned, value), value) for value in range(1, 10)
}
SMALL = [*READ, *TURNED, "nothing", "truncated JPEG", "JPEG of 65,535 by 65,535", "animated PNG", "animated WebP",
         "BMP of no height", "JPEG coded arithmetically, as it says"]  # fmt: skip
"""Those that are quickly made, most of them."""


def comes(name: str) -> tuple[int, int] | str:
    """What has to come of a picture: its width and height as seen, or the reason of its refusal."""
    if name in REFUSED:
        return REFUSED[name][1]
    return SIZE[::-1] if name in TURNED and 5 <= TURNED[name][1] <= 8 else SIZE


@cache
def made(name: str) -> bytes:
    """The bytes of a picture."""
    return READ[name]() if name in READ else (REFUSED.get(name) or TURNED[name])[0]()
