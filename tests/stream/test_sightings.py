"""An arrival is told once, and again only after an absence."""

from datetime import UTC, datetime, timedelta

from facesvc.stream.sightings import Sightings

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_somebody_who_stays_arrives_once() -> None:
    sightings = Sightings(timedelta(seconds=10))
    assert [sightings.arrives("cam", "default", "jane", at(second)) for second in range(30)] == [True] + [False] * 29


def test_somebody_who_was_away_arrives_again() -> None:
    sightings = Sightings(timedelta(seconds=10))
    assert sightings.arrives("cam", "default", "jane", at(0))
    assert not sightings.arrives("cam", "default", "jane", at(9))
    assert not sightings.arrives("cam", "default", "jane", at(18))
    assert sightings.arrives("cam", "default", "jane", at(28))


def test_people_do_not_disturb_each_other() -> None:
    sightings = Sightings(timedelta(seconds=10))
    assert sightings.arrives("cam", "default", "jane", at(0))
    assert sightings.arrives("cam", "default", "joe", at(5))
    assert not sightings.arrives("cam", "default", "jane", at(9))
    assert not sightings.arrives("cam", "default", "joe", at(14))
    assert not sightings.arrives("cam", "default", "jane", at(18))
    assert sightings.arrives("cam", "default", "joe", at(24))


def test_those_who_left_are_forgotten() -> None:
    sightings = Sightings(timedelta(seconds=10))
    for number in range(1000):
        sightings.arrives("cam", "default", f"visitor-{number}", at(number))
    assert len(sightings._last_seen) <= 10


def test_each_camera_and_each_gallery_has_its_own() -> None:
    sightings = Sightings(timedelta(seconds=10))
    assert sightings.arrives("door", "default", "jane", at(0))
    assert sightings.arrives("yard", "default", "jane", at(1))
    assert sightings.arrives("door", "guests", "jane", at(2))
    assert not sightings.arrives("door", "default", "jane", at(3))
