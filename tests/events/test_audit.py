"""The audit log keeps what was done, and shows whatever is done to it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from events.conftest import Clock
from events.making import T0, at
from hypothesis import given, settings
from hypothesis import strategies as st

from facesvc.database import Database
from facesvc.errors import DependencyError, PreconditionError
from facesvc.events import audit
from facesvc.events.audit import Asked, AuditLog
from facesvc.events.chain import BEGINNING, Chain, Head, Walk
from facesvc.gallery.keyring import Keyring

EVERYTHING = 1000
# What is put into a column by force, or asked of it, and a test for each.
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ACTIONS = ("CreateSubject", "EnrollSamples", "EraseSubject")


@pytest.fixture
def log(database: Database, keyring: Keyring, clock: Clock) -> AuditLog:
    """A log of ten entries, a second apart."""
    log = AuditLog(database, keyring, clock)
    for number in range(10):
        clock.now = at(number)
        log.note(ACTIONS[number % 3], "c", f"person-{number % 2}", f"number {number}", "ipv4:127.0.0.1")
    return log


def test_an_entry_is_read_back_as_it_was(log: AuditLog) -> None:
    written = log.note("EraseSubject", "guests", "jane", "3 samples \u2192 0", "somebody")
    (entry,) = log.list_entries(Asked(subject_id="jane"), EVERYTHING)
    assert entry == written
    assert (entry.sequence, entry.time, entry.actor, entry.action) == (11, at(9), "somebody", "EraseSubject")
    assert (entry.collection_id, entry.subject_id, entry.detail) == ("guests", "jane", "3 samples \u2192 0")
    assert len(entry.hash) == 32


@SQLITE
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Asked(), list(range(1, 11))),
        (Asked(start=at(8)), [9, 10]),
        (Asked(end=at(2)), [1, 2]),
        (Asked(start=at(3), end=at(5)), [4, 5]),
        (Asked(action="EraseSubject"), [3, 6, 9]),
        (Asked(subject_id="person-1", action="CreateSubject"), [4, 10]),
        (Asked(collection_id="guests"), []),
        (Asked(collection_id="c", end=at(1)), [1]),
    ],
)
def test_entries_are_filtered(log: AuditLog, asked: Asked, expected: list[int]) -> None:
    assert [entry.sequence for entry in log.list_entries(asked, EVERYTHING)] == expected


def test_entries_come_in_pages(log: AuditLog) -> None:
    assert [entry.sequence for entry in log.list_entries(Asked(), 4)] == [1, 2, 3, 4]
    assert [entry.sequence for entry in log.list_entries(Asked(), 4, after=8)] == [9, 10]


def test_what_is_too_long_is_cut_off(log: AuditLog) -> None:
    entry = log.note("X", detail="d" * 2000, actor="a" * 2000)
    assert (len(entry.detail), len(entry.actor)) == (1000, 1000)
    assert log.verify().broken_sequence == 0


def test_it_verifies_as_it_was_written(log: AuditLog) -> None:
    verdict = log.verify()
    assert (verdict.entry_count, verdict.broken_sequence) == (10, 0)
    assert verdict.message == "the log is as it was written, up to entry 10"
    assert verdict.last_hash == log.list_entries(Asked(), EVERYTHING)[-1].hash


def test_an_empty_log_verifies(database: Database, keyring: Keyring, clock: Clock) -> None:
    verdict = AuditLog(database, keyring, clock).verify()
    assert (verdict.entry_count, verdict.broken_sequence, verdict.last_hash) == (0, 0, b"")


def test_it_goes_on_after_a_restart(log: AuditLog, database: Database, keyring: Keyring, clock: Clock) -> None:
    again = AuditLog(database, keyring, clock)
    assert again.note("CreateBackup").sequence == 11
    assert again.verify().entry_count == 11


def test_another_key_makes_another_chain(database: Database, log: AuditLog, clock: Clock) -> None:
    class Other:
        def tag(self, purpose: str, data: bytes) -> bytes:
            return b"another key"

    assert AuditLog(database, Other(), clock).verify().broken_sequence == 1  # type: ignore[arg-type]  # seals nothing


COPY_LAST = "INSERT INTO audit SELECT 11, time, actor, action, collection_id, subject_id, detail, hash FROM audit"


@SQLITE
@pytest.mark.parametrize(
    ("damage", "broken", "words"),
    [
        (["UPDATE audit SET actor = 'nobody' WHERE sequence = 4"], 4, "entry 4 is not as it was written"),
        (["UPDATE audit SET action = 'GetSubject' WHERE sequence = 4"], 4, ""),
        (["UPDATE audit SET collection_id = 'x' WHERE sequence = 4"], 4, ""),
        (["UPDATE audit SET subject_id = 'person-0' WHERE sequence = 4"], 4, ""),
        (["UPDATE audit SET detail = '' WHERE sequence = 4"], 4, ""),
        (["UPDATE audit SET time = time + 1 WHERE sequence = 4"], 4, ""),
        (["UPDATE audit SET time = x'00' WHERE sequence = 4"], 4, ""),
        (["UPDATE audit SET hash = x'00' WHERE sequence = 4"], 4, ""),
        (["UPDATE audit SET hash = 'text' WHERE sequence = 4"], 4, ""),
        (["UPDATE audit SET detail = '' WHERE sequence = 1"], 1, ""),
        (["UPDATE audit SET detail = '' WHERE sequence = 10"], 10, ""),
        (["DELETE FROM audit WHERE sequence = 4"], 4, "entry 4 is missing"),
        (["DELETE FROM audit WHERE sequence <= 4"], 1, "entry 1 is missing"),
        (["DELETE FROM audit WHERE sequence > 8"], 9, "it went up to 10"),
        (["DELETE FROM audit"], 1, "it went up to 10"),
        (
            ["DELETE FROM audit WHERE sequence = 4", "UPDATE audit SET sequence = sequence - 1 WHERE sequence > 4"],
            4,
            "entry 4 is not as it was written",
        ),
        (
            [
                "UPDATE audit SET sequence = 99 WHERE sequence = 4",
                "UPDATE audit SET sequence = 4 WHERE sequence = 5",
                "UPDATE audit SET sequence = 5 WHERE sequence = 99",
            ],
            4,
            "",
        ),
        ([COPY_LAST + " WHERE sequence = 10"], 11, "entry 11 is not as it was written"),
        ([COPY_LAST.replace("11", "0") + " WHERE sequence = 1"], 1, "entry 0 was put in"),
        ([COPY_LAST.replace("11", "-5") + " WHERE sequence = 1"], 1, "entry -5 was put in"),
        (["UPDATE audit_head SET sequence = 9"], 11, "the head of the log was changed"),
        (["UPDATE audit_head SET tag = 'text'"], 11, ""),
        (["UPDATE audit_head SET sequence = x'00'"], 11, "the head of the log was changed"),
        (
            [
                "DELETE FROM audit WHERE sequence > 8",
                "UPDATE audit_head SET sequence = 8, hash = (SELECT hash FROM audit WHERE sequence = 8)",
            ],
            9,
            "what followed entry 8 may have been cut off",
        ),
        (
            [
                "UPDATE audit_head SET forgotten = 4, anchor = (SELECT hash FROM audit WHERE sequence = 4)",
                "DELETE FROM audit WHERE sequence <= 4",
            ],
            11,
            "the head of the log was changed",
        ),
        (["DELETE FROM audit_head"], 11, "the head of the log was changed"),
    ],
)
def test_tampering_is_found(log: AuditLog, database: Database, damage: list[str], broken: int, words: str) -> None:
    for statement in damage:
        database.execute(statement)
    verdict = log.verify()
    assert (verdict.broken_sequence, words in verdict.message) == (broken, True)


@pytest.mark.parametrize(
    "damage",
    [
        ["UPDATE audit SET detail = '' WHERE sequence = 4"],
        ["DELETE FROM audit WHERE sequence = 4"],
        ["DELETE FROM audit WHERE sequence > 8"],
        [COPY_LAST + " WHERE sequence = 10"],
        ["DELETE FROM audit_head"],
        [
            "DELETE FROM audit WHERE sequence > 8",
            "UPDATE audit_head SET sequence = 8, hash = (SELECT hash FROM audit WHERE sequence = 8)",
        ],
    ],
)
def test_what_is_written_after_a_change_does_not_hide_it(
    log: AuditLog, database: Database, keyring: Keyring, clock: Clock, damage: list[str]
) -> None:
    for statement in damage:
        database.execute(statement)
    for _ in range(5):
        log.note("CreateSubject")
    log.forget_before(at(5))
    again = AuditLog(database, keyring, clock)
    again.note("CreateSubject")
    assert 0 < again.verify().broken_sequence < 12


def test_what_is_past_its_retention_goes_and_the_rest_verifies(log: AuditLog) -> None:
    assert not log.forget_before(at(4))
    assert [entry.sequence for entry in log.list_entries(Asked(), EVERYTHING)] == [5, 6, 7, 8, 9, 10]
    assert (log.verify().entry_count, log.verify().broken_sequence) == (6, 0)
    log.forget_before(at(100))
    assert log.list_entries(Asked(), EVERYTHING) == []
    assert (log.verify().entry_count, log.verify().broken_sequence) == (0, 0)
    assert log.note("CreateSubject").sequence == 11
    assert log.verify().broken_sequence == 0


def test_after_retention_what_is_taken_or_put_back_is_found(log: AuditLog, database: Database) -> None:
    [old] = database.select("SELECT * FROM audit WHERE sequence = 2")
    log.forget_before(at(4))
    database.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", old)
    assert log.verify().message == "entry 2 was put in"
    database.execute("DELETE FROM audit WHERE sequence = 2")
    database.execute("DELETE FROM audit WHERE sequence = 5")
    assert log.verify().message == "entry 5 is missing"


def test_retention_goes_by_the_order_and_not_past_a_clock_that_was_set_back(log: AuditLog, clock: Clock) -> None:
    clock.now = at(-1000)
    log.note("CreateSubject")
    clock.now = at(10)
    log.forget_before(at(4))
    assert log.list_entries(Asked(), 1)[0].sequence == 5
    assert log.verify().broken_sequence == 0


def test_retention_keeps_evidence(log: AuditLog, database: Database) -> None:
    database.execute("UPDATE audit SET time = 0, detail = 'nothing' WHERE sequence = 3")
    log.forget_before(at(100))
    assert log.list_entries(Asked(), 1)[0].sequence == 3
    assert log.verify().broken_sequence == 3


def test_retention_goes_in_small_steps(log: AuditLog, database: Database) -> None:
    with database.transaction():
        for _ in range(1100):
            log.note("EnrollSamples")
    assert [log.forget_before(at(10)) for _ in range(3)] == [True, True, False]
    assert log.verify().broken_sequence == 0


def test_an_entry_is_part_of_the_caller_s_transaction(log: AuditLog, database: Database) -> None:
    with suppress(RuntimeError), database.transaction():
        log.note("EraseSubject")
        raise RuntimeError
    assert log.verify().entry_count == 10
    with database.transaction():
        log.note("EraseSubject")
        log.note("EraseSubject")
    assert (log.verify().entry_count, log.verify().broken_sequence) == (12, 0)


def test_many_write_while_it_is_verified_and_shortened(
    log: AuditLog, database: Database, keyring: Keyring, clock: Clock
) -> None:
    logs = [log, AuditLog(database, keyring, clock)]
    clock.now = T0 + timedelta(days=1)
    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(logs[number % 2].note, "EnrollSamples", "c", f"{number}") for number in range(300)]
        forgetting = [threads.submit(logs[0].forget_before, at(5)) for _ in range(3)]
        verdicts = [threads.submit(logs[1].verify) for _ in range(10)]
        assert {one.result().broken_sequence for one in verdicts} == {0}
        assert {one.result() for one in forgetting} == {False}
    assert [entry.sequence for entry in log.list_entries(Asked(), EVERYTHING)] == list(range(6, 311))
    assert len({one.result().sequence for one in writing}) == 300


def test_what_is_dropped_while_it_is_verified_is_not_missed(
    log: AuditLog, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_BATCH", 2)
    select, meddling = database.select, [True]

    def meddled(sql: str, parameters: object = ()) -> list[tuple[object, ...]]:
        found = select(sql, parameters)  # type: ignore[arg-type]  # as it came
        if parameters == (2, 2) and meddling:  # the second batch was just read
            meddling.clear()
            for _ in range(4):
                log.forget_before(at(8))
        return found

    monkeypatch.setattr(database, "select", meddled)
    verdict = log.verify()
    assert not meddling
    assert (verdict.entry_count, verdict.broken_sequence) == (2, 0)


def test_what_is_written_while_it_is_verified_is_verified_too(
    log: AuditLog, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    select, meddling = database.select, [True]

    def meddled(sql: str, parameters: object = ()) -> list[tuple[object, ...]]:
        found = select(sql, parameters)  # type: ignore[arg-type]  # as it came
        if sql == audit._READ and not found and meddling:  # the end was just reached
            meddling.clear()
            log.note("CreateSubject")
        return found

    monkeypatch.setattr(database, "select", meddled)
    assert (log.verify().entry_count, meddling) == (11, [])


def test_an_entry_that_cannot_be_read_is_named(log: AuditLog, database: Database) -> None:
    database.execute("UPDATE audit SET time = 9223372036854775807 WHERE sequence = 4")
    with pytest.raises(DependencyError, match="entry 4 of the audit log is damaged") as refused:
        log.list_entries(Asked(), EVERYTHING)
    assert refused.value.reason == "AUDIT_DAMAGED"


def test_one_of_a_newer_facesvc_is_refused(database: Database, keyring: Keyring, log: AuditLog, clock: Clock) -> None:
    database.execute("INSERT INTO audit_migrations VALUES ('0999_smell', 0)")
    with pytest.raises(PreconditionError, match="was written by a newer facesvc"):
        AuditLog(database, keyring, clock)


TEXT = st.text(max_size=5)


@settings(max_examples=300)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=2, max_size=5), st.data())
def test_any_change_of_any_entry_breaks_the_chain(texts: list[tuple[str, str, str]], data: st.DataObject) -> None:
    chain = Chain(b"key")
    rows, previous = [], BEGINNING
    for sequence, values in enumerate(texts, 1):
        row = (sequence, 0, *values, "", "")
        previous = chain.hash_of(row, previous)
        rows.append((*row, previous))
    head = Head(len(rows), previous, 0, BEGINNING, intact=True)

    at, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(2, 6))
    changed = list(rows)
    changed[at] = (*rows[at][:column], data.draw(TEXT), *rows[at][column + 1 :])

    walk = Walk(chain, head)
    for number, row in enumerate(changed):
        if broken := walk.problem(row):
            assert (number, broken.sequence) == (at, at + 1)
            break
        walk.take(row)
    else:
        assert changed == rows
        assert walk.end(head) is None
