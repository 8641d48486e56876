"""``facesvc doctor`` on the machine: processor, folders, disk, memory, port, clock."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

import facesvc
from facesvc.cli import doctor_machine
from facesvc.cli.findings import Level
from facesvc.cli.init import keep, keep_authority
from facesvc.config import GallerySettings, ModelSettings, ServerSettings, Settings
from facesvc.security.authority import Authority


def listening_at(settings: Settings, address: str) -> Settings:
    return settings.model_copy(update={"server": ServerSettings(listen=address, plaintext=True)})


@pytest.mark.parametrize(
    ("line", "level", "features"),
    [
        ("flags\t\t: fpu avx avx2 avx512f avx512_vnni", Level.OK, "AVX2, AVX-512, AVX-512 VNNI;"),
        ("Features\t: fp asimd asimddp", Level.OK, "NEON, dot product;"),
        ("flags\t\t: fpu sse2 avx", Level.WARNING, "no vector unit of use;"),
        ("flags\t\t: fpu notavx2", Level.WARNING, "no vector unit of use;"),
        ("", Level.WARNING, "no vector unit of use;"),
    ],
)
def test_cpu(
    line: str, level: Level, features: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: avx2\n{line}\nbugs\t: none\n")
    monkeypatch.setattr(doctor_machine, "CPUINFO", tmp_path / "cpuinfo")
    finding = doctor_machine.cpu(settings)
    assert finding.level is level
    assert finding.found.startswith(features)


def test_folders(settings: Settings, tmp_path: Path) -> None:
    assert doctor_machine.cache_folder(settings).found.endswith("is writable")
    assert doctor_machine.data_folder(settings).found == f"{tmp_path / 'data'} can be made"
    assert not (tmp_path / "data").exists()
    (tmp_path / "file").touch()
    blocked = settings.model_copy(
        update={
            "models": ModelSettings(cache_dir=tmp_path / "file" / "cache"),
            "gallery": GallerySettings(path=tmp_path / "file" / "gallery.db"),
        }
    )
    for check, setting in (
        (doctor_machine.cache_folder, "models.cache_dir"),
        (doctor_machine.data_folder, "gallery.path"),
    ):
        finding = check(blocked)
        assert finding.level is Level.ERROR
        assert finding.advice.endswith(f"or set {setting}")


def test_a_whole_pack_needs_no_writable_folder(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where tests run as root, every folder is writable.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert doctor_machine.cache_folder(settings).level is Level.OK
    assert doctor_machine.data_folder(settings).level is Level.ERROR


@pytest.mark.parametrize(("free_mb", "level"), [(99, Level.ERROR), (100, Level.WARNING), (1000, Level.OK)])
def test_disk(free_mb: int, level: Level, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("/"))(2 * 10**9, 10**9, free_mb * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert doctor_machine.disk(settings).level is level


@pytest.mark.parametrize(
    ("available_kb", "container", "free_mb", "level"),
    [
        (2_000_000, None, 2048, Level.OK),
        (2_000_000, ("max", "0"), 2048, Level.OK),
        (2_000_000, ("700000000", "100000000"), 600, Level.WARNING),
        (300_000, ("9000000000", "0"), 307, Level.ERROR),
    ],
)
def test_memory(
    available_kb: int,
    container: tuple[str, str] | None,
    free_mb: int,
    level: Level,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal:  9000000 kB\nMemAvailable:  {available_kb} kB\n")
    for name, value in zip(("memory.max", "memory.current"), container or (), strict=False):
        (tmp_path / name).write_text(f"{value}\n")
    monkeypatch.setattr(doctor_machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(doctor_machine, "CGROUP", tmp_path)
    finding = doctor_machine.memory(settings)
    assert (finding.level, finding.found) == (level, f"{free_mb:,} MB available")


@pytest.fixture
def other_program() -> Iterator[int]:
    """The port of a program that answers, but not as gRPC does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


@pytest.fixture
def grpc_port() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def test_a_port_that_is_free(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert doctor_machine.port(listening_at(settings, f"127.0.0.1:{port}")).found == f"127.0.0.1:{port} is free"
    assert doctor_machine.port(listening_at(settings, "unix:/run/facesvc.sock")).level is Level.OK


def test_a_port_that_another_program_has(settings: Settings, other_program: int) -> None:
    finding = doctor_machine.port(listening_at(settings, f"127.0.0.1:{other_program}"))
    assert (finding.level, finding.found) == (Level.ERROR, f"127.0.0.1:{other_program} is taken by another program")


def test_a_port_that_is_served(settings: Settings, grpc_port: int) -> None:
    finding = doctor_machine.port(listening_at(settings, f"127.0.0.1:{grpc_port}"))
    assert finding.level is Level.OK
    assert "is served: a gRPC server answers" in finding.found


def test_a_port_that_is_served_behind_tls(settings: Settings, tmp_path: Path, other_program: int) -> None:
    authority = Authority.make("box", datetime.now(UTC))
    issued = authority.issue_server(["box.office"], datetime.now(UTC))
    keep_authority(tmp_path, authority)
    keep(tmp_path / "server.pem", tmp_path / "server.key", issued)
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(issued.key, issued.certificate)]))
    server.start()
    try:
        for number, level in ((port, Level.OK), (other_program, Level.ERROR)):
            own = ServerSettings(
                listen=f"127.0.0.1:{number}",
                certificate_file=tmp_path / "server.pem",
                key_file=tmp_path / "server.key",
            )
            assert doctor_machine.port(settings.model_copy(update={"server": own})).level is level
        (tmp_path / "ca.pem").unlink()
        own = own.model_copy(update={"listen": f"127.0.0.1:{port}"})
        assert doctor_machine.port(settings.model_copy(update={"server": own})).level is Level.ERROR
    finally:
        server.stop(None).wait()


def test_an_address_that_cannot_be_had(settings: Settings) -> None:
    finding = doctor_machine.port(listening_at(settings, "192.0.2.1:50051"))
    assert finding.level is Level.ERROR
    assert "server.listen" in finding.advice


@pytest.mark.parametrize(("state", "found"), [(None, "UTC"), (0, "UTC, synchronised"), (5, "UTC, not synchronised")])
def test_clock(state: int | None, found: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "_kernel_clock", lambda: state)
    finding = doctor_machine.clock(settings)
    assert finding.found.endswith(found)
    assert (finding.level is Level.WARNING) == (state == 5)


def test_a_clock_that_runs_behind(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = tmp_path / "__init__.py"
    newer.touch()
    os.utime(newer, (time.time() + 2 * 86400,) * 2)
    monkeypatch.setattr(facesvc, "__file__", str(newer))
    finding = doctor_machine.clock(settings)
    assert finding.level is Level.ERROR
    assert "cannot be: facesvc was installed" in finding.found
