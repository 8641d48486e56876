"""``facesvc gallery check`` says what is wrong; ``facesvc subjects merge``, ``split`` and ``correct`` set it right."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from cli.running import Facesvc

from facesvc.client import CallError, Client, encoding
from facesvc.v1 import enrollment_pb2


def vector(number: int, toward: int = 0, similarity: float = 1.0) -> list[float]:
    """A vector of its own direction, or turned towards it from another by so much."""
    own, other = (np.random.default_rng(one).standard_normal(128) for one in (number, toward))
    own, other = own / np.linalg.norm(own), other / np.linalg.norm(other)
    other = other - own * (own @ other)
    turned = similarity * own + np.sqrt(1 - similarity**2) * other / np.linalg.norm(other)
    return turned.tolist()  # type: ignore[no-any-return]


@pytest.fixture
def samples(client: Client, collection: str) -> list[str]:
    """Of Ada two, of Bob one that is like hers; what Ada has third is Bob's twin picture."""
    people = [("ada", vector(1)), ("ada", vector(1, 2, 0.97)), ("bob", vector(3)), ("ada", vector(3, 4, 0.98))]
    answers = client.import_encodings(
        encoding(
            name, one, collection_id=collection, display_name=name.title(), create_subject=True, allow_conflict=True
        )
        for name, one in people
    )
    return [answer.sample_id for answer in answers]


def samples_of(client: Client, subject_id: str, collection: str) -> list[str]:
    return [one.sample_id for one in client.list_samples(subject_id, collection_id=collection)]


def test_a_check_names_the_worst_with_what_to_do(facesvc: Facesvc, samples: list[str], collection: str) -> None:
    result = facesvc("gallery", "check", "--collection", collection)

    assert result.status == 1
    assert "UNLIKE_OTHERS │ ada bob" in result.out
    assert f"facesvc subjects correct ada {samples[3]}" in " ".join(result.out.split())
    findings = facesvc("gallery", "check", "--collection", collection, "--json")
    assert findings.status == 1
    assert [one["kind"] for one in findings.json] == ["UNLIKE_OTHERS", "ALIKE"]
    assert findings.json[0]["sample_ids"] == [samples[3]]
    assert findings.json[1]["similarity"] == pytest.approx(0.98, abs=1e-4)
    one = facesvc("gallery", "check", "--collection", collection, "--limit", 1)
    assert "these are the worst 1; there may be more" in one.out


def test_a_good_gallery_is_exit_0(facesvc: Facesvc, collection: str) -> None:
    result = facesvc("gallery", "check", "--collection", collection)

    assert (result.status, result.out) == (0, "nothing is doubtful\n")
    assert facesvc("gallery", "check", "--collection", collection, "--json").json == []


def test_a_check_that_is_followed_leaves_nothing_doubtful(
    facesvc: Facesvc, client: Client, samples: list[str], collection: str
) -> None:
    result = facesvc("subjects", "correct", "ada", samples[3], "--actual", "bob", "--collection", collection)

    assert (result.status, result.out) == (0, f"sample {samples[3]} is bob's now\n")
    assert samples_of(client, "bob", collection) == [samples[2], samples[3]]
    assert facesvc("gallery", "check", "--collection", collection).status == 0


def test_this_was_not_her(facesvc: Facesvc, client: Client, samples: list[str], collection: str) -> None:
    correct = ("subjects", "correct", "ada", samples[3], "--collection", collection)

    assert facesvc(*correct, "--decision", "D1").out == f"sample {samples[3]} of ada is gone\n"
    assert samples_of(client, "ada", collection) == samples[:2]
    again = facesvc(*correct)
    assert (again.status, "has no sample" in again.err) == (2, True)


def test_samples_of_somebody_else_are_split_off(
    facesvc: Facesvc, client: Client, samples: list[str], collection: str
) -> None:
    split = ("subjects", "split", "ada", *samples[:2], "--collection", collection)

    assert facesvc(*split, "--to", "eve", "--name", "Eve").out == "eve has 2 samples now\n"
    assert client.get_subject("eve", collection_id=collection).display_name == "Eve"
    assert samples_of(client, "ada", collection) == [samples[3]]
    new = facesvc("subjects", "split", "eve", samples[0], "--collection", collection, "--json").json
    assert (len(new["subject_id"]), new["sample_count"]) == (26, 1)


