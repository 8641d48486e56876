"""The active challenge: is there a head that does what it is told? Needs no model; values in, values out.

The movements are drawn at random, so that a recording has to guess them; before, between and after them the face looks
straight, so that nothing that is turned only once passes, and the person is seen from the front once more at the end.

==============  ======================================================  ===============================================
prompt          followed when, in ``_LOOKS`` looks in a row             fails when, in as many looks
==============  ======================================================  ===============================================
LOOK_STRAIGHT   within 10 degrees of straight ahead                     -
TURN_LEFT       turned 30 degrees from there to the person's own left   turned as far to the right
TURN_RIGHT      turned 30 degrees from there to the person's own right  turned as far to the left
COME_CLOSER     1.25 times as large as there, and not turned            turned to either side
any             -                                                       the time is up; not seen for a second; another
                                                                        track, or not the same person (a single look)
==============  ======================================================  ===============================================

Three looks: landmarks jump for one look where an eye is hidden or the face is blurred, hardly for three; at ten looks
a second that is as short as anybody's turn. A look that falls short by a little (the second figure of each pair below)
is not counted and takes nothing away; one that falls short by more begins the count anew.

What a flat picture can do. Turned about its vertical axis its nose stays between the eyes; only perspective and a
tilt about a slanted axis make it look as if it turned. Over pictures of heads turned up to 30 and nodding up to 30
degrees, held at 2.5 or more distances of the eyes (16 cm, life-size), tilted by up to 70 degrees about any axis,
``head_pose`` moves by up to 39 degrees between two looks. But a plane shrinks along one direction only: where the
landmarks are required to be scaled evenly (``evenness`` 0.7, what a plane keeps up to 45 degrees) it moves by 26, and
by 20 from 4 distances (25 cm) on. Of real heads turned 25 to 35 degrees (LFW), 99 in 100 are scaled more evenly than
that. Hence 30 degrees. A picture that is bent or folded has depth and passes, so may a mask or a video that is made
on the spot: for these there is the liveness model, and no certification is claimed.
"""

import enum
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

MAX_STEPS = 5

_LOOKS = 3
# Each pair: from where on a look counts, and from where on it begins the count anew.
_STRAIGHT_YAW_DEGREES = (10.0, 15.0)
_TURNED_YAW_DEGREES = (30.0, 24.0)
_GROWTH = (1.25, 1.15)
# A nod more than that leaves the pose too uncertain; a camera under the ceiling sees everybody nod by 20.
_PITCH_DEGREES = (25.0, 30.0)
_EVENNESS = 0.7
_LOST_SECONDS = 1.0


class Prompt(enum.Enum):
    """What to do next; left and right are the person's own."""

    NOTHING = "UNSPECIFIED"
    TURN_LEFT = "TURN_LEFT"
    TURN_RIGHT = "TURN_RIGHT"
    COME_CLOSER = "COME_CLOSER"
    LOOK_STRAIGHT = "LOOK_STRAIGHT"


