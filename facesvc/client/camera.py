"""The loop of a camera: its newest pictures to the server, as many as the server would take.

    loop = CameraLoop(client, opening("door"), open_source, encode)
    for answer in loop.run():
        ...

A thread reads the camera, and only ever keeps its newest picture. A picture is made a JPEG when the server has a use
for it; those that are passed over are counted and told. Server and camera may go away and come back. How light the
pictures are made, and how long the pauses are, is said in ``pacing``.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

import grpc

from facesvc.client import requests
from facesvc.client.capture import Capture, FrameSource, Shot
from facesvc.client.errors import CallError
from facesvc.client.ledger import Figures, Ledger, Tally
from facesvc.client.pacing import Backoff, Level, Lightening
from facesvc.client.sync import Client
from facesvc.v1 import recognition_pb2

P = TypeVar("P")
P_contra = TypeVar("P_contra", contravariant=True)

# What will be refused again however often it is asked.
_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_MAX_CHALLENGES = 8


class Encode(Protocol[P_contra]):
    """Makes a JPEG."""

    def __call__(self, pixels: P_contra, level: Level) -> bytes:
        """Of ``pixels`` at the quality and the share of their size that ``level`` says."""
        ...


@dataclass(frozen=True, slots=True)
class Times:
    """How long to wait, in seconds."""

    stalled_s: float = 15.0
    """For a picture of a camera; then it is opened anew."""
    starved_s: float = 5.0
    """For a credit; then a frame is sent without one."""
    first_pause_s: float = 0.5
    """After a server or camera was lost; doubled with each attempt, up to half a minute."""


@dataclass(frozen=True, slots=True)
class _Due(Generic[P]):
    """A picture that may go out, and how light it is to be."""

    shot: Shot[P]
    level: Level
    place: int


class _ClockSetBackError(Exception):
    """This machine's clock was set back: on an open stream its frames would seem to come out of order."""


