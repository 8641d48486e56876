"""``facesvc enroll``: pictures of people, against the real server."""

import shutil
from pathlib import Path

import pytest
from cli.running import Facesvc

from facesvc.cli.pictures import pixels_of, write
from facesvc.client import Client

MIB = 1 << 20


@pytest.fixture
def people(faces: dict[str, Path], tmp_path: Path) -> Path:
    """Ana and Bea are fit, Eli looks away, one file is no picture, and one has nothing to do with it."""
    folder = tmp_path / "people"
    (folder / "Ana Ruiz").mkdir(parents=True)
    shutil.copy(faces["Ana"], folder / "Ana Ruiz" / "1.jpg")
    shutil.copy(faces["Bea"], folder / "Béa.jpg")
    shutil.copy(faces["Eli"], folder / "Eli.jpg")
    (folder / "Xin.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "notes.txt").touch()
    return folder


def verdicts(summary: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {Path(picture["path"]).name: picture["verdict"] for picture in summary["pictures"]}


def test_good_pictures_are_in_and_bad_ones_are_exit_1(
    facesvc: Facesvc, client: Client, people: Path, collection: str
) -> None:
    result = facesvc("enroll", people, "--collection", collection, "--json")

    assert result.status == 1
    assert verdicts(result.json) == {
        "1.jpg": "ENROLLED", "Béa.jpg": "ENROLLED", "Eli.jpg": "EXTREME_POSE", "Xin.jpg": "UNDECODABLE",
    }  # fmt: skip
    assert [result.json[count] for count in ("enrolled", "already", "failed")] == [2, 0, 2]
    assert "skipped, not pictures: notes.txt" in result.err
    known = {
        one.subject_id: (one.display_name, one.sample_count) for one in client.list_subjects(collection_id=collection)
    }
    assert known == {"ana-ruiz": ("Ana Ruiz", 1), "bea": ("Béa", 1), "eli": ("Eli", 0), "xin": ("Xin", 0)}


def test_running_it_twice_adds_nothing_twice(facesvc: Facesvc, client: Client, people: Path, collection: str) -> None:
    for name in ("Eli.jpg", "Xin.jpg"):
        (people / name).unlink()
    facesvc("enroll", people, "--collection", collection)

    result = facesvc("enroll", people, "--collection", collection, "--json")

    assert result.status == 0
    assert [result.json[count] for count in ("enrolled", "already", "failed")] == [0, 2, 0]
    assert {picture["message"] for picture in result.json["pictures"]} == {"already enrolled"}
    assert sum(one.sample_count for one in client.list_subjects(collection_id=collection)) == 2


def test_people_get_a_line_a_picture_and_a_table(facesvc: Facesvc, people: Path, collection: str) -> None:
    result = facesvc("enroll", people, "--collection", collection)

    lines = result.out.splitlines()
    assert any(line.split() == ["ENROLLED", "Béa", str(people / "Béa.jpg")] for line in lines)
    assert any(line.startswith("EXTREME_POSE") and "look at the camera" in line for line in lines)
    assert any("│ ana-ruiz │ 1        │ 1        │ 0       │" in line for line in lines)
    assert any("│ eli      │" in line and "look at the camera" in line for line in lines)


def test_the_progress_bar_is_for_terminals(facesvc: Facesvc, faces: dict[str, Path], collection: str) -> None:
    assert facesvc("enroll", faces["Cem"], "--collection", collection).err == ""


def test_a_table_gives_names_and_external_ids(
    facesvc: Facesvc, client: Client, faces: dict[str, Path], tmp_path: Path, collection: str
) -> None:
    file = tmp_path / "people.csv"
    file.write_text(f"subject_id,name,path,card_number\nE17,Ana Ruiz,{faces['Ana']},0042\nE18,Bea,nowhere.jpg,\n")

    result = facesvc("enroll", file, "--collection", collection, "--json")

    assert result.status == 1
    assert [picture["verdict"] for picture in result.json["pictures"]] == ["ENROLLED", "UNDECODABLE"]
    assert result.json["pictures"][1]["message"] == f"{file} line 3: {tmp_path / 'nowhere.jpg'} does not exist"
    subject = client.get_subject("E17", collection_id=collection)
    assert (subject.display_name, dict(subject.external_ids)) == ("Ana Ruiz", {"card_number": "0042"})
    (sample,) = client.list_samples("E17", collection_id=collection)
    assert sample.source == "Ana.jpg"


def test_who_is_known_keeps_the_name(
    facesvc: Facesvc, client: Client, faces: dict[str, Path], tmp_path: Path, collection: str
) -> None:
    facesvc("enroll", faces["Ana"], "--collection", collection)
    shutil.copy(faces["Ana"], tmp_path / "ANA.jpg")

    result = facesvc("enroll", tmp_path / "ANA.jpg", "--collection", collection)

    assert result.status == 0
    assert "ana is known as 'Ana', not 'ANA'" in result.err
    assert client.get_subject("ana", collection_id=collection).display_name == "Ana"


def test_somebody_under_two_names_is_a_conflict_unless_allowed(
    facesvc: Facesvc, faces: dict[str, Path], tmp_path: Path, collection: str
) -> None:
    write(tmp_path / "Twin.png", pixels_of(faces["Ana"].read_bytes())[2:, 2:])
    facesvc("enroll", faces["Ana"], "--collection", collection)

    refused = facesvc("enroll", tmp_path / "Twin.png", "--collection", collection, "--json")
    allowed = facesvc("enroll", tmp_path / "Twin.png", "--collection", collection, "--json", "--allow-conflict")

    assert (refused.status, verdicts(refused.json)) == (1, {"Twin.png": "IDENTITY_CONFLICT"})
    assert (allowed.status, verdicts(allowed.json)) == (0, {"Twin.png": "ENROLLED"})


def test_a_file_over_the_limit_is_not_read(
    facesvc: Facesvc, faces: dict[str, Path], tmp_path: Path, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "Huge.jpg").open("wb") as file:
        file.truncate(17 * MIB)
    read: list[str] = []
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path.name), whole(path))[1])

    result = facesvc("enroll", tmp_path / "Huge.jpg", faces["Ana"], "--collection", collection, "--json")

    assert result.status == 1
    assert verdicts(result.json) == {"Huge.jpg": "UNDECODABLE", "Ana.jpg": "ENROLLED"}
    assert "17.0 MiB, the server takes 16.0" in result.json["pictures"][0]["message"]
    assert read == ["Ana.jpg"]


