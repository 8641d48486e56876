"""What was written is read back, by number and by time; what is past its retention or erased is gone."""

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path

import pytest
from events.making import T0, arrived, at, left, seen, spoof, stay, unknown
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from facesvc.errors import DependencyError, InputError, PreconditionError
from facesvc.events import rows
from facesvc.events.journal import EventsMissedError, Journal, Wanted
from facesvc.events.records import Event, Match

EVERYTHING = 1000


def read(journal: Journal, place: int = 0) -> list[Event]:
    return [event for _, event in journal.read(place, EVERYTHING)]


def test_every_kind_is_read_back_as_it_was(journal: Journal) -> None:
    events = [seen(), arrived(), left(), unknown(), spoof()]
    journal.append(events, [])
    assert read(journal) == events


def test_numbers_grow_and_the_rest_comes_after_a_place(journal: Journal) -> None:
    assert journal.head == 0
    journal.append([seen(), seen()], [])
    journal.append([seen()], [])
    assert [number for number, _ in journal.read(0, EVERYTHING)] == [1, 2, 3]
    assert [number for number, _ in journal.read(1, EVERYTHING)] == [2, 3]
    assert [number for number, _ in journal.read(0, 2)] == [1, 2]
    assert journal.read(3, EVERYTHING) == []
    assert journal.head == 3


def test_a_token_holds_across_a_restart(path: Path) -> None:
    with closing(Journal.open(path, T0)) as journal:
        journal.append([seen(), seen()], [])
        token = journal.token(1)
    with closing(Journal.open(path, at(60))) as journal:
        assert journal.place(token) == 1
        assert journal.head == 2
        journal.append([seen()], [])
        assert len(read(journal, 1)) == 2


@pytest.mark.parametrize(
    "token", ["", ".", "nonsense", "x.y", "x.-1", "{id}.", "{id}.-1", "{id}.3", "{id}.1.1", "{id}.²"]
)
def test_what_is_no_token_of_this_journal_is_refused(journal: Journal, token: str) -> None:
    journal.append([seen(), seen()], [])
    own = journal.token(0).partition(".")[0]
    with pytest.raises(InputError) as refused:
        journal.place(token.format(id=own))
    assert refused.value.field == "resume_token"


def test_a_token_of_another_journal_is_refused(journal: Journal, tmp_path: Path) -> None:
    with closing(Journal.open(tmp_path / "other.db", T0)) as other, pytest.raises(InputError, match="another server"):
        journal.place(other.token(0))


@given(st.text())
def test_no_text_is_a_token_by_accident(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    journal = Journal.__new__(Journal)
    journal._journal_id, journal._head = "01K", 5
    with pytest.raises(InputError):
        journal.place(text)


def test_an_event_that_is_written_again_is_there_once(journal: Journal) -> None:
    first, second = seen(), seen()
    journal.append([first], [stay(stay_id="s")])
    journal.append([first, second], [stay(stay_id="s")])
    assert read(journal) == [first, second]
    assert len(journal.open_stays()) == 1


def test_what_is_past_its_retention_is_forgotten_and_missed(journal: Journal) -> None:
    journal.append([seen(at(second)) for second in range(10)], [])
    assert not journal.forget_before(at(4))
    assert len(read(journal, 4)) == 6
    with pytest.raises(EventsMissedError):
        journal.read(3, EVERYTHING)
    assert len(journal.list_events(Wanted(), EVERYTHING).events) == 6


def test_retention_goes_in_small_steps(journal: Journal) -> None:
    journal.append([seen(at(second)) for second in range(1200)], [])
    assert [journal.forget_before(at(1100)) for _ in range(3)] == [True, True, False]
    assert len(journal.list_events(Wanted(), EVERYTHING * 2).events) == 100


def test_numbers_are_not_given_again_after_all_is_forgotten(path: Path) -> None:
    with closing(Journal.open(path, T0)) as journal:
        journal.append([seen(), seen()], [])
        journal.forget_before(at(60))
    with closing(Journal.open(path, T0)) as journal:
        assert journal.head == 2
        assert journal.read(2, EVERYTHING) == []
        journal.append([seen(at(100))], [])
        assert journal.head == 3


def test_closed_stays_are_forgotten_with_the_events_and_open_ones_are_not(journal: Journal) -> None:
    journal.append([], [stay(at(0), at(10)), stay(at(0), at(30)), stay(at(0))])
    journal.forget_before(at(20))
    assert len(list(journal.stays(Wanted()))) == 2


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), [0, 1, 2, 3, 4]),
        (Wanted(start=at(2)), [2, 3, 4]),
        (Wanted(end=at(2)), [0, 1]),
        (Wanted(start=at(1), end=at(4)), [1, 2, 3]),
        (Wanted(zone="yard"), [1]),
        (Wanted(collection_id="guests"), [2]),
        (Wanted(subject_id="joe"), [3]),
        (Wanted(collection_id="c", zone="lobby", subject_id="jane", start=at(1)), [4]),
        (Wanted(collection_id="nobody's"), []),
        (Wanted(start=datetime(1, 1, 1, tzinfo=UTC), end=datetime(9999, 12, 31, tzinfo=UTC)), [0, 1, 2, 3, 4]),
    ],
)
def test_events_of_the_past_are_filtered(journal: Journal, wanted: Wanted, expected: list[int]) -> None:
    events = [
        seen(at(0)),
        seen(at(1), zone="yard"),
        seen(at(2), collection_id="guests"),
        seen(at(3), "joe"),
        seen(at(4)),
    ]
    journal.append(events, [])
    assert journal.list_events(wanted, EVERYTHING).events == [events[number] for number in expected]


