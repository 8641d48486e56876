"""``facesvc recognize``: pictures, folders, video files and live streams, against the real server."""

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli.running import Facesvc

from facesvc.cli import screening
from facesvc.cli.pictures import pixels_of, write
from facesvc.cli.sources import film_of
from facesvc.client import Client, sample
from facesvc.v1 import enrollment_pb2


@pytest.fixture(scope="module")
def known(client: Client, faces: dict[str, Path]) -> str:
    """A gallery that knows Ana and Bea, and is not changed."""
    for name in ("Ana", "Bea"):
        subject = enrollment_pb2.Subject(collection_id="known", subject_id=name.lower(), display_name=name)
        client.create_subject(subject)
        (answer,) = client.enroll([sample(name.lower(), faces[name].read_bytes(), collection_id="known")])
        assert answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED
    return "known"


@contextmanager
def camera(frames: Iterator[bytes]) -> Iterator[str]:
    """A network camera: its address; JPEG frames are sent as fast as they are taken, until the viewer leaves."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                for data in frames:
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
            except OSError:
                return

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://user:secret@127.0.0.1:{server.server_port}/video.mjpg"
        finally:
            server.shutdown()
            thread.join()


def frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def matches(line: dict[str, Any]) -> set[str]:
    return {face["display_name"] for face in line["faces"] if face["outcome"] == "MATCH"}


def test_everybody_in_a_picture_gets_a_row(facesvc: Facesvc, known: str, pictures: Path) -> None:
    result = facesvc("recognize", pictures / "t1.jpg", "--collection", known)

    rows = [line.split() for line in result.out.splitlines()]
    assert result.status == 0
    assert rows[0] == [f"{pictures / 't1.jpg'}:", "6", "faces"]
    assert sorted(row[2:] for row in rows if row[0] == "MATCH") == [["Ana"], ["Bea"]]
    assert sum(row[0] == "UNKNOWN" for row in rows) == 4


def test_candidates_are_shown_where_they_are_asked_for(facesvc: Facesvc, known: str, faces: dict[str, Path]) -> None:
    plain = facesvc("recognize", faces["Ana"], "--collection", known)
    result = facesvc("recognize", faces["Ana"], "--collection", known, "--max-candidates", "2")

    assert "candidates" not in plain.out
    assert "candidates: Ana 0." in result.out
    assert ", Bea 0." in result.out


def test_a_picture_as_json(facesvc: Facesvc, known: str, faces: dict[str, Path]) -> None:
    (line,) = facesvc("recognize", faces["Ana"], "--collection", known, "--json").json_lines

    (face,) = line["faces"]
    assert line["path"] == str(faces["Ana"])
    assert (face["outcome"], face["subject_id"], face["display_name"]) == ("MATCH", "ana", "Ana")
    assert face["similarity"] >= face["threshold"]
    assert (line["width"], line["height"]) == pixels_of(faces["Ana"].read_bytes()).shape[1::-1]


def test_where_nobody_is_enrolled_nobody_is_similar(facesvc: Facesvc, faces: dict[str, Path], collection: str) -> None:
    (line,) = facesvc("recognize", faces["Ana"], "--collection", collection, "--json").json_lines

    assert [(face["outcome"], face["similarity"]) for face in line["faces"]] == [("UNKNOWN", None)]


def test_the_picture_is_written_with_its_boxes(
    facesvc: Facesvc, known: str, faces: dict[str, Path], tmp_path: Path
) -> None:
    target = tmp_path / "out.png"

    assert facesvc("recognize", faces["Ana"], "--collection", known, "--out", target).status == 0

    before, after = pixels_of(faces["Ana"].read_bytes()), pixels_of(target.read_bytes())
    assert before.shape == after.shape
    assert 0.01 < (before != after).any(axis=2).mean() < 0.5


def test_a_picture_without_a_picture_s_name_is_tried(
    facesvc: Facesvc, known: str, faces: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(faces["Ana"], tmp_path / "picture")

    assert "Ana" in facesvc("recognize", tmp_path / "picture", "--collection", known).out


@pytest.fixture
def album(faces: dict[str, Path], tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    (folder / "inner").mkdir(parents=True)
    shutil.copy(faces["Ana"], folder / "1.jpg")
    shutil.copy(faces["Bea"], folder / "inner" / "2.jpg")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").touch()
    return folder


def test_every_picture_of_a_folder_gets_an_answer(facesvc: Facesvc, known: str, album: Path, tmp_path: Path) -> None:
    result = facesvc("recognize", album, "--collection", known, "--json", "--out", tmp_path / "out")

    assert result.status == 1
    assert [(Path(line["path"]).name, matches(line)) for line in result.json_lines] == [
        ("1.jpg", {"Ana"}), ("broken.png", set()), ("2.jpg", {"Bea"}),
    ]  # fmt: skip
    assert [line["error"] and line["error"]["reason"] for line in result.json_lines] == [
        None,
        "IMAGE_UNDECODABLE",
        None,
    ]
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"1.jpg", "inner/2.jpg"}


def test_a_folder_for_people(facesvc: Facesvc, known: str, album: Path) -> None:
    result = facesvc("recognize", album, "--collection", known)

    assert result.status == 1
    assert result.err.startswith(f"{album / 'broken.png'}: the image cannot be read")
    assert f"{album / 'inner' / '2.jpg'}: 1 face\n" in result.out


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


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("nowhere.jpg", "nowhere.jpg does not exist"),
        ("empty", "there are no pictures in empty"),
        ("notes.txt", "notes.txt is no picture and no video that can be read"),
        ("broken.jpg", "broken.jpg: the image cannot be read"),
        ("huge.jpg", "huge.jpg has 17.0 MiB, the server takes 16.0"),
        ("987", "camera 987 gives no picture"),
        ("http://user:secret@127.0.0.1:1/x", "http://127.0.0.1:1/x gives no picture"),
    ],
)
def test_a_source_that_gives_nothing_is_one_line(
    facesvc: Facesvc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("notes.txt").write_text("no video\n" * 100)
    Path("broken.jpg").write_bytes(b"no picture")
    with Path("huge.jpg").open("wb") as file:
        file.truncate(17 << 20)

    result = facesvc("recognize", source)

    assert result.status == 2
    assert result.err.startswith(f"facesvc: {complaint}")
    assert result.err.count("\n") == 1
    assert "secret" not in result.err


@pytest.mark.parametrize(
    ("source", "target", "complaint"),
    [
        ("a.png", "a.png", "a.png would overwrite what it is made from"),
        ("a.png", "a.txt", "cannot write a picture to a.txt"),
        ("a.png", "nowhere/a.png", "there is no folder nowhere"),
        ("film.avi", "film.png", "cannot write a video to film.png"),
        ("film.avi", "./film.avi", "film.avi would overwrite"),
        ("folder", "a.png", "a.png is no folder"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_asked(
    facesvc: Facesvc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("film.avi").write_bytes(bytes(99))
    write(Path("a.png"), np.zeros((8, 8, 3), np.uint8))

    result = facesvc("recognize", source, "--out", target, "--server", "127.0.0.1:1")

    assert result.status == 2
    assert complaint in result.err


@pytest.mark.parametrize("policy", ["access", "nonsense"])
def test_a_policy_that_cannot_be_honoured_is_exit_2(
    facesvc: Facesvc, faces: dict[str, Path], film: Path, policy: str
) -> None:
    for source in (faces["Ana"], film):
        result = facesvc("recognize", source, "--policy", policy)

        assert result.status == 2
        assert f"policy {policy}" in result.err.replace("'", "")


@pytest.mark.parametrize("source", ["0", "12", "rtsp://door/1", "http://door/video.mjpg"])
def test_cameras_and_urls_are_live(source: str) -> None:
    film = film_of(source)

    assert film is not None
    assert film.live
