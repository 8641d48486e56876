"""A full disk: a clear error, nothing half there, searches go on; and once there is space everything works again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gallery import filling

from facesvc.gallery.masterkey import KeyFile

# A mount namespace of its own: nobody else sees the small disk, and it is gone with the process.
_APART = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.fixture
def apart() -> list[str]:
    """How to run a program that may mount."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1), by which a small disk could be mounted")
    probe = [*_APART, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    tried = subprocess.run(probe, check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no small disk can be mounted here: {tried.stderr.strip()}")
    return _APART


@pytest.mark.parametrize("seed", [1, 2])
def test_a_full_disk_leaves_nothing_half_done(apart: list[str], tmp_path: Path, vault: KeyFile, seed: int) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    vault.make()
    tests = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    command = [*apart, sys.executable, filling.__file__, str(disk), str(vault.path), str(seed)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert len(set(ran.stdout.split())) >= 3  # kinds of changes that were refused
