"""The newest picture of a camera, read in a thread of its own; a camera that goes away or hangs is opened again."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from facesvc.client.pacing import Backoff

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)

# Threads that hang in a camera are left to the end of the process: no more than so many.
_MAX_HANGING = 2
_JOIN_S = 3.0


class FrameSource(Protocol[P_co]):
    """An open camera, or a file: pictures of any kind, as they are taken."""

    def __iter__(self) -> Iterator[P_co]:
        """All pictures, until it ends or is closed."""
        ...

    def close(self) -> None:
        """End the iteration, from any thread, also a second time."""
        ...


@dataclass(frozen=True, slots=True)
class Shot(Generic[P]):
    """A picture, when it was grabbed by both clocks, and how many before it were passed over since the last taken."""

    number: int
    pixels: P
    capture_time: datetime
    clock: float
    skipped: int


class Capture(Generic[P]):
    """Holds the newest picture. ``changed`` guards it, and is notified of each; a reader holds it at every call.

    ``live`` sources are opened again when they end, fail, or give no picture for ``stalled_s``, with pauses between
    the attempts. One that never gave a picture, and a file that cannot be read, is an error that ``check`` raises.
    """

    def __init__(
        self,
        open_source: Callable[[], FrameSource[P]],
        *,
        live: bool,
        changed: threading.Condition,
        backoff: Backoff,
        stalled_s: float,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._open = open_source
        self._live = live
        self._changed = changed
        self._backoff = backoff
        self._stalled_s = stalled_s
        self._now = now
        self._clock = clock
        self._on_trouble = on_trouble
        # The reader of the newest turn is the one that counts; others have been given up.
        self._turn = 0
        self._readers: list[threading.Thread] = []
        self._source: FrameSource[P] | None = None
        self._reading_since: float | None = None
        self._shot: Shot[P] | None = None
        self._grabbed = 0
        self._ended = False
        self._error: Exception | None = None

    def start(self) -> None:
        """Begin to read."""
        with self._changed:
            self._start_reader(None)

    def close(self) -> None:
        """End the reading; a camera that hangs is left behind. Not while holding ``changed``."""
        with self._changed:
            self._turn += 1
            self._ended = True
            source = self._source
            self._changed.notify_all()
        if source is not None:
            source.close()
        for reader in self._readers:
            reader.join(_JOIN_S)

    @property
    def waiting(self) -> bool:
        """Whether there is a picture to take."""
        return self._shot is not None

    @property
    def ended(self) -> bool:
        """Whether no more pictures will come; one may still wait."""
        return self._ended

    def take(self) -> Shot[P]:
        """The newest picture. Only while one is ``waiting``."""
        shot, self._shot = self._shot, None
        if shot is None:
            raise LookupError("no picture is waiting")
        return shot

    def forget(self) -> None:
        """Drop the picture that waits: it was taken before anybody could look at it."""
        if not self._ended:
            self._shot = None

    def check(self) -> None:
        """Open a camera anew that hangs. Raises what ended the reading for good."""
        if self._error is not None:
            raise self._error
        since = self._reading_since
        if not self._live or self._ended or since is None or self._clock() - since < self._stalled_s:
            return
        self._reading_since = self._clock()
        self._readers = [reader for reader in self._readers if reader.is_alive()]
        if len(self._readers) <= _MAX_HANGING:
            self._on_trouble(f"the camera has given no picture for {self._stalled_s:g} s; opening it anew")
            self._start_reader(self._source)

    def _start_reader(self, hanging: FrameSource[P] | None) -> None:
        self._turn += 1
        self._source = None
        reader = threading.Thread(target=self._read, args=(self._turn, hanging), daemon=True, name="camera")
        self._readers.append(reader)
        reader.start()

    def _read(self, turn: int, hanging: FrameSource[P] | None) -> None:
        """In a thread: pictures of one opening after the other, until another reader has the turn."""
        if hanging is not None:
            hanging.close()
        while True:
            error = self._read_once(turn)
            with self._changed:
                self._reading_since = None if turn == self._turn else self._reading_since
                if turn != self._turn or not self._goes_on(error):
                    self._changed.notify_all()
                    return
                pause = self._backoff.pause_s()
                self._on_trouble(f"{error or 'the camera gives no more pictures'}; trying again in {pause:.1f} s")
                if self._changed.wait_for(lambda: turn != self._turn, pause):
                    return

    def _read_once(self, turn: int) -> Exception | None:
        """What ended it; None where the source just ended."""
        source = None
        try:
            with self._changed:
                self._reading_since = self._clock()
            source = self._open()
            with self._changed:
                if turn != self._turn:
                    return None  # closed or given up meanwhile: nobody would end the reading
                self._source = source
            for pixels in source:
                if not self._put(turn, pixels):
                    break
        except Exception as error:  # noqa: BLE001 - whatever a camera raises: it is opened again, or the error is told
            return error
        finally:
            if source is not None:
                source.close()
        return None

    def _goes_on(self, error: Exception | None) -> bool:
        """Whether to try again after the source has ended."""
        if self._live and (self._grabbed or error is None):
            return True
        self._error = error
        self._ended = True
        return False

    def _put(self, turn: int, pixels: P) -> bool:
        """Replace the picture that waits; False where another reader has the turn."""
        capture_time, clock = self._now(), self._clock()
        with self._changed:
            if turn != self._turn:
                return False
            skipped = self._shot.skipped + 1 if self._shot else 0
            self._shot = Shot(self._grabbed, pixels, capture_time, clock, skipped)
            self._grabbed += 1
            self._reading_since = clock
            self._backoff.reset()
            self._changed.notify_all()
        return True
