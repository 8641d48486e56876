"""What is saved of an index besides its rows: which tier it was in, and the figures that its sketches stand on."""

import struct
from dataclasses import dataclass
from typing import Self

from facesvc.errors import InputError
from facesvc.gallery.index.coarse import DEFAULT_DEPTH
from facesvc.gallery.index.measure import DEPTHS
from facesvc.gallery.index.sketches import Calibration

_MAGIC = b"fsindex1"
_HEADER = struct.Struct("<8sIIQ")  # magic, dimension, depth (0: flat), rows when last measured


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The figures; without a ``calibration`` the tier is flat."""

    dimension: int
    measured_rows: int
    depth: int = DEFAULT_DEPTH
    calibration: Calibration | None = None

    def to_bytes(self) -> bytes:
        """A header, and the calibration."""
        header = _HEADER.pack(_MAGIC, self.dimension, self.depth if self.calibration else 0, self.measured_rows)
        return header + (self.calibration.to_bytes() if self.calibration else b"")

    @classmethod
    def from_bytes(cls, data: bytes, dimension: int) -> Self:
        """What ``to_bytes`` gave, checked; an ``InputError`` says what is wrong."""
        if len(data) < _HEADER.size or not data.startswith(_MAGIC):
            raise InputError("the saved index is of no version that can be read; build it from the store")
        _, saved, depth, measured_rows = _HEADER.unpack_from(data)
        rest = data[_HEADER.size :]
        if saved != dimension:
            raise InputError(f"the saved index is of {saved} values a vector, not {dimension}; build it from the store")
        if depth > max(DEPTHS) or (rest and not depth):
            raise InputError("the header of the saved index is damaged; build it from the store")
        if not depth:
            return cls(dimension, measured_rows)
        return cls(dimension, measured_rows, depth, Calibration.from_bytes(rest, dimension))
