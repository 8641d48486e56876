"""``facesvc recognize``: pictures and folders, and what cannot be recognised or written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cli.running import Facesvc, matches

from facesvc.cli.pictures import pixels_of, write


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
