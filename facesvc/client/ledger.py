"""What is known of one stream's frames: what the server granted, what is under way, how long it took."""

from dataclasses import dataclass
from datetime import datetime

from facesvc.client.pacing import Allowance, Level, Lightening
from facesvc.v1 import recognition_pb2

_MAX_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the pictures so far; ``age_s`` is that of the last result, from the camera to here."""

    sent: int
    skipped: int
    dropped: int
    results: int
    age_s: float
    level: Level


class Tally:
    """Counts over all streams."""

    def __init__(self) -> None:
        self.sent = self.skipped = self.dropped = self.results = 0
        self.age_s = 0.0

    def figures(self, level: Level) -> Figures:
        """As they stand."""
        return Figures(self.sent, self.skipped, self.dropped, self.results, self.age_s, level)


@dataclass(frozen=True, slots=True)
class _Sent:
    grabbed: float
    sent: float
    place: int


class Ledger:
    """The frames of one stream. Not for several threads at once; times are of a monotonic clock."""

    def __init__(self, tally: Tally, lightening: Lightening, clock: float, starved_s: float) -> None:
        self._tally = tally
        self._lightening = lightening
        self._allowance = Allowance(clock, starved_s)
        # An older server says nothing of credits: the next frame goes when the one before is answered.
        self._lockstep = False
        self._sent: dict[int, _Sent] = {}
        self._last_capture: datetime | None = None

    def wait_s(self, clock: float) -> float:
        """How long the next frame has to wait; nought where it may go."""
        return self._allowance.wait_s(clock, one_at_a_time=self._lightening.one_at_a_time)

    def spend(self, clock: float) -> None:
        """A frame is going to be sent."""
        self._allowance.spend(clock)

    def is_older(self, capture_time: datetime) -> bool:
        """Whether a picture seems to be older than the one before, which the server would refuse."""
        return self._last_capture is not None and capture_time < self._last_capture

    def send(
        self, frame: recognition_pb2.Frame, capture_time: datetime, grabbed: float, place: int, now: float
    ) -> None:
        """A frame goes out, at the level ``place``.

        What was passed over before a stream's first frame could not have been sent, and does not count as skipped.
        """
        if self._last_capture is None:
            frame.frames_skipped = 0
        self._last_capture = capture_time
        self._sent[frame.frame_id] = _Sent(grabbed, now, place)
        if len(self._sent) > _MAX_REMEMBERED:
            del self._sent[min(self._sent)]
        self._tally.sent += 1
        self._tally.skipped += frame.frames_skipped

    def note(self, answer: recognition_pb2.RecognizeResponse, now: float) -> None:
        """What an answer says of the pace."""
        if answer.HasField("opened"):
            self._lockstep = not answer.opened.HasField("credits")
            self._allowance.grant(1 if self._lockstep else answer.opened.credits.frames)
        elif answer.HasField("credits"):
            self._allowance.grant(answer.credits.frames)
        elif answer.HasField("result"):
            self._note_result(answer.result, now)

    def _note_result(self, result: recognition_pb2.FrameResult, now: float) -> None:
        self._tally.results += 1
        self._tally.dropped += result.frames_dropped
        self._allowance.answered(1 + result.frames_dropped + result.results_dropped, now)
        self._allowance.grant(1 if self._lockstep else result.credits.frames)
        self._lightening.look_for(result.minimum_face_pixels)
        sent = self._sent.pop(result.frame_id, None)
        if sent is None:
            return
        self._tally.age_s = now - sent.grabbed
        if result.timings.HasField("total"):
            worked_s = result.timings.total.ToTimedelta().total_seconds()
            self._lightening.arrived(now - sent.sent - worked_s, sent.place)
