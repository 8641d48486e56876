"""Whose encodings are that a file names people for.

=====================================================  =============================================================
the file says                                          the person
=====================================================  =============================================================
an id                                                  of that id
a name that is the id of somebody who is known         that one
any other name                                         of the id that ``facesvc enroll`` makes of it: ``people.slug``
=====================================================  =============================================================

So somebody who is enrolled by pictures as well is one person. The name as it stands is what people read. Two names of
one id are two people, of whom only the first is taken.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from facesvc.cli.encoding_entries import Encoding
from facesvc.cli.people import slug
from facesvc.errors import InputError
from facesvc.gallery.records import check_id, check_text


@dataclass(frozen=True, slots=True)
class Owned:
    """An encoding, and whose it is."""

    entry: Encoding
    subject_id: str
    display_name: str


class Owners:
    """The people of one file. ``known`` are those of the gallery, id to name.

    ``renamed`` are those of them whom the file calls by another name, id to that name.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self.renamed: dict[str, str] = {}
        self._known = known
        self._names: dict[str, str] = {}

    def owned(self, entry: Encoding) -> Owned:
        """The encoding with its owner. Raises ``InputError`` for what is nobody's."""
        check_text(entry.name, "the name")
        name = unicodedata.normalize("NFC", entry.name).strip()
        if entry.subject_id:
            check_id(entry.subject_id, "subject_id")
        elif not name:
            raise InputError("this encoding is nobody's: it has neither an id nor a name")
        subject_id = entry.subject_id or self._id_of(name)
        if name not in ("", subject_id, self._known.get(subject_id, name)):
            self.renamed.setdefault(subject_id, name)
        return Owned(entry, subject_id, name)

    def _id_of(self, name: str) -> str:
        if name in self._known:
            return name
        subject_id = slug(name)
        first = self._names.setdefault(subject_id, name)
        if first != name:
            raise InputError(f"{name!r} and {first!r} would share the id {subject_id}: rename one, or give them ids")
        return subject_id
