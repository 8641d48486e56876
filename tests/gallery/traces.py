"""Somebody easily recognised, and looking for what is left of them in bytes: of files, and of a whole process."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from ulid import ULID

from facesvc.gallery import Consent, EmbeddingContract, Sample, Subject

NOW = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)
CONTRACT = EmbeddingContract("resnet-a/1", 128)
PIECE = 16  # bytes of a vector, a picture, a digest that are too many to be found anywhere
EVERYTHING = {"person", "card", "note", "purpose", "camera", "picture", "vector f4"}
_MARK = "Qz7"  # in every text, before a word that tells whose it is
_WORD = 12  # characters
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Conspicuous:
    """Somebody of whom everything is told from a number and recognised again."""

    number: int

    @property
    def subject_id(self) -> str:
        return f"p{self.number}"

    @property
    def word(self) -> str:
        return hashlib.sha256(str(self.number).encode()).hexdigest()[:_WORD]

    @property
    def texts(self) -> dict[str, str]:
        names = ("person", "card", "note", "purpose", "camera")
        return {name: f"{name:>8} of {_MARK}{self.word} in the office" for name in names}

    @property
    def subject(self) -> Subject:
        texts = self.texts
        return Subject(
            collection_id="office",
            subject_id=self.subject_id,
            display_name=texts["person"],
            external_ids={"card_number": texts["card"]},
            metadata={"note": texts["note"]},
            consent=Consent(texts["purpose"], NOW),
            create_time=NOW,
            update_time=NOW,
        )

    @property
    def vectors(self) -> list[NDArray[np.float32]]:
        """Three, of unit length."""
        vectors = np.random.default_rng(self.number).normal(size=(3, CONTRACT.dimension))
        return list((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))

    @property
    def crop(self) -> bytes:
        return np.random.default_rng(self.number + 1).bytes(900)

    @property
    def samples(self) -> list[Sample]:
        return [
            Sample(
                sample_id=str(ULID.from_int(10 * self.number + at)),
                collection_id="office",
                subject_id=self.subject_id,
                vector=vector,
                quality=0.5,
                source=self.texts["camera"],
                image_sha256=self.digest(at),
                create_time=NOW,
            )
            for at, vector in enumerate(self.vectors)
        ]

    def digest(self, at: int) -> bytes:
        return hashlib.sha256(f"{self.number} {at}".encode()).digest()

    @property
    def values(self) -> Iterator[tuple[str, str, bytes]]:
        """What is no text: what it is, of which values as numpy names them, as bytes."""
        for vector in self.vectors:
            yield from ((f"vector {kind}", kind, vector.astype(f"<{kind}").tobytes()) for kind in ("f2", "f4", "f8"))
        yield from (("picture", "u2", self.crop[odd : odd + 898]) for odd in (0, 1))
        yield from (("picture", "u2", self.digest(at)) for at in range(3))


class _Kind(NamedTuple):
    """How values of a kind are looked for: bytes of one, which 16 bits of it differ most, and where they may begin."""

    size: int
    at: int
    shifts: tuple[int, ...]


_KINDS = {
    "u2": _Kind(2, 0, (0,)),
    "f2": _Kind(2, 0, (0, 1)),
    "f4": _Kind(4, 0, (0, 1, 2, 3)),
    "f8": _Kind(8, 2, (0, 4)),
}


class Search:
    """Looks for any text, and any ``PIECE`` bytes of any value, of some people."""

    def __init__(self, people: Sequence[Conspicuous]) -> None:
        self._words = {person.word: person.number for person in people}
        self._pieces: dict[bytes, tuple[int, str]] = {}
        self._firsts = {kind: np.zeros(1 << 16, np.bool_) for kind in _KINDS.values()}
        for person in people:
            for what, kind, content in person.values:
                self._learn(person.number, what, _KINDS[kind], content)

    def _learn(self, number: int, what: str, kind: _Kind, content: bytes) -> None:
        for at in range(0, len(content) - PIECE + 1, kind.size):
            self._pieces[content[at : at + PIECE]] = (number, what)
        self._firsts[kind][np.frombuffer(content, "<u2")[kind.at :: kind.size // 2]] = True

    def left_in(self, contents: Iterable[bytes]) -> dict[int, set[str]]:
        """What of whom is there, by number; those of whom nothing is are left out."""
        left: dict[int, set[str]] = {}
        for content in contents:
            for number, what in [*self._texts(content), *self._values(content)]:
                left.setdefault(number, set()).add(what)
        return left

    def _texts(self, content: bytes) -> Iterator[tuple[int, str]]:
        """In any of the ways in which Python and databases spell them."""
        for encoding, width in (("utf-8", 1), ("utf-16-le", 2), ("utf-32-le", 4)):
            mark = _MARK.encode(encoding)
            at = content.find(mark)
            while at >= 0:
                word = content[at + len(mark) : at + len(mark) + width * _WORD].decode(encoding, "replace")
                if word in self._words:
                    before = content[max(0, at - width * 12) : at].decode(encoding, "replace")
                    yield self._words[word], before.removesuffix(" of ").split()[-1] if before.strip() else "text"
                at = content.find(mark, at + 1)

    def _values(self, content: bytes) -> Iterator[tuple[int, str]]:
        """Wherever they begin."""
        for kind, firsts in self._firsts.items():
            for shift in kind.shifts:
                items = (len(content) - shift) // kind.size
                if items * kind.size < PIECE:
                    continue
                words = np.frombuffer(content, "<u2", items * kind.size // 2, shift)[kind.at :: kind.size // 2]
                likely = firsts[words]
                for step in range(1, PIECE // kind.size):  # the next ones too
                    likely = likely[:-1] & firsts[words[step:]]
                for item in np.flatnonzero(likely):
                    start = shift + int(item) * kind.size
                    if found := self._pieces.get(content[start : start + PIECE]):
                        yield found


def left_in(contents: Iterable[bytes], people: Sequence[Conspicuous]) -> dict[int, set[str]]:
    """As ``Search.left_in``."""
    return Search(people).left_in(contents)


def memory_of(process: int) -> Iterator[bytes]:
    """What a process can write, as far as it is not zero: heap, stacks, mappings, also what is left out of dumps."""
    with open(f"/proc/{process}/maps") as maps, open(f"/proc/{process}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - not a path to anything
        for line in maps:
            span, rights, *_ = line.split()
            first, last = (int(end, 16) for end in span.split("-"))
            if rights.startswith("rw"):
                yield from written(_read(memory.fileno(), first, last))


def _read(descriptor: int, first: int, last: int) -> bytes:
    parts = []
    while first < last:
        part = os.pread(descriptor, min(1 << 24, last - first), first)
        parts.append(part)
        first += len(part)
    return b"".join(parts)


def written(content: bytes) -> Iterator[bytes]:
    """The runs of pages in which there is anything but zeros."""
    content = content.ljust(-(-len(content) // _PAGE) * _PAGE, b"\0")
    used = np.frombuffer(content, np.uint64).reshape(-1, _PAGE // 8).any(axis=1)
    edges = np.flatnonzero(np.diff(used.astype(np.int8), prepend=0, append=0))
    for first, last in edges.reshape(-1, 2):
        yield content[first * _PAGE : last * _PAGE]
