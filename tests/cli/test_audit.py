"""``facesvc audit``: who did what, and whether that is what was written."""

import re

import pytest
from cli.running import Facesvc

from facesvc.client import Client
from facesvc.v1 import enrollment_pb2


@pytest.fixture
def jane(client: Client, collection: str) -> str:
    """The id of somebody who came and went."""
    subject_id = f"jane-{collection}"[:100]
    client.create_subject(
        enrollment_pb2.Subject(collection_id=collection, subject_id=subject_id, display_name="Jane Doe")
    )
    client.erase_subject(subject_id, collection_id=collection)
    return subject_id


def test_entries_are_lines_in_words(facesvc: Facesvc, jane: str, collection: str) -> None:
    created, erased = facesvc("audit", "list", "--subject", jane).out.splitlines()
    assert re.fullmatch(
        rf" *\d+  \d{{4}}-.*  CreateSubject  {collection}/{jane}  by local at ipv4:127.0.0.1:\d+", created
    )
    assert "EraseSubject" in erased
    assert "(0 samples, 0 crops, 0 events, 0 notes of plugins; receipt " in erased
    assert "Jane" not in created + erased


def test_entries_are_lines_of_json_for_programs(facesvc: Facesvc, jane: str, collection: str) -> None:
    (entry,) = facesvc("audit", "list", "--subject", jane, "--action", "EraseSubject", "--json").json_lines
    assert (entry["subject_id"], entry["collection_id"], entry["action"]) == (jane, collection, "EraseSubject")
    assert len(entry["hash"]) == 64


def test_entries_are_asked_for_by_time_and_number(facesvc: Facesvc, jane: str) -> None:
    assert facesvc("audit", "list", "--subject", jane, "--to", "2020-01-01").out == ""
    assert len(facesvc("audit", "list", "--from", "2020-01-01", "--limit", "1").out.splitlines()) == 1


def test_the_log_is_verified(facesvc: Facesvc, jane: str) -> None:
    in_words = facesvc("audit", "verify")
    (message, figures) = in_words.out.splitlines()
    assert (in_words.status, in_words.err) == (0, "")
    assert message.startswith("the log is as it was written, up to entry ")
    found = facesvc("audit", "verify", "--json").json
    assert (found["good"], found["broken_sequence"], found["contains"]) == (True, 0, None)
    assert figures == f"entries {found['entry_count']}, last hash {found['last_hash']}"


def test_a_hash_that_was_kept_has_to_be_in_it(facesvc: Facesvc, jane: str) -> None:
    kept = facesvc("audit", "verify", "--json").json["last_hash"]
    good = facesvc("audit", "verify", "--contains", kept, "--json")
    assert (good.status, good.json["contains"]) == (0, True)
    missing = facesvc("audit", "verify", "--contains", "00" * 32)
    assert missing.status == 1
    assert "no entry has the hash" in missing.err
    assert facesvc("audit", "verify", "--contains", "00" * 32, "--json").json["good"] is False


@pytest.mark.parametrize("text", ["0", "00", "x" * 64, "00" * 33])
def test_what_is_no_hash_is_exit_2(facesvc: Facesvc, text: str) -> None:
    result = facesvc("audit", "verify", "--contains", text)
    assert result.status == 2
    assert "is no hash: it has 64 hexadecimal digits" in result.err


def test_a_log_that_was_changed_is_exit_1(facesvc: Facesvc, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"entry_count": 3, "broken_sequence": 4, "message": "entry 4 is missing"}

    def verdict(_: Client) -> object:
        from facesvc.v1 import admin_pb2

        return admin_pb2.VerifyAuditResponse(**broken)  # type: ignore[arg-type]

    monkeypatch.setattr(Client, "verify_audit", verdict)
    in_words = facesvc("audit", "verify")
    assert (in_words.status, in_words.err) == (1, "entry 4 is missing\n")
    as_json = facesvc("audit", "verify", "--json")
    assert (as_json.status, as_json.json["broken_sequence"]) == (1, 4)
