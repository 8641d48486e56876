"""What is doubtful in a gallery is found, on made-up vectors whose likeness is known."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from ulid import ULID

from facesvc.errors import PreconditionError
from facesvc.gallery import Sample, checkup, checkup_words, likeness
from facesvc.gallery.checkup import Bounds, Finding, Kind, check
from facesvc.gallery.likeness import Templates
from facesvc.gallery.records import Floats

NOW = datetime(2026, 3, 2, tzinfo=UTC)
BOUNDS = Bounds(alike=0.9, unlike=0.6)


def rate(similarity: float) -> float:
    """1 in 10 at 0, 1 in 100,000 at 1."""
    return float(10 ** (-1 - 4 * max(0.0, similarity)))


def toward(first: Floats, second: Floats, similarity: float) -> Floats:
    """A unit vector as similar to ``first`` as said, turned towards ``second``, which is at right angles to it."""
    return (similarity * first + np.sqrt(1 - similarity**2) * second).astype(np.float32)


def axis(number: int, dimension: int = 64) -> Floats:
    return np.eye(dimension, dtype=np.float32)[number]


def sample(
    subject_id: str, vector: Floats | None, *, quality: float = 0.9, picture: str = "", sample_id: str = ""
) -> Sample:
    sample_id = sample_id or str(ULID())
    return Sample(
        sample_id=sample_id,
        collection_id="office",
        subject_id=subject_id,
        vector=vector,
        quality=quality,
        source="",
        image_sha256=hashlib.sha256((picture or sample_id).encode()).digest(),
        create_time=NOW,
    )


def person(subject_id: str, number: int, *similarities: float) -> list[Sample]:
    """A first sample along an axis of the person's own, and others as similar to it as said, and turned away alike."""
    own = axis(2 * number)
    return [sample(subject_id, toward(own, axis(2 * number + 1), one)) for one in (1.0, *similarities)]


def found(samples: Sequence[Sample], subject_ids: Iterable[str] = (), limit: int = 100) -> list[Finding]:
    return check([*subject_ids, *dict.fromkeys(one.subject_id for one in samples)], samples, BOUNDS, rate, limit)


def only(samples: Sequence[Sample], subject_ids: Iterable[str] = ()) -> Finding:
    (finding,) = found(samples, subject_ids)
    return finding


def test_a_good_gallery_has_no_findings() -> None:
    assert found([*person("ada", 0, 0.8, 0.7), *person("bob", 1, 0.95), *person("cem", 2)]) == []
    assert found([]) == []


def test_one_picture_of_two_people() -> None:
    ada = sample("ada", axis(0), picture="group.jpg")
    bob = sample("bob", toward(axis(0), axis(1), 0.95), picture="group.jpg")
    finding = only([ada, bob, *person("cem", 2)])

    assert finding.kind is Kind.SAME_IMAGE
    assert (finding.subject_id, finding.other_subject_id) == ("ada", "bob")
    assert finding.sample_ids == (ada.sample_id, bob.sample_id)
    assert finding.similarity == 1
    assert "`facesvc subjects merge ada bob`" in finding.message


def test_a_picture_counts_also_where_it_has_no_vector() -> None:
    findings = found([sample("ada", None, picture="x"), sample("bob", axis(0), picture="x"), sample("ada", axis(4))])

    assert [finding.kind for finding in findings] == [Kind.SAME_IMAGE]


def test_a_sample_that_is_not_like_the_others() -> None:
    ada = person("ada", 0, 0.8, 0.7)
    wrong = sample("ada", toward(axis(0), axis(9), 0.3))
    finding = only([*ada, wrong, *person("bob", 3)])

    assert finding.kind is Kind.UNLIKE_OTHERS
    assert (finding.subject_id, finding.other_subject_id) == ("ada", "")
    assert finding.sample_ids == (wrong.sample_id,)
    assert finding.similarity == pytest.approx(0.3, abs=1e-6)
    assert finding.false_match_rate == pytest.approx(rate(0.3))
    assert finding.message == (
        "ada: a sample is not like the other 3 (similarity 0.300 at best; of different people at least 1 pair in 160 is"
        " as alike). Look whether it shows somebody else, or nobody"
    )


def test_whom_such_a_sample_is_like_instead() -> None:
    bob = person("bob", 3)
    wrong = sample("ada", toward(axis(6), axis(9), 0.97))
    finding = found([*person("ada", 0, 0.8), wrong, *bob])[0]

    assert (finding.kind, finding.other_subject_id) == (Kind.UNLIKE_OTHERS, "bob")
    assert f"it is like bob (0.970): `facesvc subjects correct ada {wrong.sample_id} --actual bob`" in finding.message


