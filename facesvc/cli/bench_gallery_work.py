"""What is done with an index to measure it, and the bars.

Everything is timed within one run, beside two floors: an exact search over all rows as half floats, and reading the
bytes of all rows once. Searches run one at a time in one thread. The index is built as a server would build it, in
portions and with a change of tier when it asks for one; then it is saved to files, dropped, and restored.
"""

import gc
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesvc.cli.bench_streams_report import Row, at_least, at_most, plain
from facesvc.cli.synthetic_people import Floats, Ids, SyntheticPeople
from facesvc.gallery.index import Bounds, PeopleIndex

BARS: dict[int, dict[str, float]] = {
    10_000: {"p99": 0.6, "recall": 1.0},
    100_000: {"p99": 1.0, "recall": 0.999},
    1_000_000: {"p99": 3.0, "recall": 0.999, "megabytes": 800, "start": 15},
}
"""By templates, for 512 values and five samples: milliseconds, share, megabytes, seconds."""
_BAR_DIMENSION, _BAR_SAMPLES = 512, 5
_VISIBLE_MS = 100.0
_WARM_UP = 50
_PART = 20_000  # rows saved and restored at a time
_FLOOR_ROWS = 100_000  # beyond, the floors are extrapolated: they are proportional to the rows
_FLOOR_QUERIES = 200
_FLOOR_READS = 10
_CHANGES = 300
_FILTERS = {"half of the people": 0.5, "one person in a hundred": 0.01}
_TEN = 10


@dataclass(frozen=True, slots=True)
class Built:
    """An index, what was asked of it, and the seconds it took to add the rows and to change tiers."""

    index: PeopleIndex
    people: Ids
    """Who is looked for, (N,)."""
    queries: Floats
    """By what, (N, D)."""
    exact: Ids
    """Whom an exact search has first, (N,)."""
    added_s: float
    rebuilt_s: float


class _Exact:
    """An exact search by ``queries`` (N, D) over rows that come one block after the other."""

    def __init__(self, queries: Floats) -> None:
        self._queries = queries
        self.people = np.full(len(queries), -1, np.int64)
        self._best = np.full(len(queries), -2, np.float32)

    def see(self, people: Ids, vectors: Floats) -> None:
        """Compares with rows ``vectors`` (M, D) of ``people`` (M,)."""
        similarities = vectors @ self._queries.T
        rows = similarities.argmax(axis=0)
        best = similarities[rows, np.arange(len(self._queries))]
        better = best > self._best
        self.people[better], self._best[better] = people[rows[better]], best[better]


def measure(people: SyntheticPeople, queries: int, bounds: Bounds | None = None) -> Iterator[Row]:
    """Figures of one size; the bars are those of ``BARS`` where they apply."""
    size = people.count * people.samples
    name = f"{size:,}"
    bars = BARS.get(size, {}) if held(people) else {}
    floor_ms = _flat_ms(people, queries)
    built = _build(people, queries, bounds)
    yield plain(name, "built in, s", built.added_s + built.rebuilt_s, "{:.1f}")
    yield plain(name, "rows added a second", size / built.added_s, "{:,.0f}")
    index, start_s, megabytes = _restored(built.index, bounds)
    yield _at_most(name, f"ready from saved rows in, s ({index.tier})", start_s, bars.get("start"), "{:.2f}")
    yield _at_most(name, "memory of the index, MB", megabytes, bars.get("megabytes"), "{:.0f}")
    times, found = _search(index, built.queries)
    busy, _ = _search(index, built.queries, clock=time.thread_time)
    yield plain(name, "search p50, ms", _percentile(times, 50), "{:.3f}")
    yield _at_most(name, "search p99, ms", _percentile(times, 99), bars.get("p99"), "{:.3f}")
    yield plain(name, "search p99, ms of processor time", _percentile(busy, 99), "{:.3f}")
    right = built.exact == built.people
    recall = float(np.mean(found[right] == built.people[right])) if right.any() else 1.0
    yield plain(name, "exact search has the right one first", float(np.mean(right)), "{:.2%}")
    yield _at_least(name, "recall@1 of these", recall, bars.get("recall"), "{:.2%}")
    yield plain(name, "first as in exact search, of all", float(np.mean(found == built.exact)), "{:.2%}")
    yield plain(
        name, "search p50 over that of an exact one on half floats", _percentile(times, 50) / floor_ms, "{:.2f}"
    )
    read_ms = _read_ms(index)
    yield plain(name, "search p50 over reading all rows once", _percentile(times, 50) / read_ms, "{:.2f}")
    yield from _filtered(name, index, built.queries, people.count)
    yield from _changed(name, index, built.queries, people.count)


def held(people: SyntheticPeople) -> bool:
    """Whether there are bars for such vectors, and so many samples of each person."""
    return (people.dimension, people.samples) == (_BAR_DIMENSION, _BAR_SAMPLES)


def _at_most(name: str, what: str, value: float, bar: float | None, form: str) -> Row:
    return plain(name, what, value, form) if bar is None else at_most(name, what, value, bar, form)


def _at_least(name: str, what: str, value: float, bar: float | None, form: str) -> Row:
    return plain(name, what, value, form) if bar is None else at_least(name, what, value, bar, form)


def _percentile(seconds: Sequence[float], percent: float) -> float:
    """In milliseconds."""
    return float(1000 * np.percentile(seconds, percent))


