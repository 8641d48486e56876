"""``facesvc recognize``: video files and live streams, through the server's stream."""

import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli.camera import camera
from cli.running import Facesvc, matches

from facesvc.cli import screening
from facesvc.cli.sources import film_of


def frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def test_every_frame_of_a_video_file_gets_an_answer(facesvc: Facesvc, known: str, film: Path) -> None:
    lines = facesvc("recognize", film, "--collection", known, "--json").json_lines

    assert [line["frame_id"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert [line["time_s"] for line in lines] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert [matches(line) for line in lines] == [{"Ana", "Bea"}] * 3 + [set()] * 3
    assert {line["frames_dropped"] for line in lines} == {0}


def test_a_line_when_somebody_comes_or_goes(facesvc: Facesvc, known: str, film: Path) -> None:
    result = facesvc("recognize", film, "--collection", known)

    lines = result.out.splitlines()
    assert lines[0].startswith("0:00.00  ")
    assert "Ana 0." in lines[0]
    assert lines[1] == "0:00.60  nobody"
    assert any(line.startswith("│ Ana     │ 3      │ 0.") for line in lines)
    assert lines[-1] == "6 frames"


def test_the_video_is_written_frame_for_frame(facesvc: Facesvc, known: str, film: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"

    assert facesvc("recognize", film, "--collection", known, "--out", target).status == 0

    before, after = frames_of(film), frames_of(target)
    assert len(after) == 6
    assert after[0].shape == before[0].shape
    # MPEG-4 loses a little everywhere; a box in the colour of a match is far from anything that was there.
    green = np.abs(after[0].astype(int) - (84, 160, 34)).max(axis=2) < 30
    assert green.mean() > 0.005
    assert np.abs(after[5].astype(int) - before[5]).max() < 30


def test_of_a_camera_the_newest_frame_is_answered(
    facesvc: Facesvc, known: str, group_jpeg: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "out.mp4"
    with camera(iter([group_jpeg] * 20)) as url:
        result = facesvc("recognize", url, "--collection", known, "--json", "--out", target)

    lines = result.json_lines
    ids = [line["frame_id"] for line in lines]
    assert result.status == 0
    assert ids == sorted(ids)
    assert matches(lines[-1]) == {"Ana", "Bea"}
    # What was dropped is counted, and the film keeps its length all the same.
    assert len(lines) + sum(line["frames_dropped"] for line in lines) == ids[-1] + 1 == len(frames_of(target))


def test_ctrl_c_ends_a_camera_with_a_summary(
    facesvc: Facesvc, known: str, group_jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield group_jpeg

    def say(text: str) -> None:
        told.append(text)
        if len(told) == 1:
            signal.raise_signal(signal.SIGINT)

    told: list[str] = []
    monkeypatch.setattr(screening, "say", say)
    with camera(endless()) as url:
        result = facesvc("recognize", url, "--collection", known)

    assert result.status == 0
    assert "Ana 0." in told[0]
    assert "Best similarity" in result.out
    assert "Traceback" not in result.err


def test_a_bad_camera_id_is_exit_2(facesvc: Facesvc, known: str, film: Path) -> None:
    result = facesvc("recognize", film, "--collection", known, "--camera-id", "no camera", "--zone", "lobby")

    assert result.status == 2
    assert "opening.camera_id" in result.err


@pytest.mark.parametrize("source", ["0", "12", "rtsp://door/1", "http://door/video.mjpg"])
def test_cameras_and_urls_are_live(source: str) -> None:
    film = film_of(source)

    assert film is not None
    assert film.live
