"""The keys of a backup: what opens what is in it, a person's key at a place of its own, so that it can be taken out.

A file of records: four bytes of length, a tag, the tags of samples after four bytes of how many, and a sealed row. The
tag is made of the ids of whose key it is, by which it is found without reading the others; those of the samples tell
whose samples the copy has. A key is taken out by zeros over all but its tag, where it lies: no older version of the
file is left on the disk, and an interruption spoils no other. The first record holds what belongs to nobody. Pure
values.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from facesvc.backup.tables import KeyTables
from facesvc.database import Row
from facesvc.gallery.crypto import Cipher, SealBrokenError, associated
from facesvc.gallery.keyring import NOBODY

_MARK = b"facesvc keys 1\n"
_LENGTH_SIZE = 4
_TAG_SIZE = 32
_COUNT_SIZE = 4
_SAMPLE_SIZE = 16
_FEW = 8  # for whom it is quicker to look through all bytes than at each record


class KeysDamagedError(Exception):
    """The content is not as it was written."""


def encode(tables: KeyTables, samples: Iterable[Row], cipher: Cipher, name: str) -> bytes:
    """The content of the file for the backup ``name``; ``samples`` are collection, subject and id of each."""
    tags: dict[Row, list[bytes]] = defaultdict(list)
    for collection_id, subject_id, sample_id in samples:
        tags[collection_id, subject_id].append(_sample_tag(cipher, sample_id))
    rest = [[_to_json(row) for row in rows] for rows in (tables.master_keys, tables.signer, tables.nobody)]
    records = [_record(_head(_tag(cipher, *NOBODY), []), rest, cipher, name)]
    for row in tables.people:
        head = _head(_tag(cipher, *row[:2]), tags.get(row[:2], []))
        records.append(_record(head, _to_json(row), cipher, name))
    return _MARK + b"".join(records)


def decode(content: bytes, cipher: Cipher, name: str) -> KeyTables:
    """The inverse of ``encode``, less what was taken out. Raises ``KeysDamagedError``."""
    first, *others = [content[start:end] for start, end in _places(content)]
    try:
        if first[:_TAG_SIZE] != _tag(cipher, *NOBODY):
            raise KeysDamagedError
        rest = _unsealed(first, cipher, name)
        master_keys, signer, nobody = ([_from_json(row) for row in rows] for rows in rest)
        people = []
        for record in others:
            if not any(record[_TAG_SIZE:]):
                continue
            row = _from_json(_unsealed(record, cipher, name))
            if record[:_TAG_SIZE] != _tag(cipher, row[0], row[1]):
                raise KeysDamagedError
            people.append(row)
    except (SealBrokenError, ValueError, TypeError, IndexError) as error:
        raise KeysDamagedError from error
    return KeyTables(master_keys, signer, nobody, people)


def places_of(content: bytes, cipher: Cipher, people: Iterable[tuple[str, str]]) -> list[tuple[int, int]]:
    """Where the records of ``people`` are, after the tag: first byte and length; of those only that are there.

    Raises ``KeysDamagedError``.
    """
    tags = [_tag(cipher, *one) for one in people]
    if len(tags) > _FEW:
        starts = {content[start : start + _TAG_SIZE]: start for start, _ in _places(content)}
        found = [starts[tag] for tag in tags if tag in starts]
    else:
        found = [start for tag in tags if (start := content.find(tag)) >= 0]
    places = [(start + _TAG_SIZE, _length(content, start) - _TAG_SIZE) for start in found]
    return [(start, length) for start, length in places if any(content[start : start + length])]


def others_have(content: bytes, cipher: Cipher, sample_ids: Iterable[str], places: Iterable[tuple[int, int]]) -> bool:
    """Whether there are samples of these with others than those whose ``places_of`` are given.

    Raises ``KeysDamagedError``.
    """
    tags = {_sample_tag(cipher, one) for one in sample_ids}
    for start, _ in places:
        tags.difference_update(_sample_tags(content, start - _TAG_SIZE))
    if len(tags) > _FEW:
        return not all(tags.isdisjoint(_sample_tags(content, start)) for start, _ in _places(content))
    return any(tag in content for tag in tags)


def _sample_tags(content: bytes, start: int) -> list[bytes]:
    """Those of the record that begins there."""
    at = start + _TAG_SIZE
    end = at + _head_size(content[at : at + _COUNT_SIZE])
    if end > len(content):
        raise KeysDamagedError
    return [content[one : one + _SAMPLE_SIZE] for one in range(at + _COUNT_SIZE, end, _SAMPLE_SIZE)]


def _length(content: bytes, start: int) -> int:
    return int.from_bytes(content[start - _LENGTH_SIZE : start], "big")


def count(content: bytes) -> int:
    """How many people have a key there, as far as can be told without the key to it. Raises ``KeysDamagedError``."""
    return sum(any(content[start + _TAG_SIZE : end]) for start, end in _places(content)) - 1


def _head(tag: bytes, samples: list[bytes]) -> bytes:
    return tag + len(samples).to_bytes(_COUNT_SIZE, "big") + b"".join(samples)


def _head_size(count: bytes) -> int:
    """Of the tags of samples with their count, without the tag before."""
    return _COUNT_SIZE + _SAMPLE_SIZE * int.from_bytes(count, "big")


def _record(head: bytes, value: object, cipher: Cipher, name: str) -> bytes:
    record = head + cipher.seal(json.dumps(value).encode(), _name(name, head))
    return len(record).to_bytes(_LENGTH_SIZE, "big") + record


def _unsealed(record: bytes, cipher: Cipher, name: str) -> Any:  # as json.loads
    end = _TAG_SIZE + _head_size(record[_TAG_SIZE : _TAG_SIZE + _COUNT_SIZE])
    return json.loads(cipher.unseal(record[end:], _name(name, record[:end])))


def _name(name: str, head: bytes) -> bytes:
    return associated("backup keys", name, head.hex())


def _places(content: bytes) -> Iterator[tuple[int, int]]:
    """First and last byte (exclusive) of each record, tag and row. Raises ``KeysDamagedError``."""
    at = len(_MARK)
    if not content.startswith(_MARK) or at == len(content):
        raise KeysDamagedError
    while at < len(content):
        start = at + _LENGTH_SIZE
        at = start + _length(content, start)
        if at > len(content) or at - start <= _TAG_SIZE:
            raise KeysDamagedError
        yield start, at


def _tag(cipher: Cipher, collection_id: str, subject_id: str) -> bytes:
    return cipher.tag("backup subject", associated(collection_id, subject_id))


def _sample_tag(cipher: Cipher, sample_id: str) -> bytes:
    return cipher.tag("backup sample", associated(sample_id))[:_SAMPLE_SIZE]


def _to_json(row: Row) -> list[object]:
    return [{"hex": value.hex()} if isinstance(value, bytes) else value for value in row]


def _from_json(row: list[object]) -> Row:
    return tuple(bytes.fromhex(value["hex"]) if isinstance(value, dict) else value for value in row)
