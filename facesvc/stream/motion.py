"""How a face moves between two looks: at constant velocity, corrected by what is seen.

A g-h filter (Brookner, Tracking and Kalman Filtering Made Easy, 1998, chapter 1): the share ``g`` of the surprise
corrects the place, the share ``h`` of it, per second, the velocity. Sizes change slowly and are only smoothed.
"""

import math
from dataclasses import dataclass, replace

from facesvc.vision.geometry import Box

# Detectors place boxes well, so places are nearly believed; a velocity needs several looks.
_G_PLACE = 0.85
_G_SIZE = 0.5
_H = 0.9
# A face out of sight soon does something else than it did: its velocity falls to 1/e in that time.
_MEMORY_S = 1.0
# Two looks at nearly the same time say nothing about velocity.
_SHORTEST_S = 0.005


@dataclass(frozen=True, slots=True)
class Motion:
    """A box and how fast its centre moves, in pixels a second to the right and down, at ``clock`` (seconds)."""

    box: Box
    right: float
    down: float
    clock: float
    steady: bool = False
    """Whether the velocity was ever measured."""

    def scaled(self, factor: float) -> "Motion":
        """The same in a picture that is ``factor`` times as large."""
        return replace(self, box=self.box.scaled(factor), right=self.right * factor, down=self.down * factor)

    def at(self, clock: float) -> "Motion":
        """Where the face should be at ``clock``; as it is at an earlier one."""
        seconds = max(0.0, clock - self.clock)
        fading = math.exp(-seconds / _MEMORY_S)
        reach = _MEMORY_S * (1 - fading)
        box = self.box
        moved = Box(box.left + self.right * reach, box.top + self.down * reach, box.width, box.height)
        return replace(
            self, box=moved, right=self.right * fading, down=self.down * fading, clock=max(clock, self.clock)
        )

    def seen(self, box: Box, clock: float) -> "Motion":
        """After the face was seen at ``box``."""
        seconds = clock - self.clock
        expected = self.at(clock).box
        off_right, off_down = _centre(box)[0] - _centre(expected)[0], _centre(box)[1] - _centre(expected)[1]
        if seconds < _SHORTEST_S:
            return replace(self, box=box)
        gain = _H if self.steady else 1.0
        width = expected.width + _G_SIZE * (box.width - expected.width)
        height = expected.height + _G_SIZE * (box.height - expected.height)
        x = _centre(expected)[0] + _G_PLACE * off_right
        y = _centre(expected)[1] + _G_PLACE * off_down
        return Motion(
            Box(x - width / 2, y - height / 2, width, height),
            self.right + gain * off_right / seconds,
            self.down + gain * off_down / seconds,
            clock,
            steady=True,
        )


def _centre(box: Box) -> tuple[float, float]:
    return box.left + box.width / 2, box.top + box.height / 2
