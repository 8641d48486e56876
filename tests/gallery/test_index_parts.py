"""The parts that the index is made of, each for itself."""

import numpy as np
import pytest

from facesvc.errors import InputError
from facesvc.gallery.index.encodings import BYTES, HALVES
from facesvc.gallery.index.hits import best_hits
from facesvc.gallery.index.memory import Growing
from facesvc.gallery.index.places import NOWHERE, Places
from facesvc.gallery.index.rows import fill_gaps
from facesvc.gallery.index.scans import HalfScan, inner_products
from facesvc.gallery.index.sketches import Calibration, Sketches
from facesvc.gallery.index.units import PLACES, Units


def units_of_length(count: int, dimension: int, seed: int = 1) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class TestGrowing:
    def test_it_keeps_what_it_held_and_adds_zeros(self) -> None:
        growing = Growing(np.int64, 3)
        for size in (1, 50_000, 7, 7, 300_000, 2):
            before = growing.values.copy()
            growing.resize(size)
            kept = min(size, len(before))
            np.testing.assert_array_equal(growing.values[:kept], before[:kept])
            assert not growing.values[kept:].any()
            assert growing.values.shape == (len(growing), 3) == (size, 3)
            growing.values[:] = np.arange(size)[:, None] + 1

    def test_what_falls_off_is_overwritten(self) -> None:
        growing = Growing(np.uint8)
        growing.append(np.full(40, 7, np.uint8))
        behind = growing.values[10:]
        growing.resize(10)
        assert not behind.any()

    def test_it_gives_memory_back(self) -> None:
        growing = Growing(np.uint8)
        growing.resize(100_000_000)
        assert len(growing._memory) >= 100_000_000
        growing.resize(0)
        assert len(growing._memory) < 1_000_000

    def test_a_view_that_somebody_kept_hinders_nothing_and_shows_nothing(self) -> None:
        growing = Growing(np.uint8)
        growing.append(np.full(40, 7, np.uint8))
        kept = growing.values
        growing.resize(10_000_000)
        assert growing.values[:40].tolist() == [7] * 40
        assert not kept.any()


