"""Plugins that are installed, in a server that is a process of its own: found by their entry points, left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.protobuf.struct_pb2 import Value

from facesvc.client import Client
from facesvc.v1 import plugins_pb2

# A server that is told to stop is gone in five seconds, whatever its plugins do; in ten on a machine that others use.
STOP_S = 10
PLUGIN = """
import asyncio, time
from facesvc.events.plugin import Manifest, PluginSettings, Role

class Settings(PluginSettings):
    mode: str = "good"

class Stuck:
    def __init__(self, settings, box):
        self.mode = settings.mode
    async def start(self):
        if self.mode == "start":
            time.sleep(600)
        if self.mode == "task":
            while True:
                try:
                    await asyncio.sleep(600)
                except asyncio.CancelledError:
                    pass
        if self.mode == "thread":
            self.work = asyncio.create_task(asyncio.to_thread(time.sleep, 600))
    async def handle(self, delivery):
        pass
    async def stop(self):
        if self.mode == "stop":
            await asyncio.sleep(600)
    async def call(self, command, arguments):
        return self.mode

PLUGIN = Manifest(name="stuck", summary="Blocks.", role=Role.ACTS, settings=Settings, make=Stuck,
                  kinds=frozenset(), commands={"mode": "says how"})
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an installed distribution whose plugin blocks where its settings say."""
    folder = tmp_path / "site"
    info = folder / "facesvc_stuck-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: facesvc-stuck\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[facesvc.plugins]\nstuck = stuck_plugin:PLUGIN\n")
    (folder / "stuck_plugin.py").write_text(PLUGIN)
    return folder


@contextmanager
def serving(site: Path, pack_cache: Path, mode: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """A server, and a client of it; the process is not left behind."""
    environment = {
        "PYTHONPATH": str(site),
        "FACESVC_MODELS__CACHE_DIR": str(pack_cache),
        "FACESVC_SERVER__PLAINTEXT": "true",
        "FACESVC_GALLERY__PATH": str(site / "gallery.db"),
        "FACESVC_PLUGINS__STUCK__MODE": mode,
    }
    command = [sys.executable, "-m", "facesvc", "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()
            with Client(line.split()[-1]) as client:
                yield process, client
        finally:
            process.kill()


@pytest.mark.parametrize(
    "mode", ["good", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("thread", "start", "task", "stop"))]
)
def test_a_plugin_of_another_distribution_is_at_work_and_does_not_keep_the_server(
    site: Path, pack_cache: Path, mode: str
) -> None:
    with serving(site, pack_cache, mode) as (process, client):
        (found,) = client.list_plugins()
        assert (found.name, found.version) == ("stuck", "2.0")
        if mode == "good":
            assert client.call_plugin("stuck", "mode") == Value(string_value="good")
            assert client.list_plugins()[0].condition == plugins_pb2.PLUGIN_CONDITION_RUNNING
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0
