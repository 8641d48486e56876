"""``facesvc presence``, ``events`` and ``attendance``: who is where, what happened, and who was there for how long."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli.running import Facesvc, serving, settings_for
from events.making import arrived, at, left, seen, spoof, stay, unknown
from hypothesis import given
from hypothesis import strategies as st

from facesvc.app import load_service
from facesvc.cli import attendance, times
from facesvc.cli.event_words import is_known
from facesvc.client import Client, frame
from facesvc.errors import InputError
from facesvc.gallery import Subject
from facesvc.v1 import presence_pb2, recognition_pb2

BERLIN = times.zone_of("Europe/Berlin")


@pytest.fixture(scope="module")
def past(pack_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that remembers two days of March."""
    settings = settings_for(tmp_path_factory.mktemp("past"), pack_cache)
    settings = settings.model_copy(update={"events": settings.events.model_copy(update={"retention_days": 3660})})
    service = load_service(settings)
    for name in ("jane", "joe", "mallory"):
        service.gallery.create_subject(
            Subject(collection_id="c", subject_id=name, display_name=name, create_time=at(0), update_time=at(0))
        )
    service.journal.append(
        [seen(at(0)), arrived(at(1)), unknown(at(60)), spoof(at(61)), left(at(9 * 3600)), seen(at(86400), "joe")],
        [
            stay(at(0), at(4 * 3600), "jane", display_name="Jane Doe"),
            stay(at(5 * 3600), at(9 * 3600), "jane", display_name="Jane Doe"),
            stay(at(86400), at(86400 + 3600), "mallory", display_name='=HYPERLINK("http://x","y")'),
        ],
    )
    service.workers.close()
    service.gallery.close()
    with serving(settings) as address:
        yield address


def test_events_are_lines_in_words(facesvc: Facesvc, past: str) -> None:
    result = facesvc("events", "--server", past)

    rows = [line.split(maxsplit=2) for line in result.out.splitlines()]
    assert result.status == 0
    assert [rest for _, _, rest in rows] == [
        "seen     Jane  door  lobby  0.951",
        "arrived  Jane  door  lobby",
        "unknown  somebody unknown  door  lobby",
        "spoof    a face that is not alive  door  lobby  liveness 0.25 below 0.50",
        "left     Jane  door  lobby  after 9 h 00 min",
        "seen     Joe  door  lobby  0.951",
    ]


def test_events_are_filtered(facesvc: Facesvc, past: str) -> None:
    of_joe = facesvc("events", "--server", past, "--subject", "joe", "--json").json_lines
    first_two = facesvc("events", "--server", past, "--limit", "2", "--json").json_lines
    window = facesvc("events", "--server", past, "--from", at(30).isoformat(), "--to", at(61).isoformat(), "--json")

    assert [one["display_name"] for one in of_joe] == ["Joe"]
    assert [one["kind"] for one in first_two] == ["seen", "arrived"]
    assert [one["kind"] for one in window.json_lines] == ["unknown_person"]
    assert facesvc("events", "--server", past, "--zone", "attic").out == ""


def test_each_kind_has_its_json(facesvc: Facesvc, past: str) -> None:
    found = facesvc("events", "--server", past, "--json").json_lines

    match, arrival, stranger, attack, leaving, _ = found
    assert (match["similarity"], match["external_ids"]) == (
        pytest.approx(0.951, abs=1e-3),
        {"card_number": "card-jane"},
    )
    assert (arrival["subject_id"], arrival["arrive_time"]) == ("jane", "2026-03-02T08:00:01Z")
    assert (stranger["track_id"], "subject_id" in stranger) == ("track", False)
    assert attack["liveness"] == 0.25
    assert leaving["leave_time"] == "2026-03-02T17:00:00Z"


def test_a_kind_that_is_new_has_no_words() -> None:
    assert not is_known(presence_pb2.Event(event_id="x"))


def test_attendance_is_a_table(facesvc: Facesvc, past: str) -> None:
    result = facesvc("attendance", "--server", past, "--collection", "c", "--time-zone", "Europe/Berlin")

    assert result.status == 0
    assert "│ 2026-03-02 │ jane    │ Jane Doe" in result.out
    assert "│ 09:00:00 │ 18:00:00 │ 8 h 00 min │ 2     │" in result.out


