"""Whether what is in memory may be written to a disk as it is: the areas of /proc/swaps, and what they lie on."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

SWAPS, BLOCKS = Path("/proc/swaps"), Path("/sys/dev/block")
CGROUP, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")

_ESCAPED = re.compile(r"\\([0-7]{3})")  # how the kernel writes blanks in a path
_NAME = re.compile(r"^0::/(.*)$", re.MULTILINE)


def in_the_clear() -> list[str]:
    """The areas on disks without encryption to which this process may be swapped; none where none may be used."""
    return [] if _is_kept_out() else areas()


def areas() -> list[str]:
    """All areas of this machine on disks without encryption."""
    try:
        lines = SWAPS.read_text().splitlines()[1:]
    except OSError:  # a kernel without swap
        return []
    paths = [_ESCAPED.sub(lambda code: chr(int(code[1], 8)), line.split()[0]) for line in lines if line.strip()]
    return [path for path in paths if not _is_safe(Path(path))]


def keeps_out(group: Path) -> bool:
    """Whether a control group (version 2) lets nothing of its processes be swapped, as ``MemorySwapMax=0`` has it."""
    try:
        return (group / "memory.swap.max").read_text().strip() == "0"
    except OSError:
        return False


def _is_kept_out() -> bool:
    """Whether the control group of this process, or one above it, keeps it out of every swap."""
    try:
        found = _NAME.search(OWN_CGROUP.read_text())
    except OSError:
        return False
    group = CGROUP / (found[1] if found else "")
    return any(keeps_out(one) for one in (group, *group.parents) if one.is_relative_to(CGROUP))


def _is_safe(area: Path) -> bool:
    """Whether the disk under an area, a partition or a file, is encrypted or is no disk at all."""
    try:
        status = area.stat()
    except OSError:  # such as one of the machine around a container
        return False
    number = status.st_rdev or status.st_dev
    return _is_encrypted((BLOCKS / f"{os.major(number)}:{os.minor(number)}").resolve())


def _is_encrypted(block: Path) -> bool:
    if _word(block / "dm/uuid").startswith("CRYPT-"):
        return True
    if block.name.startswith("zram"):
        return _word(block / "backing_dev") in {"", "none"}  # else it writes to that disk what it has no room for
    below = list(_entries(block / "slaves"))
    return bool(below) and all(_is_encrypted(one.resolve()) for one in below)


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from folder.iterdir()


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
