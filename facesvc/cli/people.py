"""Who is in which picture, as the names of files and folders say it; ``people_table`` reads it from a CSV instead.

A file is a person by its name. Whose pictures a folder holds is told by the first row that fits:

=====================================================================  =============================================
the folder                                                             its pictures
=====================================================================  =============================================
has folders in it                                                      each file and each folder is a person
its files' names name nobody (``1.jpg``, ``IMG_2.jpg``, ``Jane_2.jpg``
in ``Jane``)                                                           are all of the person it is named after
bears a full name (``Jane Doe``), and no file in it begins like one    are all of the person it is named after
all else                                                               each file is a person
=====================================================================  =============================================
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from facesvc.cli.console import printable
from facesvc.cli.people_table import Row, read_table
from facesvc.cli.pictures import mention_skipped, pictures_and_others
from facesvc.errors import InputError

_MAX_SLUG_LENGTH = 96
_DIGEST_LENGTH = 10
# Latin letters that Unicode does not take apart into a plain one and a mark.
_PLAIN_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "\u0131": "i"})
# What cameras begin the names of their files with, without the digits.
_CAMERA_NAMES = frozenset({"img", "imgwa", "mvimg", "pxl", "dsc", "dscn", "dscf"})


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that is said to show somebody; ``where`` is the line of a CSV that says so, empty where its name does."""

    path: Path
    where: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody to enrol, the pictures to do it by, and ``where`` we know it from, for messages."""

    subject_id: str
    display_name: str
    pictures: tuple[Picture, ...]
    where: str
    external_ids: Mapping[str, str] = field(default_factory=dict)


def slug(name: str) -> str:
    """The id of a person who has only a name: ``Zoë O'Neill`` is ``zoe-o-neill``.

    A name that ASCII cannot hold, or a very long one, is told apart from others by a digest of it.
    """
    folded = unicodedata.normalize("NFKD", name.casefold()).translate(_PLAIN_LETTERS)
    letters = "".join(character for character in folded if not unicodedata.combining(character))
    plain = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")
    lost = any(character.isalnum() and not character.isascii() for character in letters)
    if plain and not lost and len(plain) <= _MAX_SLUG_LENGTH:
        return plain
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{plain[:_MAX_SLUG_LENGTH].rstrip('-') or 'person'}-{digest}"


def find_people(paths: Sequence[Path], name: str = "") -> list[Person]:
    """Everybody in files, folders and CSVs; ``name``: all pictures are of this one person. Raises ``InputError``.

    Pictures are found, not read.
    """
    people: dict[str, Person] = {}
    for path in paths:
        for person in _people_of(path, name):
            known = people.get(person.subject_id)
            people[person.subject_id] = _merged(known, person) if known else person
    if not people:
        raise InputError(f"there are no pictures in {', '.join(map(str, paths))}")
    return list(people.values())


def _people_of(path: Path, name: str) -> Iterator[Person]:
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        yield from _people_of_folder(path, name)
    elif path.suffix.lower() == ".csv":
        if name:
            raise InputError(f"{path} says who is who itself: leave out --name")
        yield from map(_person_of_row, read_table(path))
    else:
        # The shell turns "Jane Doe/*.jpg" into files such as "Jane Doe/1.jpg".
        yield _person(name or (path.stem if _letters(path.stem) else path.parent.name or path.stem), [path])


def _people_of_folder(folder: Path, name: str) -> Iterator[Person]:
    pictures, others = pictures_and_others(folder)
    folders = [path for path in others if path.is_dir()]
    own_name = folder.resolve().name
    if name or (not folders and _is_one_person(own_name, [path.stem for path in pictures])):
        yield from _one_person(folder, name or own_name)
        return
    mention_skipped(folder, [path for path in others if path not in folders])
    for path in pictures:
        yield _person(path.stem if _letters(path.stem) else own_name, [path])
    for inner in folders:
        yield from _one_person(inner, inner.name)


def _one_person(folder: Path, name: str) -> Iterator[Person]:
    """The person whose pictures a folder holds, if it holds any."""
    pictures, others = pictures_and_others(folder)
    mention_skipped(folder, others)
    if pictures:
        yield _person(name, pictures)


def _is_one_person(folder: str, stems: Sequence[str]) -> bool:
    own = _letters(folder)
    if all(_letters(stem) in {"", own, *_CAMERA_NAMES} for stem in stems):
        return True
    return _is_full_name(folder) and not any(_begins_like_a_name(stem) for stem in stems)


def _is_full_name(text: str) -> bool:
    words = [word for word in re.split(r"[\s_.-]+", text) if word]
    letters_only = all(character.isalpha() or character in " _.-'" for character in text)
    return letters_only and len(words) > 1 and _begins_like_a_name(words[0]) and _begins_like_a_name(words[-1])


def _begins_like_a_name(text: str) -> bool:
    """Whether the first letter is a capital, or of a script that has none."""
    return text[:1].isalpha() and not text[:1].islower()


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalpha())


def _person(name: str, pictures: Sequence[Path]) -> Person:
    name = unicodedata.normalize("NFC", printable(name)).strip()
    if not name:
        raise InputError(f"{pictures[0]} names nobody: rename it, or use --name")
    where = str(pictures[0] if len(pictures) == 1 else pictures[0].parent)
    return Person(slug(name), name, tuple(map(Picture, pictures)), where)


def _person_of_row(row: Row) -> Person:
    name = unicodedata.normalize("NFC", row.name)
    return Person(row.subject_id or slug(name), name, (Picture(row.path, row.where),), row.where, row.external_ids)


def _merged(known: Person, more: Person) -> Person:
    """One person of two with the same id. Raises ``InputError`` where they cannot be the same."""
    if known.display_name and more.display_name and known.display_name != more.display_name:
        raise InputError(
            f"{known.display_name!r} ({known.where}) and {more.display_name!r} ({more.where}) would share the id"
            f" {known.subject_id}: rename one, or give them ids in a CSV"
        )
    for key in known.external_ids.keys() & more.external_ids.keys():
        if known.external_ids[key] != more.external_ids[key]:
            raise InputError(f"{known.where} and {more.where} give {known.subject_id} different values of {key}")
    return replace(
        known,
        display_name=known.display_name or more.display_name,
        external_ids={**known.external_ids, **more.external_ids},
        pictures=known.pictures + more.pictures,
    )
