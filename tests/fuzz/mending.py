"""Checksums put right, so that a fuzzer comes past them: whoever makes a hostile file does that too."""

import struct
import zlib

_BLOCK = 512


def png(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that they should have."""
    parts, at = [data[:8]], 8
    while at + 8 <= len(data):
        end = at + 8 + min(int.from_bytes(data[at : at + 4], "big"), len(data))
        parts += [data[at:end], struct.pack(">I", zlib.crc32(data[at + 4 : end]))]
        at = end + 4
    return b"".join(parts)


def tar(data: bytes) -> bytes:
    """A tar each of whose blocks has the checksum of a header, where it looks like one."""
    blocks = bytearray(data)
    for at in range(0, len(blocks) - _BLOCK + 1, _BLOCK):
        if blocks[at + 257 : at + 262] == b"ustar":
            blocks[at + 148 : at + 156] = b" " * 8
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(blocks[at : at + _BLOCK])
    return bytes(blocks)
