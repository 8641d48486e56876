"""The challenges of a stream as messages: what is asked for, and how it stands."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf import duration_pb2
from ulid import ULID

from facesvc.api import convert
from facesvc.errors import FacesvcError, InputError, PreconditionError
from facesvc.gallery.records import check_id
from facesvc.stream.challenge import MAX_STEPS, Challenge, Progress, Prompt, State, View, draw_movements
from facesvc.stream.shown import Followed, Seen
from facesvc.v1 import recognition_pb2
from facesvc.vision.quality import evenness

_DEFAULT_STEPS = 3
_DEFAULT_TIME_LIMIT_S = 15.0
_MAX_TIME_LIMIT_S = 60.0
# Who was seen so long ago may be gone.
_STILL_THERE_S = 1.0

_STATES = {state: recognition_pb2.ChallengeState.Value(f"CHALLENGE_STATE_{state.value}") for state in State}
_PROMPTS = {prompt: recognition_pb2.ChallengePrompt.Value(f"CHALLENGE_PROMPT_{prompt.value}") for prompt in Prompt}


@dataclass(frozen=True, slots=True)
class ChallengeOrder:
    """What was asked for; without a ``track_id`` the largest face is meant."""

    track_id: str
    steps: int
    time_limit_s: float


def parse(request: recognition_pb2.ChallengeRequest) -> ChallengeOrder:
    """What a request asks for. Raises ``InputError`` naming the field."""
    if request.track_id:
        check_id(request.track_id, "challenge.track_id")
    if not 0 <= request.steps <= MAX_STEPS:
        raise InputError(
            f"must be 1 to {MAX_STEPS}, or 0 for {_DEFAULT_STEPS}, not {request.steps}", field="challenge.steps"
        )
    time_limit_s = _DEFAULT_TIME_LIMIT_S
    if request.HasField("time_limit"):
        time_limit_s = _seconds(request.time_limit)
        if not 0 < time_limit_s <= _MAX_TIME_LIMIT_S:
            message = f"must be more than 0 and at most {_MAX_TIME_LIMIT_S:g} seconds, not {time_limit_s:g}"
            raise InputError(message, field="challenge.time_limit")
    return ChallengeOrder(request.track_id, request.steps or _DEFAULT_STEPS, time_limit_s)


def begin(
    order: ChallengeOrder,
    present: Mapping[str, float],
    *,
    clock: float,
    randomness: random.Random,
    new_id: Callable[[], str],
) -> Challenge:
    """The challenge of one of the faces that are ``present``: the size in pixels of each, by the id of its track.

    Raises ``PreconditionError`` where there is no such face.
    """
    if order.track_id:
        track_id = order.track_id if order.track_id in present else None
    else:
        track_id = max(present, key=lambda one: present[one], default=None)
    if track_id is None:
        message = f"no face of track {order.track_id} is before the camera" if order.track_id else "nobody is there"
        raise PreconditionError(f"{message}: ask again when somebody is", reason="CHALLENGE_NO_FACE")
    return Challenge(new_id(), track_id, draw_movements(order.steps, randomness), order.time_limit_s, clock)


class Challenges:
    """The challenge of a stream, one at a time; how it stands is told by ``tell``."""

    def __init__(self, tell: Callable[[recognition_pb2.ChallengeProgress], None]) -> None:
        self._tell = tell
        self._challenge: Challenge | None = None

    @property
    def watched(self) -> str:
        """The track whose person every look has to verify; empty while no challenge is running."""
        return self._challenge.track_id if self._challenge is not None and self._challenge.running else ""

    def ask(self, request: recognition_pb2.ChallengeRequest, seen: Seen, seen_clock: float, clock: float) -> None:
        """Begin a challenge at ``clock`` for a face that was ``seen`` at ``seen_clock``, or tell why not."""
        self.wait(clock)
        try:
            check_none_runs(self._challenge)
            order = parse(request)
            present = seen.faces if clock - seen_clock <= _STILL_THERE_S else ()
            sizes = {one.track.track_id: one.face.quality.face_pixels for one in present}
            randomness = random.SystemRandom()
            self._challenge = begin(order, sizes, clock=clock, randomness=randomness, new_id=lambda: str(ULID()))
            self._tell(message(self._challenge.progress(clock)))
        except FacesvcError as error:
            self._tell(refusal(request, error))

    def wait(self, clock: float) -> None:
        """Time has passed without a look."""
        if self._challenge is not None and (progress := self._challenge.wait(clock)):
            self._tell(message(progress))

    def judge(self, seen: Seen, clock: float) -> None:
        """Show a running challenge what a look has seen."""
        challenge = self._challenge
        if challenge is None or not challenge.running:
            return
        views = [view_of(one, clock) for one in seen.faces if not one.predicted]
        own = next((view for view in views if view.track_id == challenge.track_id), None)
        if progress := challenge.look(own) if own else challenge.wait(clock):
            self._tell(message(progress))


def view_of(followed: Followed, clock: float) -> View:
    """What a look taken at ``clock`` says of a face."""
    face = followed.face
    return View(
        followed.track.track_id,
        face.quality.yaw,
        face.quality.pitch,
        evenness(face.detection.landmarks),
        face.quality.face_pixels,
        clock,
        same_person=not followed.doubted,
    )


def check_none_runs(challenge: Challenge | None) -> None:
    """Raise ``PreconditionError`` while a challenge is running."""
    if challenge is not None and challenge.running:
        raise PreconditionError("another challenge is running: wait for its end", reason="CHALLENGE_RUNNING")


def message(progress: Progress) -> recognition_pb2.ChallengeProgress:
    """How a challenge stands, as a message."""
    return recognition_pb2.ChallengeProgress(
        challenge_id=progress.challenge_id,
        track_id=progress.track_id,
        state=_STATES[progress.state],
        prompt=_PROMPTS[progress.prompt],
        steps_done=progress.steps_done,
        steps_total=progress.steps_total,
        time_left=convert.duration(progress.time_left),
        reason=progress.reason,
        message=progress.message,
    )


def refusal(request: recognition_pb2.ChallengeRequest, error: FacesvcError) -> recognition_pb2.ChallengeProgress:
    """That a challenge does not begin, and why; the stream goes on."""
    return recognition_pb2.ChallengeProgress(
        track_id=request.track_id[:128],
        state=recognition_pb2.CHALLENGE_STATE_FAILED,
        reason=error.reason,
        message=convert.shortened(error.message),
    )


def _seconds(message: duration_pb2.Duration) -> float:
    """Whatever was sent, also where it is out of range."""
    return message.seconds + message.nanos / 1e9
