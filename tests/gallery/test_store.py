"""What goes into the store comes out of it, also after it was closed."""

import base64
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from galleries import open_store

from facesvc.database.exchange import keyring_path
from facesvc.errors import AlreadyExistsError, InputError, NotFoundError
from facesvc.gallery import Consent, DuplicateImageError, EmbeddingContract, Sample, Subject
from facesvc.gallery.schema import GALLERY, KEYRING
from facesvc.gallery.store import Store

MakeSubject = Callable[..., Subject]
MakeSample = Callable[..., Sample]


@pytest.fixture
def full_subject(make_subject: MakeSubject, now: datetime) -> Subject:
    return make_subject(
        "zoë.m@example.org".replace("ë", "e"),
        display_name="Zoë Müller 李雷 👩‍🔬",
        external_ids={"graph_user_id": "7f3-ü", "card_number": "00042"},
        metadata={"team": 'R&D "quoted"', "note": ""},
        consent=Consent("attendance, entrée", now - timedelta(days=1), now + timedelta(microseconds=1)),
        enabled=False,
    )


def test_a_subject_survives_the_round_trip(
    path: Path, contract: EmbeddingContract, full_subject: Subject, make_subject: MakeSubject, now: datetime
) -> None:
    plain = make_subject("plain", consent=Consent("doors", now))
    with closing(open_store(path, contract, now)) as store:
        assert store.create_subject(full_subject) == full_subject
        store.create_subject(plain)
    with closing(open_store(path, contract, now)) as store:
        assert store.get_subject("office", full_subject.subject_id) == full_subject
        assert store.get_subject("office", "plain") == plain


def test_a_sample_survives_the_round_trip(
    path: Path, contract: EmbeddingContract, make_subject: MakeSubject, make_sample: MakeSample, now: datetime
) -> None:
    sample = make_sample(direction=(1, -2, 3, 0.1), quality=1 / 3)
    with closing(open_store(path, contract, now)) as store:
        store.create_subject(make_subject())
        store.add_sample(sample)
    with closing(open_store(path, contract, now)) as store:
        [found] = store.list_samples("office", "ada")
        assert store.get_subject("office", "ada").sample_count == 1
    np.testing.assert_array_equal(found.vector, sample.vector)
    names = ("sample_id", "collection_id", "subject_id", "quality", "source", "image_sha256", "create_time")
    assert [getattr(found, name) for name in names] == [getattr(sample, name) for name in names]


def test_what_is_missing_is_named(
    store: Store, make_subject: MakeSubject, make_sample: MakeSample, now: datetime
) -> None:
    store.create_subject(make_subject("ada"))
    with pytest.raises(NotFoundError, match="collection 'lab' has no subject 'ada'"):
        store.get_subject("lab", "ada")
    with pytest.raises(NotFoundError, match="no subject 'bob'"):
        store.update_subject(make_subject("bob"), {"enabled"}, now)
    with pytest.raises(NotFoundError, match="no subject 'bob'"):
        store.erase_subject("office", "bob", now)
    with pytest.raises(NotFoundError, match="no subject 'bob'"):
        store.add_sample(make_sample("bob"))
    with pytest.raises(NotFoundError, match="no subject 'bob'"):
        store.list_samples("office", "bob")
    with pytest.raises(NotFoundError, match="subject 'ada' of collection 'office' has no sample 'x'"):
        store.delete_sample("office", "ada", "x")
    with pytest.raises(NotFoundError, match="no receipt 'x'"):
        store.receipts.get("x")


def test_an_id_is_taken_once_a_collection(store: Store, make_subject: MakeSubject) -> None:
    store.create_subject(make_subject("ada"))
    store.create_subject(make_subject("ada", collection_id="lab"))
    with pytest.raises(AlreadyExistsError) as refused:
        store.create_subject(make_subject("ada", display_name="Somebody else"))
    assert refused.value.field == "subject.subject_id"
    assert store.get_subject("office", "ada").display_name == "Ada"


def test_the_same_request_creates_once(store: Store, make_subject: MakeSubject, make_sample: MakeSample) -> None:
    first = store.create_subject(make_subject("ada"), "r-1")
    store.add_sample(make_sample("ada"))
    again = store.create_subject(make_subject("ada", display_name="Sent again"), "r-1")
    assert again == replace(first, sample_count=1)
    assert store.created_by("r-1") == again
    assert store.created_by("r-2") is None
    with pytest.raises(AlreadyExistsError):
        store.create_subject(make_subject("ada"), "r-2")