def test_places_are_those_of_a_dictionary() -> None:
    generator, places, known = np.random.default_rng(3), Places(), dict[int, int]()
    for turn in range(150):
        fresh = np.setdiff1d(generator.integers(-500, 20_000, size=generator.integers(1, 3000)), list(known))
        slots = generator.integers(0, 1 << 30, size=len(fresh)).astype(np.int32)
        places.put(fresh, slots)
        known.update(zip(fresh.tolist(), slots.tolist(), strict=True))
        held = np.array(list(known))
        chosen = generator.choice(held, min(len(held) // 2, 300), replace=False)
        if turn % 3:
            places.drop(chosen)
            for row in chosen.tolist():
                del known[row]
        else:
            slots = generator.integers(1 << 30, size=len(chosen)).astype(np.int32)
            places.move(chosen, slots)
            known.update(zip(chosen.tolist(), slots.tolist(), strict=True))
        asked = generator.integers(-1000, 21_000, size=50)
        assert places.find(asked).tolist() == [known.get(row, NOWHERE) for row in asked.tolist()]
        assert places.size < 2 * len(known) + 5000


@pytest.mark.parametrize(("encoding", "bound"), [(HALVES, 5e-4), (BYTES, 4e-3)])
@pytest.mark.parametrize("dimension", [1, 4, 128, 509, 512])
def test_an_encoding_keeps_what_is_similar_similar(encoding: type[HALVES], bound: float, dimension: int) -> None:
    vectors = units_of_length(200, dimension)
    codes = encoding.encode(vectors)
    assert codes.shape == (200, encoding.width(dimension))
    decoded = encoding.decode(codes)
    assert decoded.dtype == np.float32
    assert np.abs((decoded - vectors) @ vectors[0]).max() < bound
    np.testing.assert_array_equal(encoding.decode(codes[::2]), decoded[::2])
    np.testing.assert_array_equal(encoding.decode(codes[:0]), decoded[:0])


def test_bytes_survive_being_encoded_again() -> None:
    codes = BYTES.encode(units_of_length(500, 128))
    again = BYTES.encode(BYTES.decode(codes))
    np.testing.assert_array_equal(again[:, :128], codes[:, :128])


@pytest.mark.parametrize("dimension", [3, 64, 509])
def test_a_product_depends_on_nothing_but_its_two_vectors(dimension: int) -> None:
    vectors = units_of_length(301, dimension)
    wanted = [inner_products(vectors[0], vector[None])[0] for vector in vectors]
    assert inner_products(vectors[0], vectors).tolist() == wanted
    np.testing.assert_allclose(wanted, vectors @ vectors[0], atol=1e-6)
    assert len(inner_products(vectors[0], vectors[:0])) == 0


def test_a_scan_reads_the_rows_where_they_lie() -> None:
    vectors, scan = units_of_length(300, 20), HalfScan(20)
    codes = HALVES.encode(vectors)
    assert scan.search(codes, vectors[17], 1, None)[1].tolist() == [17]
    codes[17] = codes[3]
    similarities, slots = scan.search(codes[:100], vectors[3], 3, None)
    assert set(slots[:2].tolist()) == {3, 17}
    assert similarities[0] == similarities[1]
    among = np.zeros(100, np.bool_)
    among[[5, 99]] = True
    assert sorted(scan.search(codes[:100], vectors[3], 3, among)[1].tolist()) == [5, 99]


def test_an_owner_stands_once_by_the_best_row_and_ties_come_along() -> None:
    owners = np.array([4, 4, 9, 2, 7])
    ids = np.array([50, 40, 30, 20, 10])
    similarities = np.array([0.5, 0.5, 0.5, 0.25, 1.5], np.float32)
    found = [(hit.owner, hit.row, hit.similarity) for hit in best_hits(owners, ids, similarities, 2)]
    assert found == [(7, 10, 1.0), (9, 30, 0.5), (4, 40, 0.5)]
    assert [hit.owner for hit in best_hits(owners, ids, similarities, 9)] == [7, 9, 4, 2]
    assert best_hits(owners[:0], ids[:0], similarities[:0], 1) == []


@pytest.mark.parametrize("dimension", [33, 128, 200, 509, 1024])
def test_sketches_find_what_is_near(dimension: int) -> None:
    vectors = units_of_length(700, dimension)
    sketches = Sketches(dimension, Calibration.of(vectors))
    assert len(sketches.search(vectors[0], 5)) == 0
    sketches.resize(700)
    sketches.write(np.arange(700)[::-1].copy(), vectors[::-1])
    first = [int(sketches.search(vector, 20)[0]) for vector in vectors[:200]]
    assert np.mean(np.array(first) == np.arange(200)) > 0.98
    assert sorted(sketches.search(vectors[0], 9999).tolist()) == list(range(700))


def test_a_sketch_that_goes_is_overwritten_and_found_no_more() -> None:
    vectors = units_of_length(70, 64)
    sketches = Sketches(64, Calibration.of(vectors))
    sketches.resize(70)
    sketches.write(np.arange(70), vectors)
    sketches.move(np.array([69, 40]), np.array([10, 31]))
    assert set(sketches.search(vectors[69], 2).tolist()) == {10, 69}
    assert set(sketches.search(vectors[40], 2).tolist()) == {31, 40}
    assert 10 not in sketches.search(vectors[10], 3)
    sketches.resize(33)
    assert sorted(sketches.search(vectors[69], 99).tolist()) == list(range(33))
    blocks, packer = sketches._blocks, sketches._index.get_CodePacker()
    assert not any(packer.unpack_1(blocks, number).any() for number in range(33, 70))
    sketches.wipe()
    assert not sketches._blocks.any()


@pytest.mark.parametrize("dimension", [1, 2, 33, 128, 512])
def test_sketches_lie_as_faiss_would_lay_them(dimension: int) -> None:
    vectors = np.random.default_rng(4).normal(size=(100, dimension)).astype(np.float32)
    calibration = Calibration.of(vectors)
    sketches = Sketches(dimension, calibration)
    sketches.resize(100)
    sketches.write(np.arange(100)[::-1].copy(), vectors[::-1])
    blocks, packer = sketches._blocks, sketches._index.get_CodePacker()
    laid = np.zeros_like(blocks)
    for number, code in enumerate(sketches._index.sa_encode(vectors - calibration.mean)):
        packer.pack_1(code, number, laid)
    np.testing.assert_array_equal(blocks, laid)


def test_a_calibration_comes_back_or_is_refused() -> None:
    calibration = Calibration.of(units_of_length(100, 5))
    again = Calibration.from_bytes(calibration.to_bytes(), 5)
    np.testing.assert_array_equal(again.mean, calibration.mean)
    np.testing.assert_array_equal(again.spread, calibration.spread)
    not_finite = Calibration(calibration.mean * np.nan, calibration.spread).to_bytes()
    negative = Calibration(calibration.mean, -calibration.spread).to_bytes()
    for damaged in (b"", calibration.to_bytes()[:-1], not_finite, negative):
        with pytest.raises(InputError, match="calibration"):
            Calibration.from_bytes(damaged, 5)


def test_units_hold_every_row_once_and_only_the_newest_has_places() -> None:
    generator, units, owner_of = np.random.default_rng(5), Units(), list[int]()
    for turn in range(150):
        if turn % 2 == 0:
            owners = generator.integers(12, size=generator.integers(1, 40))
            slots = np.arange(len(owner_of), len(owner_of) + len(owners), dtype=np.int32)
            changed = units.add(slots, owners)
            owner_of.extend(owners.tolist())
            assert set(units.owners[changed]) == set(owners.tolist())
        if turn % 2:
            gone = generator.choice(len(owner_of), min(len(owner_of), int(generator.integers(50))), replace=False)
            before = [units.owners[number] for number in range(len(units))]
            moved, changed = units.remove(gone)
            for origin, target in zip(*moved, strict=True):
                assert before[origin] == units.owners[target]
            assert set(units.owners[changed].tolist()) <= {owner_of[slot] for slot in gone.tolist()}
            rows = fill_gaps(len(owner_of), gone)
            units.renumber(rows)
            for origin, target in zip(*rows, strict=True):
                owner_of[target] = owner_of[origin]
            del owner_of[len(owner_of) - len(gone) :]
        check(units, owner_of)


def check(units: Units, owner_of: list[int]) -> None:
    seen = []
    for owner in range(13):
        chain, indices = units.chain(np.array([owner]))
        assert set(indices.tolist()) <= {0}
        slots, starts = units.members(chain)
        counts = units.counts[chain].tolist()
        assert counts[1:] == [PLACES] * len(counts[1:])
        assert all(counts)
        assert starts.tolist() == [sum(counts[:n]) for n in range(len(counts))]
        assert {owner_of[slot] for slot in slots.tolist()} <= {owner}
        seen += slots.tolist()
    assert sorted(seen) == list(range(len(owner_of)))
    assert len(units) == sum(-(-owner_of.count(owner) // PLACES) for owner in range(12))
