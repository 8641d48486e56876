"""Whether memory may reach a disk in the clear, on machines made of files."""

import os
from pathlib import Path

import pytest

from facesvc.security import swap

HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


@pytest.fixture
def area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A swap file on a disk of its own, and a control group without limits."""
    path = tmp_path / "a swap file"
    path.touch()
    escaped = str(path).replace(" ", r"\040")
    (tmp_path / "swaps").write_text(f"{HEADER}{escaped}   file\t\t8388604\t\t0\t\t-2\n")
    (tmp_path / "cgroup").write_text("0::/system.slice/facesvc.service\n")
    (tmp_path / "group/system.slice/facesvc.service").mkdir(parents=True)
    monkeypatch.setattr(swap, "SWAPS", tmp_path / "swaps")
    monkeypatch.setattr(swap, "BLOCKS", tmp_path / "block")
    monkeypatch.setattr(swap, "OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(swap, "CGROUP", tmp_path / "group")
    disk = tmp_path / "devices/sda2"
    disk.mkdir(parents=True)
    lies_on(disk, path, tmp_path)
    return path


def lies_on(disk: Path, area: Path, machine: Path) -> None:
    """Make ``disk`` the block device of ``area``."""
    device = area.stat().st_dev
    link = machine / "block" / f"{os.major(device)}:{os.minor(device)}"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(disk)


def mapped(machine: Path, name: str, uuid: str, *below: str) -> Path:
    """A device of the device mapper."""
    disk = machine / "devices" / name
    (disk / "dm").mkdir(parents=True)
    (disk / "dm/uuid").write_text(f"{uuid}\n")
    (disk / "slaves").mkdir()
    for one in below:
        (machine / "devices" / one).mkdir(exist_ok=True)
        (disk / "slaves" / one).symlink_to(machine / "devices" / one)
    return disk


def test_a_plain_disk(area: Path) -> None:
    assert swap.areas() == swap.in_the_clear() == [str(area)]


def test_no_swap(area: Path, tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text(HEADER)
    assert swap.areas() == []
    (tmp_path / "swaps").unlink()
    assert swap.in_the_clear() == []


def test_an_area_of_the_machine_around_a_container(area: Path) -> None:
    area.unlink()
    assert len(swap.areas()) == 1


def test_an_encrypted_disk(area: Path, tmp_path: Path) -> None:
    lies_on(mapped(tmp_path, "dm-0", "CRYPT-LUKS2-0123", "sda2"), area, tmp_path)
    assert swap.areas() == []


def test_volumes_are_as_safe_as_all_that_they_lie_on(area: Path, tmp_path: Path) -> None:
    mapped(tmp_path, "dm-0", "CRYPT-LUKS2-0123", "sda2")
    lies_on(mapped(tmp_path, "dm-1", "LVM-4567", "dm-0"), area, tmp_path)
    assert swap.areas() == []
    lies_on(mapped(tmp_path, "dm-2", "LVM-89ab", "dm-0", "sda2"), area, tmp_path)
    assert swap.areas() == [str(area)]


def test_compressed_memory_is_no_disk(area: Path, tmp_path: Path) -> None:
    memory = tmp_path / "devices/zram0"
    memory.mkdir()
    lies_on(memory, area, tmp_path)
    assert swap.areas() == []
    (memory / "backing_dev").write_text("none\n")
    assert swap.areas() == []
    (memory / "backing_dev").write_text("/dev/sda3\n")
    assert swap.areas() == [str(area)]


@pytest.mark.parametrize("group", ["system.slice/facesvc.service", "system.slice"])
def test_a_control_group_that_is_never_swapped(area: Path, tmp_path: Path, group: str) -> None:
    limit = tmp_path / "group" / group / "memory.swap.max"
    limit.write_text("max\n")
    assert swap.in_the_clear() == [str(area)]
    limit.write_text("0\n")
    assert swap.in_the_clear() == []
    assert swap.areas() == [str(area)]  # to which others may be swapped


def test_what_lies_above_the_control_groups_says_nothing(area: Path, tmp_path: Path) -> None:
    (tmp_path / "memory.swap.max").write_text("0\n")
    assert swap.in_the_clear() == [str(area)]
    (tmp_path / "cgroup").unlink()
    assert swap.in_the_clear() == [str(area)]
