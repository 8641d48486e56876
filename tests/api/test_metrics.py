"""The metrics of a real server, read over HTTP and parsed by the library's own parser."""

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

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
from prometheus_client.parser import text_string_to_metric_families
from sightings import ENTRY, sighting

from facesvc.api import metrics
from facesvc.api.server import Server
from facesvc.config import MetricsSettings, Settings
from facesvc.gallery.gallery import Gallery
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


async def test_the_loop_waits_neither_for_the_gallery_nor_for_the_disk(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start()
    asked: dict[str, int] = {}

    def counted(gallery: Gallery) -> list[str]:
        asked["gallery"] = threading.get_ident()
        return []

    def expired(path: Path) -> datetime:
        asked["disk"] = threading.get_ident()
        return datetime.now(UTC)

    monkeypatch.setattr(Gallery, "collections", counted)
    monkeypatch.setattr(metrics, "expiry_of", expired)
    box = metrics.Box(running.service, asyncio.get_running_loop(), [Path("server.pem")])
    assert await asyncio.to_thread(lambda: list(box.collect()))
    assert set(asked) == {"gallery", "disk"}
    assert threading.get_ident() not in asked.values()


async def test_of_a_box_that_has_stopped_there_is_nothing(start: Start) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert list(metrics.Box((await start()).service, loop, []).collect()) == []
