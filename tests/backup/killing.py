"""Kills restores, and exchanges of the master key, at every step on the disk; looks what the next start finds.

A program of its own, so that it can be forked while one thread runs. Prints one JSON array: how many steps there were,
and what the start after each found.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from backup.offices import at, key_of, office, shelf_of

from facesvc.backup.restore import Restore
from facesvc.database.exchange import view_path
from facesvc.gallery.masterkey import sources
from facesvc.gallery.rotation import Rotation

_STEPS = ("fsync", "rename", "replace", "unlink", "link", "open", "mkdir")
_KILLED = 9
_MOST = 400


class Settings:
    """As far as ``sources`` wants to know."""

    key, previous_key = "", ""

    def __init__(self, key_path: Path) -> None:
        self.key_path = key_path


def die_at(step: int) -> None:
    """End this process, at once, instead of its ``step``-th step."""
    left = [step]

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os._exit(_KILLED)
            return real(*arguments, **named)

        return call

    for name in _STEPS:
        setattr(os, name, counted(getattr(os, name)))


def in_child(work: Callable[[], None], step: int) -> bool:
    """Whether the work was killed at its ``step``-th step, and so was not done."""
    child = os.fork()
    if child == 0:
        try:
            die_at(step)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, _KILLED}, status
    return status == _KILLED


def restoring(folder: Path, name: str) -> None:
    Restore(shelf_of(folder), name, [key_of(folder)], at(5)).to_file(folder / "gallery" / "gallery.db")


def kill_restores(folder: Path) -> list[object]:
    """Back to a backup with ada from a gallery with bob too."""
    template = folder / "template"
    with office(template) as opened:
        opened.enrol("ada")
        name = opened.backups.create(at(1)).name
        opened.enrol("bob")
    view_path(opened.path).write_bytes(b"a view of bob")
    found: list[object] = []
    for step in range(1, _MOST):
        place = folder / str(step)
        shutil.copytree(template, place)
        killed = in_child(lambda place=place: restoring(place, name), step)
        with office(place) as opened:
            people = sorted(opened.people())
            assert [one for one in people if opened.found(one) == one] == people
            assert opened.audit.verify().broken_sequence == 0
        left = sorted(path.name for path in (place / "gallery").iterdir())
        found.append([people, left])
        shutil.rmtree(place)
        if not killed:
            return found
    raise AssertionError


def rotating(folder: Path) -> None:
    settings = Settings(key_of(folder).path)
    keys = sources(settings)
    with office(folder, at(2), keys=keys) as opened:
        rotation = Rotation(opened.database, opened.gallery.keyring, settings, opened.backups.shelf)
        rotation.begin(at(2))
        while rotation.step(at(2)):
            pass


def kill_rotations(folder: Path) -> list[object]:
    """The key of a gallery with two people and a backup is exchanged; what is found by what opens it afterwards."""
    template = folder / "template"
    with office(template) as opened:
        opened.enrol("ada", "bob")
        name = opened.backups.create(at(1)).name
    old = key_of(template).read()
    found: list[object] = []
    for step in range(1, _MOST):
        place = folder / str(step)
        shutil.copytree(template, place)
        killed = in_child(lambda place=place: rotating(place), step)
        settings = Settings(key_of(place).path)
        for again in (False, True):  # the start after the kill, and the one after that has gone on
            keys = sources(settings)
            with office(place, at(3), keys=keys) as opened:
                assert opened.found("ada") == "ada"
                assert opened.gallery.get_subject("office", "bob").display_name
                assert opened.backups.shelf.describe(name, verify=True).problem == ""
                rotation = Rotation(opened.database, opened.gallery.keyring, settings, opened.backups.shelf)
                pending = rotation.is_pending
                while pending and rotation.step(at(3)):
                    pass
                assert not (again and pending)
        is_new = key_of(place).read() != old
        found.append([is_new, sorted(path.name for path in (place / "key").iterdir())])
        shutil.rmtree(place)
        if not killed:
            return found
    raise AssertionError


if __name__ == "__main__":
    work = {"restore": kill_restores, "rotation": kill_rotations}[sys.argv[1]]
    sys.stdout.write(json.dumps(work(Path(sys.argv[2]))) + "\n")