def test_two_entries_become_one(facesvc: Facesvc, client: Client, samples: list[str], collection: str) -> None:
    result = facesvc("subjects", "merge", "ada", "bob", "--yes", "--collection", collection)

    assert result.status == 0
    assert result.out.startswith("bob is ada now, who has 4 samples\nreceipt ")
    with pytest.raises(CallError, match="has no subject"):
        client.get_subject("bob", collection_id=collection)


def test_a_merge_for_programs(facesvc: Facesvc, samples: list[str], collection: str) -> None:
    merged = facesvc("subjects", "merge", "ada", "bob", "--yes", "--collection", collection, "--json").json

    assert merged["subject"]["sample_count"] == len(samples)
    assert merged["receipt"]["subject_id"] == "bob"


def test_nobody_is_merged_where_nobody_can_be_asked(
    facesvc: Facesvc, client: Client, samples: list[str], collection: str
) -> None:
    result = facesvc("subjects", "merge", "ada", "bob", "--collection", collection)

    assert result.status == 2
    assert "say --yes" in result.err
    assert client.get_subject("bob", collection_id=collection)


@pytest.mark.parametrize(("answer", "status", "left"), [("y\n", 0, 1), ("n\n", 1, 2), ("\n", 1, 2)])
def test_a_terminal_is_asked(
    facesvc: Facesvc,
    client: Client,
    samples: list[str],
    collection: str,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    status: int,
    left: int,
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)

    result = facesvc("subjects", "merge", "ada", "bob", "--collection", collection)

    assert "Bob (bob) and Ada (ada) will be one person, ada; bob is erased." in result.out
    assert result.status == status
    assert len(list(client.list_subjects(collection_id=collection))) == left


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("merge", "ada", "ada", "--yes"), "cannot be merged with themselves"),
        (("merge", "ada", "zoe", "--yes"), "has no subject 'zoe'"),
        (("split", "ada", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--to", "eve"), "has no sample"),
        (("split", "ada", "x", "--to", "ada"), "are this person's already"),
        (("correct", "ada", "x", "--actual", "zoe"), "has no subject 'zoe'"),
    ],
)
def test_what_cannot_be_is_exit_2(
    facesvc: Facesvc, samples: list[str], collection: str, arguments: tuple[str, ...], complaint: str
) -> None:
    result = facesvc("subjects", *arguments, "--collection", collection)

    assert result.status == 2
    assert complaint in result.err


def test_a_recognition_says_by_which_sample(
    facesvc: Facesvc, client: Client, faces: dict[str, Path], collection: str
) -> None:
    facesvc("enroll", faces["Ana"], "--collection", collection)
    (line,) = facesvc("recognize", faces["Ana"], "--collection", collection, "--json").json_lines
    (sample_id,) = samples_of(client, "ana", collection)

    assert line["faces"][0]["sample_id"] == sample_id
    assert line["faces"][0]["candidates"][0]["sample_id"] == sample_id


def test_people_are_found_by_name_and_by_metadata(facesvc: Facesvc, client: Client, collection: str) -> None:
    for name, site in (("Ada", "berlin"), ("Adam", "paris"), ("Bob", "berlin")):
        subject = enrollment_pb2.Subject(
            collection_id=collection, subject_id=name.lower(), display_name=name, metadata={"site": site}
        )
        client.create_subject(subject)

    def found(*asked: str) -> list[str]:
        listed = facesvc("subjects", "list", "--collection", collection, "--json", *asked).json
        return [one["subject_id"] for one in listed]

    assert found("--prefix", "AD") == ["ada", "adam"]
    assert found("--filter", "site=berlin") == ["ada", "bob"]
    assert found("--filter", "site=berlin", "--prefix", "b") == ["bob"]
    assert found("--filter", "site=berlin", "--filter", "team=red") == []
    assert found("--filter", "site=berlin", "--filter", "site=paris") == ["ada", "adam", "bob"]
    assert {facesvc("subjects", "list", "--filter", wrong).status for wrong in ("site", "site=", "=x")} == {2}