def test_a_request_id_creates_one_subject_only(store: Store, make_subject: MakeSubject) -> None:
    store.create_subject(make_subject("ada"), "r-1")
    for other in (make_subject("bob"), make_subject("ada", collection_id="lab")):
        with pytest.raises(InputError) as refused:
            store.create_subject(other, "r-1")
        assert (refused.value.reason, refused.value.field) == ("REQUEST_ID_REUSED", "request_id")
    assert store.collections() == {"office": (1, 0)}
    with pytest.raises(InputError, match="request_id"):
        store.create_subject(make_subject("bob"), "r" * 129)


def test_an_update_changes_the_named_fields_only(store: Store, full_subject: Subject, now: datetime) -> None:
    store.create_subject(full_subject)
    later = now + timedelta(seconds=1)
    sent = replace(full_subject, display_name="Zoë", enabled=True, consent=None, metadata={}, create_time=later)
    updated = store.update_subject(sent, {"display_name", "consent"}, later)
    assert updated == replace(full_subject, display_name="Zoë", consent=None, update_time=later)
    assert store.get_subject("office", full_subject.subject_id) == updated
    store.update_subject(sent, {"enabled", "metadata", "external_ids"}, later)
    assert store.get_subject("office", full_subject.subject_id) == replace(sent, create_time=now, update_time=later)


@pytest.mark.parametrize("fields", [set(), {"subject_id"}, {"enabled", "create_time"}])
def test_an_update_names_what_may_change(
    store: Store, make_subject: MakeSubject, now: datetime, fields: set[str]
) -> None:
    store.create_subject(make_subject())
    with pytest.raises(InputError) as refused:
        store.update_subject(make_subject(enabled=False), fields, now)
    assert refused.value.field == "update_mask"
    assert store.get_subject("office", "ada").enabled


def test_pages_hold_everybody_once_in_order(store: Store, make_subject: MakeSubject) -> None:
    ids = [f"p{number:02}" for number in range(7)]
    for subject_id in reversed(ids):
        store.create_subject(make_subject(subject_id))
    store.create_subject(make_subject("p03", collection_id="lab"))
    for page_size in (1, 3, 7, 1000):
        found: list[str] = []
        token = ""
        while True:
            page, token = store.list_subjects("office", page_size, token)
            found += [subject.subject_id for subject in page]
            assert len(page) == min(page_size, len(ids)) or (page and not token)
            if not token:
                break
        assert found == ids
    assert store.list_subjects("nowhere", 10) == ([], "")


def test_a_page_goes_on_where_the_last_ended_though_people_came_and_went(
    store: Store, make_subject: MakeSubject, now: datetime
) -> None:
    for subject_id in ("b", "d", "f"):
        store.create_subject(make_subject(subject_id))
    _, token = store.list_subjects("office", 2)
    store.erase_subject("office", "d", now)
    store.create_subject(make_subject("a"))
    store.create_subject(make_subject("e"))
    page, _ = store.list_subjects("office", 2, token)
    assert [subject.subject_id for subject in page] == ["e", "f"]


def test_pages_hold_everybody_who_is_let_pass_once(store: Store, make_subject: MakeSubject) -> None:
    wanted = [f"p{number:02}" for number in range(40) if number in {0, 1, 2, 17, 38, 39}]
    for number in range(40):
        store.create_subject(make_subject(f"p{number:02}", metadata={"wanted": str(f"p{number:02}" in wanted)}))
    for page_size in (1, 2, 3, 5, 6, 7, 1000):
        found: list[list[str]] = []
        token = ""
        while token or not found:
            page, token = store.list_subjects(
                "office", page_size, token, lambda subject: subject.metadata["wanted"] == "True"
            )
            found.append([subject.subject_id for subject in page])
        assert [one for page in found for one in page] == wanted
        assert all(len(page) == page_size for page in found[:-1])
        assert found[-1]
    assert store.list_subjects("office", 3, "", lambda _: False) == ([], "")


@pytest.mark.parametrize(
    "token",
    ["?", "abc", "ä", "YW!Rh", base64.urlsafe_b64encode(b"no id").decode(), base64.urlsafe_b64encode(b"\xff").decode()],
)
def test_a_malformed_page_token_is_refused(store: Store, token: str) -> None:
    with pytest.raises(InputError) as refused:
        store.list_subjects("office", 10, token)
    assert refused.value.field == "page_token"


