"""The index against the obvious way to do it, in every tier, whatever happens in whatever order."""

from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from facesvc.gallery.index import Bounds, Hit, PeopleIndex, Rebuild
from facesvc.gallery.index.encodings import BYTES, HALVES

OWNERS = LOOKS = 40
BOUNDS = Bounds(coarse_from=60, flat_below=30)
ROUNDING = 1e-6
Floats = NDArray[np.float32]


def looks(dimension: int) -> Floats:
    """Forty looks, many of more than one person: whoever has the same look ties."""
    vectors = np.random.default_rng(1).normal(size=(LOOKS, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Model(RuleBasedStateMachine):
    """A dictionary of rows beside the index; so few owners that a coarse search looks into all of them."""

    dimension, coarse_encoding = 36, HALVES

    def __init__(self) -> None:
        super().__init__()
        self.index = PeopleIndex(self.dimension, BOUNDS)
        self.looks = looks(self.dimension)
        self.rows: dict[int, tuple[int, Floats]] = {}
        self.rebuild: Rebuild | None = None
        self.next_row = 0
        self.tier = self.index.tier

    @rule(count=st.integers(1, 40), seed=st.integers(0, 1000))
    def add(self, count: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        rows = np.arange(self.next_row, self.next_row + count) * 7 - 50
        owners, chosen = generator.integers(OWNERS, size=count), generator.integers(LOOKS, size=count)
        self.index.add(rows, owners, self.looks[chosen])
        self.next_row += count
        for row, owner, look in zip(rows.tolist(), owners.tolist(), chosen, strict=True):
            self.rows[row] = owner, self.keep(self.looks[look])

    @rule(share=st.floats(0, 1), seed=st.integers(0, 1000))
    def remove(self, share: float, seed: int) -> None:
        gone = [row for row in self.rows if np.random.default_rng(seed + row + 50).random() < share]
        self.index.remove(np.array([*gone, 10**9], np.int64))
        for row in gone:
            del self.rows[row]

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """A row comes back under its id, to somebody else and with another look."""
        row, owner = data.draw(st.sampled_from(sorted(self.rows))), data.draw(st.integers(0, OWNERS - 1))
        look = data.draw(st.integers(0, LOOKS - 1))
        self.index.remove(np.array([row]))
        self.index.add(np.array([row]), np.array([owner]), self.looks[look : look + 1])
        self.rows[row] = owner, self.keep(self.looks[look])

    @rule(look=st.integers(0, LOOKS - 1), limit=st.integers(1, 50), share=st.floats(0, 1))
    def search(self, look: int, limit: int, share: float) -> None:
        allowed = np.random.default_rng(look).random(OWNERS) < share
        query = self.looks[look] if look % 2 else -self.looks[look]
        self.check(query, limit, None)
        self.check(query, limit, allowed)

    def check(self, query: Floats, limit: int, allowed: NDArray[np.bool_] | None) -> None:
        hits, wanted = self.index.search(query, limit, allowed), self.brute_force(query, allowed)
        assert len(hits) >= min(limit, len(wanted))
        assert len({hit.owner for hit in hits}) == len(hits)
        for hit, other in zip(hits, wanted[: len(hits)], strict=True):
            assert abs(hit.similarity - other.similarity) < ROUNDING
            owner, kept = self.rows[hit.row]
            assert owner == hit.owner
            assert abs(self.similarity(kept, query) - hit.similarity) < ROUNDING
            assert hit.row == min(row for row, known in self.rows.items() if self.ties(known, (owner, kept)))
        for hit, following in pairwise(hits):
            assert (-hit.similarity, hit.row) < (-following.similarity, following.row)
        for missing in wanted[len(hits) :]:
            assert not np.array_equal(self.rows[missing.row][1], self.rows[hits[limit - 1].row][1])

    @staticmethod
    def similarity(kept: Floats, query: Floats) -> float:
        return float(np.clip(kept.astype(np.float64) @ query, -1, 1))

    @staticmethod
    def ties(row: tuple[int, Floats], other: tuple[int, Floats]) -> bool:
        return row[0] == other[0] and np.array_equal(row[1], other[1])

    def brute_force(self, query: Floats, allowed: NDArray[np.bool_] | None) -> list[Hit]:
        """Every owner's best row."""
        best: dict[int, Hit] = {}
        for row, (owner, kept) in sorted(self.rows.items()):
            if allowed is None or allowed[owner]:
                hit = Hit(owner, row, self.similarity(kept, query))
                best[owner] = min(best.get(owner, hit), hit, key=lambda one: -one.similarity)
        return sorted(best.values(), key=lambda hit: -hit.similarity)

    def keep(self, look: Floats) -> Floats:
        """A look as the tier that answers keeps it."""
        encoding = HALVES if self.tier == "flat" else self.coarse_encoding
        return encoding.decode(encoding.encode(look[None]))[0]

    def settle(self) -> None:
        """After a rebuild: where the tier has changed, all are kept in another way."""
        if self.index.tier != self.tier:
            self.tier = self.index.tier
            self.rows = {row: (owner, self.keep(kept)) for row, (owner, kept) in self.rows.items()}

    @rule()
    def begin(self) -> None:
        self.rebuild = self.index.begin_rebuild()

    @precondition(lambda self: self.rebuild)
    @rule()
    def run(self) -> None:
        assert self.rebuild
        self.rebuild.run(nullcontext())

    @precondition(lambda self: self.rebuild)
    @rule()
    def finish(self) -> None:
        assert self.rebuild
        if self.rebuild.finish():
            self.rebuild = None
            self.settle()

    @rule()
    def grow_into_place(self) -> None:
        """What a caller does after every change."""
        if self.index.wants_rebuild:
            self.rebuild = self.index.begin_rebuild()
            self.rebuild.run(nullcontext())
            assert self.rebuild.finish()
            self.rebuild = None
            self.settle()
        assert not self.index.wants_rebuild

    @rule(parts=st.integers(1, 3))
    def restart(self, parts: int) -> None:
        rows, tier = self.index.rows, self.index.tier
        restored = PeopleIndex.restore(self.dimension, self.index.trained(), BOUNDS)
        for part in np.array_split(rows, parts):
            restored.add_codes(*self.index.export(np.concatenate([part, [10**9]])))
        self.index, self.rebuild = restored, None
        assert self.index.tier == tier

    @invariant()
    def holds_what_it_was_given(self) -> None:
        assert len(self.index) == len(self.rows)
        assert sorted(self.index.rows.tolist()) == sorted(self.rows)


class WideModel(Model):
    """With vectors so long that the coarse tier keeps them as bytes."""

    dimension, coarse_encoding = 260, BYTES


Model.TestCase.settings = WideModel.TestCase.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestModel = Model.TestCase
TestWideModel = pytest.mark.slow(WideModel.TestCase)
