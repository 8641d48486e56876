"""``facesvc bench streams``: the pace of its cameras, its rows, and its ground truth on a real server."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from cli.running import Facesvc, serving, settings_for

from facesvc.cli import bench_streams_scores
from facesvc.cli.bench_streams_cameras import Camera, Meter, Recording, Result, show
from facesvc.cli.bench_streams_report import Row, as_object, as_rich, at_least, at_most, plain
from facesvc.cli.bench_streams_truth import directed
from facesvc.cli.bench_streams_work import _memory
from facesvc.cli.console import out
from facesvc.cli.footage import Actor, Footage, Sprite, film
from facesvc.cli.footage_people import Cast, cast, installed, of_folder
from facesvc.cli.footage_walks import Take
from facesvc.cli.tracking_pairs import TrueFace
from facesvc.client import Client, frame, opening
from facesvc.errors import InputError
from facesvc.v1 import common_pb2, presence_pb2, recognition_pb2
from facesvc.vision.geometry import Box

SMALL = Take(width=640, height=360, fps=10, seconds=5, faces=(60.0, 84.0))


@pytest.fixture(scope="module")
def own_server(pack_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of these tests' own: they enrol people into the default collection."""
    with serving(settings_for(tmp_path_factory.mktemp("streams"), pack_cache)) as address:
        yield address


@pytest.fixture
def own_client(own_server: str) -> Iterator[Client]:
    """Nobody is enrolled there."""
    with Client(own_server) as client:
        for subject in list(client.list_subjects()):
            client.erase_subject(subject.subject_id)
        yield client


def by_what(rows: Sequence[Row]) -> dict[str, Row]:
    return {row.what: row for row in rows}


def came_of(
    number: int, *, predicted: bool = False, error: str = "", message: recognition_pb2.FrameResult | None = None
) -> Result:
    answer = message or recognition_pb2.FrameResult()
    return Result(number, at_s=0.5, age_s=0.2, predicted=predicted, embedded=0, error=error, message=answer)


def watched(client: Client, footage: Footage) -> Recording:
    """The video as a file: each frame is looked at, however long that takes."""
    begun, fps = datetime.now(UTC), footage.take.fps
    recording, answered = (
        Recording(Camera("file", footage, fps, len(footage.frames) / fps, keep=True)),
        SimpleQueue[None](),
    )

    def frames() -> Iterator[recognition_pb2.Frame]:
        for number, data in enumerate(footage.frames):
            yield frame(number, data, begun + timedelta(seconds=number / fps))
            answered.get()

    for result in client.recognize(opening("file", every_frame=True), frames()):
        recording.results.append(came_of(result.frame_id, error=result.error.reason, message=result))
        answered.put(None)
    return recording


@pytest.mark.slow
def test_few_people_are_followed_and_named_as_is_known_of_them(own_client: Client) -> None:
    candidates = list(installed(own_client))
    # People whom the default pack tells apart; the last one, the astronaut, is to be a stranger.
    everybody = cast(own_client, [candidates[number] for number in (0, 1, 2, 6, 7)], 5)
    own_client.erase_subject(everybody.actors[-1].person)
    people = everybody.only(5, strangers=[4])
    footage = directed(people, 2, (4.0, 1.5, 0.5), SMALL)
    recording = watched(own_client, footage)
    assert recording.errors == []
    assert len(recording.results) == len(footage.frames) == 60
    rows = by_what(list(bench_streams_scores.followed("truth", footage, recording, frozenset(people.enrolments))))
    assert rows["people named"].met, rows
    assert rows["wrong names"].value == 0
    assert rows["precision of names"].value == 1
    assert rows["recall of names"].value > 0.7
    assert rows["IDF1"].value > 0.85
    assert rows["faces found"].value > 0.85
    assert rows["boxes on a face"].value > 0.85


@pytest.mark.slow
def test_too_few_people(own_client: Client) -> None:
    with pytest.raises(InputError, match="30 people are wanted; of 24 there are only"):
        cast(own_client, installed(own_client), 30)


def test_people_of_a_data_set_are_shown_by_another_photo(shared: Path) -> None:
    first, second, *_ = of_folder(shared / "data" / "lfw")
    assert first.person != second.person
    assert first.enrolment != first.filmed


