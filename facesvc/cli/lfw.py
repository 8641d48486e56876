"""The protocol files of Labeled Faces in the Wild, read into records.

``pairs.txt`` is the one of Huang et al., Labeled Faces in the Wild, 2007: a line with the number of folds and of pairs
of each kind in a fold, then fold by fold the matched pairs (``name n m``) and the mismatched ones (``name n name m``).
``identification.txt`` has a person a line: the name, the number of the gallery photo, the numbers of the probes with
commas between them; lines that begin with ``#`` are notes. Fields are parted by tabs.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from facesvc.errors import InputError

PAIRS = "pairs.txt"
IDENTIFICATION = "identification.txt"
_NUMBER = re.compile(r"[1-9][0-9]{0,5}")


class Photo(NamedTuple):
    """One picture of a person, by the numbers of the protocol: from 1."""

    name: str
    number: int

    def within(self, folder: Path) -> Path:
        """Where the picture lies in a data set."""
        return folder / "images" / self.name / f"{self.name}_{self.number:04d}.jpg"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photos to be compared, and the fold (from 0) that the comparison belongs to."""

    fold: int
    first: Photo
    second: Photo

    @property
    def same(self) -> bool:
        """Whether both show one person."""
        return self.first.name == self.second.name


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody to be found again: enrolled by one photo, looked for with the others."""

    gallery: Photo
    probes: tuple[Photo, ...]


@dataclass(frozen=True, slots=True)
class Protocol:
    """All comparisons of a data set; ``people`` is empty where it says nothing about identification."""

    pairs: tuple[Pair, ...]
    people: tuple[Person, ...]

    def pair_photos(self) -> frozenset[Photo]:
        """The distinct pictures that pairs are made of."""
        return frozenset(photo for pair in self.pairs for photo in (pair.first, pair.second))

    def gallery_photos(self) -> frozenset[Photo]:
        """The pictures that people are enrolled by."""
        return frozenset(person.gallery for person in self.people)

    def photos(self) -> tuple[Photo, ...]:
        """Every distinct picture, in the order of names and numbers."""
        probes = {photo for person in self.people for photo in person.probes}
        return tuple(sorted(self.pair_photos() | self.gallery_photos() | probes))


def read_protocol(folder: Path) -> Protocol:
    """The protocol of the data set in ``folder``.

    Raises ``InputError`` for a folder or file that is missing, for a line that is malformed, by its number, and for
    pictures that are not there.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name the one that holds {PAIRS} and images/", field="lfw")
    pairs = _pairs(folder / PAIRS)
    people = _people(folder / IDENTIFICATION) if (folder / IDENTIFICATION).exists() else ()
    protocol = Protocol(pairs, people)
    missing = [path for photo in protocol.photos() if not (path := photo.within(folder)).is_file()]
    if missing:
        message = f"{len(missing):,} pictures that the protocol names are missing; the first is {missing[0]}"
        raise InputError(message, field="lfw")
    return protocol


def _pairs(path: Path) -> tuple[Pair, ...]:
    lines = _lines(path)
    match lines[0].split("\t") if lines else []:
        case [first, second] if _is_number(first) and _is_number(second):
            folds, each = int(first), int(second)
        case _:
            raise _malformed(path, 1, "should be the number of folds and the pairs of each kind in a fold: 10<TAB>300")
    if folds == 1:
        raise _malformed(path, 1, "has one fold; the threshold for it has to come from another, so there must be two")
    if len(lines) != 1 + 2 * folds * each:
        message = f"{path} should have {1 + 2 * folds * each:,} lines by its first one, not {len(lines):,}"
        raise InputError(message, field="lfw")
    return tuple(
        _pair(path, at + 2, line, fold=at // (2 * each), same=at % (2 * each) < each)
        for at, line in enumerate(lines[1:])
    )


def _pair(path: Path, number: int, line: str, *, fold: int, same: bool) -> Pair:
    match line.split("\t"):
        case [name, first, second] if same:
            other = name
        case [name, first, other, second] if not same and name != other:
            pass
        case _:
            expected = "name<TAB>n<TAB>m" if same else "name<TAB>n<TAB>other name<TAB>m"
            raise _malformed(path, number, f"should be {expected}, not {line[:60]!r}")
    return Pair(fold, _photo(path, number, name, first), _photo(path, number, other, second))


def _people(path: Path) -> tuple[Person, ...]:
    people = []
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith("#"):
            continue
        match line.split("\t"):
            case [name, gallery, probes]:
                photos = tuple(_photo(path, number, name, probe) for probe in probes.split(","))
                people.append(Person(_photo(path, number, name, gallery), photos))
            case _:
                raise _malformed(path, number, f"should be name<TAB>gallery<TAB>probe,probe,..., not {line[:60]!r}")
    if not 1 < len({person.gallery.name for person in people}) == len(people):
        raise InputError(f"{path} should name two people or more, each of them once", field="lfw")
    return tuple(people)


def _photo(path: Path, line: int, name: str, number: str) -> Photo:
    if not name or "/" in name or name.startswith("."):
        raise _malformed(path, line, f"has the name {name[:60]!r}, which cannot be that of a folder of pictures")
    if not _is_number(number):
        raise _malformed(path, line, f"has {number[:20]!r} where the number of a picture belongs")
    return Photo(name, int(number))


def _is_number(text: str) -> bool:
    """Whether ``text`` is a plain number from 1 to 999,999."""
    return _NUMBER.fullmatch(text) is not None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", field="lfw") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: {error}", field="lfw") from error


def _malformed(path: Path, line: int, what: str) -> InputError:
    return InputError(f"{path}, line {line} {what}", field="lfw")