def test_a_person_the_server_refuses_does_not_stop_the_others(
    facesvc: Facesvc, faces: dict[str, Path], tmp_path: Path, collection: str
) -> None:
    file = tmp_path / "people.csv"
    file.write_text(f"subject_id,name,path\na,{'A' * 300},{faces['Ana']}\nb,Bea,{faces['Bea']}\n")

    result = facesvc("enroll", file, "--collection", collection, "--json")

    assert result.status == 1
    assert [picture["verdict"] for picture in result.json["pictures"]] == ["INVALID_INPUT", "ENROLLED"]
    assert result.json["pictures"][0]["message"].startswith(f"{file} line 2: ")


def test_names_are_printed_as_they_stand(
    facesvc: Facesvc, faces: dict[str, Path], tmp_path: Path, collection: str
) -> None:
    shutil.copy(faces["Ana"], tmp_path / "[red]\x1b[2J.jpg")

    result = facesvc("enroll", tmp_path, "--name", "[red]Ana[/red] :smile:\x1b[2J", "--collection", collection)

    assert result.status == 0
    assert "ENROLLED           [red]Ana[/red] :smile:[2J  " in result.out
    assert "/[red][2J.jpg" in result.out
    assert "\x1b" not in result.out


@pytest.mark.parametrize("collection", ["no good"])
def test_a_bad_collection_is_exit_2(facesvc: Facesvc, faces: dict[str, Path], collection: str) -> None:
    result = facesvc("enroll", faces["Ana"], "--collection", collection)

    assert result.status == 2
    assert "subject.collection_id" in result.err


def test_no_server_is_one_line(facesvc: Facesvc, faces: dict[str, Path]) -> None:
    result = facesvc("enroll", faces["Ana"], "--server", "127.0.0.1:1")

    assert (result.status, result.out) == (2, "")
    assert result.err == "facesvc: no server answers at 127.0.0.1:1: start one with `facesvc serve`\n"
