"""How fast people come into a gallery on the disk, and what a search notices of it.

A whole ``Gallery`` over SQLite: every batch is sealed, written, synced and then made searchable, as an import of a
client's is. Searches beside it run in another thread of the same process, which is how a server has them. Quiet pieces
of a second alternate with pieces of import, so that whatever else the machine does befalls both alike.
"""

import hashlib
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from ulid import ULID

from facesvc.cli.bench_streams_report import Row, at_least, at_most, plain
from facesvc.cli.synthetic_people import Floats, Ids, SyntheticPeople
from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import FacesvcError
from facesvc.gallery import EmbeddingContract, Gallery, Sample, Subject
from facesvc.gallery.masterkey import KnownKey

MOST = 20_000
"""Samples that are imported, unless all are asked for; a rate does not need more."""
GALLERY = "gallery of {:,} samples, imported durably a second"
_RATE_BAR = 500.0  # samples a second
_SLOWER_BAR = 1.25  # the median beside an import over a quiet one

_BATCH = 256
_CONTRACT = "bench/1"
_COLLECTION = "default"
_KEY_SIZE = 32

# Beside the searches: a client that sends a batch of a few people as soon as its time has come.
_PACE = 600.0  # samples a second
_PACED_BATCH = 20
_EVERY_S = 0.003  # between two searches, as several cameras have them
_PIECE_S = 1.0
_PIECES = 8  # of each kind
_QUERIES = 1000
NEWCOMERS = 6000
"""Samples of newcomers: a little more than the pace brings in all pieces."""


@dataclass(frozen=True, slots=True)
class _Beside:
    """Seconds of each search, in quiet and beside an import, and how many samples a second that brought."""

    quiet: list[float]
    beside: list[float]
    rate: float


def measure(workload: str, people: SyntheticPeople, newcomers: SyntheticPeople, *, held: bool) -> list[Row]:
    """Imports ``people`` into a new gallery, then ``newcomers`` beside searches; bars only where they are ``held``.

    The gallery lies in the temporary folder, so it is that disk that syncs. Newcomers have ``NEWCOMERS`` samples.
    """
    with tempfile.TemporaryDirectory(prefix="facesvc-bench-") as folder:
        key = KnownKey(secrets.token_bytes(_KEY_SIZE), "the key of this measurement")
        contract, database = EmbeddingContract(_CONTRACT, people.dimension), SqliteDatabase(Path(folder) / "gallery.db")
        with closing(Gallery.open(database, contract, datetime.now(UTC), [key])) as gallery:
            rate = _import_all(gallery, people)
            found = _search_beside(gallery, people, newcomers)
    quiet_ms, beside_ms = (1000 * np.percentile(seconds, (50, 99)) for seconds in (found.quiet, found.beside))
    slower, tail = (beside_ms / quiet_ms).tolist()
    what = "search beside an import, {} over a quiet one"
    return [
        _at_least(workload, GALLERY.format(people.count * people.samples), rate, held=held),
        plain(workload, f"search in it every {1000 * _EVERY_S:.0f} ms, p50, ms", float(quiet_ms[0]), "{:.3f}"),
        _at_least(workload, "imported a second beside the searches", found.rate, held=held),
        _at_most(workload, what.format("p50"), slower, held=held),
        plain(workload, what.format("p99"), tail),
    ]


def _at_least(workload: str, what: str, rate: float, *, held: bool) -> Row:
    form = "{:,.0f}"
    return at_least(workload, what, rate, _RATE_BAR, form) if held else plain(workload, what, rate, form)


def _at_most(workload: str, what: str, slower: float, *, held: bool) -> Row:
    return at_most(workload, what, slower, _SLOWER_BAR) if held else plain(workload, what, slower)


def _import_all(gallery: Gallery, people: SyntheticPeople) -> float:
    """Samples a second; what is timed begins with vectors in memory and ends on the disk and in the index."""
    seconds = 0.0
    for numbers, vectors in _batches(people, _BATCH):
        started = time.perf_counter()
        _add(gallery, "person", numbers, vectors)
        seconds += time.perf_counter() - started
    return people.count * people.samples / seconds


def _batches(people: SyntheticPeople, size: int) -> Iterator[tuple[Ids, Floats]]:
    """Everybody's samples, ``size`` or the last few of a block at a time: whose they are, (N,), and vectors (N, D)."""
    for block in people.blocks():
        for first in range(0, len(block.rows), size):
            yield block.people[first : first + size], block.vectors[first : first + size]


def _add(gallery: Gallery, name: str, numbers: Ids, vectors: Floats) -> None:
    """Adds samples of people who are called by ``name`` and number, made known where they are not; or raises."""
    now = datetime.now(UTC)
    ids = [f"{name}-{number}" for number in numbers]
    known = {
        (_COLLECTION, one): Subject(
            collection_id=_COLLECTION, subject_id=one, display_name=one, create_time=now, update_time=now
        )
        for one in dict.fromkeys(ids)
    }
    samples = [
        Sample(
            sample_id=str(ULID()),
            collection_id=_COLLECTION,
            subject_id=one,
            vector=vector,
            quality=1.0,
            source="",
            image_sha256=hashlib.sha256(vector.tobytes()).digest(),
            create_time=now,
        )
        for one, vector in zip(ids, vectors, strict=True)
    ]
    for outcome in gallery.add_samples(samples, None, now, contract_id=_CONTRACT, create=known):
        if isinstance(outcome, FacesvcError):
            raise outcome


def _search_beside(gallery: Gallery, people: SyntheticPeople, newcomers: SyntheticPeople) -> _Beside:
    """Quiet pieces and pieces of import by turns, one search after the other in all of them."""
    _, queries = people.queries(_QUERIES)
    batches = iter(list(_batches(newcomers, _PACED_BATCH)))  # made before anything is timed
    quiet, beside, rates = list[float](), list[float](), list[float]()
    with ThreadPoolExecutor(1) as importer:
        for _ in range(_PIECES):
            quiet += _search_until(time.perf_counter() + _PIECE_S, gallery, queries)
            end = time.perf_counter() + _PIECE_S
            importing = importer.submit(_import_until, end, gallery, batches)
            beside += _search_until(end, gallery, queries)
            rates.append(importing.result())
    return _Beside(quiet, beside, float(np.mean(rates)))


def _search_until(end: float, gallery: Gallery, queries: Sequence[Floats] | Floats) -> list[float]:
    """Seconds of each search; at least of one."""
    times = list[float]()
    now = datetime.now(UTC)
    while not times or time.perf_counter() < end:
        query = queries[len(times) % len(queries)]
        started = time.perf_counter()
        gallery.search(_CONTRACT, _COLLECTION, query[None], 2, now)
        times.append(time.perf_counter() - started)
        time.sleep(_EVERY_S)
    return times


def _import_until(end: float, gallery: Gallery, batches: Iterator[tuple[Ids, Floats]]) -> float:
    """Imports at the pace, or as near to it as there is time for; samples a second."""
    started, imported = time.perf_counter(), 0
    for numbers, vectors in batches:
        _add(gallery, "newcomer", numbers, vectors)
        imported += len(numbers)
        due = started + imported / _PACE
        time.sleep(max(0.0, min(due, end) - time.perf_counter()))
        if time.perf_counter() >= end:
            break
    return imported / (time.perf_counter() - started)
