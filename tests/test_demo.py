"""``facesvc demo``: everybody is recognised, nobody wrongly, through another process and a real socket."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from facesvc import config
from facesvc.cli.demo_camera import Person, Scene, Shot, film
from facesvc.cli.demo_report import Report
from facesvc.cli.local_server import _as_environment
from facesvc.v1 import common_pb2, recognition_pb2
from facesvc.vision.decode import ImageLimits, decode, read_header


@pytest.mark.parametrize("options", [["--plugins"], pytest.param([], marks=pytest.mark.slow)])
def test_the_demo_recognises_everybody_and_nobody_wrongly(pack_cache: Path, tmp_path: Path, options: list[str]) -> None:
    environment = {**os.environ, "FACESVC_MODELS__CACHE_DIR": str(pack_cache)}
    command = [sys.executable, "-m", "facesvc", "demo", *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["passed"]
    assert len(summary["recognized"]) == 7
    assert summary["wrong_names"] == []
    assert summary["stranger"]["UNKNOWN"] > 0
    assert summary["frames_sent"] >= 150
    if options:
        assert summary["plugins"]  # of those who stayed for long enough, on a machine that may be busy
        assert all(" arrived · " in line or " now · " in line for line in summary["plugins"])
    assert summary["frames_processed"] + summary["frames_dropped"] == summary["frames_sent"]
    with PIL.Image.open(tmp_path / "demo.png") as picture:
        assert picture.size == (960, 540)


def shot(*people: Person) -> Shot:
    pixels = np.zeros((100, 200, 3), np.uint8)
    (only,) = film([Scene(pixels, people, 1, (1.0, 1.0))], 200, 100, 1)
    return only


def result(frame_id: int, *faces: tuple[str, float]) -> recognition_pb2.FrameResult:
    """Faces as (name or "" for unknown, x), each a box of 20 pixels in the middle of the frame's height."""
    message = recognition_pb2.FrameResult(frame_id=frame_id)
    for name, x in faces:
        face = message.faces.add()
        face.face.box.CopyFrom(common_pb2.BoundingBox(left=x - 10, top=40, width=20, height=20))
        face.decision.outcome = common_pb2.OUTCOME_MATCH if name else common_pb2.OUTCOME_UNKNOWN
        face.decision.subject.subject_id = name
    return message


@pytest.mark.parametrize(
    ("faces", "passed", "wrong"),
    [
        ([("jane", 50), ("", 150)], True, 0),
        ([("jane", 150), ("", 50)], False, 1),
        ([("jane", 50), ("jane", 150)], False, 1),
        ([("jane", 100)], False, 1),
        ([("", 50), ("", 150)], False, 0),
        ([("jane", 50)], False, 0),
    ],
)
def test_the_report_judges_against_the_truth(faces: list[tuple[str, float]], passed: bool, wrong: int) -> None:  # noqa: FBT001
    seen = shot(Person("jane", 50, 50), Person(None, 150, 50))
    where = {person.subject_id: person.x for person in seen.people}
    report = Report({"jane": "Jane"}, 0.0)
    report.sent(seen)
    report.add(result(0, *((name, where["jane"] - 50 + x) for name, x in faces)))
    assert report.passed is passed
    assert len(report.summary(Path("x"))["wrong_names"]) == wrong


def test_no_frame_holds_the_pixels_that_were_enrolled() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (400, 600, 3)).astype(np.uint8)
    for taken in film([Scene(pixels, (), 5, (1.0, 1.0)), Scene(pixels, (), 5, (1.0, 1.0), mirrored=True)], 300, 200, 3):
        seen = decode(taken.jpeg, read_header(taken.jpeg, ImageLimits())).pixels
        assert not any((seen[y : y + 8, :8] == pixels[y2 : y2 + 8, :8]).all() for y in (0, 96) for y2 in (0, 96))


def test_a_person_is_where_the_camera_put_them() -> None:
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[190:210, 290:310] = 255
    for taken in film([Scene(pixels, (Person("a", 299.5, 199.5),), 20, (0.9, 1.1))], 600, 400, 3):
        seen = decode(taken.jpeg, read_header(taken.jpeg, ImageLimits())).pixels
        rows, columns = np.nonzero(seen.mean(axis=2) > 100)
        (person,) = taken.people
        assert abs(columns.mean() - person.x) < 2
        assert abs(rows.mean() - person.y) < 2


def test_the_demos_server_runs_under_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "facesvc.toml"
    path.write_text("[server]\nworkers = 1\n[limits]\nmax_faces = 3\n[policies.lobby]\nmargin = 0.02\n")
    settings = config.load(path)
    for name, value in _as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert config.load() == settings
