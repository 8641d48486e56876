"""People and templates: who is known to the box, kept on disk, searched in memory.

A *collection* holds *subjects*, a subject holds *samples*; a sample is one template, a vector, of one face. ``Gallery``
is the way in, for everybody outside this package.

What always holds:

- A change is committed before a search sees it, and what a method has returned from survives ``kill -9``.
- A search touches no disk. Up to some ten thousand samples it compares with every one; beyond, with all samples of
  those who come into question. A subject's similarity is the best of its samples, ties break by subject id, and nobody
  disabled or past their consent is returned.
- The memory is only a copy: opened again, the same database gives the same answers.
- Vectors of two embedding contracts never meet: whoever brings vectors says which contract they are of, and a file is
  opened under its current contract, or under one for which every sample has a vector. A migration changes the contract
  from kept face crops, while the gallery is searched; the way back stays open until the next one.
- Everything known of a person is sealed with a key of their own, bound to its place; the master key lies elsewhere.
- What was erased is gone from file and log; a receipt with ids is all that stays.
- Time is passed in. Ids and sizes are bounded where a record is born.

Reading order, which is the import order: ``records`` (the words), ``schema`` (the tables), ``crypto`` (ciphers),
``keyring`` (a key for each person), ``keyfile``, ``printing`` and ``masterkey`` (where the master key comes from),
``rotation`` (another one), ``rows`` (records as sealed rows), ``receipts`` (what stays of the erased), ``crops``,
``contracts`` (vectors), ``sealing`` (galleries from before all that), ``boxes`` (who shares it), ``store`` (people in
it); ``index`` (nearest neighbours), ``admission`` (who may be found), ``saved_view`` (the index in a file), ``roster``
(one collection in memory), ``tending`` (its index kept in shape), ``views`` (all of them, under each contract),
``loading``; ``wiping`` (of freed memory), ``following`` (what others change), ``batch`` (samples on their way in),
``migration`` (from one contract to another), ``likeness`` and ``checkup`` (what is doubtful), ``gallery`` (disk and
memory together).
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