class State(enum.Enum):
    """How a challenge stands."""

    RUNNING = "RUNNING"
    PASSED = "PASSED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class View:
    """A face as a look found it (never as predicted). Angles as in ``Quality``; ``clock`` in monotonic seconds.

    ``same_person`` is False where an embedding of this view says that it is somebody else than at the beginning. The
    picture must not be mirrored: ``yaw`` is towards the viewer's right, which is the person's own left.
    """

    track_id: str
    yaw: float
    pitch: float
    evenness: float
    face_pixels: float
    clock: float
    same_person: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How a challenge stands; ``time_left`` in seconds, ``reason`` and ``message`` for FAILED."""

    challenge_id: str
    track_id: str
    state: State
    prompt: Prompt
    steps_done: int
    steps_total: int
    time_left: float
    reason: str = ""
    message: str = ""


def draw_movements(steps: int, randomness: random.Random) -> tuple[Prompt, ...]:
    """So many movements, each order as likely as any other: 2, 8, 20, 48 or 112 of them for 1 to 5 steps.

    A picture can come closer: that is asked once at most, and never alone. Twice would lead into the camera.
    """
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"a challenge has 1 to {MAX_STEPS} steps, not {steps}")
    kinds = (Prompt.TURN_LEFT, Prompt.TURN_RIGHT, Prompt.COME_CLOSER)
    orders = itertools.product(kinds, repeat=steps)
    most = 0 if steps == 1 else 1
    return randomness.choice([order for order in orders if order.count(Prompt.COME_CLOSER) <= most])


class _Hold:
    """Counts the looks in a row that are as they should be."""

    def __init__(self) -> None:
        self._looks = 0

    def add(self, *, reached: bool, nearly: bool) -> bool:
        """Count a look; whether there were enough of them."""
        if reached:
            self._looks += 1
        elif not nearly:
            self._looks = 0
        return self._looks >= _LOOKS


class Challenge:
    """The challenge of one track. Call ``look`` with its views and ``wait`` while it has none; for one thread."""

    def __init__(
        self, challenge_id: str, track_id: str, movements: Sequence[Prompt], time_limit: float, clock: float
    ) -> None:
        """``time_limit`` in seconds from ``clock``, for all ``movements`` together."""
        self._id = challenge_id
        self._track_id = track_id
        self._movements = tuple(movements)
        self._time_limit = time_limit
        self._deadline = clock + time_limit
        self._seen = clock
        self._state = State.RUNNING
        self._done = 0
        self._reason = self._message = ""
        self._ask(Prompt.LOOK_STRAIGHT, clock)
        # How the last straight looks found it, on average.
        self._straight_yaw = self._straight_pixels = 0.0

    @property
    def track_id(self) -> str:
        """Who is asked."""
        return self._track_id

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._state is State.RUNNING

    def progress(self, clock: float) -> Progress:
        """How it stands: to be told at the beginning, and whatever ``look`` and ``wait`` return."""
        return Progress(
            self._id,
            self._track_id,
            self._state,
            self._prompt if self.running else Prompt.NOTHING,
            self._done,
            len(self._movements),
            max(0.0, self._deadline - clock),
            self._reason,
            self._message,
        )

    def wait(self, clock: float) -> Progress | None:
        """Time goes by, and no look has found the face: how the challenge stands where that changed it."""
        if not self.running:
            return None
        if clock >= self._deadline:
            message = f"the movements were not made within {self._time_limit:g} seconds"
            return self._fail("CHALLENGE_TIMED_OUT", message, clock)
        if clock - self._seen > _LOST_SECONDS:
            message = f"the face was out of view for more than {_LOST_SECONDS:g} s"
            return self._fail("CHALLENGE_FACE_LOST", message, clock)
        return None

    def look(self, view: View) -> Progress | None:
        """A look has found a face: how the challenge stands where that changed it."""
        if not self.running or view.clock < self._seen:
            return None
        if failed := self.wait(view.clock):
            return failed
        self._seen = view.clock
        if view.track_id != self._track_id or not view.same_person:
            message = "another face has taken the place of the one that was asked"
            return self._fail("CHALLENGE_FACE_LOST", message, view.clock)
        if self._prompt is Prompt.LOOK_STRAIGHT:
            return self._look_straight(view)
        return self._look_at_movement(view)

    def _look_straight(self, view: View) -> Progress | None:
        if _within(view.yaw, view.pitch, 0) and view.evenness >= _EVENNESS:
            self._straight.append(view)
        elif not _within(view.yaw, view.pitch, 1):
            self._straight.clear()
        if len(self._straight) < _LOOKS:
            return None
        self._straight_yaw = fmean(look.yaw for look in self._straight)
        self._straight_pixels = fmean(look.face_pixels for look in self._straight)
        if self._done < len(self._movements):
            return self._ask(self._movements[self._done], view.clock)
        self._state = State.PASSED
        return self.progress(view.clock)

    def _look_at_movement(self, view: View) -> Progress | None:
        turn = view.yaw - self._straight_yaw
        far, less = _TURNED_YAW_DEGREES
        if self._prompt is Prompt.COME_CLOSER:
            growth, wrong = view.face_pixels / max(self._straight_pixels, 1.0), abs(turn)
            ahead = abs(turn) < less
            reached, nearly = ahead and growth >= _GROWTH[0], ahead and growth >= _GROWTH[1]
        else:
            towards = turn if self._prompt is Prompt.TURN_LEFT else -turn
            even, wrong = view.evenness >= _EVENNESS, -towards
            reached, nearly = towards >= far and even, towards >= less
        if self._wrong.add(reached=wrong >= far, nearly=wrong >= less):
            return self._fail("CHALLENGE_WRONG_MOVEMENT", _WRONG_IN_WORDS[self._prompt], view.clock)
        if self._followed.add(reached=reached, nearly=nearly):
            self._done += 1
            return self._ask(Prompt.LOOK_STRAIGHT, view.clock)
        return None

    def _ask(self, prompt: Prompt, clock: float) -> Progress:
        self._prompt = prompt
        self._followed, self._wrong = _Hold(), _Hold()
        self._straight: list[View] = []
        return self.progress(clock)

    def _fail(self, reason: str, message: str, clock: float) -> Progress:
        self._state, self._reason, self._message = State.FAILED, reason, message
        return self.progress(clock)


_WRONG_IN_WORDS = {
    Prompt.TURN_LEFT: "asked to turn left, the head was turned right",
    Prompt.TURN_RIGHT: "asked to turn right, the head was turned left",
    Prompt.COME_CLOSER: "asked to come closer, the head was turned aside",
}


def _within(yaw: float, pitch: float, bound: int) -> bool:
    return abs(yaw) <= _STRAIGHT_YAW_DEGREES[bound] and abs(pitch) <= _PITCH_DEGREES[bound]
