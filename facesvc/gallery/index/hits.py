"""What a search found: owners, each once, by their best row."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facesvc.gallery.index.places import Ids
from facesvc.gallery.index.rows import Owners
from facesvc.gallery.records import Floats


@dataclass(frozen=True, slots=True)
class Hit:
    """An owner, the id of their row that is most similar, and its similarity, a cosine in −1 to 1."""

    owner: int
    row: int
    similarity: float


def best_hits(owners: Owners | NDArray[np.int32], ids: Ids, similarities: Floats, limit: int) -> list[Hit]:
    """The ``limit`` most similar owners and all who tie with the last of them, best first.

    Rows are given by three arrays (N,) in any order. Of an owner's rows with the same similarity the one of the lowest
    id counts, and owners with the same similarity stand in the order of these ids.
    """
    similarities = np.clip(similarities, -1.0, 1.0)  # rounding leaves a length of 1 by a few 1e-7
    order = np.argsort(-similarities)
    firsts = np.sort(np.unique(owners[order], return_index=True)[1])
    if len(firsts) > limit:
        order = order[similarities[order] >= similarities[order[firsts[limit - 1]]]]
    order = order[np.lexsort((ids[order], -similarities[order]))]
    firsts = np.sort(np.unique(owners[order], return_index=True)[1])
    best = order[firsts]
    columns = owners[best], ids[best], similarities[best]
    return [Hit(*fields) for fields in zip(*(column.tolist() for column in columns), strict=True)]
