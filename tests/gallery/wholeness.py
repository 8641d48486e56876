"""Whether everybody in a gallery is whole, found as who they are, and nothing else is there: see ``changes``."""

from dataclasses import replace

import numpy as np
from gallery.changes import CONTRACT, NOW, Person, State, crop_of, sample_of, subject_of, version_of
from ulid import ULID

from facesvc.gallery import Gallery, Sample


def state_of(gallery: Gallery, *, settled: bool = True) -> State:
    """Who is in a gallery, as a state; an ``AssertionError`` where somebody is half there, or not as they are found.

    ``settled``: there are no keys to nobody either, as after a start.
    """
    store = gallery._store
    state: State = {}
    for subject in store.subjects():
        version = version_of(subject)
        wanted = subject_of(subject.subject_id, version)
        assert replace(subject, sample_count=0) == wanted
        found = store.rows_of("office", subject.subject_id)
        for row_id, sample in found:
            _check_sample(gallery, row_id, sample)
        assert subject.sample_count == len(found)
        numbers = sorted(int(ULID.from_str(sample.sample_id)) for _, sample in found)
        state[subject.subject_id] = Person(version, tuple(numbers))
    _check_counts(gallery, state)
    _check_keys(gallery, state, settled=settled)
    return state


def _check_sample(gallery: Gallery, row_id: int, sample: Sample) -> None:
    """A sample is whole, and found as what it is."""
    number = int(ULID.from_str(sample.sample_id))
    wanted = sample_of(sample.subject_id, number)
    assert sample.vector is not None
    np.testing.assert_array_equal(sample.vector, wanted.vector)
    assert (sample.source, sample.image_sha256) == (wanted.source, wanted.image_sha256)
    assert gallery._store.crops.get(row_id) == crop_of(number)
    [[best]] = gallery.search(CONTRACT.contract_id, "office", sample.vector[None], 1, NOW)
    assert (best.subject_id, best.sample_id) == (sample.subject_id, sample.sample_id)
    assert best.display_name.startswith(f"Name {sample.subject_id} ")


def _check_counts(gallery: Gallery, state: State) -> None:
    """Nothing is there but these people: neither in memory nor in a table."""
    samples = sum(len(person.samples) for person in state.values())
    assert (gallery.subject_count("office"), gallery.sample_count("office")) == (len(state), samples)
    select = gallery._store._database.select
    for table in ("samples", "vectors", "crops"):
        assert select(f"SELECT count(*) FROM {table}") == [(samples,)]
    assert select("PRAGMA foreign_key_check") == []


def _check_keys(gallery: Gallery, state: State, *, settled: bool) -> None:
    """There are keys to these people, and where it is ``settled`` to nobody else."""
    keys = set(gallery._store._database.select("SELECT collection_id, subject_id FROM keyring.subject_keys"))
    people = {("", ""), *(("office", one) for one in state)}
    assert keys == people or (not settled and keys > people)