def test_of_two_samples_nobody_knows_which_is_wrong() -> None:
    ada = person("ada", 0, 0.5)
    finding = only(ada)

    assert set(finding.sample_ids) == {one.sample_id for one in ada}
    assert finding.message.startswith("ada: the two samples are not alike (similarity 0.500 at best")


def test_wrong_samples_that_are_like_one_another_are_found_together() -> None:
    wrong = [sample("ada", axis(8)), sample("ada", toward(axis(8), axis(9), 0.9))]
    finding = only([*person("ada", 0, 0.8, 0.7), *wrong])

    assert finding.sample_ids == tuple(one.sample_id for one in wrong)
    assert "2 samples are not like the other 3" in finding.message


def test_samples_that_hang_together_by_others_are_one_person() -> None:
    angles = np.radians([0, 40, 80, 120, 160])  # each next to the one before: a head that turns
    turning = [sample("ada", (np.cos(one) * axis(0) + np.sin(one) * axis(1)).astype(np.float32)) for one in angles]

    assert found(turning) == []
    assert len(found([turning[0], turning[4]])) == 1


def test_two_people_who_look_like_one() -> None:
    ada, bob = person("ada", 0, 0.7), person("bob", 1, 0.7)
    bob.append(sample("bob", toward(ada[1].vector, axis(2), 0.95), sample_id=str(ULID())))  # type: ignore[arg-type]
    finding = next(one for one in found([*ada, *bob]) if one.kind is Kind.ALIKE)

    assert (finding.subject_id, finding.other_subject_id) == ("ada", "bob")
    assert finding.sample_ids == (ada[1].sample_id, bob[2].sample_id)
    assert finding.similarity == pytest.approx(0.95, abs=1e-6)
    assert finding.false_match_rate == pytest.approx(rate(0.95), rel=1e-4)
    assert "similarity 0.950; of different people at most 1 pair in 63,000 is so alike" in finding.message
    assert "of the 6 pairs of samples here hardly one is so by chance" in finding.message


def test_who_has_the_same_picture_is_not_named_twice() -> None:
    twins = [sample("ada", axis(0), picture="x"), sample("bob", axis(0), picture="x"), sample("cem", axis(0))]

    assert [(one.kind, one.subject_id, one.other_subject_id) for one in found(twins)] == [
        (Kind.SAME_IMAGE, "ada", "bob"),
        (Kind.ALIKE, "ada", "cem"),
        (Kind.ALIKE, "bob", "cem"),
    ]


def test_nothing_to_be_found_by() -> None:
    findings = found([sample("ada", None), sample("ada", None), sample("bob", axis(0))], ["zoe"])

    assert [(one.kind, one.subject_id) for one in findings] == [(Kind.NO_SAMPLE, "zoe"), (Kind.NO_SAMPLE, "ada")]
    assert "there is no sample" in findings[0].message
    assert "the 2 samples were made by other models" in findings[1].message


def test_one_poor_sample() -> None:
    poor, other = sample("ada", axis(0), quality=0.5), sample("bob", axis(2), quality=0.3)
    two = [sample("cem", toward(axis(4), axis(5), one), quality=0.2) for one in (1, 0.9)]
    imported, good = sample("dan", axis(6), quality=0), sample("eve", axis(8), quality=0.6)
    findings = found([poor, other, *two, imported, good])

    assert [(one.kind, one.subject_id) for one in findings] == [(Kind.POOR_SAMPLE, "bob"), (Kind.POOR_SAMPLE, "ada")]
    assert findings[1].sample_ids == (poor.sample_id,)
    assert "of quality 0.50 only" in findings[1].message


def mixed() -> list[Sample]:
    """Something of every kind, two of most."""
    return [
        *(sample(one, axis(number), picture="x") for number, one in enumerate(("ada", "bob"), 40)),
        *(sample(one, axis(number), picture="y") for number, one in enumerate(("abe", "bea"), 42)),
        *person("cem", 0, 0.5), *person("dan", 1, 0.2),
        sample("eva", axis(10)), sample("fay", toward(axis(10), axis(11), 0.92)),
        sample("gus", toward(axis(10), axis(12), 0.99)),
        sample("hal", None), sample("ina", axis(20), quality=0.4), sample("joe", axis(21), quality=0.2),
    ]  # fmt: skip


