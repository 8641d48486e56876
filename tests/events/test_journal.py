"""What was written is read back, by number and by time; what is past its retention or erased is gone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path

import pytest
from events.making import T0, Welcoming, arrived, at, keyring_of, left, opened, seen, spoof, stay, unknown
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from facesvc.database import Database, to_microseconds
from facesvc.errors import DependencyError, InputError, PreconditionError
from facesvc.events import rows
from facesvc.events.journal import EventsMissedError, Journal, Wanted
from facesvc.events.records import Event, Match
from facesvc.gallery.keyring import Keyring

EVERYTHING = 1000
WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
POSTGRES = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


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


def test_a_token_holds_across_a_restart(database_url: str, key_path: Path) -> None:
    with opened(database_url, key_path) as journal:
        journal.append([seen(), seen()], [])
        token = journal.token(1)
    with opened(database_url, key_path, at(60)) as journal:
        assert journal.place(token) == 1
        assert journal.head == 2
        journal.append([seen()], [])
        assert len(read(journal, 1)) == 2


@SQLITE
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
    with (
        opened(f"sqlite://{tmp_path}/other.db", tmp_path / "other.key") as other,
        pytest.raises(InputError, match="another server"),
    ):
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


def test_numbers_are_not_given_again_after_all_is_forgotten(database_url: str, key_path: Path) -> None:
    with opened(database_url, key_path) as journal:
        journal.append([seen(), seen()], [])
        journal.forget_before(at(60))
    with opened(database_url, key_path) as journal:
        assert journal.head == 2
        assert journal.read(2, EVERYTHING) == []
        journal.append([seen(at(100))], [])
        assert journal.head == 3


def test_closed_stays_are_forgotten_with_the_events_and_open_ones_are_not(journal: Journal) -> None:
    journal.append([], [stay(at(0), at(10)), stay(at(0), at(30)), stay(at(0))])
    journal.forget_before(at(20))
    assert len(list(journal.stays(Wanted()))) == 2


@POSTGRES
def test_open_stays_of_a_box_that_is_gone_are_forgotten_in_the_end(database_url: str, key_path: Path) -> None:
    with opened(database_url, key_path, box_id="gone") as journal:
        journal.append([], [stay(at(0)), stay(at(30)), stay(at(1), at(40))])
    with opened(database_url, key_path, box_id="box") as journal:
        own = stay(at(0))
        journal.append([], [own])
        assert len(list(journal.stays(Wanted()))) == 4
        assert not journal.forget_before(at(20))
        assert [one.arrive_time for one in journal.stays(Wanted())] == [at(0), at(1), at(30)]
        assert journal.open_stays() == [own]


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


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [(None, [0, 1, 2]), ({"seen", "left"}, [0, 2]), ({"arrived"}, [1]), ({"spoof_attempt"}, []), (set(), [])],
)
def test_events_of_the_past_are_of_the_kinds_that_are_wanted(
    journal: Journal, kinds: set[str] | None, expected: list[int]
) -> None:
    events = [seen(at(0)), arrived(at(1)), left(at(2))]
    journal.append(events, [])
    page = journal.list_events(Wanted(kinds=None if kinds is None else frozenset(kinds)), EVERYTHING)
    assert page.events == [events[number] for number in expected]
    assert page.places == [(to_microseconds(events[number].event_time), number + 1) for number in expected]


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


def test_who_is_erased_is_no_longer_there(journal: Journal) -> None:
    for number in range(50):
        name = "zebedee" if number % 3 else f"person-{number}"
        journal.append([seen(at(number), name), arrived(at(number), name)], [stay(at(number), at(number + 1), name)])
    journal.append([unknown(at(99))], [])
    last = journal.token(journal.head)

    assert journal.erase_subject("c", "zebedee") == 33 * 2
    assert journal.erase_subject("c", "zebedee") == 0

    assert journal.list_events(Wanted(subject_id="zebedee"), EVERYTHING).events == []
    assert list(journal.stays(Wanted(subject_id="zebedee"))) == []
    assert len(read(journal, 0)) == 17 * 2 + 1
    assert journal.place(last) == journal.head == 101


@SQLITE
def test_no_name_is_on_any_page_of_any_file(tmp_path: Path, database: Database, journal: Journal) -> None:
    journal.append([seen(at(1), "zebedee"), left(at(2), "zebedee"), unknown()], [stay(display_name="Zebedee")])

    def content() -> bytes:
        return b"".join(file.read_bytes() for file in (tmp_path / "gallery").iterdir())

    assert b"zebedee" in content()  # the id, which events are asked for by
    for secret in (b"Zebedee", b"card-zebedee", b"employee_no", b"0.9512345", b"sample-1"):
        assert secret not in content()
    database.close()
    assert b"Zebedee" not in content()


def test_what_was_sealed_with_a_key_that_is_no_more_is_passed_over(database: Database, keyring: Keyring) -> None:
    keyring.make("c", "jane")
    keyring.make("c", "joe")
    journal = Journal(database, keyring, T0)
    for number in range(20):
        journal.append(
            [seen(at(number)), arrived(at(number), "joe")], [stay(at(number)), stay(at(number), None, "joe")]
        )
    keyring.destroy("c", "jane")

    assert {event.about for event in read(journal)} == {"joe"}
    assert [number for number, _ in journal.read(0, 1)] == [2]  # a page of nothing but the erased is not the end
    assert {event.about for event in journal.list_events(Wanted(), EVERYTHING).events} == {"joe"}
    assert len(journal.open_stays()) == 20
    assert {one.subject_id for one in journal.stays(Wanted())} == {"joe"}
    assert journal.erase_subject("c", "jane") == 20


def test_pages_go_on_after_one_that_says_nothing(database: Database, keyring: Keyring) -> None:
    for name in ("jane", "joe"):
        keyring.make("c", name)
    journal = Journal(database, keyring, T0)
    journal.append([seen(at(number), "jane" if number < 4 else "joe") for number in range(6)], [])
    keyring.destroy("c", "jane")

    first = journal.list_events(Wanted(), 2)
    second = journal.list_events(Wanted(), 2, first.next_after)
    third = journal.list_events(Wanted(), 2, second.next_after)

    assert (first.events, second.events, third.next_after) == ([], [], None)
    assert len(third.events) == 2


def test_what_is_said_of_somebody_who_is_not_known_is_left_out(database: Database, keyring: Keyring) -> None:
    keyring.make("c", "joe")
    journal = Journal(database, keyring, T0)
    about_joe = seen(subject_id="joe")
    journal.append([seen(), about_joe, unknown()], [stay(), stay(subject_id="joe")])

    assert [event.about for event in read(journal)] == ["joe", ""]
    assert [one.subject_id for one in journal.open_stays()] == ["joe"]


def test_an_event_about_nobody_outlives_everybody(database: Database, keyring: Keyring) -> None:
    journal = Journal(database, keyring, T0)
    events = [unknown(), spoof()]
    journal.append(events, [])
    journal.erase_subject("c", "jane")
    assert read(journal) == events


@POSTGRES
def test_a_box_takes_up_its_own_stays_only(database_url: str, key_path: Path) -> None:
    with opened(database_url, key_path, box_id="one") as journal:
        journal.append([], [stay(stay_id="of one")])
    with opened(database_url, key_path, box_id="two") as journal:
        assert journal.open_stays() == []
        journal.append([], [stay(stay_id="of two")])
        assert [one.stay_id for one in journal.open_stays()] == ["of two"]
        assert len(list(journal.stays(Wanted()))) == 2


@SQLITE
def test_whatever_the_only_box_is_called_it_takes_up_its_stays(database_url: str, key_path: Path) -> None:
    with opened(database_url, key_path, box_id="one") as journal:
        journal.append([], [stay()])
    with opened(database_url, key_path, box_id="renamed") as journal:
        assert len(journal.open_stays()) == 1


def test_what_another_journal_of_the_database_writes_is_learned_of(database: Database, key_path: Path) -> None:
    one, two = (Journal(database, keyring_of(database, key_path, Welcoming), T0) for _ in range(2))
    one.append([seen()], [])
    two.append([seen()], [])

    assert one.token(1) == two.token(1)
    assert [number for number, _ in one.read(0, EVERYTHING)] == [1, 2]
    one.append([seen()], [])
    assert two.head == 2
    assert two.refresh()
    assert (two.head, two.refresh()) == (3, False)


@POSTGRES
def test_a_token_of_another_box_holds(database: Database, key_path: Path) -> None:
    one, two = (Journal(database, keyring_of(database, key_path, Welcoming), T0) for _ in range(2))
    one.append([seen()], [])
    assert two.place(one.token(1)) == 1
    with pytest.raises(InputError, match="has not happened"):
        two.place(one.token(2))


@POSTGRES
def test_an_erasure_waits_for_what_another_box_is_writing(
    database: Database, database_url: str, key_path: Path
) -> None:
    journal = Journal(database, keyring_of(database, key_path, Welcoming), T0)
    with opened(database_url, key_path) as other, ThreadPoolExecutor(1) as thread:
        with other._database.transaction():
            other.append([seen()], [])
            erasing = thread.submit(journal.erase_subject, "c", "jane")
            while not other._database.select(WAITING) and not erasing.done():
                pass
        assert erasing.result() == 1


def test_another_gallery_s_person_of_that_name_stays(journal: Journal) -> None:
    journal.append([seen(), seen(collection_id="guests")], [])
    journal.erase_subject("c", "jane")
    assert [event.collection_id for event in read(journal)] == ["guests"]


@SQLITE
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE events SET payload = x''",
        "UPDATE events SET payload = (SELECT payload FROM stays)",
        "UPDATE events SET payload = (SELECT payload FROM events WHERE sequence = 2) WHERE sequence = 1",
        "UPDATE events SET kind = 'cooked'",
        "UPDATE events SET kind = 'left'",
        "UPDATE events SET event_id = 'another' WHERE sequence = 1",
        "UPDATE events SET subject_id = 'joe'",
        "UPDATE events SET subject_id = ''",
        "UPDATE events SET collection_id = 'guests'",
    ],
)
def test_a_damaged_event_is_named(database: Database, journal: Journal, damage: str) -> None:
    journal.append([seen(), seen()], [stay()])
    journal.append([seen(subject_id="joe"), seen(collection_id="guests")], [])
    database.execute(damage)
    with pytest.raises(DependencyError, match="event 1 of the journal is damaged") as refused:
        journal.read(0, EVERYTHING)
    assert refused.value.reason == "EVENTS_DAMAGED"


def test_a_damaged_stay_is_named(database: Database, journal: Journal) -> None:
    journal.append([], [stay(stay_id="s")])
    database.execute("UPDATE stays SET stay_id = 't'")
    with pytest.raises(DependencyError, match="stay t of the journal is damaged"):
        journal.open_stays()


class Open:
    """Seals nothing, so that what is inside can be made up."""

    def seal(self, collection_id: str, subject_id: str, plaintext: bytes, *name: str) -> bytes:
        return plaintext

    def unseal(self, collection_id: str, subject_id: str, sealed: bytes, *name: str) -> bytes | None:
        return sealed

    def tag(self, purpose: str, data: bytes) -> bytes:
        return data


def test_what_is_about_nobody_is_sealed_with_the_key_of_nobody() -> None:
    asked = []

    class Asked(Open):
        def seal(self, collection_id: str, subject_id: str, plaintext: bytes, *name: str) -> bytes:
            asked.append((collection_id, subject_id))
            return plaintext

    for event in (unknown(), seen()):
        rows.event_to_row(event, 1, "", Asked())
    assert asked == [("", ""), ("c", "jane")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b""),
        (b"jane", b'\a"'),
        (b"0.95", b'"0.95'),
        (b'Z"', b'"'),
        (b"2026", b"20260"),
        (b'"settled":true', b'"settled":1'),
    ],
)
def test_what_was_sealed_is_checked_as_if_a_stranger_had_written_it(old: bytes, new: bytes) -> None:
    row = rows.event_to_row(seen(), 1, "", Open())
    payload = row["payload"]
    assert isinstance(payload, bytes)
    read_back = (1, 0, row["event_id"], "seen", "c", "jane", payload.replace(old, new) if old else b"{")
    with pytest.raises(DependencyError, match="event 1 of the journal is damaged"):
        rows.event_from_row(read_back, Open())


@given(st.binary() | st.text().map(str.encode))
def test_no_payload_breaks_the_reader(payload: bytes) -> None:
    for kind in ("seen", "left", "cooked"):
        with pytest.raises(DependencyError):
            rows.event_from_row((1, 0, "id", kind, "c", "jane", payload), Open())


def test_a_database_that_is_away_is_no_damage(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append([seen()], [])

    def away(*_: object) -> bytes:
        raise DependencyError("the server is away", reason="DATABASE_AWAY")

    monkeypatch.setattr(journal._sealer, "unseal", away)
    with pytest.raises(DependencyError, match="away"):
        journal.read(0, EVERYTHING)


@given(st.builds(Match, external_ids=st.dictionaries(st.text(), st.text()), similarity=st.floats(-1, 1)))
def test_any_name_is_kept_as_it_is(match: Match) -> None:
    adapter = TypeAdapter(Match)
    assert adapter.validate_json(adapter.dump_json(match), strict=True) == match


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=1))])
@pytest.mark.parametrize("make", [seen, arrived, left, unknown, stay])
def test_a_time_that_is_not_utc_is_no_time_of_an_event(make: Callable[[datetime], object], zone: tzinfo | None) -> None:
    with pytest.raises(ValueError, match="timezone-aware UTC"):
        make(T0.replace(tzinfo=zone))


def test_one_of_a_newer_facesvc_is_refused(database: Database, keyring: Keyring) -> None:
    Journal(database, keyring, T0)
    database.execute("INSERT INTO events_migrations VALUES ('0999_smell', 0)")
    with pytest.raises(PreconditionError, match="was written by a newer facesvc"):
        Journal(database, keyring, T0)


@SQLITE
def test_a_full_disk_is_named_and_nothing_is_half_written(database: Database, journal: Journal) -> None:
    # SQLite's own limit stands in for a full disk.
    [(pages,)] = database.select("PRAGMA page_count")
    database.execute(f"PRAGMA max_page_count = {pages + 6}")
    journal.append([seen()], [])
    with pytest.raises(DependencyError) as refused:
        journal.append([seen() for _ in range(200)], [stay()])
    assert refused.value.reason == "DISK_FULL"
    assert journal.head == len(read(journal)) == 1
    assert journal.open_stays() == []
