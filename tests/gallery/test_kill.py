"""``kill -9`` at any moment: what was acknowledged is there, nothing else is half there, and searches agree with it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from gallery import changes
from gallery.wholeness import state_of

from facesvc.gallery.masterkey import KeyFile

_TESTS = Path(__file__).parents[1]
_FEW, _MANY = 6, 100


def killed_after(path: Path, key: KeyFile, seed: int, first: int, lines: int, wait_s: float) -> int:
    """Lets a process make changes from number ``first`` on, and kills it; how many were acknowledged in all."""
    command = [sys.executable, changes.__file__, str(path), str(key.path), str(seed), str(first)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(1 + lines)]
        time.sleep(wait_s)  # not to wait for anything: so that the kill comes anywhere within a change
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    assert said[0] == "ready\n"
    return max((int(line) + 1 for line in said[1:] if line.endswith("\n")), default=first)


def states(seed: int) -> Iterator[changes.State]:
    """The state before the first change, and after each."""
    yield {}
    for _, state in changes.Life(seed):
        yield state


@pytest.mark.parametrize("kills", [_FEW, pytest.param(_MANY, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_killed_gallery_has_every_acknowledged_change(path: Path, vault: KeyFile, kills: int) -> None:
    seed = 5
    moments = random.Random(7)
    done = 0
    for _ in range(kills):
        lines, wait_s = moments.randrange(12), moments.uniform(0, 0.03)
        acknowledged = killed_after(path, vault, seed, done, lines, wait_s)
        before, following = islice(states(seed), acknowledged, acknowledged + 2)
        with closing(changes.open_gallery(path, vault)) as gallery:
            state = state_of(gallery)
            assert state in (before, following)
            done = acknowledged + (state == following)
    assert done > 3 * kills
