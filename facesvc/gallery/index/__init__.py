"""Nearest neighbours by cosine, in memory: the only room that imports faiss.

``PeopleIndex`` is the way in. Reading order, which is the import order: ``encodings`` (a vector as bytes), ``memory``
and ``places`` (what grows), ``rows``, ``hits``, ``scans`` (faiss), ``sketches`` and ``units`` (people, roughly),
``flat`` and ``coarse`` (the tiers), ``tiers`` (which when), ``measure`` (how deep to look), ``rebuild`` (from one to
another), ``saved``, ``people``.
"""

from facesvc.gallery.index.hits import Hit
from facesvc.gallery.index.people import MAX_OWNERS, PeopleIndex
from facesvc.gallery.index.rebuild import Rebuild
from facesvc.gallery.index.rows import Taken
from facesvc.gallery.index.tiers import Bounds, TierName

__all__ = ["MAX_OWNERS", "Bounds", "Hit", "PeopleIndex", "Rebuild", "Taken", "TierName"]