@pytest.mark.slow
def test_a_camera_keeps_its_pace(server: str) -> None:
    footage = film((), replace(SMALL, seconds=1), 1)
    cameras = [Camera(f"pace-{number}", footage, 10, 1.5, predictions=True) for number in range(2)]
    for recording in show(server, cameras):
        assert recording.sent == 15
        assert sorted(one.number for one in recording.results) == list(range(15))
        assert recording.errors == []
        assert recording.looks
        assert recording.period_s == 1.5 / len(recording.looks)
        assert 0 < recording.age_s(50) <= recording.age_s(99)
        # The last frame was taken after 1.4 s, and answered after that.
        assert recording.results[-1].at_s > 1.4
        assert recording.answers() == []


def test_a_stream_that_breaks_is_an_error(server: str) -> None:
    (recording,) = show(server, [Camera("not a name", film((), SMALL, 1), 10, 1)])
    assert len(recording.errors) == 1
    assert math.isnan(recording.age_s(99))
    assert math.isnan(recording.period_s)


@pytest.mark.parametrize(
    ("fps", "begin_s", "pictures"),
    [(10, 0, [0, 1, 2, 3]), (20, 0, [0, 0, 1, 1]), (5, 0, [0, 2, 4, 6]), (10, 4.8, [48, 49, 0, 1])],
)
def test_people_walk_at_the_same_speed_at_any_rate(fps: float, begin_s: float, pictures: list[int]) -> None:
    camera = Camera("any", Footage(SMALL, (b"",) * 50, ((),) * 50), fps, 1, begin_s=begin_s)
    assert [camera.picture(number) for number in range(4)] == pictures


def test_answers_are_read_from_results() -> None:
    message = recognition_pb2.FrameResult(frame_id=3)
    for track, name, outcome in (("1", "ana", common_pb2.OUTCOME_MATCH), ("", "bea", common_pb2.OUTCOME_UNKNOWN)):
        one = message.faces.add()
        one.face.box.CopyFrom(common_pb2.BoundingBox(left=1, top=2, width=3, height=4))
        one.decision.outcome = outcome
        one.decision.subject.subject_id = name
        one.track.track_id = track
    recording = Recording(Camera("any", Footage(SMALL, (b"",) * 50, ((),) * 50), 10, 1, keep=True))
    recording.results = [
        came_of(3, message=message),
        came_of(4, predicted=True),
        came_of(5, error="IMAGE_UNDECODABLE"),
    ]
    (answer,) = recording.answers(looks=True)
    assert (answer.frame, answer.age_s) == (3, 0.2)
    assert [(face.track_id, face.name, face.box) for face in answer.faces] == [
        ("1", "ana", Box(1, 2, 3, 4)),
        ("3/1", "", Box(1, 2, 3, 4)),
    ]
    assert [answer.frame for answer in recording.answers()] == [3, 4]
    assert recording.errors == ["IMAGE_UNDECODABLE"]


def test_what_should_be_told_and_what_was() -> None:
    ana, guest = (TrueFace(person, Box(0, 0, 10, 10), 1, 1) for person in ("ana", "guest"))
    hidden = replace(ana, visible=0.1)
    footage = Footage(SMALL, (b"",) * 40, ((), (hidden,), *[(ana, guest)] * 20, *[()] * 18))
    wanted = bench_streams_scores.expected(footage, frozenset({"ana"}))
    assert [(one.kind, one.person, one.at_s) for one in wanted] == [
        ("seen", "ana", 0.2),
        ("arrived", "ana", 0.2),
        ("left", "ana", 2.1),
        ("unknown_person", "", 0.2),
    ]
    begun = datetime(2026, 5, 4, tzinfo=UTC)

    def at(seconds: float) -> datetime:
        return begun + timedelta(seconds=seconds)

    left = presence_pb2.Event(event_time=at(4), left=presence_pb2.LeftEvent(subject_id="ana", leave_time=at(2)))
    arrived = presence_pb2.ArrivedEvent(subject_id="ana", arrive_time=at(0.3))
    seen = presence_pb2.SeenEvent(decision=common_pb2.Decision(subject=common_pb2.Candidate(subject_id="ana")))
    told = [
        presence_pb2.Event(event_time=at(0.3), seen=seen),
        presence_pb2.Event(event_time=at(0.8), arrived=arrived),
        left,
        presence_pb2.Event(event_time=at(0.4), unknown_person=presence_pb2.UnknownPersonEvent()),
        presence_pb2.Event(event_time=at(9), unknown_person=presence_pb2.UnknownPersonEvent()),
    ]
    got = [bench_streams_scores.happening(event, begun.timestamp()) for event in told]
    assert [round(one.at_s, 3) for one in got] == [0.3, 0.3, 2.0, 0.4, 9.0]
    precision, recall = bench_streams_scores.told("truth", footage, frozenset({"ana"}), got)
    assert (precision.value, recall.value) == (0.8, 1)
    assert "too much: unknown_person somebody at 9.0" in precision.what


