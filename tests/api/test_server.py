"""Opening, closing, health, reflection, and what is not there yet."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import structlog
from api.conftest import Start, Vision
from api.pictures import grey
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from facesvc.api import status
from facesvc.api.server import SERVICES, Server
from facesvc.client import CallError, Client
from facesvc.config import Settings
from facesvc.errors import DependencyError
from facesvc.v1 import (
    recognition_pb2,
    recognition_pb2_grpc,
)


async def test_before_the_models_are_there_the_port_answers_not_serving(settings: Settings, tmp_path: Path) -> None:
    server = Server(settings)
    address = f"unix:{tmp_path}/early"
    await server.start(address)
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", *SERVICES):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await recognition_pb2_grpc.RecognitionServiceStub(channel).Detect(recognition_pb2.DetectRequest())
        assert CallError(caught.value, "here").reason == "SERVER_STARTING"
    await server.stop()


async def test_open_is_serving_and_stopped_is_not(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await running.server.stop()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_reflection_lists_and_describes_every_service(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = {service.name for service in (await call.read()).list_services_response.service}
        assert set(SERVICES) | {"grpc.health.v1.Health"} <= listed
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICES[0]))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto
        await call.done_writing()


async def test_info_says_what_runs_and_at_which_rates(start: Start, guest_png: bytes) -> None:
    running = await start()
    info = await running.client.server_info()
    assert info.model_pack.name == "default"
    assert info.model_pack.execution_providers == ["CPUExecutionProvider"]
    policies = {policy.name: policy for policy in info.policies}
    presence, access = policies["presence"], policies["access"]
    calibration = running.service.engine.pack.calibration
    assert presence.available
    assert presence.threshold == pytest.approx(calibration.similarity_at(presence.false_match_rate))
    assert not access.available
    assert "liveness" in access.unavailable_reason


async def test_a_bug_of_ours_is_logged_and_not_told(
    start: Start, vision: Vision, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr(status, "_log", log)
    running = await start(vision=vision)

    def broken(pixels: object, minimum_face: float, *, rough: bool = False) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(vision, "detect", broken)
    with pytest.raises(CallError) as caught:
        await running.client.detect(grey())
    assert caught.value.code == grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    (call,) = log.calls
    assert call.kwargs["incident"] in str(caught.value)
    assert "secret" in str(call.kwargs["exc_info"])


async def test_two_servers_do_not_share_a_port(settings: Settings) -> None:
    first, second = Server(settings), Server(settings)
    port = await first.start("127.0.0.1:0")
    with pytest.raises(DependencyError, match="cannot listen"):
        await second.start(f"127.0.0.1:{port}")
    await first.stop()


async def test_two_servers_do_not_share_a_socket(start: Start, vision: Vision, settings: Settings) -> None:
    running = await start(vision=vision)
    with pytest.raises(DependencyError, match="cannot listen"):
        await Server(settings).start(running.address)
    assert (await running.client.server_info()).version


def test_sigterm_closes_within_five_seconds(settings: Settings, tmp_path: Path, guest_png: bytes) -> None:
    environment = {
        **os.environ,
        "FACESVC_MODELS__CACHE_DIR": str(settings.models.cache_dir),
        "FACESVC_GALLERY__PATH": str(tmp_path / "gallery.db"),
    }
    command = [sys.executable, "-m", "facesvc", "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.rsplit(" ", 1)[1].strip()
        with Client(address) as client:
            client.wait_until_serving()
            assert len(client.detect(guest_png).faces) == 1
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0