def test_the_worst_comes_first() -> None:
    assert [(one.kind.value, one.subject_id, one.other_subject_id) for one in found(mixed())] == [
        ("SAME_IMAGE", "abe", "bea"),
        ("SAME_IMAGE", "ada", "bob"),
        ("UNLIKE_OTHERS", "dan", ""),
        ("UNLIKE_OTHERS", "cem", ""),
        ("ALIKE", "eva", "gus"),
        ("ALIKE", "eva", "fay"),
        ("ALIKE", "fay", "gus"),
        ("NO_SAMPLE", "hal", ""),
        ("POOR_SAMPLE", "joe", ""),
        ("POOR_SAMPLE", "ina", ""),
    ]


@pytest.mark.parametrize("limit", range(1, 11))
def test_fewer_are_the_worst_of_all(limit: int) -> None:
    samples = mixed()

    assert found(samples, limit=limit) == found(samples)[:limit]


def test_the_order_of_the_people_makes_no_difference() -> None:
    samples = mixed()
    shuffled = [*samples[::2][::-1], *samples[1::2]]
    ids = sorted({one.subject_id for one in samples})

    def facts(order: list[Sample]) -> list[tuple[Kind, float, set[str]]]:
        return [
            (one.kind, round(one.similarity, 5), {one.subject_id, one.other_subject_id})
            for one in check(ids, order, BOUNDS, rate, 100)
        ]

    assert facts(shuffled) == facts(samples)


def test_too_many_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "MAX_SAMPLES", 3)
    samples = [sample("ada", None), *(sample(f"s{number}", axis(number)) for number in range(4))]

    assert [one.kind for one in found(samples[:4])] == [Kind.NO_SAMPLE]
    with pytest.raises(PreconditionError, match="over 3 samples") as caught:
        found(samples)
    assert caught.value.reason == "GALLERY_TOO_LARGE"


def test_whoever_leaves_stops_it() -> None:
    steps = iter(range(5))

    def leave() -> None:
        if next(steps) == 4:
            raise TimeoutError

    samples = [sample(f"s{number}", axis(number)) for number in range(8)]
    with pytest.raises(TimeoutError):
        check([], samples, BOUNDS, rate, 100, leave)
    with pytest.raises(TimeoutError):
        _templates([0, 1], np.eye(2, dtype=np.float32)).alike(0.5, 9, NOBODY, leave_at_once)


def leave_at_once() -> None:
    raise TimeoutError


NOBODY = np.empty(0, np.int64)


def _templates(owners: Sequence[int], vectors: Floats) -> Templates:
    templates = Templates()
    for vector, owner in zip(vectors, owners, strict=True):
        templates.add(vector, owner)
    return templates


