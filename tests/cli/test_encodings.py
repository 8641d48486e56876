"""``facesvc encodings``: files of encodings go into the gallery and come out of it."""

import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.running import Facesvc

from facesvc.cli import encoding_files, encoding_output, encodings
from facesvc.cli.encoding_entries import Encoding
from facesvc.cli.encoding_output import DLIB_LENGTH
from facesvc.cli.encoding_owners import Owners
from facesvc.client import Client
from facesvc.errors import InputError
from facesvc.v1 import common_pb2, enrollment_pb2, recognition_pb2


def vector(number: int) -> "np.ndarray[Any, Any]":
    """As ``face_recognition`` makes them: 128 doubles, about as long as dlib's."""
    values = np.random.default_rng(number).standard_normal(128)
    return DLIB_LENGTH * values / np.linalg.norm(values)  # type: ignore[no-any-return]


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """What somebody who used ``face_recognition`` has."""
    path = tmp_path / "known faces.pickle"
    names = ["Jane Doe", "Jane Doe", "Joe"]
    path.write_bytes(pickle.dumps({"encodings": [vector(number) for number in range(3)], "names": names}))
    return path


def names_of(client: Client, collection: str) -> dict[str, str]:
    return {one.subject_id: one.display_name for one in client.list_subjects(collection_id=collection)}


def test_a_pickle_of_face_recognition_is_taken_over(
    facesvc: Facesvc, client: Client, known: Path, collection: str
) -> None:
    result = facesvc("encodings", "import", known, "--create", "--collection", collection)

    assert (result.status, result.err) == (0, "")
    assert result.out == "3 imported, 0 were there already, 0 look like somebody else, 0 refused\n"
    assert names_of(client, collection) == {"jane-doe": "Jane Doe", "joe": "Joe"}
    assert [one.source for one in client.list_samples("jane-doe", collection_id=collection)] == [known.name] * 2


def test_each_problem_is_told_with_its_place(facesvc: Facesvc, tmp_path: Path, collection: str) -> None:
    path = tmp_path / "known.json"
    twin = (vector(0) + 0.1 * vector(9)).tolist()
    value = {
        "Jane Doe": [vector(0).tolist(), vector(0).tolist(), vector(1).tolist()[:127]],
        "jane doe": vector(2).tolist(),
        "": vector(3).tolist(),
        "Joe": [twin, [0.0] * 128],
    }
    path.write_text(json.dumps(value))
    arguments = ("encodings", "import", path, "--create", "--collection", collection)

    result = facesvc(*arguments)

    assert result.status == 1
    lines = [line for line in result.out.splitlines() if line]
    assert lines[0].startswith("INVALID_INPUT      jane doe  jane doe  'jane doe' and 'Jane Doe' would share the id")
    assert "this encoding is nobody's" in lines[1]
    assert "Jane Doe[2]  the encoding has 127 values" in lines[2]
    assert lines[3].startswith("IDENTITY_CONFLICT  Joe  Joe[0]  this encoding has similarity 0.99")
    assert "Joe[1]  the encoding has a length of 0" in lines[4]
    assert lines[5] == "1 imported, 1 were there already, 1 look like somebody else, 4 refused"

    again = facesvc(*arguments, "--allow-conflict", "--json").json
    assert {key: again[key] for key in ("imported", "duplicate", "conflict", "refused")} == {
        "imported": 1, "duplicate": 2, "conflict": 0, "refused": 4
    }  # fmt: skip
    assert again["problems"][0]["place"] == "jane doe"
    assert [one["verdict"] for one in again["problems"]] == ["INVALID_INPUT"] * 4


def test_nobody_is_made_known_unasked(facesvc: Facesvc, client: Client, known: Path, collection: str) -> None:
    result = facesvc("encodings", "import", known, "--collection", collection)

    assert result.status == 1
    assert "NOT_FOUND          Joe  encodings[2]" in result.out
    assert result.err == "--create makes people known who are not yet\n"
    assert names_of(client, collection) == {}


def test_many_problems_are_not_all_listed(
    facesvc: Facesvc, known: Path, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encodings, "_LISTED", 1)
    result = facesvc("encodings", "import", known, "--collection", collection)

    assert result.out.count("NOT_FOUND") == 1
    assert "and 2 more: --json has them all" in result.err


def test_a_person_who_is_enrolled_by_pictures_is_the_same(
    facesvc: Facesvc, client: Client, faces: dict[str, Path], tmp_path: Path, collection: str
) -> None:
    facesvc("enroll", faces["Ana"], "--name", "Jane Doe", "--collection", collection)
    path = tmp_path / "known.json"
    path.write_text(json.dumps({"Jane Doe": vector(1).tolist()}))

    result = facesvc("encodings", "import", path, "--collection", collection)

    assert (result.status, names_of(client, collection)) == (0, {"jane-doe": "Jane Doe"})


