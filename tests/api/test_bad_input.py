"""Hostile pictures and messages: each gets its error, and the next caller notices nothing."""

import io
import struct
import zlib

import grpc
import numpy as np
import PIL.Image
import pytest
from api.conftest import Start, Vision, with_limits
from api.pictures import encoded, grey, textured

from facesvc.client import CallError
from facesvc.config import Settings

JPEG = textured()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def animation() -> bytes:
    file = io.BytesIO()
    frames = [PIL.Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


BAD = {
    "empty": (b"", "IMAGE_EMPTY"),
    "text": (b"<svg/>", "IMAGE_UNDECODABLE"),
    "truncated": (JPEG[: len(JPEG) // 2], "IMAGE_UNDECODABLE"),
    "zero size": (png_header(0, 10), "IMAGE_UNDECODABLE"),
    "claims 30,000 x 30,000": (png_header(30_000, 30_000), "IMAGE_TOO_LARGE"),
    "animated": (animation(), "IMAGE_ANIMATED"),
    "no pixels": (png_header(10, 10), "IMAGE_UNDECODABLE"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_picture_gets_its_error_and_the_next_call_is_well(start: Start, name: str) -> None:
    data, reason = BAD[name]
    running = await start(vision=Vision())
    for call in (running.client.detect, running.client.embed, running.client.search):
        with pytest.raises(CallError) as caught:
            await call(data)
        error = caught.value
        assert (error.code, error.reason, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, reason, "image.data")
    assert len((await running.client.detect(JPEG)).faces) == 1


async def test_a_single_pixel_shows_nobody(start: Start) -> None:
    running = await start()
    response = await running.client.detect(encoded(np.zeros((1, 1, 3), np.uint8), "PNG"))
    assert (len(response.faces), response.width, response.height) == (0, 1, 1)


async def test_a_wrong_orientation_is_ignored(start: Start) -> None:
    running = await start(vision=Vision())
    exif = PIL.Image.Exif()
    exif[0x0112] = 99
    picture = encoded(np.full((200, 300, 3), 90, np.uint8), exif=exif)
    response = await running.client.detect(picture)
    assert (response.width, response.height) == (300, 200)


async def test_a_message_over_the_limit_is_refused(start: Start, settings: Settings) -> None:
    running = await start(with_limits(settings, max_image_bytes=100_000), Vision())
    with pytest.raises(CallError) as caught:
        await running.client.detect(bytes(2_000_000))
    assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len((await running.client.detect(grey())).faces) == 1


async def test_a_picture_over_the_limit_is_refused(start: Start, settings: Settings) -> None:
    running = await start(with_limits(settings, max_image_bytes=100_000), Vision())
    with pytest.raises(CallError) as caught:
        await running.client.detect(bytes(100_001))
    assert caught.value.reason == "IMAGE_TOO_LARGE"


async def test_a_message_that_is_no_message_harms_nobody(start: Start) -> None:
    running = await start(vision=Vision())
    async with running.channel() as channel:
        call = channel.unary_unary("/facesvc.v1.RecognitionService/Detect")
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"\xff\xff\xff")
    assert len((await running.client.detect(JPEG)).faces) == 1
