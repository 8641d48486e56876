"""``facesvc camera``: a camera's pictures to the server, for as long as there are any."""

import enum
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Annotated

import cv2
import numpy as np
import simplejpeg
import typer

from facesvc.cli.camera_report import CameraReport
from facesvc.cli.console import Collection, Json, Server, client_of
from facesvc.cli.results import Policy
from facesvc.cli.sources import Film, Footage, Pixels, film_of
from facesvc.client import CameraLoop, Level, challenge, opening
from facesvc.errors import InputError
from facesvc.v1 import recognition_pb2


class Direction(enum.StrEnum):
    """Where a camera looks."""

    INSIDE = "inside"
    ENTRY = "entry"
    EXIT = "exit"


def camera(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A video file, a camera's number, or an RTSP or HTTP URL.")],
    *,
    camera_id: Annotated[str, typer.Option(help="The camera's name in events.")],
    zone: Annotated[str, typer.Option(help="Where the camera looks.")] = "",
    direction: Annotated[
        Direction, typer.Option(help="Into the zone, at those who come in, or at those who go out.")
    ] = Direction.INSIDE,
    policy: Policy = "",
    collection: Collection = "",
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Ask for boxes also of frames that are not looked at.")
    ] = False,
    prove: Annotated[
        bool, typer.Option("--challenge", help="Ask the first who comes to turn the head: a picture cannot.")
    ] = False,
    smallest_face: Annotated[
        float, typer.Option(min=0, help="Pixels of the smallest face that matters; lets pictures shrink on slow lines.")
    ] = 0.0,
    loop: Annotated[bool, typer.Option("--loop", help="Play a file again and again.")] = False,
    server: Server = "",
    as_json: Json = False,
) -> None:
    """Show the server what a camera sees, and print who is recognised, until Ctrl-C or the end of a file.

    A file is played at its own pace, as a camera would send it. A server or camera that goes away is waited for.
    """
    film = _film_of(source)
    opened = opening(
        camera_id,
        zone=zone,
        collection_id=collection,
        policy=policy,
        direction=recognition_pb2.CameraDirection.Value(f"CAMERA_DIRECTION_{direction.name}"),
        predictions=predictions,
    )
    report = CameraReport(film.name, time.monotonic(), as_json=as_json)
    with client_of(context, server) as client, suppress(KeyboardInterrupt):
        camera_loop = CameraLoop(
            client,
            opened,
            lambda: Footage(film) if film.live else InRealTime(film, loop=loop),
            encode,
            live=film.live,
            smallest_face=smallest_face,
            on_trouble=report.tell_trouble,
        )
        try:
            _run(camera_loop, report, prove=prove)
        finally:
            report.tell_status(camera_loop.figures(), time.monotonic())


def encode(pixels: Pixels, level: Level) -> bytes:
    """A JPEG of (H, W, 3) uint8 RGB, as light as ``level`` says."""
    if level.share < 1:
        size = (max(1, round(pixels.shape[1] * level.share)), max(1, round(pixels.shape[0] * level.share)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    data: bytes = simplejpeg.encode_jpeg(pixels, quality=level.quality, colorspace="RGB")
    return data


class InRealTime:
    """A video file at its own pace; with ``loop`` it begins again at its end."""

    def __init__(self, film: Film, *, loop: bool) -> None:
        """Open it. Raises ``InputError``."""
        self._film = film
        self._loop = loop
        self._footage = Footage(film)
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Pixels]:
        """Its frames, each at its time; one that is late is not waited for."""
        started, number = time.monotonic(), 0
        while True:
            for pixels in self._footage:
                due = started + number / self._footage.frame_rate
                if self._closed.wait(max(0.0, due - time.monotonic())):
                    return
                yield pixels
                number += 1
            if not self._loop or self._closed.is_set():
                return
            self._footage.close()
            self._footage = Footage(self._film)

    def close(self) -> None:
        """End it."""
        self._closed.set()
        self._footage.close()


def _run(camera_loop: CameraLoop[Pixels], report: CameraReport, *, prove: bool) -> None:
    with closing(camera_loop.run()) as answers:
        for answer in answers:
            report.tell(answer, camera_loop.figures(), time.monotonic())
            if prove and answer.result.faces:
                camera_loop.challenge(challenge())
                prove = False


def _film_of(source: str) -> Film:
    """What to play. Raises ``InputError`` for a picture or a folder."""
    film = film_of(source)
    if film is None:
        raise InputError(f"{source} does not move: name a video, a camera's number or a URL; see `facesvc recognize`")
    # What follows the question mark in a camera's address is often its password.
    return replace(film, name=film.name.partition("?")[0]) if film.live else film
