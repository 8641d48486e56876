"""What the server's process gives up, seen from outside: by the kernel, and by another program of the same user."""

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from facesvc.security import process, swap

NOBODY = 65534
# Becomes an ordinary user where the tests run as root, and dumpable again, which whoever changes the user is not.
ORDINARY = f"""
import ctypes, os, resource, sys
from facesvc.security.process import lock_down
if os.geteuid() == 0:
    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
"""
# A program of the same user looks at the one that has started it.
NOSY = """
def reads(name):
    try:
        with open(f"/proc/{os.getppid()}/{name}", "rb") as file:
            return bool(file.read(8) if name != "mem" else file)
    except PermissionError:
        return False

if sys.argv[1] == "locked":
    lock_down()
if (child := os.fork()) == 0:
    os._exit(reads("environ") + 2 * reads("mem"))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
CRASHING = """
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
if sys.argv[1] == "locked":
    lock_down()
os.abort()
"""
NEW_FILES = """
lock_down()
open("file", "w").close()
os.mkdir("folder")
"""


def run(program: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )


def fields(path: Path) -> dict[str, str]:
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in path.read_text().splitlines())}


@pytest.fixture
def served(pack_cache: Path, tmp_path: Path) -> Iterator[int]:
    """The id of the process of a server, which found the limits that a login gives."""
    ours = {"FACESVC_MODELS__CACHE_DIR": str(pack_cache), "FACESVC_GALLERY__PATH": str(tmp_path / "gallery.db")}
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with subprocess.Popen(
        [sys.executable, "-m", "facesvc", "serve", "--listen", "127.0.0.1:0"],
        env=os.environ | ours,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, most)),  # noqa: PLW1509 - takes no lock
    ) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline().startswith(b"facesvc is serving on ")
            yield server.pid
        finally:
            server.terminate()


def test_a_server_has_given_up_what_it_does_not_need(served: int, tmp_path: Path) -> None:
    status = fields(Path(f"/proc/{served}/status"))
    assert (status["NoNewPrivs"], status["Umask"]) == ("1", "0077")
    limits = {
        line[:26].strip(): line[26:].split()[:2] for line in Path(f"/proc/{served}/limits").read_text().split("\n")
    }
    assert limits["Max core file size"] == ["0", "0"]
    soft, hard = limits["Max open files"]
    assert soft == str(process.MOST_OPEN_FILES if hard == "unlimited" else min(int(hard), process.MOST_OPEN_FILES))
    assert Path(f"/proc/{served}/mem").stat().st_uid == 0  # what is not dumpable belongs to root
    made = list(tmp_path.glob("gallery*"))
    assert made
    assert not [path for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_another_program_of_the_same_user_reads_nothing() -> None:
    assert run(ORDINARY + NOSY, "as it was").stdout in {"1\n", "3\n"}  # where attaching is not forbidden to all
    assert run(ORDINARY + NOSY, "locked").stdout == "0\n"


@pytest.mark.parametrize("how", ["as it was", "locked"])
def test_who_crashes_leaves_no_core_dump(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "open to all"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with subprocess.Popen([sys.executable, "-c", ORDINARY + CRASHING, how], cwd=folder) as crashing:
        ended = os.waitid(os.P_PID, crashing.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    if how == "as it was" and ended.si_code != os.CLD_DUMPED:
        pytest.skip("this machine dumps no cores at all")
    assert ended.si_code == (os.CLD_DUMPED if how == "as it was" else os.CLD_KILLED)
    assert how == "as it was" or not list(folder.iterdir())


def test_a_dump_is_not_handed_to_a_program_either() -> None:
    """To whom the limit of 0 means nothing."""
    asks = "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    assert run(ORDINARY + asks).stdout == "1\n"
    assert run(ORDINARY + "lock_down()\n" + asks).stdout == "0\n"


def test_new_files_are_for_their_owner(tmp_path: Path) -> None:
    assert run("import os\nfrom facesvc.security.process import lock_down\n" + NEW_FILES, cwd=tmp_path).returncode == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"file": 0o600, "folder": 0o700}


@pytest.mark.parametrize(
    ("hard", "most", "expected"), [(100, 300, 100), (300, 300, 300), (300, 200, 200), (300, 50, 100)]
)
def test_open_files_are_raised_and_never_lowered(hard: int, most: int, expected: int) -> None:
    program = f"""
import resource
from facesvc.security import process
resource.setrlimit(resource.RLIMIT_NOFILE, (100, {hard}))
process.MOST_OPEN_FILES = {most}
process.lock_down()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert run(program).stdout == f"({expected}, {hard})\n"


def test_what_is_refused_is_said() -> None:
    with capture_logs() as logs:
        process._control(99_999, 1, "things are as they were")
    (entry,) = logs
    assert entry["event"] == "things are as they were: prctl refuses"
    assert (entry["log_level"], entry["problem"]) == ("warning", "Invalid argument")


def test_root_and_an_open_swap_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(swap, "in_the_clear", list)
    with capture_logs() as logs:
        process.warn_of_surroundings()
    assert not logs
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(swap, "in_the_clear", lambda: ["/swapfile"])
    with capture_logs() as logs:
        process.warn_of_surroundings()
    root, swapped = logs
    assert "as root" in root["event"]
    assert "MemorySwapMax=0" in swapped["event"]
    assert swapped["swap"] == ["/swapfile"]
