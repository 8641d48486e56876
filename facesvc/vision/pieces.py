"""Of how many pieces a picture consists, counted before a decoder sees it.

A decoder takes its time for each piece, whatever is in it: a JPEG of 500 KB with 2,600 scans, each of which says that
nothing changes, keeps libjpeg busy for 25 s at 50 megapixels, and 16 MiB of empty JPEG segments or PNG chunks keep
Pillow busy for 5 to 8 s. Cameras and programs write ten scans, and a chunk for each few kilobytes.
"""

import re

from facesvc.errors import ImageError

MAX_SCANS = 100
MAX_SEGMENTS = 2000
"""Of a JPEG, before its first scan; the longest profiles and previews take a few hundred."""
MAX_FILL_BYTES = 10_000
"""Of a JPEG, between those segments."""
MAX_CHUNKS = 20_000
"""Of a PNG; some programs write one for each kilobyte or so."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_START_OF_SCAN, _END = 0xDA, 0xD9
# ITU T.81, B.1.1.2: fill bytes and a code; 0 is a byte of a scan. Of these codes 1, D0 to D7 and D8 stand alone. Only
# the last fill byte is looked for: with all of them a run of these would take time with the square of its length.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])", re.DOTALL)


def check(data: bytes) -> None:
    """Raises ``ImageError`` (IMAGE_UNDECODABLE) for a JPEG or PNG of more pieces than anybody writes."""
    if data.startswith(_JPEG):
        _check_jpeg(data)
    elif data.startswith(_PNG):
        _check_png(data)


def _check_jpeg(data: bytes) -> None:
    # Looked for only where there may be as many: bytes of a picture never look like the start of a scan, but what
    # comes behind it may.
    many_scans = data.count(bytes((0xFF, _START_OF_SCAN))) > MAX_SCANS
    at, segments, scans, fill = len(_JPEG), 0, 0, 0
    while match := _MARKER.search(data, at):
        code = match[1][0]
        if code == _END:
            return
        if code == _START_OF_SCAN:
            scans += 1
            if not many_scans:
                return
        elif not scans:
            segments += 1
            fill += match.end() - 2 - at
        if scans > MAX_SCANS or segments > MAX_SEGMENTS or fill > MAX_FILL_BYTES:
            raise ImageError(
                f"the JPEG consists of more than {MAX_SCANS} scans or {MAX_SEGMENTS} segments: save it anew, plainly"
            )
        at = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")


def _check_png(data: bytes) -> None:
    at, chunks = len(_PNG), 0
    while at < len(data):
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise ImageError(f"the PNG consists of more than {MAX_CHUNKS} chunks: save it anew, plainly")
        if data[at + 4 : at + 8] == b"IEND":
            return
        # PNG specification, 5.3: length of what follows, four letters, that, and a checksum.
        at += 12 + int.from_bytes(data[at : at + 4], "big")
