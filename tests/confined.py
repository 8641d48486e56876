"""A program: runs a command under the system-call filters of a unit of systemd: ``confined.py UNIT COMMAND...``.

systemd would do the same with the same library, libseccomp; what the names with an @ mean is asked of systemd-analyze.
"""

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM  # seccomp.h: SCMP_ACT_ALLOW, SCMP_ACT_ERRNO
EQUAL, MASKED_EQUAL = 4, 7  # enum scmp_compare
WRITE, EXECUTE = 2, 4  # mman.h
NAMESPACES = 0x7E020000  # sched.h: every CLONE_NEW, but for that of time
REALTIME = (1, 2, 6)  # SCHED_FIFO, SCHED_RR, SCHED_DEADLINE
FAMILIES = range(46)  # socket.h: up to AF_MAX


class Compare(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class Filter:
    """What is not named in a rule is done as ``otherwise`` says."""

    def __init__(self, otherwise: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(otherwise)))

    def add(self, action: int, name: str, *compares: tuple[int, int, int, int]) -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # of another processor
            return
        array = (Compare * max(1, len(compares)))(*(Compare(*one) for one in compares))
        done = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), ctypes.c_int(number), ctypes.c_uint(len(compares)), array
        )
        assert done == 0, f"{name}: {os.strerror(-done)}"

    def load(self) -> None:
        done = self._library.seccomp_load(self._context)
        assert done == 0, os.strerror(-done)


def settings(unit: Path) -> dict[str, list[str]]:
    """Each setting of the service with its values, in order; an empty one begins anew."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif "=" in line and not line.startswith("#") and section == "[Service]":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def groups() -> dict[str, set[str]]:
    """What the names with an @ mean, each with the groups in it taken apart."""
    command = ["systemd-analyze", "--no-pager", "syscall-filter"]
    listed: dict[str, list[str]] = {}
    for line in subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines():
        if line.startswith("@"):
            listed[line.strip()] = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            listed[next(reversed(listed))].append(line.strip())

    def calls(name: str) -> set[str]:
        return set().union(*(calls(one) if one.startswith("@") else {one} for one in listed[name]))

    return {name: calls(name) for name in listed}


def allowed(lines: list[str]) -> set[str]:
    """The system calls that ``SystemCallFilter=`` leaves."""
    known = groups()
    found = set(known["@default"])
    for line in lines:
        named = set().union(*(known.get(word, {word}) for word in line.removeprefix("~").split()))
        found = found - named if line.startswith("~") else found | named
    return found


def confine(unit: Path) -> None:
    """Put this process under the filters of ``unit``, for good."""
    own = settings(unit)
    narrow = Filter(ALLOW)
    if own.get("MemoryDenyWriteExecute") == ["yes"]:
        narrow.add(REFUSE, "mmap", (2, MASKED_EQUAL, WRITE | EXECUTE, WRITE | EXECUTE))
        narrow.add(REFUSE, "mprotect", (2, MASKED_EQUAL, EXECUTE, EXECUTE))
        narrow.add(REFUSE, "pkey_mprotect", (2, MASKED_EQUAL, EXECUTE, EXECUTE))
        narrow.add(REFUSE, "shmat", (2, MASKED_EQUAL, 0o100000, 0o100000))
    if families := own.get("RestrictAddressFamilies"):
        named = {int(getattr(socket, name)) for name in families[-1].split()}
        for family in sorted(set(FAMILIES) - named):
            narrow.add(REFUSE, "socket", (0, EQUAL, family, 0))
    if own.get("RestrictNamespaces") == ["yes"]:
        for bit in (1 << place for place in range(32) if NAMESPACES >> place & 1):
            for name in ("clone", "unshare"):
                narrow.add(REFUSE, name, (0, MASKED_EQUAL, bit, bit))
        narrow.add(REFUSE, "setns")
    if own.get("RestrictRealtime") == ["yes"]:
        for policy in REALTIME:
            narrow.add(REFUSE, "sched_setscheduler", (1, EQUAL, policy, 0))
    narrow.load()
    wide = Filter(REFUSE)
    for name in sorted(allowed(own["SystemCallFilter"])):
        wide.add(ALLOW, name)
    wide.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
