"""A gallery on a disk that becomes full, and gets space again. To be run as root of a mount namespace of its own:

``python filling.py FOLDER KEY SEED``. Ends with an error where something is not as it has to be; else it prints what
was refused on the way.
"""

import subprocess
import sys
from pathlib import Path

from gallery import changes
from gallery.wholeness import state_of

from facesvc.errors import DependencyError
from facesvc.gallery import Gallery
from facesvc.gallery.masterkey import KeyFile

_SIZE = "4m"
_LEFT = 30_000  # bytes
_BEFORE, _REFUSED, _SINCE = 25, 15, 40  # changes


def _fill(ballast: Path) -> None:
    """Takes nearly all the space there is."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - _LEFT)


def _attempt(gallery: Gallery, change: changes.Change, before: changes.State) -> tuple[changes.State, bool]:
    """Makes a change where there is space; the state since, and whether the change was refused."""
    refusal = None
    try:
        changes.make(gallery, change)
    except DependencyError as error:
        refusal = error
    state = state_of(gallery, settled=False)  # also that everybody is found
    if refusal is None:
        assert state == changes.after(before, change)
        return state, False
    assert refusal.reason == "DISK_FULL"
    assert "the disk is full" in refusal.message
    assert state in (before, changes.after(before, change))
    return state, True


def _live(folder: Path, key: KeyFile, seed: int) -> None:
    path, ballast = folder / "gallery" / "gallery.sqlite", folder / "ballast"
    gallery = changes.open_gallery(path, key)
    life, state, refused = changes.Life(seed), changes.State(), list[changes.Change]()
    state = _go_on(gallery, life, state, _BEFORE)
    _fill(ballast)
    while len(refused) < _REFUSED:  # each seen from where the gallery really is
        change = life.next_from(state)
        state, was_refused = _attempt(gallery, change, state)
        refused += [change] * was_refused
    changes.say(" ".join(sorted({change.kind for change in refused})))
    gallery.close()
    gallery = changes.open_gallery(path, key)  # a start needs no space
    assert state_of(gallery, settled=False) == state
    ballast.unlink()
    state = _go_on(gallery, life, state, _SINCE)
    assert state_of(gallery, settled=False) == state
    gallery.close()
    gallery = changes.open_gallery(path, key)
    assert state_of(gallery) == state
    gallery.close()


def _go_on(gallery: Gallery, life: changes.Life, state: changes.State, many: int) -> changes.State:
    """Makes so many changes; the state since."""
    for _ in range(many):
        change = life.next_from(state)
        changes.make(gallery, change)
        state = changes.after(state, change)
    return state


if __name__ == "__main__":
    _, _folder, _key, _seed = sys.argv
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", _folder], check=True)
    _live(Path(_folder), KeyFile(Path(_key)), int(_seed))
