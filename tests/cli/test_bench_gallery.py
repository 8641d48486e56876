"""``facesvc bench gallery``, at sizes that take a second, and the people that it invents."""

import numpy as np
import pytest
from cli.running import Facesvc

from facesvc.cli import bench_gallery_import, bench_gallery_work
from facesvc.cli.synthetic_people import PAIR_COSINE, SyntheticPeople
from facesvc.errors import InputError
from facesvc.gallery import Gallery
from facesvc.gallery.index import Bounds


@pytest.fixture
def server() -> str:
    """No server: nobody is asked."""
    return "127.0.0.1:1"


@pytest.fixture
def few_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gallery_work, "_CHANGES", 10)
    monkeypatch.setattr(bench_gallery_work, "_FLOOR_ROWS", 2000)
    monkeypatch.setattr(bench_gallery_import, "NEWCOMERS", 500)
    monkeypatch.setattr(bench_gallery_import, "_PIECE_S", 0.05)
    monkeypatch.setattr(bench_gallery_import, "_PIECES", 2)


RATE = bench_gallery_import.GALLERY


@pytest.mark.slow
def test_it_prints_what_it_measured(facesvc: Facesvc, few_changes: None) -> None:
    arguments = ("--size", 1000, "--size", 2000, "--dim", 32, "--queries", 60)
    result = facesvc("bench", "gallery", *arguments, "--json")
    assert result.status == 0, result.err
    found = result.json
    assert (found["dimension"], found["samples"], found["met"]) == (32, 5, True)
    rows = {(row["workload"], row["what"]): row["value"] for row in found["rows"]}
    assert {workload for workload, _ in rows} == {"1,000", "2,000"}
    assert rows["1,000", "recall@1 of these"] == 1
    assert rows["1,000", "search p50, ms"] <= rows["1,000", "search p99, ms"]
    assert rows["2,000", "of them seen by the next search"] == 1
    assert rows["1,000", RATE.format(1000)] > 0
    assert "1000 templates of 32 values" in result.err
    table = facesvc("bench", "gallery", *arguments[2:]).out
    assert "recall@1" in table
    assert RATE.format(2000) in table


@pytest.mark.slow
def test_a_gallery_that_outgrows_the_flat_tier_is_measured_coarse(few_changes: None) -> None:
    people = SyntheticPeople(1000, 64, 4)
    rows = {row.what: row for row in bench_gallery_work.measure(people, 400, Bounds(3000, 2000))}
    assert "ready from saved rows in, s (coarse)" in rows
    assert rows["recall@1 of these"].value >= 0.999
    assert rows["exact search has the right one first"].value > 0.6


@pytest.mark.slow
def test_bars_are_held_against_the_sizes_that_have_them(monkeypatch: pytest.MonkeyPatch, few_changes: None) -> None:
    monkeypatch.setattr(bench_gallery_work, "_BAR_DIMENSION", 32)
    monkeypatch.setitem(bench_gallery_work.BARS, 500, {"p99": 0.0, "recall": 0.0, "megabytes": 1e6, "start": 1e6})
    rows = {row.what: row for row in bench_gallery_work.measure(SyntheticPeople(100, 32), 60)}
    assert rows["search p99, ms"].met is False
    assert rows["recall@1 of these"].met
    assert rows["memory of the index, MB"].met
    assert rows["ready from saved rows in, s (flat)"].met
    others = {row.what: row for row in bench_gallery_work.measure(SyntheticPeople(90, 32), 60)}
    assert others["search p99, ms"].met is None


@pytest.mark.slow
def test_a_bar_that_is_not_met_shows_in_the_exit_status(
    facesvc: Facesvc, few_changes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_gallery_work, "_VISIBLE_MS", 0.0)
    assert facesvc("bench", "gallery", "--size", 500, "--dim", 32, "--queries", 60).status == 1


