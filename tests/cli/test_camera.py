"""``facesvc camera``: before the real server, and before one whose answers the test gives."""

import itertools
import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from cli.camera import camera as network_camera
from cli.proxy import Proxy
from cli.running import Facesvc
from client.scripted import Desk, opened, result, server

from facesvc.cli import camera_report
from facesvc.cli.camera import InRealTime, encode
from facesvc.cli.camera_report import CameraReport
from facesvc.cli.pictures import pixels_of
from facesvc.cli.sources import film_of
from facesvc.client import Figures, Level
from facesvc.v1 import common_pb2, recognition_pb2

DOOR = ("--camera-id", "door", "--zone", "lobby")
FIGURES = Figures(0, 0, 0, 0, 0.0, Level(90, 1.0))


def decision_lines(out: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, out.splitlines()) if line["type"] == "decision"]


@contextmanager
def at_decision(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> Iterator[None]:
    """Call ``act`` with the number of each line about a decision once it is printed."""
    whole, numbers = CameraReport._tell_decision, itertools.count(1)

    def telling(*arguments: Any) -> None:
        whole(*arguments)
        act(next(numbers))

    monkeypatch.setattr(CameraReport, "_tell_decision", telling)
    yield
    assert next(numbers) > 1


def test_who_is_recognised_is_a_line_and_the_end_of_the_file_is_the_end(
    facesvc: Facesvc, known: str, film: Path
) -> None:
    result = facesvc("camera", film, *DOOR, "--collection", known)

    assert result.status == 0
    names = [line.split()[1] for line in result.out.splitlines()]
    assert sorted(name for name in names if name in {"Ana", "Bea"}) == ["Ana", "Bea"]
    first, *_, last = result.err.splitlines()
    assert first == f"watching {film}, policy presence"
    assert "sent" in last
    assert "JPEG quality 90" in last


def test_as_json(facesvc: Facesvc, known: str, film: Path) -> None:
    result = facesvc("camera", film, *DOOR, "--collection", known, "--json", "--predictions", "--direction", "entry")

    lines = result.json_lines
    assert (lines[0]["type"], lines[0]["policy"], lines[-1]["type"]) == ("opened", "presence", "status")
    ana = [line for line in decision_lines(result.out) if line["display_name"] == "Ana"]
    assert [(line["outcome"], line["subject_id"]) for line in ana] == [("MATCH", "ana")]
    assert ana[0]["capture_time"].endswith("Z")
    assert lines[-1]["results"] >= 1


def test_a_network_camera_until_ctrl_c_and_nobody_reads_its_password(
    facesvc: Facesvc, known: str, faces: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = itertools.repeat(faces["Ana"].read_bytes())
    with network_camera(frames) as address, at_decision(monkeypatch, lambda _: signal.raise_signal(signal.SIGINT)):
        result = facesvc("camera", f"{address}?user=admin&pwd=hidden", *DOOR, "--collection", known)

    assert result.status == 0
    assert "Ana" in result.out
    assert "secret" not in result.out + result.err
    assert "hidden" not in result.out + result.err


def test_a_camera_that_is_not_there_is_exit_2_without_its_password(facesvc: Facesvc) -> None:
    result = facesvc("camera", "http://user:secret@127.0.0.1:1/video?pwd=hidden", *DOOR)

    assert result.status == 2
    assert result.err.splitlines()[-1].startswith("facesvc: http://127.0.0.1:1/video gives no picture: ")
    assert "secret" not in result.err
    assert "hidden" not in result.err


def test_a_broken_connection_is_mended(
    facesvc: Facesvc, server: str, known: str, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(server)
    again = CameraReport._tell_opening

    def opening(report: CameraReport, answer: recognition_pb2.StreamOpened) -> None:
        again(report, answer)
        if proxy.connections > 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(CameraReport, "_tell_opening", opening)
    with at_decision(monkeypatch, lambda number: proxy.cut() if number == 1 else None):
        result = facesvc("camera", film, *DOOR, "--collection", known, "--loop", "--server", proxy.address)
    proxy.close()

    assert result.status == 0
    assert f"no server answers at {proxy.address}" in result.err
    assert "trying again in 0." in result.err


def test_what_does_not_move_or_does_not_exist_is_exit_2(facesvc: Facesvc, faces: dict[str, Path]) -> None:
    still, gone = facesvc("camera", faces["Ana"], *DOOR), facesvc("camera", "gone.mp4", *DOOR)

    assert (still.status, gone.status) == (2, 2)
    assert "does not move: name a video" in still.err
    assert "gone.mp4 does not exist" in gone.err


def test_a_server_that_was_never_there_is_exit_2(facesvc: Facesvc, film: Path) -> None:
    result = facesvc("camera", film, *DOOR, "--server", "127.0.0.1:1")

    assert result.status == 2
    assert "no server answers at 127.0.0.1:1: start one with `facesvc serve`" in result.err


def challenge_answer(**fields: Any) -> recognition_pb2.RecognizeResponse:
    progress = recognition_pb2.ChallengeProgress(challenge_id="c", track_id="t", steps_total=2, **fields)
    progress.time_left.FromJsonString("12s")
    return recognition_pb2.RecognizeResponse(challenge=progress)


def person(**fields: Any) -> recognition_pb2.RecognizedFace:
    values = {"outcome": common_pb2.OUTCOME_UNKNOWN, "settled": True, **fields}
    return recognition_pb2.RecognizedFace(
        decision=common_pb2.Decision(**values), track=recognition_pb2.Track(track_id="t")
    )


def challenged(desk: Desk, last: recognition_pb2.RecognizeResponse) -> recognition_pb2.RecognizeRequest:
    desk.say(opened(50))
    sent = desk.frame()
    desk.say(result(sent.frame_id, faces=[person()]))
    while not (asked := desk.read()).HasField("challenge"):
        pass
    left = recognition_pb2.CHALLENGE_PROMPT_TURN_LEFT
    desk.say(challenge_answer(state=recognition_pb2.CHALLENGE_STATE_RUNNING, prompt=left, steps_done=1), last)
    while desk.received.get(timeout=30) is not None:
        pass
    desk.say(None)
    return asked


@pytest.mark.parametrize("state", [pytest.param("PASSED", marks=pytest.mark.slow), "FAILED"])
def test_a_challenge_is_asked_of_the_first_and_told_in_words(facesvc: Facesvc, film: Path, state: str) -> None:
    value = recognition_pb2.ChallengeState.Value(f"CHALLENGE_STATE_{state}")
    last = challenge_answer(state=value, message="the face was lost" if state == "FAILED" else "")
    with server() as far, ThreadPoolExecutor(1) as pool:
        work = pool.submit(lambda: challenged(far.desk(), last))
        out = facesvc("camera", film, *DOOR, "--challenge", "--server", far.address).out
        assert work.result(30).HasField("challenge")

    told = [line for line in out.splitlines() if line.startswith("challenge: ")]
    assert told[0] == "challenge: turn your head to your left (1 of 2 done, 12 s left)"
    assert told[1] == ("challenge: passed" if state == "PASSED" else "challenge: failed: the face was lost")


@pytest.mark.slow
def test_a_challenge_as_json(facesvc: Facesvc, film: Path) -> None:
    last = challenge_answer(state=recognition_pb2.CHALLENGE_STATE_FAILED, reason="CHALLENGE_TIMED_OUT", message="late")
    with server() as far, ThreadPoolExecutor(1) as pool:
        work = pool.submit(lambda: challenged(far.desk(), last))
        lines = facesvc("camera", film, *DOOR, "--challenge", "--json", "--server", far.address).json_lines
        work.result(30)

    first, second = [line for line in lines if line["type"] == "challenge"]
    assert (first["state"], first["prompt"], first["time_left_s"]) == ("RUNNING", "TURN_LEFT", 12)
    assert (second["state"], second["reason"], second["message"]) == ("FAILED", "CHALLENGE_TIMED_OUT", "late")


def test_the_opening_says_what_was_asked_for(facesvc: Facesvc, film: Path) -> None:
    def hear() -> recognition_pb2.StreamOpening:
        desk = far.desks.get(timeout=30)
        opening = desk.read().opening
        desk.say(grpc.StatusCode.NOT_FOUND)
        return opening

    with server() as far, ThreadPoolExecutor(1) as pool:
        work = pool.submit(hear)
        options = ("--direction", "exit", "--predictions", "--policy", "access", "--collection", "staff")
        status = facesvc("camera", film, *DOOR, *options, "--server", far.address).status
        heard = work.result(30)

    assert status == 2
    assert (heard.camera_id, heard.zone, heard.policy, heard.collection_id) == ("door", "lobby", "access", "staff")
    assert (heard.direction, heard.predictions) == (recognition_pb2.CAMERA_DIRECTION_EXIT, True)


def report(*answers: recognition_pb2.RecognizeResponse, as_json: bool = False) -> None:
    one = CameraReport("film", 0.0, as_json=as_json)
    for answer in answers:
        one.tell(answer, FIGURES, 0.0)


def test_a_decision_is_told_when_it_is_settled_and_when_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    ana = common_pb2.Candidate(subject_id="ana", display_name="Ana", similarity=0.95)
    stages = [
        person(settled=False),
        person(),
        person(),
        person(outcome=common_pb2.OUTCOME_MATCH, subject=ana, settled=False),
        person(outcome=common_pb2.OUTCOME_MATCH, subject=ana),
        person(outcome=common_pb2.OUTCOME_LOW_QUALITY, low_quality_reason="the face is blurred"),
        recognition_pb2.RecognizedFace(track=recognition_pb2.Track(track_id="new")),
    ]
    report(*(result(number, faces=[face]) for number, face in enumerate(stages)))

    lines = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["unknown", "Ana  0.950", "low quality  the face is blurred"]


def test_what_is_wrong_with_each_frame_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    bad = common_pb2.ItemError(reason="FRAME_FROM_THE_FUTURE", message="set the camera's clock")
    report(result(1, error=bad), result(2, error=bad), result(3), result(4, error=bad))

    assert capsys.readouterr().err.splitlines() == ["set the camera's clock"] * 2


def test_how_it_goes_is_told_every_ten_seconds_as_rates(capsys: pytest.CaptureFixture[str]) -> None:
    one = CameraReport("film", 100.0, as_json=False)
    later = Figures(50, 100, 5, 45, 0.0812, Level(70, 0.8))
    one.tell(result(1), later, 109.0)
    one.tell(result(2), later, 110.0)
    one.tell(result(3), later, 111.0)

    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "5.0 sent, 10.0 skipped, 0.5 dropped a second; a result is 81 ms old; JPEG quality 70, at 80% of its size"
    )


def test_tracks_are_forgotten(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_report, "_MAX_TRACKS", 2)
    faces = [person() for _ in range(4)]
    for face, track_id in zip(faces, "abca", strict=True):
        face.track.track_id = track_id
    report(*(result(number, faces=[face]) for number, face in enumerate(faces)))

    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize(("share", "size"), [(1.0, (444, 640)), (0.5, (222, 320)), (0.0001, (1, 1))])
def test_a_picture_is_as_small_and_as_coarse_as_is_asked(share: float, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (444, 640, 3), np.uint8)
    fine, coarse = (encode(pixels, Level(quality, share)) for quality in (90, 60))
    assert pixels_of(fine).shape[:2] == size
    assert len(coarse) < len(fine) or size == (1, 1)


def test_a_film_in_a_loop_goes_on_until_it_is_closed(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = film_of(str(film))
    assert found
    endless = InRealTime(found, loop=True)
    due: list[float] = []
    monkeypatch.setattr("facesvc.cli.camera.time", SimpleNamespace(monotonic=lambda: 100.0))
    monkeypatch.setattr(endless._closed, "wait", lambda seconds: due.append(seconds) or False)
    assert len(list(itertools.islice(endless, 20))) == 20
    # Nothing waits here: the frames are due at 5 a second, the last of them after 3.8 s.
    assert due == sorted(due)
    assert due[-1] == pytest.approx(3.8)
    endless.close()


def test_a_film_that_is_closed_stops_waiting_for_its_next_frame(film: Path) -> None:
    found = film_of(str(film))
    assert found
    source = InRealTime(found, loop=True)
    frames = iter(source)
    next(frames)
    closer = threading.Thread(target=source.close)
    closer.start()
    assert len(list(frames)) < 1000
    closer.join(30)
