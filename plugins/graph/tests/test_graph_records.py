"""What Graph answers, as values: words nobody knows, private events, time zones, and rubbish."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from facesvc_graph.calendar import _matched, current, following, free_busy
from facesvc_graph.memory import Answer
from facesvc_graph.records import Calendar, Presence, Slot, presences_of, profile_of, slots_of
from facesvc_graph.replies import NoSuchError
from facesvc_graph.text import plain, printable, words
from facesvc_graph.zones import WorkingHours, Zone, moment, zone_of
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from facesvc.delivery.kit import NOW
from facesvc.events.plugin import TryLaterError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
PACIFIC = {
    "@odata.type": "#microsoft.graph.customTimeZone",
    "bias": 480,
    "name": "Customized Time Zone",
    "standardOffset": {"time": "02:00:00.0000000", "dayOccurrence": 1, "dayOfWeek": "sunday", "month": 11, "year": 0},
    "daylightOffset": {
        "daylightBias": -60,
        "time": "02:00:00.0000000",
        "dayOccurrence": 2,
        "dayOfWeek": "sunday",
        "month": 3,
        "year": 0,
    },
}


def item(
    start: str = "2026-03-02T08:00:00.0000000", end: str = "2026-03-02T09:00:00.0000000", **changes: object
) -> dict:
    given = {"subject": "Plan", "showAs": "busy", "sensitivity": "normal"}
    zone = changes.pop("zone", "UTC")
    return {
        **given,
        "start": {"dateTime": start, "timeZone": zone},
        "end": {"dateTime": end, "timeZone": zone},
        **changes,
    }


def test_presence_passes_on_words_that_nobody_knows() -> None:
    value = {
        "value": [
            {
                "id": "A",
                "availability": "InOrbit",
                "activity": "Spacewalk",
                "workLocation": {"workLocationType": "moon"},
            },
            {"availability": "no id"},
            "rubbish",
        ]
    }
    [(user_id, presence)] = presences_of(value).items()
    assert user_id == "a"
    assert presence.availability == "InOrbit"
    assert presence.work_location is not None
    assert presence.work_location.work_location_type == "moon"
    assert words(presence.availability) == "In orbit"


def test_a_status_message_is_read_as_text_and_until_it_runs_out() -> None:
    def shown(message: dict) -> str:
        presence = Presence.model_validate({"id": "a", "statusMessage": message})
        assert presence.status_message is not None
        return presence.status_message.shown(NOW)

    html = "<p>On the <b>4th</b> floor &amp; free\x1b[31m</p><pinnednote></pinnednote>"
    assert shown({"message": {"content": html, "contentType": "html"}}) == "On the 4th floor & free[31m"
    gone = {"dateTime": "2026-03-02T09:29:00", "timeZone": "W. Europe Standard Time"}
    assert shown({"message": {"content": "x"}, "expiryDateTime": gone}) == ""
    later = gone | {"dateTime": "2026-03-02T09:31:00"}
    assert shown({"message": {"content": "x"}, "expiryDateTime": later}) == "x"
    assert shown({"message": {"content": "x"}, "expiryDateTime": gone | {"timeZone": "Nowhere"}}) == "x"
    assert shown({"message": None}) == ""


@pytest.mark.parametrize("sensitivity", ["private", "Private", "confidential", "personal", "secretive", None, ""])
def test_only_a_normal_event_tells_its_subject(sensitivity: str | None) -> None:
    [slot] = slots_of([item(sensitivity=sensitivity)], subjects=True)
    assert slot.subject == ""
    [slot] = slots_of([item(isPrivate=True)], subjects=True)
    assert slot.subject == ""
    [slot] = slots_of([item()], subjects=False)
    assert slot.subject == ""
    [slot] = slots_of([item(subject="Pl\u202ean\x00" + "x" * 500)], subjects=True)
    assert slot.subject.startswith("Planxxx")
    assert len(slot.subject) == 120


def test_events_that_cannot_be_read_are_passed_over() -> None:
    bad = [item(start="soon"), item(zone="Nowhere"), item(isCancelled=True), 5, {}, item(end="2026-03-01T00:00:00")]
    bad.append(item(start="9999-12-31T23:00:00", end="9999-12-31T23:59:00", zone="Hawaiian Standard Time"))
    assert len(slots_of([*bad, item()], subjects=True)) == 1


def test_of_several_events_the_strongest_counts() -> None:
    def calendar(*statuses: str) -> Calendar:
        return Calendar(slots_of([item(showAs=one) for one in statuses], subjects=True))

    now = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)
    assert free_busy(calendar(), now) == "free"
    assert free_busy(calendar("Busy", "tentative"), now) == "busy"
    assert free_busy(calendar("busy", "oof"), now) == "oof"
    assert free_busy(calendar("free", "workingElsewhere"), now) == "workingelsewhere"
    assert free_busy(calendar("tentative", "Levitating"), now) == "levitating"
    assert current(calendar("free", "workingElsewhere"), now) is None
    assert current(calendar("BUSY"), now) is not None
    assert free_busy(calendar("busy"), datetime(2026, 3, 2, 9, tzinfo=UTC)) == "free"
    assert following(calendar("busy"), now) is None
    assert following(calendar("busy"), NOW - timedelta(hours=1)) is not None


def test_schedules_come_in_any_order_and_each_with_an_error_of_its_own() -> None:
    values = [
        {"scheduleId": "C@x", "availabilityView": "0022344", "scheduleItems": []},
        {"scheduleId": "b@x", "error": {"message": "no", "responseCode": "ErrorMailRecipientNotFound"}},
        "rubbish",
        {"scheduleId": "a@x", "scheduleItems": [item(status="oof", subject="Secret", showAs=None)]},
    ]
    a, b, c, d = _matched(values, ["A@x", "b@x", "c@x", "d@x"], NOW)
    assert isinstance(a, Calendar)
    assert [(slot.status, slot.subject) for slot in a.slots] == [("oof", "")]
    assert isinstance(b, NoSuchError)
    assert isinstance(c, Calendar)
    quarter = timedelta(minutes=15)
    assert c.slots == (
        Slot(NOW + 2 * quarter, NOW + 4 * quarter, "busy"),
        Slot(NOW + 4 * quarter, NOW + 5 * quarter, "oof"),
        Slot(NOW + 5 * quarter, NOW + 7 * quarter, "workingelsewhere"),
    )
    assert isinstance(d, TryLaterError)


def test_time_zones_by_windows_names_by_ianas_and_in_utc() -> None:
    for zone in ("W. Europe Standard Time", "w. europe standard time", "Europe/Berlin"):
        assert moment("2026-07-01T12:00:00.0000000", zone) == datetime(2026, 7, 1, 10, tzinfo=UTC)
    for zone in ("UTC", "tzone://Microsoft/Utc", "Etc/UTC"):
        assert zone_of(zone) is UTC
    assert moment("2026-07-01T12:00:00+01:00", "UTC") == datetime(2026, 7, 1, 11, tzinfo=UTC)
    for zone in ("Customized Time Zone", "", "../etc/passwd", "\0", "x" * 999):
        with pytest.raises(ValueError, match="not known"):
            zone_of(zone)


@given(st.datetimes(min_value=datetime(2026, 1, 1), max_value=datetime(2030, 1, 1)))  # noqa: DTZ001 - made UTC below
@example(datetime(2026, 11, 1, 8, 30))  # noqa: DTZ001 - the same
@example(datetime(2026, 11, 1, 9, 30))  # noqa: DTZ001 - the same
@example(datetime(2026, 3, 8, 10, 30))  # noqa: DTZ001 - the same
def test_a_custom_zone_is_the_zone_that_it_describes(time: datetime) -> None:
    utc = time.replace(tzinfo=UTC)
    expected = utc.astimezone(zone_of("America/Los_Angeles")).replace(tzinfo=None)
    assert Zone.model_validate(PACIFIC).local(utc) == expected


def test_a_custom_zone_in_the_south_and_one_without_summer() -> None:
    sydney = {
        "bias": -600,
        "standardOffset": {"time": "03:00:00", "dayOccurrence": 1, "dayOfWeek": "Sunday", "month": 4},
        "daylightOffset": {
            "daylightBias": -60,
            "time": "02:00:00",
            "dayOccurrence": 1,
            "dayOfWeek": "Sunday",
            "month": 10,
        },
    }
    for month in range(1, 13):
        utc = datetime(2026, month, 15, tzinfo=UTC)
        assert Zone.model_validate(sydney).local(utc) == utc.astimezone(zone_of("Australia/Sydney")).replace(
            tzinfo=None
        )
    assert Zone(bias=-330).local(NOW) == datetime(2026, 3, 2, 14)  # noqa: DTZ001 - what a clock shows


def test_working_hours_are_told_by_the_clocks_of_their_zone() -> None:
    def hours(start: str, end: str, zone: object, days: object = ("monday", "Tuesday")) -> WorkingHours:
        return WorkingHours.model_validate(
            {"daysOfWeek": list(days), "startTime": start, "endTime": end, "timeZone": zone}  # type: ignore[call-overload]  # any, to be refused
        )

    assert hours("08:00:00.0000000", "17:00:00.0000000", {"name": "GMT Standard Time"}).include(NOW) is True
    assert hours("08:00:00", "17:00:00", PACIFIC).include(NOW) is False  # half past midnight there
    assert hours("08:00:00", "17:00:00", PACIFIC).include(NOW + timedelta(hours=10)) is True
    night = hours("22:00:00", "06:00:00", {"name": "UTC"})
    assert [night.include(NOW.replace(hour=one)) for one in (5, 7, 23)] == [False, False, True]
    assert night.include(NOW.replace(hour=5) + timedelta(days=2)) is True  # the night of Tuesday
    for bad in (hours("x", "17:00:00", {"name": "UTC"}), hours("08:00", "17:00", {"name": "Mars"})):
        assert bad.include(NOW) is None
    assert hours("08:00", "17:00", {"name": "UTC"}, ["Blursday"]).include(NOW) is None


@given(st.lists(JSON, max_size=3), st.dictionaries(st.sampled_from(["value", "id", "mail"]), JSON))
def test_whatever_graph_answers_is_read_or_refused(values: list, answer: dict) -> None:
    slots_of([*values, item(zone=str(values)), item(start=str(answer))], subjects=True)
    _matched([*values, {"scheduleId": "a", "workingHours": answer, "error": values}], ["a"], NOW)
    for read in (presences_of, profile_of):
        with suppress(TryLaterError):
            read(answer)
    for model in (WorkingHours, Zone, Presence):
        with suppress(ValidationError):
            model.model_validate(answer)


def test_text_is_one_short_line() -> None:
    assert printable("a\n b\x00\u202ec\u200b", 10) == "a bc"
    assert printable("👩\u200d💻", 10) == "👩\u200d💻"
    assert printable("abcdef", 4) == "abc…"
    assert plain("<a href='x'>hi</a> &lt;there", 20) == "hi <there"
    assert [words(one) for one in ("DoNotDisturb", "InACall", "OffWork", "", "PresenceUnknown")] == [
        "Do not disturb",
        "In a call",
        "Off work",
        "",
        "Presence unknown",
    ]


def test_a_failure_that_may_pass_keeps_the_last_answer() -> None:
    answer: Answer[int] = Answer()
    assert answer.due(NOW, 60)
    answer.good(5, NOW)
    assert not answer.due(NOW, 60)
    later = NOW + timedelta(seconds=60)
    assert answer.due(later, 60)
    answer.bad(TryLaterError("x"), later)
    assert (answer.value, answer.time) == (5, NOW)
    assert answer.due(later, 60)
    answer.bad(NoSuchError("x"), later)
    assert answer.value is None
    assert not answer.due(later, 60)
