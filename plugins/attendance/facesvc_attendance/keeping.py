"""Notes whose keys begin with a time, so that a few days are found without reading all the others.

A key is ``PREFIX/WHEN/ID`` with an id that no other note has, whoever it is about: what is read on from a key would
else miss somebody.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime

from pydantic import JsonValue

from facesvc.errors import DependencyError, InputError
from facesvc.events.plugin import About, Note, Notes

PAGE = 1000
MAX_NOTES = 500_000  # for one question; about 500 people with 12 bookings a day over four months of work days


async def between(
    notes: Notes, prefix: str, first: str, beyond: str, about: About | None = None
) -> AsyncIterator[Note]:
    """Notes whose key, after ``prefix``, is from ``first`` to before ``beyond``, in order.

    Raises ``InputError`` for too many.
    """
    after, seen = prefix + first, 0
    # A page may be shorter, and not the last: notes of somebody who is being erased are left out of it.
    while page := await notes.list(prefix, about=about, after=after, limit=PAGE):
        for note in page:
            if note.key >= prefix + beyond:
                return
            yield note
        after, seen = page[-1].key, seen + len(page)
        if seen >= MAX_NOTES:
            message = f"more than {MAX_NOTES} notes lie between {first} and {beyond}: ask for fewer days"
            raise InputError(message, field="from")


def fields(note: Note) -> Mapping[str, JsonValue]:
    """The value of a note that is an object. Raises ``DependencyError``."""
    if not isinstance(note.value, dict):
        raise damaged(note)
    return note.value


def damaged(note: Note) -> DependencyError:
    """What to raise for a note that cannot be understood."""
    return DependencyError(
        f"the note {note.key} cannot be understood: it is damaged, or a newer version wrote it", reason="NOTE_DAMAGED"
    )


def integer(value: JsonValue) -> int:
    """A number that we wrote. Raises ``ValueError`` for anything else."""
    if not isinstance(value, int):
        raise ValueError("no number")
    return value


def moment(text: JsonValue) -> datetime:
    """A time that we wrote, UTC. Raises ``ValueError`` for anything else."""
    if not isinstance(text, str):
        raise ValueError("no time")
    found = datetime.fromisoformat(text)
    if found.utcoffset() is None or found.utcoffset():
        raise ValueError("no time in UTC")
    return found
