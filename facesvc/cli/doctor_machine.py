"""Checks of the machine: processor, folders, disk, memory, port, clock. They look, and change nothing."""

import ctypes
import errno
import os
import shutil
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import facesvc
from facesvc.cli.findings import Finding, Level
from facesvc.config import Settings
from facesvc.engine import cores, library
from facesvc.errors import ConfigError, DependencyError
from facesvc.models import packs
from facesvc.security.authority import names_of

CPUINFO, MEMINFO, CGROUP = Path("/proc/cpuinfo"), Path("/proc/meminfo"), Path("/sys/fs/cgroup")

# The kernel's names for what onnxruntime has kernels for, and ours.
_CPU_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "amx_int8": "AMX",
    "neon": "NEON",
    "asimd": "NEON",
    "asimddp": "dot product",
    "i8mm": "I8MM",
}
_CPU_NEEDED = {"avx2", "neon", "asimd"}
# Below the first an error, below the second a warning. The server stays under 350 MB with the default pack, which takes
# 25 MB on the disk and twice that while it is built.
_MEMORY_MB = (400, 800)
_DISK_MB = (100, 1000)
# What a client of HTTP/2 sends first, with no settings (RFC 9113, section 3.4); a server answers with its own settings.
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_HTTP2_SETTINGS = 4
_ANSWER_TIMEOUT_S = 2.0
_YEARS = range(2025, 2100)
_NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


def cpu(_: Settings) -> Finding:
    """Vector units that make the networks fast."""
    lines = CPUINFO.read_text().splitlines()
    known = next((line for line in lines if line.startswith(("flags", "Features"))), "").partition(":")[2].split()
    labels = dict.fromkeys(label for flag, label in _CPU_FEATURES.items() if flag in known)
    found = f"{', '.join(labels) or 'no vector unit of use'}; {cores()} cores to work with"
    if _CPU_NEEDED & set(known):
        return Finding(Level.OK, found)
    return Finding(Level.WARNING, found, "expect a fraction of the usual speed; use a processor with AVX2 or NEON")


def cache_folder(settings: Settings) -> Finding:
    """Where packs are built. A whole one needs no right to write: the folder may be part of a read-only image."""
    finding = _writable(settings.models.cache_dir, "models.cache_dir")
    if finding.level is Level.OK:
        return finding
    try:
        active = library(settings).active(settings.models.pack)
    except DependencyError:
        return finding
    if packs.verify(settings.models.cache_dir / active):
        return finding
    return Finding(Level.OK, f"{finding.found}, and need not be: the pack is there and whole")


def data_folder(settings: Settings) -> Finding:
    """Where the gallery is kept."""
    return _writable(settings.gallery.path.parent, "gallery.path")


def disk(settings: Settings) -> Finding:
    """Room for the gallery and the pack."""
    folders = {_existing(folder) for folder in (settings.gallery.path.parent, settings.models.cache_dir)}
    free_mb, folder = min((shutil.disk_usage(folder).free // 1_000_000, folder) for folder in folders)
    return _enough(free_mb, _DISK_MB, f"{free_mb:,} MB free on the disk of {folder}", "free space there")


def memory(_: Settings) -> Finding:
    """Room for the server, also within the limit of a container."""
    fields = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
    available_mb = int(fields["MemAvailable"].split()[0]) * 1024 // 1_000_000
    left_mb = _left_of_container_mb()
    free_mb = available_mb if left_mb is None else min(available_mb, left_mb)
    return _enough(free_mb, _MEMORY_MB, f"{free_mb:,} MB available", "stop other programs or add memory")


def port(settings: Settings) -> Finding:
    """The address to listen at is free, or served already."""
    address = settings.server.listen
    if address.startswith("unix:"):
        return Finding(Level.OK, f"{address} is a socket in the file system, no port")
    host, _, number = address.rpartition(":")
    host = host.strip("[]")
    try:
        socket.create_server((host, int(number)), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _listener(address, (host, int(number)), settings)
        return Finding(Level.ERROR, f"{address} cannot be had: {error}", "set server.listen to an address of this box")
    return Finding(Level.OK, f"{address} is free")


def clock(_: Settings) -> Finding:
    """The time is plausible and, where the kernel knows, kept so: decisions carry it, and doors refuse late ones."""
    now = datetime.now(UTC)
    installed = datetime.fromtimestamp(Path(facesvc.__file__).stat().st_mtime, UTC)
    found = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    advice = "set the clock, and run a time service: chrony or systemd-timesyncd"
    if now.year not in _YEARS or now < installed - timedelta(days=1):
        return Finding(Level.ERROR, f"{found} cannot be: facesvc was installed {installed:%Y-%m-%d}", advice)
    match _kernel_clock():
        case None:
            return Finding(Level.OK, found)
        case state if state == _NOT_SYNCHRONISED:
            return Finding(Level.WARNING, f"{found}, not synchronised", advice)
        case _:
            return Finding(Level.OK, f"{found}, synchronised")


def _writable(folder: Path, setting: str) -> Finding:
    nearest = _existing(folder)
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Finding(Level.OK, f"{folder} is writable" if folder == nearest else f"{folder} can be made")
    advice = f"make {nearest} a folder that this user may write to, or set {setting}"
    return Finding(Level.ERROR, f"{folder} is not writable", advice)


def _existing(folder: Path) -> Path:
    """``folder``, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _enough(free_mb: int, bounds_mb: tuple[int, int], found: str, advice: str) -> Finding:
    error_mb, warning_mb = bounds_mb
    if free_mb >= warning_mb:
        return Finding(Level.OK, found)
    level = Level.ERROR if free_mb < error_mb else Level.WARNING
    return Finding(level, found, f"{advice}: {warning_mb:,} MB are enough")


def _left_of_container_mb() -> int | None:
    """What a control group (version 2) leaves this process; None without a limit."""
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return None if limit == "max" else (int(limit) - int(used)) // 1_000_000


def _listener(address: str, target: tuple[str, int], settings: Settings) -> Finding:
    """Who listens at an address that is taken: gRPC speaks HTTP/2 at once, and little else in an office does."""
    try:
        with (
            socket.create_connection(target, _ANSWER_TIMEOUT_S) as plain,
            _as_clients_do(plain, settings) as connection,
        ):
            connection.sendall(_HTTP2_HELLO)
            answer = connection.recv(len(_HTTP2_HELLO))
    except (OSError, ConfigError):
        answer = b""
    if answer[3:4] == bytes([_HTTP2_SETTINGS]):
        return Finding(Level.OK, f"{address} is served: a gRPC server answers there, facesvc as it seems")
    return Finding(Level.ERROR, f"{address} is taken by another program", "stop that program, or set server.listen")


def _as_clients_do(connection: socket.socket, settings: Settings) -> socket.socket:
    """The connection behind TLS, where the server has a certificate. Raises ``OSError``, ``ConfigError``."""
    server = settings.server
    if server.plaintext or server.certificate_file is None:
        return connection
    authority = settings.client.ca_file or server.certificate_file.with_name("ca.pem")
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connection, server_hostname=names_of(server.certificate_file)[0])


def _kernel_clock() -> int | None:
    """The state of the kernel's clock, as adjtimex(2) returns it; None where it cannot be asked."""
    try:
        timex = ctypes.create_string_buffer(1024)  # struct timex has 208 bytes; its first field, 0, asks for no change
        state = int(ctypes.CDLL(None).adjtimex(timex))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state
