"""People and their pictures from a CSV: ``subject_id,name,path``, and any further columns are ids in other systems.

UTF-8, with or without the mark that spreadsheets put in front; paths are relative to the file's folder; a person with
several pictures has several rows. Where ``subject_id`` is empty it is made from the name.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from facesvc.errors import InputError

_COLUMNS = ("subject_id", "name", "path")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Row:
    """A picture of somebody; ``where`` names the file and the line."""

    subject_id: str
    name: str
    path: Path
    where: str
    external_ids: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.subject_id and not self.name:
            raise InputError(f"{self.where}: subject_id and name are both empty")
        if self.subject_id and not _ID.fullmatch(self.subject_id):
            allowed = "1 to 128 characters out of A-Z a-z 0-9 . _ @ - that start with a letter or a digit"
            raise InputError(f"{self.where}: subject_id {self.subject_id!r} is not {allowed}")


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a CSV file. Raises ``InputError`` naming the line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(path, file)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: save it as CSV UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _rows(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    columns: list[str] = []
    reader = csv.reader(lines, strict=True)
    try:
        for cells in reader:
            where = f"{path} line {reader.line_num}"
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if columns:
                yield _row(path.parent, columns, values, where)
            else:
                columns = _checked_columns(values, where)
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}") from error
    if not columns:
        raise InputError(f"{path} is empty: its first line must be {','.join(_COLUMNS)}, and any external ids")


def _checked_columns(columns: list[str], where: str) -> list[str]:
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise InputError(f"{where}: no column {', '.join(missing)}; found {', '.join(columns)}; separate by commas")
    for name in columns:
        if columns.count(name) > 1:
            raise InputError(f"{where}: two columns are called {name!r}")
        if not _KEY.fullmatch(name):
            raise InputError(f"{where}: column {name!r} must be 1 to 64 characters out of a-z 0-9 _, a letter first")
    return columns


def _row(folder: Path, columns: list[str], values: list[str], where: str) -> Row:
    if len(values) != len(columns):
        raise InputError(f"{where}: {len(values)} cells, {len(columns)} are needed: quote those that hold a comma")
    cells = dict(zip(columns, values, strict=True))
    if not cells["path"]:
        raise InputError(f"{where}: path is empty")
    external_ids = {name: value for name, value in cells.items() if name not in _COLUMNS and value}
    return Row(cells["subject_id"], cells["name"], folder / cells["path"], where, external_ids)
