"""``facesvc statistics``: the box, then one row a camera."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC
from pathlib import Path

import pytest
from cli.running import Facesvc

from facesvc.client import Client, frame, opening
from facesvc.v1 import admin_pb2, recognition_pb2


def test_an_open_stream_is_a_row(facesvc: Facesvc, client: Client, faces: dict[str, Path]) -> None:
    done = threading.Event()

    def frames() -> Iterator[recognition_pb2.Frame]:
        yield frame(1, faces["Ana"].read_bytes())
        assert done.wait(60)

    with closing(client.recognize(opening("statistics-door", zone="lobby"), frames())) as results:
        next(results)
        shown = facesvc("statistics")
        plain = facesvc("statistics", "--json").json
        done.set()
    (stream,) = [one for one in plain["streams"] if one["camera_id"] == "statistics-door"]
    assert (stream["zone"], stream["frames_received"], stream["frames_processed"]) == ("lobby", 1, 1)
    assert stream["frames_dropped"] == stream["frames_failed"] == stream["results_dropped"] == 0
    assert stream["p99_age_seconds"] == stream["median_age_seconds"] > 0
    assert stream["look_interval_seconds"] > 0
    assert plain["frames_received"] >= 1
    assert plain["load"]["step"] in range(6)
    assert 0 <= plain["load"]["busy"] <= 1
    assert "│ statistics-door │ lobby │ 1        │ 1         │ 0 " in shown.out
    assert "of the workers' time" in shown.out
    assert shown.status == 0


def test_without_streams_there_is_the_box_only(
    facesvc: Facesvc, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = admin_pb2.LoadStatistics(measures="full service", busy=0.123)
    monkeypatch.setattr(Client, "get_statistics", lambda self: admin_pb2.GetStatisticsResponse(load=load))
    shown = facesvc("statistics")
    plain = facesvc("statistics", "--json").json
    assert "Camera" not in shown.out
    assert "12% of the workers' time" in shown.out
    assert "full service (step 0)  " in shown.out
    assert "Hottest sensor    none" in shown.out
    assert plain["load"]["step_time"] is None
    assert plain["load"]["temperature_celsius"] is None
    assert plain["streams"] == []


def test_a_rung_is_explained(facesvc: Facesvc, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    load = admin_pb2.LoadStatistics(
        step=2, measures="looks 2 times less often", reason="it is hot", changes=7, temperature_celsius=91.4
    )
    load.step_time.FromJsonString("2026-01-31T10:00:00Z")
    monkeypatch.setattr(Client, "get_statistics", lambda self: admin_pb2.GetStatisticsResponse(load=load))
    shown = facesvc("statistics").out
    plain = facesvc("statistics", "--json").json
    since = load.step_time.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert f"looks 2 times less often (step 2) since {since}: it is hot; 7 changes" in shown
    assert "91 °C" in shown
    assert plain["load"]["step_time"] == "2026-01-31T10:00:00Z"
    assert plain["load"]["temperature_celsius"] == pytest.approx(91.4)


def test_no_server_is_exit_2(facesvc: Facesvc) -> None:
    result = facesvc("statistics", "--server", "127.0.0.1:1")
    assert result.status == 2
    assert "no server answers" in result.err
