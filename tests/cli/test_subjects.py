"""``facesvc subjects``: list, show, change and forget people."""

import io
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli.running import Facesvc

from facesvc.client import CallError, Client
from facesvc.v1 import enrollment_pb2


@pytest.fixture
def jane(client: Client, collection: str) -> str:
    """The id of somebody who is known, with no samples."""
    client.create_subject(
        enrollment_pb2.Subject(
            collection_id=collection,
            subject_id="jane",
            display_name="Jane [b]Doe[/b]",
            external_ids={"employee_no": "17", "card_number": "42"},
        )
    )
    return "jane"


def test_everybody_is_listed_as_they_stand(facesvc: Facesvc, jane: str, collection: str) -> None:
    result = facesvc("subjects", "list", "--collection", collection)

    assert result.status == 0
    assert "│ jane │ Jane [b]Doe[/b] │ 0       │ card_number=42, employee_no=17 │ enabled │" in result.out


def test_the_list_is_one_array(facesvc: Facesvc, jane: str, collection: str) -> None:
    (subject,) = facesvc("subjects", "list", "--collection", collection, "--json").json

    assert subject["subject_id"] == "jane"
    assert subject["external_ids"] == {"employee_no": "17", "card_number": "42"}
    assert subject["sample_count"] == 0
    assert not subject["disabled"]


def test_an_empty_gallery_is_an_empty_list(facesvc: Facesvc, collection: str) -> None:
    assert facesvc("subjects", "list", "--collection", collection, "--json").json == []


def test_a_person_is_shown_with_samples(facesvc: Facesvc, faces: dict[str, Path], collection: str) -> None:
    facesvc("enroll", faces["Ana"], "--collection", collection)

    shown = facesvc("subjects", "show", "ana", "--collection", collection)
    (sample,) = facesvc("subjects", "show", "ana", "--collection", collection, "--json").json["samples"]

    assert "Ana.jpg" in shown.out
    assert sample["sample_id"] in shown.out
    assert sample["source"] == "Ana.jpg"


def test_what_is_named_is_changed_and_the_rest_stays(
    facesvc: Facesvc, client: Client, jane: str, collection: str
) -> None:
    result = facesvc(
        "subjects", "update", jane, "--collection", collection, "--disable",
        "--external-id", "graph_user_id=a=b", "--external-id", "card_number=", "--metadata", "floor=3",
    )  # fmt: skip

    assert result.status == 0
    assert "disabled" in result.out
    subject = client.get_subject(jane, collection_id=collection)
    assert subject.display_name == "Jane [b]Doe[/b]"
    assert dict(subject.external_ids) == {"employee_no": "17", "graph_user_id": "a=b"}
    assert dict(subject.metadata) == {"floor": "3"}
    assert subject.disabled


def test_a_name_and_enabling(facesvc: Facesvc, jane: str, collection: str) -> None:
    facesvc("subjects", "update", jane, "--collection", collection, "--disable")

    subject = facesvc("subjects", "update", jane, "--collection", collection, "--name", "J", "--enable", "--json").json

    assert (subject["display_name"], subject["disabled"]) == ("J", False)


def test_a_consent_is_given_now_and_prolonged_later(
    facesvc: Facesvc, client: Client, jane: str, collection: str
) -> None:
    update = ("subjects", "update", jane, "--collection", collection)
    facesvc(*update, "--consent-purpose", "office", "--consent-expires", "2090-01-31T00:00+01:00")
    first = client.get_subject(jane, collection_id=collection).consent

    result = facesvc(*update, "--consent-expires", "2091-01-31")

    second = client.get_subject(jane, collection_id=collection).consent
    assert first.expire_time.ToDatetime(UTC) == datetime(2090, 1, 30, 23, tzinfo=UTC)
    assert second.expire_time.ToDatetime(UTC) == datetime(2091, 1, 31).astimezone(UTC)
    assert (second.purpose, second.given_time) == ("office", first.given_time)
    assert "consent to office until 2091-01-31 00:00:00" in result.out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "there is nothing to change"),
        (("--external-id", "17"), "'17' is not KEY=VALUE"),
        (("--external-id", "=17"), "'=17' is not KEY=VALUE"),
        (("--external-id", "Badge=17"), "external_ids has the key 'Badge'"),
        (("--consent-expires", "2090-01-31"), "jane has given no consent"),
        (("--consent-purpose", "x", "--consent-expires", "soon"), "'soon' is not an ISO date"),
        (("--consent-purpose", "x", "--consent-expires", "2020-01-31"), "is not after given_time"),
    ],
)
def test_a_change_that_cannot_be_is_exit_2(
    facesvc: Facesvc, jane: str, collection: str, options: tuple[str, ...], complaint: str
) -> None:
    result = facesvc("subjects", "update", jane, "--collection", collection, *options)

    assert result.status == 2
    assert complaint in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("command", ["show", "update", "erase"])
def test_nobody_is_exit_2(facesvc: Facesvc, collection: str, command: str) -> None:
    result = facesvc("subjects", command, "nobody", "--collection", collection)

    assert result.status == 2
    assert "has no subject 'nobody'" in result.err


def test_erasing_prints_the_receipt(facesvc: Facesvc, client: Client, faces: dict[str, Path], collection: str) -> None:
    facesvc("enroll", faces["Ana"], "--collection", collection)

    result = facesvc("subjects", "erase", "ana", "--yes", "--collection", collection, "--json")

    assert result.status == 0
    assert len(result.json["sample_ids"]) == 1
    assert len(result.json["receipt_id"]) == 26
    with pytest.raises(CallError, match="has no subject"):
        client.get_subject("ana", collection_id=collection)


def test_erasing_for_people(facesvc: Facesvc, jane: str, collection: str) -> None:
    result = facesvc("subjects", "erase", jane, "--yes", "--collection", collection)

    assert result.out.startswith("erased jane and 0 samples at ")
    assert "\nreceipt " in result.out


def test_nobody_is_erased_where_nobody_can_be_asked(
    facesvc: Facesvc, client: Client, jane: str, collection: str
) -> None:
    result = facesvc("subjects", "erase", jane, "--collection", collection)

    assert result.status == 2
    assert "say --yes" in result.err
    assert client.get_subject(jane, collection_id=collection)


@pytest.mark.parametrize(("answer", "status", "left"), [("y\n", 0, 0), ("n\n", 1, 1), ("\n", 1, 1)])
def test_a_terminal_is_asked(
    facesvc: Facesvc,
    client: Client,
    jane: str,
    collection: str,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    status: int,
    left: int,
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)

    result = facesvc("subjects", "erase", jane, "--collection", collection)

    assert "Jane [b]Doe[/b] (jane) and 0 samples will be forgotten for ever." in result.out
    assert result.status == status
    assert len(list(client.list_subjects(collection_id=collection))) == left
