"""The metrics of a real server, read over HTTP and parsed by the library's own parser."""

import asyncio
import socket
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import Any

import httpx
import pytest
from api.conftest import Start, Vision
from api.guarded import guarding, refusal
from api.plugged import Plug, plug, script, settled, until
from api.scripted_plugin import Script
from api.test_events import PICTURE, note, pass_by, written
from api.test_recognition import enrol
from api.test_stream import Talk
from cryptography import x509
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sightings import ENTRY, sighting

from facesvc.api import exposition
from facesvc.api.exposition import Exposition
from facesvc.api.server import Server
from facesvc.config import MetricsSettings, Settings, load
from facesvc.errors import ConfigError, DependencyError
from facesvc.security.roles import Role

__all__ = ["plug", "script"]  # fixtures


def measured(settings: Settings) -> Settings:
    events = settings.events.model_copy(update={"retention_days": 3660})  # made-up events are old
    return settings.model_copy(update={"metrics": MetricsSettings(listen="127.0.0.1:0"), "events": events})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return measured(settings)


async def text_of(server: Server) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"http://127.0.0.1:{server.metrics_port}/metrics")
    assert response.status_code == 200
    return response.text


async def values(server: Server) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels, in the order of the labels' names."""
    families = text_string_to_metric_families(await text_of(server))
    samples = [one for family in families for one in family.samples]
    return {(one.name, *(value for _, value in sorted(one.labels.items()))): one.value for one in samples}


async def test_an_open_stream_is_there_by_its_camera(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane", PICTURE)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open("door", zone="lobby", every_frame=True)
        for number in (1, 2):
            await talk.send(number)
            await talk.result()
        await talk.send(3, b"no picture")
        await talk.result()
        found = await values(running.server)
        assert found["facesvc_streams",] == 1
        assert found["facesvc_frames_total", "received"] == 3
        assert found["facesvc_camera_frames_total", "door", "received"] == 3
        assert found["facesvc_camera_frames_total", "door", "processed"] == 2
        assert found["facesvc_camera_frames_total", "door", "failed"] == 1
        assert found["facesvc_camera_tracks", "door"] == 1
        ages = [found["facesvc_camera_result_age_seconds", "door", share] for share in ("0.5", "0.99")]
        assert 0 < ages[0] <= ages[1]
        await talk.call.done_writing()
    assert found["facesvc_subjects", "default"] == 1
    assert found["facesvc_degradation_step",] == 0
    assert found["facesvc_calls_total", "OK", "CreateSubject"] == 1
    assert found["process_resident_memory_bytes",] > 0


async def test_calls_are_counted_by_how_they_end(start: Start) -> None:
    running = await start()
    await running.client.server_info()
    await refusal(running.client.get_subject("nobody"))
    await refusal(running.client.get_subject("nobody"))
    found = await values(running.server)
    assert found["facesvc_calls_total", "OK", "GetServerInfo"] == 1
    assert found["facesvc_calls_total", "NOT_FOUND", "GetSubject"] == 2
    assert found["facesvc_call_duration_seconds_count", "GetServerInfo"] == 1
    assert ("facesvc_call_duration_seconds_count", "GetSubject") not in found


async def test_a_watch_that_is_left_counts_as_cancelled(start: Start) -> None:
    running = await start()
    watch = running.client.watch_events()
    await anext(watch)
    await watch.aclose()
    async with asyncio.timeout(20):
        while (await values(running.server)).get(("facesvc_calls_total", "CANCELLED", "WatchEvents")) != 1:
            pass


async def test_how_plugins_are(plug: Plug, script: Script) -> None:
    running = await plug()
    script.refused.add("joe")
    note(running, sighting("jane", ENTRY), sighting("joe", ENTRY))
    await settled(running)
    found = await values(running.server)
    assert found["facesvc_plugin_up", "scripted"] == 1
    assert found["facesvc_plugin_events_total", "delivered", "scripted"] == 2
    assert found["facesvc_plugin_events_total", "failures", "scripted"] == 2
    assert found["facesvc_plugin_events_kept", "scripted", "dead"] == 2
    assert found["facesvc_plugin_events_kept", "scripted", "waiting"] == 0
    assert found["facesvc_plugin_latency_seconds", "scripted", "0.99"] > 0


async def test_a_plugin_that_does_not_start_is_down(plug: Plug, script: Script) -> None:
    script.error = OSError("the relay is away")
    running = await plug()
    (runner,) = running.service.plugins.runners
    await until(lambda: runner.standing().problem)
    assert (await values(running.server))["facesvc_plugin_up", "scripted"] == 0


async def test_nobody_is_named(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    await enrol(running, "jane-doe", PICTURE)
    await pass_by(running, "door", "lobby")
    await written(running)
    text = await text_of(running.server)
    assert "jane" not in text.lower()


async def test_refusals_and_the_end_of_certificates(settings: Settings, tmp_path: Path) -> None:
    async with guarding(settings, tmp_path / "guarded") as guarded:
        await refusal(guarded.client("fsv_wrong").server_info())
        camera = guarded.client(guarded.token("door", Role.CAMERA))
        await refusal(camera.list_audit().__aiter__().__anext__())
        found = await values(guarded.server)
        assert found["facesvc_calls_total", "UNAUTHENTICATED", "GetServerInfo"] == 1
        assert found["facesvc_calls_total", "PERMISSION_DENIED", "ListAudit"] == 1
        reasons = {key[1] for key in found if key[0] == "facesvc_refusals_total"}
        assert reasons == {"UNAUTHENTICATED", "FORBIDDEN"}

        def end(name: str) -> float:
            own = x509.load_pem_x509_certificate((guarded.folder / name).read_bytes())
            return own.not_valid_after_utc.astimezone(UTC).timestamp()

        assert found["facesvc_certificate_expiry_time_seconds", "server.pem"] == end("server.pem")
        assert found["facesvc_certificate_expiry_time_seconds", "ca.pem"] == end("ca.pem")
        guarded.folder.joinpath("server.pem").write_text("nothing")
        assert (await values(guarded.server))["facesvc_certificate_expiry_time_seconds", "server.pem"] == 0


async def test_who_says_nothing_keeps_the_next_reader_waiting_for_a_moment_only(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition._Handler, "timeout", exposition._Handler.timeout / 25)
    running = await start()
    with closing(socket.create_connection(("127.0.0.1", running.server.metrics_port))):
        assert "facesvc_info" in await text_of(running.server)


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
    shown: Any = Exposition(CollectorRegistry(), "[::1]:0")
    port = shown.start()
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://[::1]:{port}/metrics")).status_code == 200
    await shown.stop()


def _has_loopback6() -> bool:
    try:
        with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)):
            return True
    except OSError:
        return False