def _build(people: SyntheticPeople, queries: int, bounds: Bounds | None) -> Built:
    who, vectors = people.queries(queries)
    index, exact, added_s, rebuilt_s = PeopleIndex(people.dimension, bounds), _Exact(vectors), 0.0, 0.0
    for block in people.blocks():
        exact.see(block.people, block.vectors)
        started = time.perf_counter()
        index.add(*block)
        added_s += time.perf_counter() - started
        started = time.perf_counter()
        if index.wants_rebuild:
            rebuild = index.begin_rebuild()
            rebuild.run(nullcontext())
            rebuild.finish()
        rebuilt_s += time.perf_counter() - started
    return Built(index, who, vectors, exact.people, added_s, rebuilt_s)


def _flat_ms(people: SyntheticPeople, queries: int) -> float:
    """The median of exact searches over half floats, on as many rows as there are."""
    _, vectors = people.queries(queries)
    index = PeopleIndex(people.dimension, Bounds(coarse_from=2 * _FLOOR_ROWS))
    for block in people.blocks():
        index.add(*block)
        if len(index) >= _FLOOR_ROWS:
            break
    times, _ = _search(index, vectors[:_FLOOR_QUERIES])
    return _percentile(times, 50) * people.count * people.samples / len(index)


def _read_ms(index: PeopleIndex) -> float:
    """How long it takes to read the bytes of all rows, from as much memory as they take, or some of it."""
    rows = index.rows[:_FLOOR_ROWS]
    codes = index.export(rows).codes.ravel()
    words = codes[: codes.size // 8 * 8].view(np.uint64)
    times = []
    for _ in range(_FLOOR_READS):
        started = time.perf_counter()
        words.max()
        times.append(time.perf_counter() - started)
    return _percentile(times, 50) * len(index) / len(rows)


def _restored(index: PeopleIndex, bounds: Bounds | None) -> tuple[PeopleIndex, float, float]:
    """A restored copy, the seconds it took, and the megabytes it takes; the caller must not use ``index`` again."""
    with tempfile.TemporaryDirectory(prefix="facesvc-bench-") as folder:
        trained, rows = index.trained(), index.rows
        parts = [rows[first : first + _PART] for first in range(0, len(rows), _PART)]
        for number, part in enumerate(parts):
            np.savez(Path(folder) / f"{number}.npz", *index.export(part))
        before = anonymous_mb()
        started = time.perf_counter()
        restored = PeopleIndex.restore(index.dimension, trained, bounds)
        for number in range(len(parts)):
            with np.load(Path(folder) / f"{number}.npz") as part:
                restored.add_codes(*(part[name] for name in part.files))
        start_s = time.perf_counter() - started
    return restored, start_s, anonymous_mb() - before


def anonymous_mb() -> float:
    """What this process holds in memory that is no file's."""
    gc.collect()
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) * 1024 / 1e6


def _search(
    index: PeopleIndex,
    queries: Floats,
    allowed: NDArray[np.bool_] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], NDArray[np.int64]]:
    """Seconds of each search but the first few, and whom each has first; −1 for nobody."""
    times, found = [], []
    for query in queries:
        started = clock()
        hits = index.search(query, 1, allowed)
        times.append(clock() - started)
        found.append(hits[0].owner if hits else -1)
    return times[min(_WARM_UP, len(times) // 2) :], np.array(found)


def _filtered(name: str, index: PeopleIndex, queries: Floats, count: int) -> Iterator[Row]:
    generator = np.random.default_rng(1)
    for what, share in _FILTERS.items():
        times, _ = _search(index, queries[: len(queries) // 4], generator.random(count) < share)
        yield plain(name, f"search among {what}, p99, ms", _percentile(times, 99), "{:.3f}")
    allowed = np.zeros(count, np.bool_)
    allowed[generator.choice(count, min(_TEN, count), replace=False)] = True
    times, _ = _search(index, queries[: len(queries) // 4], allowed)
    yield plain(name, "search among ten people, p99, ms", _percentile(times, 99), "{:.3f}")


def _changed(name: str, index: PeopleIndex, queries: Floats, count: int) -> Iterator[Row]:
    """Somebody new is added, looked for and removed, while another thread searches all the time."""
    lock, done, added, removed, found = threading.Lock(), threading.Event(), list[float](), list[float](), 0

    def search() -> None:
        while not done.is_set():
            for query in queries[:100]:
                with lock:
                    index.search(query, 1)
                time.sleep(0)  # whoever searches has something else to do as well: the lock is not held all the time

    def timed(times: list[float], change: Callable[..., None], *arguments: Ids | Floats) -> None:
        started = time.perf_counter()
        with lock:
            change(*arguments)
        times.append(time.perf_counter() - started)

    row, owner = index.rows.max() + 1 + np.arange(1), np.array([count])
    thread = threading.Thread(target=search)
    thread.start()
    try:
        for query in queries[np.arange(_CHANGES) % len(queries)]:
            timed(added, index.add, row, owner, query[None])
            with lock:
                found += index.search(query, 1)[0].owner == count
            timed(removed, index.remove, row)
            with lock:
                found += index.search(query, 1)[0].owner != count
    finally:
        done.set()
        thread.join()
    yield at_most(name, "adding under searches, p99, ms", _percentile(added, 99), _VISIBLE_MS, "{:.2f}")
    yield at_most(name, "removing under searches, p99, ms", _percentile(removed, 99), _VISIBLE_MS, "{:.2f}")
    yield at_least(name, "of them seen by the next search", found / (2 * _CHANGES), 1.0, "{:.1%}")
