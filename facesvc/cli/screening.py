"""A film on its way through the server's ``Recognize`` stream, and what is told of it."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import simplejpeg

from facesvc.cli.console import cell, complain, out, print_json, say, table_of
from facesvc.cli.draw import draw, label_of, name_of
from facesvc.cli.pictures import pixels_of
from facesvc.cli.results import answer_as_json, faces_in_words, similarity_of
from facesvc.cli.sources import Film, FilmWriter, Footage
from facesvc.client import Client, frame
from facesvc.v1 import recognition_pb2

_JPEG_QUALITY = 95
# Frames of a camera that are kept until their result is there, to draw into; the server holds far fewer.
_MAX_KEPT = 64


@dataclass(frozen=True, slots=True)
class Part:
    """How often somebody (or ``unknown``, and so on) was seen, and how similar at best."""

    frames: int = 0
    best: float | None = None


class Screening:
    """Plays a film to the server. A file waits for each result, so that none of its frames is dropped."""

    def __init__(
        self, client: Client, film: Film, footage: Footage, writer: FilmWriter | None, *, as_json: bool
    ) -> None:
        self._client = client
        self._film = film
        self._footage = footage
        self._writer = writer
        self._as_json = as_json
        self._turn = threading.Semaphore()
        self._kept: dict[int, bytes] = {}
        self._visible: list[str] | None = None
        self._parts: dict[str, Part] = {}
        self._frames = self._dropped = 0

    def run(self, opened: recognition_pb2.StreamOpening) -> None:
        """Play it to its end. Raises ``CallError``."""
        try:
            for result in self._client.recognize(opened, self._sent()):
                self._turn.release()
                self._take(result)
        finally:
            # The thread that reads the frames may wait for its turn: let it see that the film is closed.
            self._footage.close()
            self._turn.release()

    def sum_up(self) -> None:
        """Say who was seen how often, for people."""
        if self._as_json:
            return
        table = table_of("Who", "Frames", "Best similarity")
        for name, part in sorted(self._parts.items(), key=lambda item: -item[1].frames):
            table.add_row(cell(name), str(part.frames), "" if part.best is None else f"{part.best:.3f}")
        if self._parts:
            out.print(table)
        say(f"{self._frames} frames" + (f", {self._dropped} more dropped" if self._film.live else ""))

    def _sent(self) -> Iterator[recognition_pb2.Frame]:
        """The frames as the stream takes them, in gRPC's thread."""
        for number, pixels in enumerate(self._footage):
            if not self._film.live:
                self._turn.acquire()
            data = simplejpeg.encode_jpeg(pixels, quality=_JPEG_QUALITY, colorspace="RGB")
            if self._writer is not None:
                self._keep(number, data)
            yield frame(number, data, datetime.now(UTC) if self._film.live else None)

    def _keep(self, number: int, data: bytes) -> None:
        self._kept[number] = data
        if len(self._kept) > _MAX_KEPT:
            self._kept.pop(min(list(self._kept)), None)

    def _take(self, result: recognition_pb2.FrameResult) -> None:
        self._frames += 1
        self._dropped += result.frames_dropped
        if self._writer is not None:
            self._write(self._writer, result)
        if self._as_json:
            print_json(self._result_as_json(result))
        elif result.HasField("error"):
            complain(f"{self._when(result)}  {result.error.message}")
        else:
            self._tell(result)

    def _write(self, writer: FilmWriter, result: recognition_pb2.FrameResult) -> None:
        """Draw into the frame; it stands for those that were dropped before it, so that the film keeps its length."""
        data = self._kept.pop(result.frame_id, None)
        for number in [number for number in list(self._kept) if number < result.frame_id]:
            self._kept.pop(number, None)
        if data is not None:
            pixels = draw(pixels_of(data), [label_of(face) for face in result.faces])
            writer.write(pixels, 1 + result.frames_dropped)

    def _tell(self, result: recognition_pb2.FrameResult) -> None:
        """A line when somebody came or went; not before each face in view was looked at closely."""
        decided = [face for face in result.faces if face.decision.outcome]
        names = [name_of(face) for face in decided]
        for face, name in zip(decided, names, strict=True):
            part, similarity = self._parts.get(name, Part()), similarity_of(face)
            best = max((value for value in (part.best, similarity) if value is not None), default=None)
            self._parts[name] = Part(part.frames + 1, best)
        if len(decided) == len(result.faces) and sorted(names) != self._visible:
            self._visible = sorted(names)
            say(f"{self._when(result)}  {faces_in_words(result.faces)}")

    def _when(self, result: recognition_pb2.FrameResult) -> str:
        """The time of day before a camera, the place in a file."""
        if self._film.live:
            return result.capture_time.ToDatetime(UTC).astimezone().strftime("%H:%M:%S")
        minutes, seconds = divmod(self._place_s(result), 60)
        return f"{minutes:.0f}:{seconds:05.2f}"

    def _place_s(self, result: recognition_pb2.FrameResult) -> float:
        return result.frame_id / self._footage.frame_rate

    def _result_as_json(self, result: recognition_pb2.FrameResult) -> dict[str, Any]:
        error = {"reason": result.error.reason, "message": result.error.message} if result.HasField("error") else None
        return {
            "frame_id": result.frame_id,
            "capture_time": result.capture_time.ToJsonString(),
            "time_s": None if self._film.live else self._place_s(result),
            **answer_as_json(result),
            "frames_dropped": result.frames_dropped,
            "error": error,
        }
