"""Corrections: what somebody says was so, when and why. A booking stays as it is; a correction is put beside it.

========  ===========================================  ==================
kind      what it says                                 needs
========  ===========================================  ==================
first-in  the person came at this time                 ``start``
last-out  the person left at this time                 ``end``
add       the person was there                         ``start``, ``end``
strike    the person was not there, for all of a stay  ``target``
undo      an earlier correction was wrong              ``target``
========  ===========================================  ==================

Of two that set the first in or the last out of a day the later one holds. Nothing removes a correction; one that undoes
another may be undone in its turn.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum

from pydantic import JsonValue

from facesvc.events.plugin import About, Note, Notes
from facesvc_attendance.keeping import between, damaged, fields, integer, moment

PREFIX = "correction/"
MAX_CORRECTIONS = 50
"""Of one person's day."""


class Kind(Enum):
    """What a correction says; see above."""

    FIRST_IN = "first-in"
    LAST_OUT = "last-out"
    ADD = "add"
    STRIKE = "strike"
    UNDO = "undo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One of a person's day; ``number`` counts from 1 within it. ``target``: a stay's id, or a correction's."""

    number: int
    about: About
    day: date
    kind: Kind
    start: datetime | None = None
    end: datetime | None = None
    target: str = ""
    by: str
    reason: str
    time: datetime

    @property
    def correction_id(self) -> str:
        """Such as ``2026-03-02.1``: of this person no other has it. A stay that was added bears it too."""
        return f"{self.day}.{self.number}"

    def key(self, token: str) -> str:
        """Of the note; ``token`` is like no other."""
        return f"{PREFIX}{self.day}/{token}"

    def value(self) -> dict[str, JsonValue]:
        """Of the note."""
        return {
            "number": self.number,
            "day": str(self.day),
            "kind": self.kind.value,
            "start": None if self.start is None else self.start.isoformat(),
            "end": None if self.end is None else self.end.isoformat(),
            "target": self.target,
            "by": self.by,
            "reason": self.reason,
            "time": self.time.isoformat(),
        }


def in_force(corrections: Iterable[Correction]) -> list[Correction]:
    """Those of one person that are not undone, also what undoes others, in their order."""
    undone: set[str] = set()
    kept: list[Correction] = []
    for one in sorted(corrections, key=lambda one: (one.day, one.number), reverse=True):
        if one.correction_id in undone:
            continue
        if one.kind is Kind.UNDO:
            undone.add(one.target)
        kept.append(one)
    return kept[::-1]


async def read(notes: Notes, first: date, last: date, about: About | None = None) -> AsyncIterator[Correction]:
    """Corrections of these days and those between, of everybody where ``about`` is None."""
    async for note in between(notes, PREFIX, str(first), str(last + timedelta(days=1)), about):
        yield _correction(note)


def _correction(note: Note) -> Correction:
    value = fields(note)
    try:
        start, end = value["start"], value["end"]
        return Correction(
            number=integer(value["number"]),
            about=note.about,
            day=date.fromisoformat(str(value["day"])),
            kind=Kind(value["kind"]),
            start=None if start is None else moment(start),
            end=None if end is None else moment(end),
            target=str(value["target"]),
            by=str(value["by"]),
            reason=str(value["reason"]),
            time=moment(value["time"]),
        )
    except (KeyError, ValueError) as error:
        raise damaged(note) from error
