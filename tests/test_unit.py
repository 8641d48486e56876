"""The server as deploy/facesvc.service confines it: filters of system calls, a disk that is read-only, no capability.

systemd itself is not started; ``confined`` sets the filters that it would, and unshare(1) makes the rest.
"""

import ctypes.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import confined
import pytest

from facesvc.client import Client, Credentials, sample
from facesvc.v1 import enrollment_pb2

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "deploy/facesvc.service"
CONFINED = (sys.executable, str(ROOT / "tests/confined.py"), str(UNIT))
NEW_MOUNTS = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--mount")
# Ours is the folder, and nothing else; then an ordinary user without a capability.
READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,bind,ro /; shift; exec unshare --user --map-user=1000 "$@"'

needs_filters = pytest.mark.skipif(
    not (shutil.which("systemd-analyze") and ctypes.util.find_library("seccomp")), reason="no systemd and libseccomp"
)


def run(program: str, *before: str) -> str:
    done = subprocess.run(
        [*before, sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_filters
def test_what_a_server_has_no_use_for_is_refused() -> None:
    tries = """
import ctypes, mmap, os, socket
tries = {
    "memory to write and run": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "a raw socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "a kernel socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "another owner": lambda: os.chown(os.devnull, os.getuid(), os.getgid()),
    "another user": lambda: os.setuid(os.getuid()),
    "a processor": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "nothing": lambda: (socket.socket().close(), os.setpriority(os.PRIO_PROCESS, 0, 5)),
}
for name, one in tries.items():
    try:
        one()
    except PermissionError:
        print(name)
library = ctypes.CDLL(None, use_errno=True)
for name in ("ptrace", "mount", "unshare", "bpf"):
    number = {"ptrace": 101, "mount": 165, "unshare": 272, "bpf": 321}[name]
    if library.syscall(number, 0x20000, 0, 0, 0, 0) == -1 and ctypes.get_errno() == 1:
        print(name)
"""
    numbered = ["ptrace", "mount", "unshare", "bpf"] if os.uname().machine == "x86_64" else []
    refused = run(tries, *CONFINED).splitlines()
    assert refused[:6] == [
        *("memory to write and run", "a raw socket", "a kernel socket"),
        *("another owner", "another user", "a processor"),
    ]
    assert refused[6:] >= numbered


def test_the_unit_leaves_out_no_line() -> None:
    own = confined.settings(UNIT)
    yes = {
        *("DynamicUser", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateUsers", "NoNewPrivileges"),
        *("ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups"),
        *("ProtectClock", "ProtectHostname", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
        *("RemoveIPC", "LockPersonality", "MemoryDenyWriteExecute"),
    }
    assert {name: own.get(name) for name in yes} == {name: ["yes"] for name in yes}
    values = {
        "ProtectSystem": "strict",
        "ProtectProc": "invisible",
        "CapabilityBoundingSet": "",
        "AmbientCapabilities": "",
        "SystemCallArchitectures": "native",
        "UMask": "0077",
        "LimitCORE": "0",
        "MemorySwapMax": "0",
    }
    assert {name: own.get(name) for name in values} == {name: [value] for name, value in values.items()}


@contextmanager
def confinement(folder: Path, models: Path, **more: str) -> Iterator[Client]:
    """A server that ``init`` and ``serve`` make of nothing, as the unit calls them; it logs into ``log`` beside.

    Nothing but ``folder`` can be written to, not even /tmp.
    """
    if subprocess.run([*NEW_MOUNTS, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mounts of one's own here")
    ours = {"FACESVC_GALLERY__PATH": str(folder / "gallery.db"), "FACESVC_MODELS__CACHE_DIR": str(models)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACESVC_")} | ours
    environment |= {"HOME": "/", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"} | more
    within = (*NEW_MOUNTS, "sh", "-ec", READ_ONLY, "sh", str(folder), *CONFINED, sys.executable, "-m", "facesvc")
    config = folder / "etc/facesvc.toml"
    init = ("init", "--if-missing", "--folder", str(config.parent), "--listen", "127.0.0.1:0")
    subprocess.run([*within, *init], env=environment, cwd="/", check=True, timeout=60, stdout=subprocess.DEVNULL)
    serve = [*within, "--config", str(config), "--log-level", "info", "serve"]
    with (
        (folder.parent / "log").open("wb") as log,
        subprocess.Popen(serve, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        assert server.stdout is not None
        try:
            address = server.stdout.readline().rsplit(" ", 1)[-1].strip()
            assert address, (folder.parent / "log").read_text()
            status = Path(f"/proc/{server.pid}/status").read_text()
            assert "CapEff:\t0000000000000000" in status
            assert "Seccomp:\t2" in status
            with Client(address, credentials=Credentials.read(config.parent)) as client:
                yield client
        finally:
            server.terminate()
            assert server.wait(20) == 0


def works(client: Client, picture: bytes) -> None:
    """It finds faces, keeps people, and erases them."""
    assert len(client.detect(picture).faces) == 1
    client.create_subject(enrollment_pb2.Subject(subject_id="tom", display_name="Tom"))
    (answer,) = client.enroll([sample("tom", picture)])
    assert answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED
    assert client.erase_subject("tom").signature


@needs_filters
def test_a_confined_server_works(pack_cache: Path, guest_png: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    with confinement(folder, pack_cache) as client:
        works(client, guest_png)
    log = (tmp_path / "log").read_text()
    assert '"event": "serving"' in log
    assert "not permitted" not in log
    assert "ead-only" not in log


@needs_filters
@pytest.mark.slow
def test_a_confined_server_builds_its_pack(guest_png: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / "tmp").mkdir()
    with confinement(folder, folder / "models", TMPDIR=str(folder / "tmp")) as client:
        works(client, guest_png)
    assert not list((folder / "tmp").iterdir())
    assert (folder / "models/default/embedder.onnx").exists()