def test_ids_are_taken_as_they_are_and_another_name_is_told(
    facesvc: Facesvc, client: Client, tmp_path: Path, collection: str
) -> None:
    client.create_subject(enrollment_pb2.Subject(collection_id=collection, subject_id="E.17", display_name="Jané"))
    path = tmp_path / "known.npz"
    np.savez(
        path,
        embeddings=[vector(1), vector(2), vector(3)],
        subject_ids=["E.17", "E.18", "e 19"],
        names=["Jane", "K", "L"],
    )

    result = facesvc("encodings", "import", path, "--create", "--collection", collection)

    assert result.status == 1
    assert "E.17 is known as 'Jané', not 'Jane': the known name is kept" in result.err
    assert "subject_id 'e 19' must be 1 to 128 characters" in result.out
    assert names_of(client, collection) == {"E.17": "Jané", "E.18": "K"}


def test_a_contract_is_asked_for(facesvc: Facesvc, client: Client, known: Path, collection: str) -> None:
    arguments = ("encodings", "import", known, "--create", "--collection", collection, "--contract")
    in_use = client.server_info().model_pack.embedding_contract

    other = facesvc(*arguments, "arc/1")
    assert (other.status, other.out.count("EMBEDDING_CONTRACT_MISMATCH")) == (1, 3)
    assert facesvc(*arguments, in_use).status == 0


def test_a_contract_that_the_file_denies_is_refused(facesvc: Facesvc, tmp_path: Path, collection: str) -> None:
    path = tmp_path / "known.npz"
    np.savez(path, embeddings=[vector(1)], names=["Jane"], contract="arc/1")

    result = facesvc("encodings", "import", path, "--collection", collection, "--contract", "arc/2")
    assert result.status == 2
    assert "is of arc/1, as it says, and not of arc/2" in result.err


def test_what_other_models_take_for_theirs_is_told(
    facesvc: Facesvc, known: Path, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding_output, "DLIB_CONTRACTS", "sface-")
    result = facesvc("encodings", "import", known, "--create", "--collection", collection)

    assert "does not say which models its encodings were made with: they are taken for those of dlib-" in result.err


def test_a_pickle_that_wants_more_is_not_run(facesvc: Facesvc, tmp_path: Path, collection: str) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/EVIDENCE",)

    path = tmp_path / "known.pickle"
    path.write_bytes(pickle.dumps(Evil()))
    result = facesvc("encodings", "import", path, "--create", "--collection", collection)

    assert result.status == 2
    assert f"facesvc: {path}: this pickle wants to run posix.system; it was not run" in result.err
    assert not (tmp_path / "EVIDENCE").exists()


@pytest.mark.parametrize("suffix", [".npz", ".json", ".pickle"])
def test_what_is_exported_can_be_imported(
    facesvc: Facesvc, client: Client, known: Path, tmp_path: Path, collection: str, suffix: str
) -> None:
    facesvc("encodings", "import", known, "--create", "--collection", collection)
    path = tmp_path / f"mine{suffix}"

    result = facesvc("encodings", "export", path, "--collection", collection)

    assert result.status == 0
    assert result.out.startswith(f"wrote 3 encodings of 2 people to {path}, made under dlib-resnet29-128-")
    assert "is not sealed" in result.err
    back = facesvc("encodings", "import", path, "--create", "--collection", f"{collection}-2", "--json").json
    assert (back["imported"], back["problems"]) == (3, [])
    assert names_of(client, f"{collection}-2") == names_of(client, collection)
    read = {entry.name for entry in encoding_files.read(path).entries}
    assert read == {"Jane Doe", "Joe"}


def test_one_person_is_exported(facesvc: Facesvc, known: Path, tmp_path: Path, collection: str) -> None:
    facesvc("encodings", "import", known, "--create", "--collection", collection)
    facesvc("encodings", "export", tmp_path / "joe.npz", "--subject", "joe", "--collection", collection)

    assert [entry.subject_id for entry in encoding_files.read(tmp_path / "joe.npz").entries] == ["joe"]
    nobody = facesvc("encodings", "export", tmp_path / "x.npz", "--subject", "zoe", "--collection", collection)
    assert (nobody.status, "has no subject 'zoe'" in nobody.err) == (2, True)


def test_nothing_is_exported_over_a_file_or_from_nobody(facesvc: Facesvc, tmp_path: Path, collection: str) -> None:
    (tmp_path / "mine.npz").write_bytes(b"mine")
    there = facesvc("encodings", "export", tmp_path / "mine.npz", "--collection", collection)
    empty = facesvc("encodings", "export", tmp_path / "new.npz", "--collection", collection)

    assert (there.status, empty.status) == (2, 2)
    assert "is there already" in there.err
    assert "there are no encodings to export" in empty.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]


