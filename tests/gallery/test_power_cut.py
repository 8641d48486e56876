"""A power cut in the middle of any write leaves the gallery before it or after it; ``filming`` says what is shown."""

import random
import shutil
from collections.abc import Callable
from contextlib import closing
from itertools import count, islice, pairwise
from pathlib import Path

import pytest
from gallery import changes
from gallery.filming import Files, FilmedDatabase, Write, lay_out
from gallery.wholeness import state_of

from facesvc.gallery import Gallery
from facesvc.gallery.masterkey import KeyFile

Reopen = Callable[[Files], changes.State]


@pytest.fixture
def reopen(tmp_path: Path, vault: KeyFile) -> Reopen:
    """Opens a gallery of some files; its state."""
    numbers = count()

    def reopen(files: Files) -> changes.State:
        folder = tmp_path / f"cut {next(numbers)}"
        lay_out(files, folder)
        with closing(changes.open_gallery(folder / "gallery.sqlite", vault)) as gallery:
            state = state_of(gallery)
        shutil.rmtree(folder)
        return state

    return reopen


def film(path: Path, vault: KeyFile, many: int) -> tuple[list[Write], list[changes.State]]:
    """Every write of so many changes, and the state before the first and after each."""
    states: list[changes.State] = [{}]
    database = FilmedDatabase(path)
    with closing(Gallery.open(database, changes.CONTRACT, changes.NOW, [vault])) as gallery:
        database.film.writes.clear()
        for change, state in islice(changes.Life(3), many):
            changes.make(gallery, change)
            states.append(state)
            database.film.chapter += 1
    return database.film.writes, states


@pytest.mark.parametrize(
    ("many", "cuts"), [(24, 1), pytest.param(80, 10, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_a_cut_in_any_write_leaves_what_was_before_or_after(
    path: Path, vault: KeyFile, reopen: Reopen, many: int, cuts: int
) -> None:
    writes, states = film(path, vault, many)
    assert {write.chapter for write in writes} == set(range(many))
    chance = random.Random(1)
    for write in writes:
        possible = list(write.cuts(chance, cuts))
        for files in chance.sample(possible, min(cuts, len(possible))):
            assert reopen(files) in states[write.chapter : write.chapter + 2]
    for write, following in pairwise(writes):
        if following.chapter > write.chapter:  # it was acknowledged
            assert reopen(write.after) == states[write.chapter + 1]


def test_no_commit_is_one_of_both_files(path: Path, vault: KeyFile) -> None:
    writes, _ = film(path, vault, 60)
    for write in writes:
        logs = {name for name in write.changed if name.endswith("-wal")}
        assert len(logs) == 1 or "checkpoint" in write.statement
