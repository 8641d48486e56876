"""The tier that compares with every row: exact, and as fast as anything up to some ten thousand rows."""

from typing import Final

import numpy as np

from facesvc.gallery.index.encodings import HALVES, Codes
from facesvc.gallery.index.hits import Hit, best_hits
from facesvc.gallery.index.places import Ids
from facesvc.gallery.index.rows import Owners, Rows
from facesvc.gallery.index.scans import Booleans, HalfScan
from facesvc.gallery.records import Floats

_FIRST_FETCH = 32  # rows asked for at first: enough for a few people with a few samples each
_GROWTH = 4


class Flat:
    """Rows of half floats, and nothing else."""

    name: Final = "flat"
    encoding: Final = HALVES

    def __init__(self, dimension: int) -> None:
        self.rows = Rows(HALVES.width(dimension))
        self._scan = HalfScan(dimension)

    def add(self, ids: Ids, owners: Owners, codes: Codes) -> None:
        """Adds rows (N, …) whose ids are not held."""
        self.rows.append(ids, owners, codes)

    def remove(self, ids: Ids) -> None:
        """Drops rows; those that are not held are passed over."""
        self.rows.remove(self.rows.held(ids))

    def search(self, query: Floats, limit: int, allowed: Booleans | None) -> list[Hit]:
        """The best rows are fetched until all that tie with the last owner wanted are among them."""
        rows = self.rows
        among = None if allowed is None else allowed[rows.owners]
        total = len(rows) if among is None else int(np.count_nonzero(among))
        fetch = min(max(_FIRST_FETCH, limit), total)
        while fetch:
            similarities, slots = self._scan.search(rows.codes, query, fetch, among)
            hits = best_hits(rows.owners[slots], rows.ids[slots], similarities, limit)
            if fetch == total or (len(hits) >= limit and np.clip(similarities[-1], -1, 1) < hits[limit - 1].similarity):
                return hits
            fetch = min(_GROWTH * fetch, total)
        return []
