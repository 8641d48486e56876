"""Where moving pictures come from and go to: video files, cameras, streams. The only user of cv2's video I/O."""

import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from facesvc.cli.pictures import looks_like_picture
from facesvc.errors import DependencyError, InputError

Pixels = NDArray[np.uint8]

# FFmpeg reads its log level (quiet) when the first video is opened; what went wrong is told by our own errors.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_CONTAINERS = frozenset({".mp4", ".mov", ".mkv", ".avi"})
_MAX_CAMERA_DIGITS = 3
_HEAD_BYTES = 4096
_TIMEOUT_MS = 10_000
_RELEASE_TIMEOUT_S = 2.0
_USUAL_FRAMES_A_SECOND = 25.0
_MAX_FRAMES_A_SECOND = 1000.0


@dataclass(frozen=True, slots=True)
class Film:
    """What can be played: ``target`` is what cv2 opens, ``name`` the same without a password; live ones do not wait."""

    name: str
    target: str | int
    live: bool


def film_of(source: str) -> Film | None:
    """What a source means to play; None for pictures and folders. Raises ``InputError`` where there is nothing."""
    if source.isdecimal() and len(source) <= _MAX_CAMERA_DIGITS:
        return Film(f"camera {int(source)}", int(source), live=True)
    if "://" in source:
        return Film(_without_password(source), source, live=True)
    path = Path(source)
    if not path.exists():
        raise InputError(f"{source} does not exist: name a picture, a folder, a video, a camera's number or a URL")
    if path.is_dir() or looks_like_picture(path):
        return None
    film = Film(source, source, live=False)
    if _is_text(path):
        raise _gives_nothing(film)
    return film


class Footage:
    """The frames of a film, (H, W, 3) uint8 RGB, read one by one; ``frame_rate`` is in frames a second."""

    def __init__(self, film: Film) -> None:
        """Open the film and read its first frame. Raises ``InputError`` and ``DependencyError``."""
        self._lock = threading.Lock()
        self._closed = False
        self._capture = _open(film)
        first = self._read()
        if first is None:
            self.close()
            raise _gives_nothing(film)
        self._first = first
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frame_rate = rate if math.isfinite(rate) and 0 < rate <= _MAX_FRAMES_A_SECOND else _USUAL_FRAMES_A_SECOND

    def __iter__(self) -> Iterator[Pixels]:
        """All frames, until the film ends or is closed; only once, from any one thread."""
        frame: Pixels | None = self._first
        while frame is not None:
            yield frame
            frame = self._read()

    def __enter__(self) -> Self:
        """The footage itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """End the reading. A camera that hangs is left to the end of the process: releasing it in a read crashes."""
        self._closed = True
        if self._lock.acquire(timeout=_RELEASE_TIMEOUT_S):
            self._capture.release()
            self._lock.release()

    def _read(self) -> Pixels | None:
        with self._lock:
            if self._closed:
                return None
            success, frame = self._capture.read()
        return np.ascontiguousarray(frame[:, :, ::-1], np.uint8) if success else None


class FilmWriter:
    """Writes frames into a video file (MPEG-4), which has the size of the first one."""

    def __init__(self, path: Path, frame_rate: float) -> None:
        self._path = path
        self._frame_rate = frame_rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()

    def write(self, pixels: Pixels, times: int = 1) -> None:
        """Append (H, W, 3) uint8 RGB, ``times`` over. Raises ``DependencyError``."""
        if self._writer is None:
            self._size = (pixels.shape[1], pixels.shape[0])
            self._writer = self._opened()
        frame = np.ascontiguousarray(pixels[:, :, ::-1])
        if (pixels.shape[1], pixels.shape[0]) != self._size:
            frame = np.asarray(cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        for _ in range(times):
            self._writer.write(frame)

    def _opened(self) -> cv2.VideoWriter:
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._path), cv2.CAP_FFMPEG, code, self._frame_rate, self._size)
        if not writer.isOpened():
            raise DependencyError(f"{self._path} cannot be written: is the folder writable, is there room?")
        return writer


def check_film_writable(path: Path) -> None:
    """Refuse a name that no video can be written to, before the work is done. Raises ``InputError``."""
    if path.suffix.lower() not in _CONTAINERS:
        raise InputError(f"cannot write a video to {path}: choose a name that ends in {', '.join(sorted(_CONTAINERS))}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")


def _open(film: Film) -> cv2.VideoCapture:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if isinstance(film.target, int):
        capture = cv2.VideoCapture(film.target)
    else:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
        capture = cv2.VideoCapture(film.target, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        raise _gives_nothing(film)
    return capture


def _is_text(path: Path) -> bool:
    """Whether a file cannot be a video. FFmpeg would play text as a film of a terminal, and playlists from anywhere."""
    with path.open("rb") as file:
        return b"\0" not in file.read(_HEAD_BYTES)


def _gives_nothing(film: Film) -> InputError | DependencyError:
    if isinstance(film.target, int):
        return DependencyError(f"{film.name} gives no picture: is it there, and does no other program use it?")
    if film.live:
        return DependencyError(f"{film.name} gives no picture: check the address, the password and the network")
    return InputError(f"{film.name} is no picture and no video that can be read")


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:  # it is not repeated: there may be a password in it
        raise InputError("this is no URL: write it as rtsp://HOST/PATH or http://HOST/PATH") from error
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