def test_names_become_ids_by_the_rule() -> None:
    owners = Owners({"Ada": "Ada Lovelace", "ada": "Ada"})

    def of(name: str = "", subject_id: str = "") -> tuple[str, str]:
        owned = owners.owned(Encoding(subject_id, name, np.zeros(1, np.float32), "[0]"))
        return owned.subject_id, owned.display_name

    assert of("Ada") == ("Ada", "Ada")  # the id of somebody who is known
    assert of(" Zoe\u0308 O'Neill ") == ("zoe-o-neill", "Zoë O'Neill")
    assert of("Zoë O'Neill") == ("zoe-o-neill", "Zoë O'Neill")
    assert of(subject_id="E.17") == ("E.17", "")
    assert of("Eve", "E.17") == ("E.17", "Eve")
    assert of("E.17")[0] == "e-17"
    for name, subject_id in (
        ("zoe o neill", ""),
        ("", ""),
        (" ", ""),
        ("a\nb", ""),
        ("x" * 257, ""),
        ("\ud800", ""),
        ("x", "a b"),
    ):
        with pytest.raises(InputError):
            of(name, subject_id)
    assert owners.renamed == {}
    assert of("Augusta", "Ada") == ("Ada", "Augusta")
    assert owners.renamed == {"Ada": "Augusta"}


def test_encodings_of_dlib_match_the_default_pack(
    facesvc: Facesvc, client: Client, shared: Path, tmp_path: Path, collection: str
) -> None:
    """What dlib itself made of one photo of each of eight people finds them in others, through detector and all."""
    golden = golden_faces(shared)
    photos = [str(photo) for photo in golden["names"]]
    first = {person(photo): place for place, photo in reversed(list(enumerate(photos)))}
    known = {"encodings": [golden["embeddings"][place].astype(float) for place in first.values()], "names": list(first)}
    path = tmp_path / "encodings.pickle"
    path.write_bytes(pickle.dumps(known))

    assert facesvc("encodings", "import", path, "--create", "--collection", collection).status == 0

    used = {photos[place] for place in first.values()}
    others = [one for name in first for one in _photos(shared, name) if one.name not in used]
    decisions = [_decision(client.search(photo.read_bytes(), collection_id=collection)) for photo in others]
    right = [
        decision.candidates[0].display_name == person(photo.name)
        for photo, decision in zip(others, decisions, strict=True)
    ]
    matched = [decision.outcome == common_pb2.OUTCOME_MATCH for decision in decisions]
    assert len(others) == 18
    assert all(right)
    assert sum(matched) >= 16


def golden_faces(shared: Path) -> dict[str, Any]:
    """What dlib itself made of photos: names and embeddings."""
    with np.load(shared / "data/golden/dlib_resnet_faces.npz") as arrays:
        return dict(arrays)


def test_what_was_exported_is_at_dlibs_distances(
    facesvc: Facesvc, shared: Path, tmp_path: Path, collection: str
) -> None:
    """In a script of a face_recognition user, the tolerance of 0.6 parts the same people as before."""
    golden = golden_faces(shared)
    people = [person(str(photo)) for photo in golden["names"]]
    path, back = tmp_path / "encodings.npz", tmp_path / "mine.pickle"
    np.savez(path, embeddings=golden["embeddings"], names=people)
    facesvc("encodings", "import", path, "--create", "--collection", collection)
    facesvc("encodings", "export", back, "--collection", collection)

    mine = pickle.loads(back.read_bytes())

    same = np.array(people)[:, None] == np.array(mine["names"])[None]
    distances = np.array([face_distance(mine["encodings"], one) for one in golden["embeddings"]])
    assert mine["names"] == sorted(people)
    assert (distances[same] <= 0.6).all()
    assert (distances[~same] > 0.6).all()


def face_distance(known: Sequence[Sequence[float]], face: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """As ``face_recognition.face_distance`` does it."""
    return np.linalg.norm(known - face, axis=1)  # type: ignore[no-any-return]  # a list less an array is an array


def person(photo: str) -> str:
    """Whom a photo of LFW shows."""
    return photo[:-9].replace("_", " ")


def _photos(shared: Path, name: str) -> list[Path]:
    return sorted((shared / "data/lfw/images" / name.replace(" ", "_")).glob("*.jpg"))


def _decision(answer: recognition_pb2.SearchResponse) -> common_pb2.Decision:
    """That about the face nearest the centre, as LFW means it."""

    def off_centre(face: recognition_pb2.RecognizedFace) -> float:
        box = face.face.normalized_box
        return abs(box.left + box.width / 2 - 0.5) + abs(box.top + box.height / 2 - 0.5)

    return min(answer.faces, key=off_centre).decision
