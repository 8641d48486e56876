"""Exact nearest neighbours by cosine, in float32."""

import numpy as np

from facesvc.gallery.index.places import Ids
from facesvc.gallery.index.scans import faiss
from facesvc.gallery.records import Floats


class VectorIndex:
    """Unit vectors of one dimension under ids of the caller's. Not thread-safe."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))

    def __len__(self) -> int:
        """How many vectors it holds."""
        return int(self._index.ntotal)

    def add(self, ids: Ids, vectors: Floats) -> None:
        """Adds ``vectors`` (N, D) float32 of unit length under ``ids`` (N,) int64, none of which it holds yet."""
        self._index.add_with_ids(vectors, ids)

    def remove(self, ids: Ids) -> None:
        """Drops ``ids`` (N,) int64; those it does not hold are passed over."""
        self._index.remove_ids(faiss.IDSelectorBatch(ids))

    def search(self, vectors: Floats, k: int) -> tuple[Floats, Ids]:
        """The ``k`` most similar to each of ``vectors`` (N, D) float32 of unit length, best first; N may be 0.

        Similarities (N, k) float32 in −1 to 1 and ids (N, k) int64; where fewer are held, −1 in both. Which of several
        with the same similarity stand last, or are cut off, is not defined.
        """
        similarities, ids = self._index.search(vectors, k)
        return np.clip(similarities, -1.0, 1.0), ids  # rounding leaves a length of 1 by a few 1e-7