def crowd(seed: int, count: int, people: int, dimension: int = 8) -> tuple[list[int], Floats]:
    """Owners and vectors of people who look much alike."""
    random = np.random.default_rng(seed)
    owners = random.integers(0, people, count)
    vectors = random.standard_normal((people, dimension))[owners] + random.standard_normal((count, dimension))
    return owners.tolist(), (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


CROWDS = st.builds(crowd, st.integers(0, 999), st.integers(1, 40), st.integers(1, 9))


@pytest.fixture(params=[1, 3, 7, 1024])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(likeness, "BLOCK", request.param)
    return int(request.param)


Cases = Callable[..., None]


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_the_likest_pairs_are_those_of_a_plain_search(seed: int, limit: int) -> None:
    owners, vectors = crowd(seed, 5 + 3 * seed, 2 + seed)
    but = likeness.pair_keys(np.array([0]), np.array([1]))
    best: dict[tuple[int, int], float] = {}
    for one, first in enumerate(owners):
        for two, second in enumerate(owners):
            similarity = float(vectors[one].astype(np.float64) @ vectors[two])
            if first < second and (first, second) != (0, 1) and similarity >= 0.3:
                best[first, second] = max(best.get((first, second), -1), similarity)

    pairs = _templates(owners, vectors).alike(0.3, limit, but, lambda: None)

    assert [round(pair.similarity, 5) for pair in pairs] == [
        round(one, 5) for one in sorted(best.values())[::-1][:limit]
    ]
    for pair in pairs:
        people = tuple(sorted((owners[pair.first], owners[pair.second])))
        assert pair.similarity == pytest.approx(best[people], abs=1e-6)  # type: ignore[index]
        assert pair.similarity == pytest.approx(float(vectors[pair.first] @ vectors[pair.second]), abs=1e-6)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("seed", range(12))
def test_the_nearest_of_others_is_that_of_a_plain_search(seed: int) -> None:
    owners, vectors = crowd(seed, 5 + 3 * seed, 1 + seed)
    rows = np.arange(0, len(owners), 2)
    found = _templates(owners, vectors).nearest_others(rows, lambda: None)

    for row, pair in zip(rows.tolist(), found, strict=True):
        others = [place for place, owner in enumerate(owners) if owner != owners[row]]
        if not others:
            assert pair is None
            continue
        assert pair is not None
        assert pair.first == row
        assert owners[pair.second] != owners[row]
        assert pair.similarity == pytest.approx(max(float(vectors[row] @ vectors[one]) for one in others), abs=1e-6)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("seed", range(12))
def test_odd_groups_are_what_does_not_hang_together(seed: int) -> None:
    owners, vectors = crowd(seed, 6 + 3 * seed, 1 + seed // 2, dimension=3)
    groups = list(_templates(owners, vectors).odd_groups(0.7, lambda: None))

    for owner in set(owners):
        rows = [row for row, one in enumerate(owners) if one == owner]
        parts = _plain_groups(rows, vectors, 0.7)
        mine = [group for group in groups if owners[group.rows[0]] == owner]
        assert {frozenset(group.rows) for group in mine} == {frozenset(one) for one in parts[1:]}
        for group in mine:
            assert sorted(group.others) == parts[0]
            rest = [row for row in rows if row not in group.rows]
            best = max(float(vectors[one] @ vectors[two]) for one in group.rows for two in rest)
            assert group.similarity == pytest.approx(best, abs=1e-6)
            assert group.similarity < 0.7


def _plain_groups(rows: list[int], vectors: Floats, threshold: float) -> list[list[int]]:
    parts = [[row] for row in rows]
    for one in rows:
        for two in rows:
            if vectors[one] @ vectors[two] >= threshold:
                first, second = (next(part for part in parts if row in part) for row in (one, two))
                if first is not second:
                    parts = [part for part in parts if part not in (first, second)] + [sorted(first + second)]
    return sorted(parts, key=lambda part: (-len(part), part[0]))


@given(CROWDS, st.integers(1, 20))
def test_everybody_alike_takes_no_more_room_than_is_asked_for(case: tuple[list[int], Floats], limit: int) -> None:
    owners, vectors = case
    same = np.tile(vectors[:1], (len(owners), 1))
    people = len(set(owners))

    pairs = _templates(owners, same).alike(0.5, limit, NOBODY, lambda: None)

    assert len(pairs) == min(limit, people * (people - 1) // 2)
    assert len({frozenset((owners[pair.first], owners[pair.second])) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("number", "rounded"),
    [(0.001, 0), (0.4, 0), (0.6, 1), (1, 1), (9.4, 9), (10, 10), (99.6, 100), (163, 160), (76_701, 77_000)],
)
def test_numbers_are_told_to_two_digits(number: float, rounded: int) -> None:
    assert checkup_words._rounded(number) == rounded


def test_what_chance_explains_is_said() -> None:
    message = checkup_words.alike("ada", "bob", 0.95, 1e-4, 1_234_567)
    assert "of the 1,234,567 pairs of samples here about 120 are so by chance" in message


def test_thousands_of_people() -> None:
    random = np.random.default_rng(1)
    people = random.standard_normal((2_000, 128), np.float32)
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    noise = random.standard_normal((2_000, 5, 128), np.float32)
    noise /= np.linalg.norm(noise, axis=2, keepdims=True)
    vectors = 0.742 * people[:, None] + 0.67 * noise  # two samples of one person at 0.55, as real ones are
    vectors[17, 3] = vectors[1711, 0] + 0.1 * noise[17, 3]  # a wrong sample
    vectors[99] = vectors[1234] + 0.3 * noise[99]  # one person twice
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    ids = [f"s{number:04}" for number in range(2_000)]
    samples = (sample(ids[one], vectors[one, two]) for one in range(2_000) for two in range(5))

    findings = check(ids, samples, Bounds(alike=0.6, unlike=0.3), rate, 100)

    assert [(one.kind, one.subject_id, one.other_subject_id) for one in findings] == [
        (Kind.UNLIKE_OTHERS, "s0017", "s1711"),
        (Kind.ALIKE, "s0017", "s1711"),
        (Kind.ALIKE, "s0099", "s1234"),
    ]
