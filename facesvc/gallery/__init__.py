"""People and templates: who is known to the box, kept on disk, searched in memory.

A *collection* holds *subjects*, a subject holds *samples*; a sample is one template, a vector, of one face. ``Gallery``
is the way in, for everybody outside this package.

What always holds:

- A change is committed before a search sees it, and what a method has returned from survives ``kill -9``.
- A search compares with every sample and touches no disk. A subject's similarity is the best of its samples, ties
  break by subject id, and nobody disabled or past their consent is returned.
- The memory is only a copy: opened again, the same file gives the same answers.
- Vectors of two embedding contracts never meet: whoever brings vectors says which contract they are of, and a file is
  opened under its current contract, or under one for which every sample has a vector. A migration changes the contract
  from kept face crops, while the gallery is searched; the way back stays open until the next one.
- Crops are sealed on disk, each bound to its sample, and the key is not in the gallery.
- What was erased is gone from file and log; a receipt with ids is all that stays.
- Time is passed in. Ids and sizes are bounded where a record is born.

Reading order, which is the import order: ``records`` (the words), ``schema`` (the tables), ``rows`` (records as rows),
``crypto`` (sealing), ``crops`` (sealed faces in the file), ``contracts`` (vectors in it), ``store`` (people in it),
``index`` (nearest neighbours), ``roster`` (one collection in memory), ``views`` (all of them, under each contract),
``migration`` (from one contract to another), ``gallery`` (disk and memory together). The file is ``facesvc.sqlite``.
"""

from facesvc.gallery.batch import IdentityConflictError
from facesvc.gallery.gallery import Gallery
from facesvc.gallery.migration import Migration
from facesvc.gallery.records import (
    Candidate,
    Consent,
    EmbeddingContract,
    ErasureReceipt,
    Sample,
    SampleName,
    Subject,
    SubjectFilter,
)
from facesvc.gallery.store import DuplicateImageError

__all__ = [
    "Candidate",
    "Consent",
    "DuplicateImageError",
    "EmbeddingContract",
    "ErasureReceipt",
    "Gallery",
    "IdentityConflictError",
    "Migration",
    "Sample",
    "SampleName",
    "Subject",
    "SubjectFilter",
]
