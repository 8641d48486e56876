"""What a server gives up as it starts, before it holds a key or sees a face. Linux; see prctl(2) and setrlimit(2).

No core dumps: a limit of 0 keeps the kernel from writing a file, but not from handing the dump to a program such as
systemd-coredump; for both, the process must not be "dumpable". That also keeps other processes of the same user, such
as a camera's, from attaching to this one and from reading its memory and its environment. The administrator can still.

No new privileges: nothing that is started from here gains any, so a command of ``gallery.key`` cannot be ``sudo``.

The master key is not locked in memory by itself: beside the bytes that Python holds, OpenSSL has the key in a schedule
of its own, in pages that nobody can name, and each person's key after it. ``mlockall`` would lock those, with all else:
1.9 GB of addresses, which no usual limit allows, and a page that was freed is not given back. What is of use is that
nothing of the process goes to the swap: ``MemorySwapMax=0`` in the unit. ``swap`` looks whether that is so.
"""

import ctypes
import os
import resource

import structlog

from facesvc.security import swap

MOST_OPEN_FILES = 65_536
"""A thousand connections that say nothing are to be cut, not to use up what calls need; more is never open."""
UMASK = 0o077

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38  # linux/prctl.h

_log = structlog.get_logger(__name__)


def lock_down() -> None:
    """Give it up, for good; what is refused is said in the log."""
    os.umask(UMASK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _control(_PR_SET_DUMPABLE, 0, "other programs of this user may read the server's memory")
    _control(_PR_SET_NO_NEW_PRIVS, 1, "programs that the server starts may gain privileges")
    _raise_open_files()


def warn_of_surroundings() -> None:
    """Say in the log what is unwise about how this process was started."""
    if os.geteuid() == 0:
        _log.warning("the server runs as root; let it run as a user of its own, as deploy/facesvc.service does")
    if areas := swap.in_the_clear():
        _log.warning(
            "what the server has in memory, its keys too, may be written to a swap that is not encrypted;"
            " start it with MemorySwapMax=0, as deploy/facesvc.service does, or encrypt the swap",
            swap=areas,
        )


def _control(option: int, value: int, otherwise: str) -> None:
    """prctl(2); where it is refused, such as by a filter of system calls, the log says what that means."""
    zero = ctypes.c_ulong(0)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
        _log.warning(f"{otherwise}: prctl refuses", option=option, problem=os.strerror(ctypes.get_errno()))


def _raise_open_files() -> None:
    """The soft limit as far as the hard one lets it, and never lower than it was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