def test_events_of_the_past_come_in_pages_by_their_time(journal: Journal) -> None:
    times = [at(second) for second in (3, 1, 1, 2, 1)]
    journal.append([seen(time) for time in times], [])
    found: list[Event] = []
    after = None
    for _ in range(3):
        page = journal.list_events(Wanted(), 2, after)
        found += page.events
        after = page.next_after
    assert after is None
    assert [event.event_time for event in found] == sorted(times)
    assert len({event.event_id for event in found}) == 5


def test_stays_are_those_that_overlap_in_the_order_of_their_arrivals(journal: Journal) -> None:
    stays = [
        stay(at(0), at(10), stay_id="early"),
        stay(at(5), at(25), stay_id="into"),
        stay(at(8), None, stay_id="open"),
        stay(at(22), at(24), stay_id="within"),
        stay(at(30), at(31), stay_id="late"),
    ]
    journal.append([], stays[::-1])
    found = [one.stay_id for one in journal.stays(Wanted(start=at(20), end=at(30)))]
    assert found == ["into", "open", "within"]
    assert [one.stay_id for one in journal.open_stays()] == ["open"]


def test_many_stays_are_read_piece_by_piece(journal: Journal) -> None:
    journal.append([], [stay(at(number // 3), at(number), str(number)) for number in range(1200)])
    found = [one.subject_id for one in journal.stays(Wanted())]
    assert len(found) == len(set(found)) == 1200


def test_a_stay_is_known_by_its_newest_state(journal: Journal) -> None:
    journal.append([], [stay(at(0), stay_id="s")])
    journal.append([], [stay(at(-3600), at(10), stay_id="s")])
    (one,) = journal.stays(Wanted(start=at(-3000)))
    assert (one.arrive_time, one.leave_time) == (at(-3600), at(10))
    assert journal.open_stays() == []


def test_who_is_erased_is_on_no_page_of_any_file(path: Path, journal: Journal) -> None:
    for number in range(50):
        name = "zebedee" if number % 3 else f"person-{number}"
        journal.append([seen(at(number), name), arrived(at(number), name)], [stay(at(number), at(number + 1), name)])
    journal.append([unknown(at(99))], [])
    last = journal.token(journal.head)

    def content() -> bytes:
        return b"".join(file.read_bytes() for file in path.parent.iterdir())

    assert b"zebedee" in content()
    assert b"Zebedee" in content()
    journal.erase_subject("c", "zebedee")
    assert b"zebedee" not in content()
    assert b"Zebedee" not in content()
    assert b"person-3" in content()
    assert journal.list_events(Wanted(subject_id="zebedee"), EVERYTHING).events == []
    assert list(journal.stays(Wanted(subject_id="zebedee"))) == []
    assert len(read(journal, 0)) == 17 * 2 + 1
    assert journal.place(last) == journal.head == 101


def test_another_gallery_s_person_of_that_name_stays(journal: Journal) -> None:
    journal.append([seen(), seen(collection_id="guests")], [])
    journal.erase_subject("c", "jane")
    assert [event.collection_id for event in read(journal)] == ["guests"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE events SET payload = '{'",
        "UPDATE events SET payload = '[]'",
        "UPDATE events SET payload = ''",
        "UPDATE events SET kind = 'cooked'",
        "UPDATE events SET kind = 'left'",
        "UPDATE events SET payload = replace(payload, 'jane', char(7) || '\"')",
        "UPDATE events SET payload = replace(payload, '0.95', '\"0.95')",
        "UPDATE events SET payload = replace(payload, 'Z\"', '\"')",
        "UPDATE events SET payload = replace(payload, '2026', '20260')",
        "UPDATE events SET payload = replace(payload, '\"settled\":true', '\"settled\":1')",
    ],
)
def test_a_damaged_event_is_named(path: Path, damage: str) -> None:
    with closing(Journal.open(path, T0)) as journal:
        journal.append([seen()], [])
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(damage).rowcount == 1
    with closing(Journal.open(path, T0)) as journal:
        with pytest.raises(DependencyError, match="event 1 of the events file is damaged") as refused:
            journal.read(0, EVERYTHING)
        assert refused.value.reason == "EVENTS_DAMAGED"


def test_a_damaged_stay_is_named(path: Path) -> None:
    with closing(Journal.open(path, T0)) as journal:
        journal.append([], [stay(stay_id="s")])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE stays SET payload = replace(payload, 'false', '0')")
    with closing(Journal.open(path, T0)) as journal, pytest.raises(DependencyError, match="stay s of the events file"):
        journal.open_stays()


@given(st.binary() | st.text().map(str.encode))
def test_no_payload_breaks_the_reader(payload: bytes) -> None:
    for kind in ("seen", "left", "cooked"):
        with pytest.raises(DependencyError):
            rows.event_from_row((1, kind, payload))


@given(st.builds(Match, external_ids=st.dictionaries(st.text(), st.text()), similarity=st.floats(-1, 1)))
def test_any_name_is_kept_as_it_is(match: Match) -> None:
    adapter = TypeAdapter(Match)
    assert adapter.validate_json(adapter.dump_json(match), strict=True) == match


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=1))])
@pytest.mark.parametrize("make", [seen, arrived, left, unknown, stay])
def test_a_time_that_is_not_utc_is_no_time_of_an_event(make: Callable[[datetime], object], zone: tzinfo | None) -> None:
    with pytest.raises(ValueError, match="timezone-aware UTC"):
        make(T0.replace(tzinfo=zone))


