"""Which person, and which collection, a request is about."""

from typing import Protocol

from facesvc.api import convert
from facesvc.gallery.records import check_id


class AboutSubject(Protocol):
    """A request that names one person."""

    @property
    def collection_id(self) -> str:
        """Empty means the default."""
        ...

    @property
    def subject_id(self) -> str:
        """Whom."""
        ...


def name_of(request: AboutSubject) -> tuple[str, str]:
    """Collection and person that a request names. Raises ``InputError``."""
    check_id(request.subject_id, "subject_id")
    return collection_of(request.collection_id), request.subject_id


def collection_of(collection_id: str) -> str:
    """The collection that is meant. Raises ``InputError``."""
    if not collection_id:
        return convert.DEFAULT_COLLECTION
    check_id(collection_id, "collection_id")
    return collection_id
