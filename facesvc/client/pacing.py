"""How a camera keeps pace with its server: how many frames may go out, how large, and when to try again.

Pure: times are seconds of a monotonic clock and are passed in.

Pictures are made lighter where the way to the server is slow: that is the time from a frame's sending to its result,
less what the server needed for it. The lightest level that is tried comes last; whoever is at it sends a frame only
when the one before is answered, so that none waits in a buffer on the way and grows old there.

==========================================  ========================================================================
after                                       what happens
==========================================  ========================================================================
5 results, most of them slower than 0.25 s  one level lighter: first coarser, then smaller
30 results, all of them faster than 0.1 s   one level heavier; after one that proved too heavy it takes twice as many
                                            results each time (up to 960), and 30 again when one proved right
any change                                  results of frames that were sent before it are not counted
==========================================  ========================================================================

Smaller never means that a face that matters is lost: the server looks for faces from ``minimum_face_pixels`` of the
sent picture on, so a picture may shrink to that over the smallest face that matters, both in pixels. Who does not say
which face matters gets coarser pictures, and no smaller ones.
"""

import random
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """What a frame is sent as: JPEG ``quality`` of 100, ``share`` of its width and height."""

    quality: int
    share: float


LEVELS = (Level(90, 1.0), Level(80, 1.0), Level(70, 1.0), Level(70, 0.8), Level(65, 0.64), Level(60, 0.5))

_SLOW_S = 0.25
_FAST_S = 0.1
_SLOW_RESULTS = 5
_FAST_RESULTS = 30
_MOST_FAST_RESULTS = 960

# Of what a server grants no more is kept.
_MAX_CREDITS = 64
_LONGEST_PAUSE_S = 30.0


class Lightening:
    """Chooses the level of the next frame from how long the way of the last ones took."""

    def __init__(self, smallest_face: float) -> None:
        """``smallest_face`` that matters, in pixels of the camera; nought where that was not said."""
        self._smallest_face = smallest_face
        self._least_share = 1.0
        self._place = 0
        self._ways: deque[float] = deque(maxlen=_SLOW_RESULTS)
        self._fast = 0
        self._needed = _FAST_RESULTS
        self._tried = False

    @property
    def place(self) -> int:
        """The place of the level in ``LEVELS``; a frame remembers at which it was sent."""
        return self._place

    @property
    def level(self) -> Level:
        """What the next frame is sent as."""
        level = LEVELS[self._place]
        return Level(level.quality, max(level.share, self._least_share))

    @property
    def one_at_a_time(self) -> bool:
        """Whether nothing can be made lighter any more, and each frame waits for its answer."""
        return self._place == len(LEVELS) - 1

    def look_for(self, minimum_face_pixels: float) -> None:
        """What the server looks for, in pixels of the sent picture: a smaller picture would lose what matters."""
        if self._smallest_face > 0 and minimum_face_pixels > 0:
            self._least_share = min(1.0, minimum_face_pixels / self._smallest_face)

    def arrived(self, way_s: float, place: int) -> None:
        """The result of a frame that was sent at the level ``place`` was ``way_s`` on its way, both ways together."""
        if place != self._place:
            return
        self._ways.append(way_s)
        self._fast = self._fast + 1 if way_s < _FAST_S else 0
        if sum(way > _SLOW_S for way in self._ways) > _SLOW_RESULTS // 2 and len(self._ways) == _SLOW_RESULTS:
            self._slow_down()
        elif self._fast >= self._needed and self._place > 0:
            self._tried = True
            self._go(self._place - 1)
        elif self._tried and self._fast >= _FAST_RESULTS:
            self._tried, self._needed = False, _FAST_RESULTS

    def _slow_down(self) -> None:
        if self._tried:
            self._tried, self._needed = False, min(2 * self._needed, _MOST_FAST_RESULTS)
        if not self.one_at_a_time:
            self._go(self._place + 1)

    def _go(self, place: int) -> None:
        self._place = place
        self._ways.clear()
        self._fast = 0


class Allowance:
    """How many frames may go out on one stream."""

    def __init__(self, clock: float, starved_s: float) -> None:
        self._credits = self._under_way = 0
        self._starved_s = starved_s
        self._last = clock

    def grant(self, frames: int) -> None:
        """The server would take so many more."""
        self._credits = min(self._credits + max(0, frames), _MAX_CREDITS)

    def spend(self, clock: float) -> None:
        """A frame goes out."""
        self._credits = max(0, self._credits - 1)
        self._under_way += 1
        self._last = clock

    def answered(self, frames: int, clock: float) -> None:
        """So many frames are there, looked at or dropped."""
        self._under_way = max(0, self._under_way - max(0, frames))
        self._last = clock

    def wait_s(self, clock: float, *, one_at_a_time: bool) -> float:
        """How long the next frame has to wait: nought where it may go.

        A credit or an answer that got lost must not end everything: after ``starved_s`` without anything it may go.
        """
        if self._credits and not (one_at_a_time and self._under_way):
            return 0.0
        return max(0.0, self._last + self._starved_s - clock)


class Backoff:
    """Pauses between attempts: twice as long each time, up to a bound, and by chance up to a half shorter.

    Chance keeps all cameras of a house from coming back in the same moment.
    """

    def __init__(self, randomness: random.Random, first_s: float) -> None:
        self._randomness = randomness
        self._first_s = first_s
        self._attempts = 0

    def pause_s(self) -> float:
        """How long to wait before the next attempt."""
        pause = min(self._first_s * 2.0 ** min(self._attempts, 16), _LONGEST_PAUSE_S)
        self._attempts += 1
        return pause * self._randomness.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked."""
        self._attempts = 0