class CameraLoop(Generic[P]):
    """See above. ``run`` is for one thread; ``challenge``, ``close`` and ``figures`` may be called from any."""

    def __init__(
        self,
        client: Client,
        opened: recognition_pb2.StreamOpening,
        open_source: Callable[[], FrameSource[P]],
        encode: Encode[P],
        *,
        live: bool = True,
        smallest_face: float = 0.0,
        on_trouble: Callable[[str], None] = lambda text: None,
        times: Times = Times(),
        randomness: random.Random | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A source that is not ``live`` ends the loop when it ends. ``on_trouble`` is told in words what goes wrong.

        ``smallest_face`` that matters, in pixels of the camera: pictures are made no smaller than it allows.
        """
        randomness = randomness or random.Random()  # noqa: S311 - spreads attempts, guards nothing
        self._client = client
        self._opened = opened
        self._encode = encode
        self._on_trouble = on_trouble
        self._times = times
        self._clock = clock
        self._changed = threading.Condition()
        self._backoff = Backoff(randomness, times.first_pause_s)
        self._capture = Capture(
            open_source,
            live=live,
            changed=self._changed,
            backoff=Backoff(randomness, times.first_pause_s),
            stalled_s=times.stalled_s,
            now=now,
            clock=clock,
            on_trouble=on_trouble,
        )
        self._lightening = Lightening(smallest_face)
        self._challenges: deque[recognition_pb2.ChallengeRequest] = deque(maxlen=_MAX_CHALLENGES)
        self._closed = False
        self._tally = Tally()

    def run(self) -> Generator[recognition_pb2.RecognizeResponse, None, None]:
        """All answers of the server, until the source ends or ``close`` is called.

        Raises ``CallError`` where the server was never reached or will not ever agree, and what a source raises that
        never gave a picture.
        """
        self._capture.start()
        begun = False
        try:
            while self._picture_is_there():
                trouble, pause = "the server has ended the stream", 0.0
                try:
                    for answer in self._talk():
                        begun = True
                        yield answer
                    if self._is_done():
                        return
                except CallError as error:
                    reached = begun or error.reason == "SERVER_STARTING"
                    if not reached or error.code in _FINAL or self._is_done():
                        raise
                    trouble, pause = str(error), error.retry_delay_s or 0.0
                except _ClockSetBackError:
                    self._on_trouble("the clock was set back: a new stream begins")
                    continue
                self._pause(trouble, pause)
        finally:
            self.close()

    def challenge(self, request: recognition_pb2.ChallengeRequest) -> None:
        """Ask somebody to prove that they are there; make it with ``requests.challenge``.

        Forgotten where the server is lost before it was sent.
        """
        with self._changed:
            self._challenges.append(request)
            self._changed.notify_all()

    def close(self) -> None:
        """End the loop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._capture.close()

    def figures(self) -> Figures:
        """What became of the pictures so far."""
        with self._changed:
            return self._tally.figures(self._lightening.level)

    def _picture_is_there(self) -> bool:
        """Wait for a picture to send; False where there will be none."""
        with self._changed:
            while not self._closed:
                self._capture.check()
                if self._capture.waiting or self._capture.ended:
                    return self._capture.waiting
                self._changed.wait(self._times.stalled_s)
        return False

    def _is_done(self) -> bool:
        with self._changed:
            return self._closed or (self._capture.ended and not self._capture.waiting)

    def _pause(self, trouble: str, least_s: float) -> None:
        """Wait before the next attempt."""
        pause = max(self._backoff.pause_s(), least_s)
        self._on_trouble(f"{trouble}; trying again in {pause:.1f} s")
        with self._changed:
            self._changed.wait_for(lambda: self._closed, pause)
            self._capture.forget()
            # Whoever was to be asked has not waited.
            self._challenges.clear()

    def _talk(self) -> Iterator[recognition_pb2.RecognizeResponse]:
        """The answers of one stream."""
        over = threading.Event()
        ledger = Ledger(self._tally, self._lightening, self._clock(), self._times.starved_s)
        try:
            with closing(self._client.converse(self._opened, self._messages(ledger, over))) as answers:
                for answer in answers:
                    with self._changed:
                        ledger.note(answer, self._clock())
                        if answer.HasField("result"):
                            self._backoff.reset()
                        self._changed.notify_all()
                    yield answer
        finally:
            # gRPC's thread may be waiting for a message of this stream.
            with self._changed:
                over.set()
                self._changed.notify_all()

    def _messages(self, ledger: Ledger, over: threading.Event) -> Iterator[requests.Said]:
        """What is sent, in gRPC's thread."""
        while (message := self._next(ledger, over)) is not None:
            yield self._frame(ledger, message) if isinstance(message, _Due) else message

    def _next(self, ledger: Ledger, over: threading.Event) -> _Due[P] | recognition_pb2.ChallengeRequest | None:
        """Wait for what to send; None at the end."""
        with self._changed:
            while not (over.is_set() or self._closed):
                if self._challenges:
                    return self._challenges.popleft()
                self._capture.check()
                wait_s = self._times.stalled_s
                if self._capture.waiting:
                    wait_s = ledger.wait_s(self._clock())
                    if wait_s <= 0:
                        ledger.spend(self._clock())
                        return _Due(self._capture.take(), self._lightening.level, self._lightening.place)
                elif self._capture.ended:
                    return None
                self._changed.wait(wait_s)
        return None

    def _frame(self, ledger: Ledger, due: _Due[P]) -> recognition_pb2.Frame:
        shot = due.shot
        if ledger.is_older(shot.capture_time):
            raise _ClockSetBackError
        data = self._encode(shot.pixels, due.level)
        frame = requests.frame(shot.number, data, shot.capture_time, frames_skipped=shot.skipped)
        with self._changed:
            ledger.send(frame, shot.capture_time, shot.clock, due.place, self._clock())
        return frame
