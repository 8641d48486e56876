"""Who may be found by a search, as masks over the owners of an index: the filter is part of the search.

Owners are small numbers that the roster gives out. A mask is an array of bool with a place for each.
"""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from facesvc.database import to_microseconds
from facesvc.gallery.records import Audience, Subject, SubjectFilter, values_of

Mask = NDArray[np.bool_]

_NEVER = np.iinfo(np.int64).max
_FIRST_SIZE = 64


class Admission:
    """What of each owner decides whether they may be found. Not thread-safe."""

    def __init__(self) -> None:
        self._enabled = np.zeros(_FIRST_SIZE, np.bool_)
        self._expires = np.full(_FIRST_SIZE, _NEVER)
        self._disabled = 0
        self._earliest = _NEVER
        self._holders: dict[tuple[str, str], set[int]] = {}
        self._subjects: dict[int, Subject] = {}

    def put(self, owner: int, subject: Subject) -> None:
        """Takes in somebody, or what is new of them."""
        self.drop(owner)
        if owner >= len(self._enabled):
            self._grow(owner)
        consent = subject.consent
        expires = to_microseconds(consent.expire_time) if consent and consent.expire_time else _NEVER
        self._subjects[owner] = subject
        self._enabled[owner] = subject.enabled
        self._expires[owner] = expires
        self._disabled += not subject.enabled
        self._earliest = min(self._earliest, expires)
        for entry in _entries(subject):
            self._holders.setdefault(entry, set()).add(owner)

    def drop(self, owner: int) -> None:
        """Forgets somebody; one who is not here is passed over."""
        subject = self._subjects.pop(owner, None)
        if subject is None:
            return
        self._disabled -= not subject.enabled
        self._enabled[owner] = False
        self._expires[owner] = _NEVER
        for entry in _entries(subject):
            self._holders[entry].discard(owner)
            if not self._holders[entry]:
                del self._holders[entry]

    def mask(self, audience: Audience, but: int | None) -> Mask | None:
        """Whose places are True may be found; None: everybody. ``but`` is the owner whom the audience excludes."""
        masks = [self._holding(one) for one in audience.filters]
        if audience.now is not None and not self._all_open(audience.now):
            masks.append(self._enabled & (self._expires > to_microseconds(audience.now)))
        if but is not None:
            others = np.ones(len(self._enabled), np.bool_)
            others[but] = False
            masks.append(others)
        return np.logical_and.reduce(masks) if masks else None

    def _all_open(self, now: datetime) -> bool:
        if self._disabled:
            return False
        if self._earliest <= to_microseconds(now):
            self._earliest = int(self._expires.min())  # who was first may have been renewed, or forgotten
        return self._earliest > to_microseconds(now)

    def _holding(self, wanted: SubjectFilter) -> Mask:
        """Who has one of the values."""
        mask = np.zeros(len(self._enabled), np.bool_)
        for value in wanted.values:
            holders = self._holders.get((wanted.key, value), ())
            mask[np.fromiter(holders, np.int64, len(holders))] = True
        return mask

    def _grow(self, owner: int) -> None:
        size = max(2 * len(self._enabled), owner + 1)
        missing = size - len(self._enabled)
        self._enabled = np.concatenate([self._enabled, np.zeros(missing, np.bool_)])
        self._expires = np.concatenate([self._expires, np.full(missing, _NEVER)])


def _entries(subject: Subject) -> set[tuple[str, str]]:
    """What filters can find somebody by."""
    return {(key, value) for key, held in subject.metadata.items() for value in (held, *values_of(held))}
