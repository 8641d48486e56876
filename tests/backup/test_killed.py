"""A restore, and an exchange of the master key, killed at every step on the disk."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is room: nothing here depends on what is on a disk."""
    memory = Path("/dev/shm")  # Linux keeps it for this
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as name:
        yield Path(name)


def killed(what: str, folder: Path) -> list[list[object]]:
    """What the start after each kill found; after the last step there was nothing to kill."""
    command = [sys.executable, "-m", "backup.killing", what, str(folder)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[object]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_restore_that_is_killed_leaves_the_old_gallery_or_the_new_one(folder: Path) -> None:
    found = killed("restore", folder)
    files = ["gallery.db", "gallery.db-keys"]
    kept = [f"gallery.db.before-restore{part}" for part in ("", "-keys")]
    assert len(found) > 25
    assert found[0] == [["ada", "bob"], [*files, "gallery.db-view"]]  # what is of the old one stays as long as it
    assert found[-1] == [["ada"], [*files, *kept]]
    switch = next(at for at, one in enumerate(found) if one != found[0])
    assert 8 < switch < len(found) - 8
    assert found[switch:] == [found[-1]] * (len(found) - switch)


def test_an_exchange_of_the_key_that_is_killed_leaves_everything_readable(folder: Path) -> None:
    found = killed("rotation", folder)
    keys = [is_new for is_new, _ in found]
    assert len(found) > 25
    assert keys == sorted(keys)  # from one step on the new key is there, and it stays
    assert {False, True} == set(keys)
    assert found[-1] == [True, ["master.key"]]