@pytest.mark.parametrize("page_size", [0, -1, 1001])
def test_a_page_size_out_of_bounds_is_refused(store: Store, page_size: int) -> None:
    with pytest.raises(InputError) as refused:
        store.list_subjects("office", page_size)
    assert refused.value.field == "page_size"


def test_the_same_image_is_kept_once_a_subject(
    store: Store, make_subject: MakeSubject, make_sample: MakeSample
) -> None:
    store.create_subject(make_subject("ada"))
    store.create_subject(make_subject("bob"))
    sample = make_sample("ada")
    store.add_sample(sample)
    with pytest.raises(DuplicateImageError) as refused:
        store.add_sample(make_sample("ada", image_sha256=sample.image_sha256))
    assert refused.value.sample_id == sample.sample_id
    store.add_sample(make_sample("bob", image_sha256=sample.image_sha256))  # a picture of two people
    with pytest.raises(AlreadyExistsError, match=sample.sample_id):
        store.add_sample(make_sample("bob", sample_id=sample.sample_id))
    assert store.collections() == {"office": (2, 2)}


def test_a_vector_of_another_dimension_is_refused(
    store: Store, make_subject: MakeSubject, make_sample: MakeSample
) -> None:
    store.create_subject(make_subject())
    with pytest.raises(InputError, match=r"sample\.vector has 3 values"):
        store.add_sample(make_sample(direction=(1, 0, 0)))


def test_a_row_id_is_never_given_out_twice(
    path: Path, contract: EmbeddingContract, make_subject: MakeSubject, make_sample: MakeSample, now: datetime
) -> None:
    with closing(open_store(path, contract, now)) as store:
        store.create_subject(make_subject())
        sample = make_sample()
        row_id = store.add_sample(sample)
        assert store.delete_sample("office", "ada", sample.sample_id) == row_id
    with closing(open_store(path, contract, now)) as store:
        assert store.add_sample(make_sample()) > row_id


def test_all_samples_come_in_the_order_of_their_row_ids(
    store: Store, make_subject: MakeSubject, make_sample: MakeSample
) -> None:
    assert list(store.contracts.samples("resnet-a/1")) == []
    added = {}
    for number in range(4):
        store.create_subject(make_subject(f"p{number}"))
    for number in range(150):  # more than are read at a time
        sample = make_sample(f"p{number % 4}")
        added[store.add_sample(sample)] = sample.sample_id
    found = [(row_id, sample.sample_id) for row_id, sample in store.contracts.samples("resnet-a/1")]
    assert found == sorted(added.items())


def test_an_erasure_takes_everything_and_leaves_a_receipt(
    store: Store, make_subject: MakeSubject, make_sample: MakeSample, now: datetime
) -> None:
    store.create_subject(make_subject("ada"), "r-1")
    store.create_subject(make_subject("bob"))
    samples = [make_sample("ada"), make_sample("ada")]
    for sample in (*samples, make_sample("bob")):
        store.add_sample(sample)
    receipt = store.erase_subject("office", "ada", now)
    assert (receipt.collection_id, receipt.subject_id, receipt.erase_time) == ("office", "ada", now)
    assert receipt.sample_ids == tuple(sample.sample_id for sample in samples)
    assert store.receipts.get(receipt.receipt_id) == receipt
    assert store.collections() == {"office": (1, 1)}
    assert store.created_by("r-1") is None
    with pytest.raises(NotFoundError):
        store.get_subject("office", "ada")


def test_the_tables_name_their_migrations(path: Path, contract: EmbeddingContract, now: datetime, store: Store) -> None:
    store.close()
    open_store(path, contract, now).close()
    with closing(sqlite3.connect(keyring_path(path))) as connection:
        keys_applied = connection.execute("SELECT name FROM migrations").fetchall()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with closing(sqlite3.connect(path)) as connection:
        applied = connection.execute("SELECT name FROM migrations").fetchall()
        found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        names = {name for (name,) in found}
        meta = connection.execute(
            "SELECT contract_id, dimension FROM meta JOIN contracts USING (contract_id)"
        ).fetchall()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert applied == [(migration.name,) for migration in GALLERY.steps]
    assert keys_applied == [(migration.name,) for migration in KEYRING.steps]
    # Nothing is left of the tables that were in the clear.
    assert {"meta", "contracts", "subjects", "samples", "vectors", "crops", "requests", "receipts"} <= names
    assert not {name for name in names if name.startswith(("sealed_", "signed_")) or name == "keys"}
    assert meta == [("resnet-a/1", 4)]
