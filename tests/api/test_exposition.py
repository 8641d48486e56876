"""Where metrics are read: a reader at a time, none for longer than it takes, and none that keeps the server."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from api.conftest import Start
from api.test_metrics import measured, text_of
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from facesvc.api import exposition
from facesvc.api.exposition import Exposition
from facesvc.config import Settings, load
from facesvc.errors import ConfigError, DependencyError


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return measured(settings)


def dribble(connection: socket.socket) -> None:
    """Send a byte whenever nothing comes, until this reader is cut off."""
    with closing(connection), suppress(ConnectionError):
        connection.settimeout(0.02)
        for _ in range(1000):
            try:
                assert not connection.recv(1)
                return
            except TimeoutError:
                connection.sendall(b"G")
        pytest.fail("a thousand bytes, and nobody has cut this reader off")


async def test_who_says_nothing_keeps_the_next_reader_waiting_for_a_moment_only(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "_DEADLINE_S", exposition._DEADLINE_S / 25)
    running = await start()
    with closing(socket.create_connection(("127.0.0.1", running.server.metrics_port))):
        assert "facesvc_info" in await text_of(running.server)


async def test_who_dribbles_is_cut_off_and_the_next_reader_is_answered(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    monkeypatch.setattr(exposition, "_DEADLINE_S", exposition._DEADLINE_S / 25)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        first = socket.create_connection(("127.0.0.1", running.server.metrics_port))
        group.create_task(asyncio.to_thread(dribble, first))
        assert "facesvc_info" in await text_of(running.server)


async def test_who_dribbles_does_not_keep_the_server_from_stopping(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "_DEADLINE_S", 1000)
    running = await start()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        entered = asyncio.Event()
        loop = asyncio.get_running_loop()
        finish = exposition._Server.finish_request

        def noticed(server: Any, request: Any, client: Any) -> None:
            loop.call_soon_threadsafe(entered.set)
            finish(server, request, client)

        monkeypatch.setattr(exposition._Server, "finish_request", noticed)
        first = socket.create_connection(("127.0.0.1", running.server.metrics_port))
        group.create_task(asyncio.to_thread(dribble, first))
        await entered.wait()
        await running.server.stop()


class Scripted(Collector):
    """Asked at each reading: waits at the gate, then fails."""

    def __init__(self) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        self.entered.set()
        assert self.gate.wait(30)
        raise OSError("no reading today")


@pytest.fixture
def scripted() -> Iterator[tuple[Scripted, Exposition, int]]:
    collector, registry = Scripted(), CollectorRegistry()
    registry.register(collector)
    shown = Exposition(registry, "127.0.0.1:0")
    yield collector, shown, shown.start()
    collector.gate.set()
    shown.stop()


def get(port: int) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=30)


def ended() -> bool:
    """Whether nobody serves metrics any longer, waited for."""
    serving = [one for one in threading.enumerate() if one.name.startswith("metrics")]
    for one in serving:
        one.join(20)
    return not any(one.is_alive() for one in serving)


def test_a_reading_that_fails_is_told_to_its_reader_alone(
    scripted: tuple[Scripted, Exposition, int], capfd: pytest.CaptureFixture[str]
) -> None:
    collector, shown, port = scripted
    collector.gate.set()
    assert get(port).status_code == 500
    shown.stop()
    assert ended()
    assert capfd.readouterr() == ("", "")


def test_a_reading_that_hangs_is_left_behind_without_a_word(
    scripted: tuple[Scripted, Exposition, int], capfd: pytest.CaptureFixture[str]
) -> None:
    collector, shown, port = scripted
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(get, port)
        assert collector.entered.wait(20)
        shown.stop()
        with pytest.raises(httpx.TransportError):
            reading.result(20)
    with pytest.raises(httpx.ConnectError):
        get(port)
    collector.gate.set()
    assert ended()
    assert capfd.readouterr() == ("", "")


async def test_after_the_end_nothing_listens(start: Start) -> None:
    running = await start()
    await running.server.stop()
    await running.server.stop()
    with pytest.raises(httpx.ConnectError):
        await text_of(running.server)


def test_a_port_that_is_taken_is_said() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(DependencyError, match=f"metrics.listen: cannot listen on {address}"):
            Exposition(CollectorRegistry(), address).start()


@pytest.mark.parametrize("address", ["0.0.0.0:9000", "box.office:9000", "unix:/run/metrics", "127.0.0.1"])
def test_metrics_are_for_this_machine_only(address: str, tmp_path: Path) -> None:
    file = tmp_path / "facesvc.toml"
    file.write_text(f'[metrics]\nlisten = "{address}"\n')
    with pytest.raises(ConfigError, match=r"metrics\.listen: .*(this machine's alone|no address)"):
        load(file)


async def test_the_other_family_of_addresses() -> None:
    if not socket.has_ipv6 or not _has_loopback6():
        pytest.skip("this machine has no ::1")
    shown = Exposition(CollectorRegistry(), "[::1]:0")
    port = shown.start()
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://[::1]:{port}/metrics")).status_code == 200
    shown.stop()


def _has_loopback6() -> bool:
    try:
        with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)):
            return True
    except OSError:
        return False