def test_attendance_of_some_days(facesvc: Facesvc, past: str) -> None:
    options = ("attendance", "--server", past, "--collection", "c", "--time-zone", "UTC", "--json")

    both = facesvc(*options, "--from", "2026-03-02", "--to", "2026-03-03").json
    second = facesvc(*options, "--from", "2026-03-03").json
    first = facesvc(*options, "--to", "2026-03-02").json

    assert [one["subject_id"] for one in both] == ["jane", "mallory"]
    assert [one["date"] for one in second] == ["2026-03-03"]
    assert [one["present_seconds"] for one in first] == [8 * 3600]
    assert facesvc(*options, "--subject", "joe").json == []
    assert facesvc("attendance", "--server", past, "--collection", "c", "--subject", "joe").out == "nobody was there\n"


def test_attendance_as_csv_holds_no_formula(facesvc: Facesvc, past: str) -> None:
    result = facesvc("attendance", "--server", past, "--collection", "c", "--time-zone", "Europe/Berlin", "--csv")

    head, jane, mallory = csv.reader(io.StringIO(result.out))
    assert head == ["date", "subject_id", "display_name", "first_in", "last_out", "present_seconds", "stays"]
    assert jane == [
        "2026-03-02",
        "jane",
        "Jane Doe",
        "2026-03-02T09:00:00+01:00",
        "2026-03-02T18:00:00+01:00",
        "28800",
        "2",
    ]
    assert mallory[2] == '\'=HYPERLINK("http://x","y")'


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1", "\x00"])
def test_what_begins_like_a_formula_is_a_text(name: str) -> None:
    assert attendance.safe(name) == f"'{name}"


@given(st.text())
def test_every_name_is_safe_and_no_other_is_changed(name: str) -> None:
    written = attendance.safe(name)
    assert written.endswith(name)
    assert written[:1] not in set("=+-@\t\r\n")
    if name[:1].isalnum():
        assert written == name


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--csv", "--json"), "choose one of --csv and --json"),
        (("--time-zone", "Europe/Atlantis"), "is no time zone that is known here"),
        (("--from", "yesterday"), "'yesterday' is not an ISO date"),
        (("--to", "2026-02-30"), "'2026-02-30' is not an ISO date"),
        (("--from", "2026-03-03", "--to", "2026-03-01"), "must be after start_time"),
    ],
)
def test_what_cannot_be_asked_is_exit_2(facesvc: Facesvc, past: str, options: tuple[str, ...], complaint: str) -> None:
    result = facesvc("attendance", "--server", past, *options)

    assert result.status == 2
    assert complaint in result.err


def test_who_is_where(facesvc: Facesvc, client: Client, known: str, faces: dict[str, Path]) -> None:
    opened = recognition_pb2.StreamOpening(
        camera_id="entry-1", zone="office", collection_id=known, direction=recognition_pb2.CAMERA_DIRECTION_ENTRY
    )
    (result,) = client.recognize(opened, [frame(0, faces["Bea"].read_bytes())])
    assert result.faces[0].decision.HasField("subject")

    table = facesvc("presence", "--collection", known, "--zone", "office")
    (bea,) = facesvc("presence", "--collection", known, "--zone", "office", "--json").json

    assert "│ Bea  │ bea │ office │ present │ " in table.out
    assert (bea["subject_id"], bea["state"], bea["camera_id"]) == ("bea", "present", "entry-1")
    assert bea["external_ids"] == {"card_number": "card-Bea"}
    assert bea["arrive_time"] == bea["last_seen_time"]


def test_nobody_is_nowhere(facesvc: Facesvc) -> None:
    assert facesvc("presence", "--zone", "attic").out == "nobody\n"
    assert facesvc("presence", "--zone", "attic", "--json").json == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h 00 min"), (90061, "25 h 01 min")],
)
def test_lengths_have_words(seconds: float, words: str) -> None:
    assert times.length(seconds) == words


def test_days_begin_where_the_time_zone_says() -> None:
    day = datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert times.beginning("2026-03-29", BERLIN) == day
    assert times.end("2026-03-29", BERLIN) == day + timedelta(hours=23)
    assert times.end("2026-03-29T00:00", BERLIN) == day
    assert times.end("2026-03-29T00:00+00:00", BERLIN) == day + timedelta(hours=1)
    assert times.beginning("", BERLIN) is None


@given(st.text())
def test_no_text_breaks_the_dates(text: str) -> None:
    try:
        found = times.end(text, BERLIN)
    except InputError:
        return
    assert found is None or found.tzinfo is UTC