def test_rows_are_held_against_bars() -> None:
    rows = [
        at_most("crowd", "busy", 0.61, 0.6, "{:.0%}"),
        at_least("crowd", "named", 15, 15),
        plain("idle", "looks", 3),
    ]
    assert [row.met for row in rows] == [False, True, None]
    assert (rows[0].figure, rows[0].bar) == ("61%", "≤ 60%")
    assert as_object(rows)["met"] is False
    assert as_object(rows[1:])["met"] is True
    assert at_most("crowd", "age", math.nan, 1).met is False
    with out.capture() as captured:
        out.print(as_rich(rows, "streams"))
    assert "named" in captured.get()


def test_memory_that_grows_is_not_flat() -> None:
    flat = by_what(list(_memory([300.0, 340, *[350.0, 350.2] * 20])))
    grown = by_what(list(_memory([300 + second for second in range(60)])))
    assert flat["growth in the second half"].met
    assert not grown["growth in the second half"].met
    assert grown["slope of the second half, MB a minute"].value == pytest.approx(60)


def test_a_meter_counts_both_processes() -> None:
    meter = Meter(os.getpid())
    while meter.client_s < 0.05:
        pass
    assert meter.server_s == pytest.approx(meter.client_s, abs=0.04)
    assert 0 < meter.busy <= 1.5
    assert meter.resident_mb() > 30


def test_strangers_are_not_enrolled() -> None:
    sprite = Sprite(np.zeros((8, 8, 3), np.uint8), 0.75)
    actors = tuple(Actor(person, sprite) for person in ("ana", "bea", "cem"))
    people = Cast(actors, {"ana": b"1", "bea": b"2", "cem": b"3"}, 9).only(2, strangers=[0])
    assert people == Cast(actors[:2], {"bea": b"2"}, 9)


def test_a_workload_that_is_not_there(facesvc: Facesvc) -> None:
    result = facesvc("bench", "streams", "--only", "rush-hour")
    assert result.status == 2
    assert "there is no workload 'rush-hour': crowd, cameras" in result.err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_workloads_in_small(pack_cache: Path) -> None:
    """Figures are for a quiet machine; here it is shown that each is taken."""
    command = [
        sys.executable,
        "-m",
        "facesvc",
        "bench",
        "streams",
        "--seconds",
        "5",
        "--overload-seconds",
        "6",
        "--json",
    ]
    environment = {**os.environ, "FACESVC_MODELS__CACHE_DIR": str(pack_cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=560, check=False)
    assert done.returncode in {0, 1}, done.stderr
    report = json.loads(done.stdout)
    rows = {(row["workload"], row["what"]): row for row in report["rows"]}
    assert {workload for workload, _ in rows} == {"crowd", "cameras", "overload", "idle", "truth"}
    assert report["met"] == all(row["met"] is not False for row in report["rows"])
    assert rows["crowd", "wrong names"]["met"]
    assert rows["truth", "wrong names"]["met"]
    assert rows["truth", "people named"]["met"]
    for workload in ("crowd", "cameras", "overload"):
        assert rows[workload, "errors"]["met"]
    assert "FaceAnalysis cannot run the pack default" in done.stderr
