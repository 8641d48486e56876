"""What a copy of a database holds, between the two kinds of databases; see ``Database.copy_to`` and ``load_from``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from facesvc.database import Row
from facesvc.errors import PreconditionError


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of a table, by the names of its columns; ``rows`` can be gone through once."""

    columns: Sequence[str]
    rows: Iterator[Row]


@dataclass(frozen=True, slots=True)
class Contents:
    """All tables but the keys'.

    ``definitions`` make them, in SQLite's words. ``tables`` names them, in a copy that is to be loaded each after those
    that it refers to; ``read`` gives the rows of one. ``last_numbers`` has the highest number that was ever given in a
    table whose numbers are given once.
    """

    definitions: Sequence[str]
    tables: Sequence[str]
    read: Callable[[str], TableRows]
    last_numbers: Mapping[str, int]


def refuse_unless_empty(where: str, tables: Sequence[str]) -> None:
    """Raises ``PreconditionError`` where a database that is to be loaded has tables."""
    if tables:
        raise PreconditionError(
            f"{where} is not empty (it has {', '.join(sorted(tables))}); restore into a new one",
            reason="GALLERY_NOT_EMPTY",
        )
