"""What faiss is used for, and the only place that imports it: scans over all rows, in C++, without Python's lock.

Its bindings are looser than its type stubs say, so they are taken untyped here and given types.
"""

from typing import Any

import faiss as untyped
import numpy as np
from numpy.typing import NDArray

from facesvc.gallery.index.encodings import Codes
from facesvc.gallery.records import Floats

faiss: Any = untyped

# OpenMP's idle workers spin for the next parallel region; on a small box they would take the cores that inference
# needs. The setting holds for the process.
faiss.omp_set_num_threads(1)

Booleans = NDArray[np.bool_]


def inner_products(query: Floats, vectors: Floats) -> Floats:
    """The product of ``query`` (D,) with each of ``vectors`` (N, D), both contiguous.

    Not by ``@``: BLAS starts its threads at this size, and rounds by where in the array a row stands. Here a similarity
    depends on nothing but its two vectors.
    """
    products = np.empty(len(vectors), np.float32)
    arrays = (faiss.swig_ptr(array) for array in (products, query, vectors))
    faiss.fvec_inner_products_ny(*arrays, vectors.shape[1], len(vectors))
    return products


class HalfScan:
    """Exact search over rows of half floats, in the memory where they lie."""

    def __init__(self, dimension: int) -> None:
        halves, product = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        self._index = faiss.IndexScalarQuantizer(dimension, halves, product)
        self._index.is_trained = True  # halves have nothing to learn
        self._nobody = self._index.codes.owner

    def search(self, codes: Codes, query: Floats, k: int, among: Booleans | None) -> tuple[Floats, NDArray[np.int64]]:
        """The ``k`` rows of ``codes`` (N, 2 D), contiguous, that are most similar to ``query`` (D,), best first.

        Similarities and slots; fewer where ``among`` (N,) has fewer True.
        """
        view = faiss.MaybeOwnedVectorUInt8.create_view(faiss.swig_ptr(codes), codes.size, self._nobody)
        self._index.codes, self._index.ntotal = view, len(codes)
        if among is None:
            similarities, slots = self._index.search(query[None], k)
        else:
            bits = np.packbits(among, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
            similarities, slots = self._index.search(query[None], k, params=parameters)
        found = slots[0] >= 0
        return similarities[0][found], slots[0][found]
