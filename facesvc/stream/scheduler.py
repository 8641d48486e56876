"""Whose job is next: start-time fair queueing of workers over parties.

A party is a stream, or all single calls together. It has a start tag, in virtual seconds, that grows by the time of a
worker that it used, divided by its weight; a free worker goes to the waiting party with the smallest tag. Virtual time
is the largest tag that was served. Who joins, or comes back after having had nothing to do, starts at the present
virtual time: idling earns no credit and costs nothing. Where weights and jobs are alike this is round robin; who has
dearer jobs gets fewer of them; and nobody starves, because a tag that waits stands still while all others grow.

P. Goyal, H. M. Vin, H. Cheng: Start-time Fair Queuing, SIGCOMM 1996; for processors, where a job's length is known only
at its end, P. Goyal, X. Guo, H. M. Vin: A Hierarchical CPU Scheduler for Multimedia Operating Systems, OSDI 1996. Two
things are added for several workers. A job is charged at its start with what the party's last one took, and corrected
at its end, so that a party with many jobs does not get all workers at once. And a party that asks again at once keeps a
tag that is behind, as it has not idled, but by ``_MAX_LAG_S`` at most.
"""

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")

# Who asks again within this time had a job in mind all along.
_GRACE_S = 0.01
# Virtual seconds: some jobs of a stream.
_MAX_LAG_S = 0.25


@dataclass(slots=True, eq=False)
class Party:
    """One that jobs are done for. It holds all that is known of it, so that who is forgotten has left."""

    weight: float = 1.0
    """Above 0: one of weight 2 gets twice the time of one of weight 1."""
    patient: bool = False
    """Takes whatever it can get, as a file does: that it waits is no sign of too much work."""
    tag: float = 0.0
    expected_s: float = 0.0
    """What its last job took."""
    running: int = 0
    left_at: float = -inf
    """When its last job was done, by the clock."""

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f"a weight is above 0, not {self.weight}")


@dataclass(frozen=True, slots=True)
class Turn(Generic[T]):
    """A job that may begin: ``finish`` it."""

    party: Party
    job: T
    charged_s: float


class FairQueue(Generic[T]):
    """Jobs that wait, by party; those of one party in the order they came. ``clock`` is seconds that never go back."""

    def __init__(self) -> None:
        # In the order in which the parties began to wait, which decides between equal tags.
        self._waiting: dict[Party, deque[T]] = {}
        self._running = 0
        self._virtual = 0.0
        self._furthest = 0.0

    def waiting(self, party: Party) -> int:
        """How many jobs of a party wait."""
        return len(self._waiting.get(party, ()))

    def put(self, party: Party, job: T, clock: float) -> None:
        """Let a job wait for its turn."""
        if party not in self._waiting:
            idle = not party.running and clock - party.left_at > _GRACE_S
            party.tag = max(party.tag, self._virtual - (0.0 if idle else _MAX_LAG_S))
            self._waiting[party] = deque()
        self._waiting[party].append(job)

    def discard(self, party: Party, job: T) -> None:
        """Take back a job that nobody wants any more; one that does not wait is no error."""
        jobs = self._waiting.get(party, deque())
        if job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._waiting[party]

    def take(self) -> Turn[T] | None:
        """The job that is next, which now runs; None where none waits."""
        if not self._waiting:
            return None
        party = min(self._waiting, key=lambda party: party.tag)
        jobs = self._waiting.pop(party)
        turn = Turn(party, jobs.popleft(), party.expected_s)
        if jobs:
            self._waiting[party] = jobs
        self._virtual = max(self._virtual, party.tag)
        party.tag += turn.charged_s / party.weight
        party.running += 1
        self._running += 1
        return turn

    def finish(self, turn: Turn[T], seconds: float, clock: float) -> None:
        """A job is done and has used ``seconds`` of a worker; 0 means that it was not begun."""
        party = turn.party
        party.tag += (seconds - turn.charged_s) / party.weight
        party.expected_s = seconds or party.expected_s
        party.running -= 1
        party.left_at = clock
        self._running -= 1
        self._furthest = max(self._furthest, party.tag)
        if not self._running and not self._waiting:
            # Nobody is behind who wants anything: all begin anew at one point.
            self._virtual = max(self._virtual, self._furthest)
