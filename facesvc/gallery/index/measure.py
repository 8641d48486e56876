"""How deep a coarse search has to look, measured on the rows that it holds.

Some rows are taken out one after the other, each is looked for as the new sample of a person that it then is, and put
back. What counts is at which place the sketches have its owner, in those cases in which an exact search over all other
rows has the owner first.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from facesvc.gallery.index.coarse import DEFAULT_DEPTH, Coarse
from facesvc.gallery.index.places import Ids
from facesvc.gallery.index.scans import inner_products
from facesvc.gallery.records import Floats

DEPTHS = (256, 512, 1024)
BAR = 0.999
_MARGIN = 4  # places looked into for each that was needed
_SAMPLE = 3000  # rows, of which some have owners with no other row
_PROBES = 1000
_ENOUGH = 100
_BLOCK = 4096  # rows compared at a time
_SEED = 7


@dataclass(frozen=True, slots=True)
class Measured:
    """The ``depth`` that finds the owner in ``BAR`` of the cases with a margin, None if none does.

    ``probes`` rows were looked for; ``recall`` is the share found at a quarter of the depth. Where there were too few
    to tell, the depth is ``DEFAULT_DEPTH`` and ``recall`` None.
    """

    probes: int
    depth: int | None
    recall: float | None


def measure(tier: Coarse, lock: AbstractContextManager[object]) -> Measured:
    """Measures; ``lock`` is held for a few milliseconds at a time, and nobody sees a row missing who holds it too."""
    generator = np.random.default_rng(_SEED)
    with lock:
        ids = tier.sample(_SAMPLE, 2, generator)[:_PROBES]
    found = [probe for probe in (_probe(tier, row_id, lock) for row_id in ids.reshape(-1, 1)) if probe]
    if len(found) < _ENOUGH:
        return Measured(len(found), DEFAULT_DEPTH, None)
    late = [probe for probe in found if probe.place >= min(DEPTHS) // _MARGIN]
    wrong = _first_elsewhere(tier, late, lock)
    places = np.array([probe.place for probe in found if probe.row_id not in wrong])
    for depth in DEPTHS:
        recall = float(np.mean(places < depth // _MARGIN)) if len(places) else 1.0
        if recall >= BAR:
            return Measured(len(found), depth, recall)
    return Measured(len(found), None, recall)


@dataclass(frozen=True, slots=True, eq=False)
class _Probe:
    row_id: int
    owner: int
    vector: Floats
    similarity: float
    """To the best other row of the owner."""
    place: int
    """Of the owner by sketches, from 0; the greatest of ``DEPTHS`` if it is not among so many."""


def _probe(tier: Coarse, row_id: Ids, lock: AbstractContextManager[object]) -> _Probe | None:
    """Looks for the owner of the row ``row_id`` (1,) by it; None for one that is gone, or the owner's only one."""
    with lock:
        taken = tier.rows.take(row_id)
        if not len(taken.ids):
            return None
        vector, owner = tier.encoding.decode(taken.codes)[0], int(taken.owners[0])
        tier.remove(row_id)
        try:
            places = np.flatnonzero(tier.ranking(vector, max(DEPTHS)) == owner)
            others = tier.vectors_of(owner)
        finally:
            tier.add(*taken)
    if not len(others):
        return None
    similarity = float(inner_products(vector, others).max())
    return _Probe(int(row_id[0]), owner, vector, similarity, int(places[0]) if len(places) else max(DEPTHS))


def _first_elsewhere(tier: Coarse, probes: list[_Probe], lock: AbstractContextManager[object]) -> set[int]:
    """The row ids of those of ``probes`` that are more similar to a row of somebody else than to their owner's."""
    if not probes:
        return set()
    with lock:
        ids = tier.rows.ids.copy()
    wrong: set[int] = set()
    for first in range(0, len(ids), _BLOCK):
        with lock:
            taken = tier.rows.take(ids[first : first + _BLOCK])
        vectors = tier.encoding.decode(taken.codes)
        for probe in probes:
            better = inner_products(probe.vector, vectors) > probe.similarity
            if (taken.owners[better] != probe.owner).any():
                wrong.add(probe.row_id)
    return wrong