class TestImport:
    PEOPLE = SyntheticPeople(100, 32, 5)
    NEWCOMERS = SyntheticPeople(100, 32, 5, seed=2)

    def test_everybody_is_on_the_disk_and_then_others_come_beside_the_searches(
        self, few_changes: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []

        class Closing(Gallery):
            def close(self) -> None:
                seen.append({one.subject_id: one.sample_count for one in self.list_subjects("default", 1000)[0]})
                super().close()

        monkeypatch.setattr(bench_gallery_import, "Gallery", Closing)
        rows = bench_gallery_import.measure("500", self.PEOPLE, self.NEWCOMERS, held=False)
        [counts] = seen
        assert {name for name in counts if name.startswith("person-")} == {f"person-{number}" for number in range(100)}
        assert {counts[f"person-{number}"] for number in range(100)} == {5}
        newcomers = sum(name.startswith("newcomer-") for name in counts)
        # As the pace has it: what two pieces of 0.05 s bring is two batches of 20 samples in each, or fewer.
        assert 2 * 4 <= newcomers <= 2 * 2 * 4
        assert all(row.value > 0 and row.met is None for row in rows)

    @pytest.mark.parametrize(("rate", "beside_s", "met"), [(500, 0.0025, True), (499, 0.00251, False)])
    def test_bars(self, monkeypatch: pytest.MonkeyPatch, rate: float, beside_s: float, met: bool) -> None:  # noqa: FBT001 - a parameter
        found = bench_gallery_import._Beside([0.002] * 100, [beside_s] * 98 + [0.01] * 2, rate)
        monkeypatch.setattr(bench_gallery_import, "_import_all", lambda *_: rate)
        monkeypatch.setattr(bench_gallery_import, "_search_beside", lambda *_: found)
        rows = bench_gallery_import.measure("500", self.PEOPLE, self.NEWCOMERS, held=True)
        assert [row.met for row in rows] == [met, None, met, met, None]
        assert [row.value for row in rows] == pytest.approx([rate, 2.0, rate, beside_s / 0.002, 5.0])
        assert {row.workload for row in rows} == {"500"}

    @pytest.mark.slow
    @pytest.mark.parametrize(("arguments", "imported"), [((), 300), (("--import-all",), 900)])
    def test_of_a_large_gallery_some_are_imported_or_all(
        self,
        facesvc: Facesvc,
        few_changes: None,
        monkeypatch: pytest.MonkeyPatch,
        arguments: tuple[str, ...],
        imported: int,
    ) -> None:
        monkeypatch.setattr(bench_gallery_import, "MOST", 300)
        few = ("--size", 900, "--dim", 32, "--queries", 60, *arguments, "--json")
        rows = {(row["workload"], row["what"]) for row in facesvc("bench", "gallery", *few).json["rows"]}
        assert ("900", RATE.format(imported)) in rows

    def test_what_the_gallery_refuses_ends_the_measurement(self, few_changes: None) -> None:
        wrong = SyntheticPeople(100, 16, 5)
        with pytest.raises(InputError, match="has 16 values"):
            bench_gallery_import.measure("500", self.PEOPLE, wrong, held=False)


class TestSyntheticPeople:
    def test_they_are_the_same_for_a_seed(self) -> None:
        one, other = (list(SyntheticPeople(4500, 16, 2, seed=3).blocks()) for _ in range(2))
        for block, again in zip(one, other, strict=True):
            np.testing.assert_array_equal(block.vectors, again.vectors)
        assert np.concatenate([block.rows for block in one]).tolist() == list(range(9000))
        assert np.concatenate([block.people for block in one]).tolist() == np.repeat(range(4500), 2).tolist()
        (another, *_) = SyntheticPeople(4500, 16, 2, seed=4).blocks()
        assert not np.array_equal(one[0].vectors, another.vectors)

    def test_two_samples_of_one_person_are_alike_as_real_ones_are(self) -> None:
        people = SyntheticPeople(1500, 512, 2)
        (block,) = people.blocks()
        np.testing.assert_allclose(np.linalg.norm(block.vectors, axis=1), 1, atol=1e-5)
        assert block.vectors.dtype == np.float32
        pairs = (block.vectors[::2] * block.vectors[1::2]).sum(axis=1)
        assert pairs.mean() == pytest.approx(PAIR_COSINE, abs=0.01)
        assert pairs.std() == pytest.approx(0.10, abs=0.015)
        strangers = block.vectors[:1000:2] @ block.vectors[1000::2].T
        assert abs(strangers.mean()) < 0.01
        assert strangers.std() == pytest.approx(0.07, abs=0.01)

    def test_a_query_is_a_new_sample_of_somebody(self) -> None:
        people = SyntheticPeople(5000, 64, 3)
        who, queries = people.queries(300)
        blocks = list(people.blocks())
        vectors = np.concatenate([block.vectors for block in blocks])
        assert queries.shape == (300, 64)
        similarities = vectors @ queries.T
        assert similarities.max() < 0.99999
        own = similarities.reshape(5000, 3, 300)[who, :, np.arange(300)]
        assert own.mean() == pytest.approx(PAIR_COSINE, abs=0.03)
        assert len(set(who.tolist())) > 250
