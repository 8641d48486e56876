"""One camera's stream: its faces are followed from frame to frame, and embedded only when that tells something new.

``look`` is the expensive part and runs in a worker thread, one look of a stream at a time. What it leaves behind is a
frozen state, from which ``predict`` answers any frame in between at once, on whatever thread.
"""

from dataclasses import replace

from facesvc.stream.look import SHOWN_UNSEEN_S, Look, Pace, State
from facesvc.stream.policy import Capture, Policy
from facesvc.stream.recognizer import Question, Recognizer
from facesvc.stream.shown import Seen, inside
from facesvc.vision.pipeline import StageTimes

# Every face before the camera is settled and walks slower than this, in widths of it a second: half the looks do.
_CALM_SPEED = 0.5


class Session:
    """The faces before one camera."""

    def __init__(self, question: Question, lost_s: float) -> None:
        """``lost_s`` is how long a face may be out of sight and still be the same when it comes back."""
        self._question = question
        self._lost_s = lost_s
        self._state = State()

    @property
    def tracks(self) -> int:
        """How many faces are followed, those out of sight included."""
        return len(self._state.followees)

    @property
    def clock(self) -> float:
        """When the last frame was taken that was looked at."""
        return self._state.clock

    @property
    def seen(self) -> Seen:
        """What the last look saw."""
        return self._state.seen

    @property
    def is_calm(self) -> bool:
        """Whether everybody's case is settled, and nobody moves much."""
        return all(
            followed.decision is not None and followed.decision.settled and followed.speed < _CALM_SPEED
            for followed in self._state.seen.faces
        )

    def look(
        self, recognizer: Recognizer, data: bytes, policy: Policy, capture: Capture, clock: float, pace: Pace
    ) -> Seen:
        """What an encoded frame shows. Raises ``ImageError``; then nothing has changed.

        :param clock: when it was taken, by a clock that only goes forward within this stream.
        """
        question = replace(self._question, policy=policy)
        self._state = Look(self._state, recognizer, question, self._lost_s, capture, clock, pace).run(data)
        return self._state.seen

    def predict(self, clock: float) -> Seen:
        """What a frame taken at ``clock`` shows as far as the last look tells."""
        state = self._state  # once: a look may end at any moment
        seen, longest = state.seen, min(self._lost_s, max(SHOWN_UNSEEN_S, clock - state.clock))
        faces = [one.at(clock) for one in seen.faces if clock - one.track.seen_clock <= longest]
        shown = tuple(inside(faces, seen.width, seen.height))
        return replace(seen, faces=shown, embedded=0, omitted=0, predicted=True, times=StageTimes())
