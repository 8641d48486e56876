"""``facesvc receipts`` and ``subjects erase|export``: what is given to a person who asks."""

import base64
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cli.running import Facesvc
from google.protobuf.json_format import MessageToJson

from facesvc.client import Client
from facesvc.gallery.crypto import Signer
from facesvc.v1 import enrollment_pb2


@pytest.fixture
def jane(client: Client, collection: str) -> str:
    """The id of somebody who is known."""
    client.create_subject(enrollment_pb2.Subject(collection_id=collection, subject_id="jane", display_name="Jane Doe"))
    return "jane"


@pytest.fixture
def receipt(facesvc: Facesvc, jane: str, collection: str, tmp_path: Path) -> Path:
    """The file of a receipt."""
    path = tmp_path / "receipt.json"
    assert facesvc("subjects", "erase", jane, "--yes", "--collection", collection, "--receipt", path).status == 0
    return path


def changed(receipt: Path, **fields: Any) -> Path:
    """Another file, in which something else stands."""
    path = receipt.with_name("changed.json")
    path.write_text(json.dumps({**json.loads(receipt.read_text()), **fields}))
    return path


def test_a_receipt_is_written_for_its_owner_and_verifies(facesvc: Facesvc, receipt: Path) -> None:
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    assert "Jane" not in receipt.read_text()
    result = facesvc("receipts", "verify", receipt)
    assert (result.status, result.err) == (0, "")
    first, second, third, last = result.out.splitlines()
    assert first.startswith("the receipt is as it was signed under the key ")
    assert second.startswith("erased jane and 0 samples at ")
    assert third == "with them 0 kept pictures, 0 events and 0 notes of plugins"
    assert last == f"receipt {json.loads(receipt.read_text())['receipt_id']}"


def test_a_receipt_verifies_for_programs_and_without_a_server(facesvc: Facesvc, receipt: Path) -> None:
    key = json.loads(receipt.read_text())["public_key"]
    result = facesvc("receipts", "verify", receipt, "--json", "--public-key", key)
    assert (result.status, result.json["good"], result.json["problem"]) == (0, True, "")
    assert result.json["subject_id"] == "jane"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"subject_id": "joe"}, "it says something else than what was signed, of subject_id"),
        ({"event_count": 3, "crop_count": 1}, "of crop_count, event_count"),
        ({"erase_time": "2020-01-01T00:00:00Z"}, "of erase_time"),
        ({"sample_ids": ["one"]}, "of sample_ids"),
        ({"backup_names": ["monday"]}, "of backup_names"),
        ({"document": "{}"}, "the signature is not that of the document"),
        ({"signature": ""}, "the signature is not that of the document"),
        ({"public_key": base64.b64encode(bytes(32)).decode()}, "the signature is not that of the document"),
    ],
)
def test_a_receipt_that_was_changed_is_exit_1(
    facesvc: Facesvc, receipt: Path, fields: dict[str, Any], problem: str
) -> None:
    result = facesvc("receipts", "verify", changed(receipt, **fields))
    assert result.status == 1
    assert problem in result.err
    assert result.out == ""


def test_a_receipt_under_another_key_is_refused(facesvc: Facesvc, receipt: Path) -> None:
    result = facesvc("receipts", "verify", receipt, "--public-key", "AAAA", "--json")
    assert (result.status, result.json["good"]) == (1, False)
    assert result.json["problem"] == "it is signed under another key than the gallery's"


@pytest.mark.parametrize(
    "document", ["no JSON", "[]", "3", '"text"', "{}", '{"erase_time": 3}', '{"erase_time": "noon"}', "[" * 100_000]
)
def test_what_somebody_signed_who_makes_no_receipts_is_none(facesvc: Facesvc, tmp_path: Path, document: str) -> None:
    signer = Signer(bytes(32))
    receipt = enrollment_pb2.ErasureReceipt(
        document=document, signature=signer.sign(document.encode()), public_key=signer.public_key
    )
    path = tmp_path / "forged.json"
    path.write_text(MessageToJson(receipt))
    result = facesvc("receipts", "verify", path)
    assert (result.status, result.err) == (1, f"{path}: what was signed is no receipt\n")


@pytest.mark.parametrize("content", ["", "{", '{"subject_id": 3}', '{"colour": "red"}'])
def test_what_is_no_receipt_is_exit_2(facesvc: Facesvc, tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    result = facesvc("receipts", "verify", path)
    assert result.status == 2
    assert f"{path} is not a receipt" in result.err
    assert facesvc("receipts", "verify", tmp_path / "none").status == 2


def test_a_receipt_is_fetched_later(facesvc: Facesvc, receipt: Path, tmp_path: Path) -> None:
    known = json.loads(receipt.read_text())
    again = tmp_path / "again.json"
    result = facesvc("receipts", "show", known["receipt_id"], "--receipt", again, "--json")
    assert result.json == json.loads(again.read_text()) == known
    assert facesvc("receipts", "show", "nothing").status == 2


def test_nobody_is_erased_where_the_receipt_cannot_be_written(
    facesvc: Facesvc, client: Client, jane: str, collection: str, tmp_path: Path
) -> None:
    (tmp_path / "there").touch()
    for path in (tmp_path / "there", tmp_path / "none" / "receipt.json"):
        result = facesvc("subjects", "erase", jane, "--yes", "--collection", collection, "--receipt", path)
        assert result.status == 2
    assert client.get_subject(jane, collection_id=collection)


def test_everything_about_a_person_is_one_archive(facesvc: Facesvc, jane: str, collection: str, tmp_path: Path) -> None:
    path = tmp_path / "jane.zip"
    result = facesvc("subjects", "export", jane, path, "--collection", collection)
    assert result.status == 0
    assert result.out == f"wrote {path.stat().st_size} bytes about jane to {path}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("subject.json"))["subject"]["display_name"] == "Jane Doe"


def test_nobody_is_exported_into_nothing(facesvc: Facesvc, collection: str, tmp_path: Path) -> None:
    result = facesvc("subjects", "export", "nobody", tmp_path / "nobody.zip", "--collection", collection)
    assert result.status == 2
    assert "has no subject 'nobody'" in result.err
    assert list(tmp_path.iterdir()) == []
