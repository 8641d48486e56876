"""Frames as they come from a camera: when they were taken, and whether they can be looked at."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from facesvc.api import convert
from facesvc.api.question import check_size
from facesvc.api.service import Service
from facesvc.errors import InputError
from facesvc.stream.frame_clock import FrameClock
from facesvc.stream.policy import Capture
from facesvc.v1 import recognition_pb2

# A camera's clock may be ahead by so much; more is a clock that nobody set.
_CLOCK_TOLERANCE = timedelta(minutes=1)
# A frame that is older than the one before by more was taken after the camera's clock was set back.
_LATE_FRAME = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame, and when it came and was taken; ``problem`` says why it cannot be looked at.

    ``time`` and ``clock`` are those of the arrival, by the service's clocks, ``frame_clock`` is that of the capture
    within the stream.
    """

    frame: recognition_pb2.Frame
    time: datetime
    clock: float
    capture: Capture
    frame_clock: float
    problem: InputError | None


class Arrivals:
    """The frames of one stream."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._frame_clock = FrameClock()
        self._last_capture: datetime | None = None
        self._ahead_s = 0.0
        self.newest_clock = 0.0
        """When the newest frame was taken, by the stream's clock."""

    def arrive(self, frame: recognition_pb2.Frame) -> Arrival:
        """A frame that has come just now."""
        now, clock = self._service.now(), self._service.clock()
        problem: InputError | None = None
        try:
            capture_time = self._capture_time(frame, now)
            check_size(self._service, frame.image.data, "image.data")
        except InputError as error:
            problem, capture_time = error, now
            frame.ClearField("image")  # it will never be looked at, and need not be kept while it waits
        self.newest_clock = self._frame_clock.of(capture_time, clock)
        capture = Capture(capture_time, clock - self._age_s(capture_time, now))
        return Arrival(frame, now, clock, capture, self.newest_clock, problem)

    def _age_s(self, capture_time: datetime, now: datetime) -> float:
        """How old a frame is. Where the camera's clock is ahead of ours, its freshest frame so far counts as new."""
        age = (now - capture_time).total_seconds()
        self._ahead_s = max(self._ahead_s, -age)
        return age + self._ahead_s

    def _capture_time(self, frame: recognition_pb2.Frame, now: datetime) -> datetime:
        if not frame.HasField("capture_time"):
            return now
        capture_time = convert.time_of(frame.capture_time, "frame.capture_time")
        if capture_time > now + _CLOCK_TOLERANCE:
            ahead = (capture_time - now).total_seconds()
            message = f"this frame says it was taken {ahead:,.0f} s from now: set the camera's clock"
            raise InputError(message, field="frame.capture_time", reason="FRAME_FROM_THE_FUTURE")
        late = self._last_capture - capture_time if self._last_capture is not None else timedelta()
        if timedelta() < late < _LATE_FRAME:
            message = f"this frame is {late.total_seconds():.3f} s older than the one before: send frames in order"
            raise InputError(message, field="frame.capture_time", reason="FRAME_OUT_OF_ORDER")
        if late >= _LATE_FRAME:
            self._ahead_s = 0.0  # the camera's clock was set back
        self._last_capture = capture_time
        return capture_time