def test_only_the_owner_can_read_it(path: Path, journal: Journal) -> None:
    journal.append([seen()], [])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert files == {"events.db": 0o600, "events.db-wal": 0o600}


def test_its_messages_speak_of_the_events(path: Path, journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match=f"the events file {path}: another process has it open") as refused:
        Journal.open(path, T0, busy_timeout_s=0.0)
    assert refused.value.reason == "EVENTS_IN_USE"
    with pytest.raises(DependencyError, match=r"the events file .* cannot be opened") as refused:
        Journal.open(tmp_path, T0)
    assert refused.value.reason == "EVENTS_UNREADABLE"


def test_one_of_a_newer_facesvc_is_refused(path: Path) -> None:
    Journal.open(path, T0).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES ('0999_smell', 0)")
    with pytest.raises(PreconditionError, match=r"the events file .* was written by a newer facesvc") as refused:
        Journal.open(path, T0)
    assert refused.value.reason == "EVENTS_TOO_NEW"


def test_a_full_disk_is_named_and_nothing_is_half_written(journal: Journal) -> None:
    database = journal._database  # SQLite's own limit stands in for a full disk
    [(pages,)] = database.select("PRAGMA page_count")
    database.execute(f"PRAGMA max_page_count = {pages + 3}")
    journal.append([seen()], [])
    with pytest.raises(DependencyError) as refused:
        journal.append([seen() for _ in range(200)], [stay()])
    assert refused.value.reason == "DISK_FULL"
    assert journal.head == len(read(journal)) == 1
    assert journal.open_stays() == []
