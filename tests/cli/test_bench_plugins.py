"""``facesvc bench plugins``, with numbers that take a second or two, and how it judges what a receiver got."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cli.running import Facesvc

from facesvc.cli import bench_plugins_receiver, bench_plugins_work
from facesvc.cli.bench_plugins_receiver import _judge, _Log, _Receiver, _Sender
from facesvc.cli.bench_streams_report import Row
from facesvc.delivery.kit import delivery, person, seen
from facesvc.events.plugin import TryLaterError
from facesvc.events.records import Event

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)


@pytest.fixture
def server() -> str:
    """No server: nobody is asked."""
    return "127.0.0.1:1"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin is tried again at once."""
    monkeypatch.setattr("facesvc.delivery.breaker.FIRST_WAIT", timedelta(milliseconds=20))
    monkeypatch.setattr("facesvc.delivery.breaker.FIRST_PAUSE_S", 0.02)


@pytest.mark.slow
def test_it_prints_what_it_measured(facesvc: Facesvc, impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_plugins_work, "_P99_BAR_MS", 1e6)
    result = facesvc("bench", "plugins", "--seconds", 1, "--rate", 50, "--events", 200, "--dies-every", 50, "--json")
    assert result.status == 0, result.out
    found = result.json
    rows = {row["what"]: row for row in found["rows"]}
    assert found["machine"]["cores"]
    assert 0 < rows["the commit alone p50, ms"]["value"] < rows["from match to call p50, ms"]["value"]
    assert 0 < rows["after the commit p50, ms"]["value"] <= rows["after the commit p99, ms"]["value"]
    assert rows["through a plugin a second"]["value"] > 0
    assert rows["delivered"]["value"] == 200
    assert rows["deaths of the receiver"]["value"] >= 4
    assert rows["received more than once, by the same id"]["value"] > 0
    assert "a plugin failed" not in result.out + result.err


@pytest.mark.slow
def test_a_bar_that_is_not_met_shows_in_the_exit_status(
    facesvc: Facesvc, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_plugins_work, "_P99_BAR_MS", 0.0)
    result = facesvc("bench", "plugins", "--seconds", 1, "--rate", 50, "--events", 100, "--dies-every", 100)
    assert result.status == 1
    assert "from match to call p99, ms" in result.out


def test_what_is_too_late_when_the_receiver_is_back_is_not_acted_on(
    impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_plugins_receiver, "_MOMENT", timedelta(0))
    rows = {row.what: row for row in bench_plugins_receiver.measure(100, 40)}
    assert rows["good for a moment only: expired"].value == 5
    assert (rows["acted on after expiry"].value, rows["delivered"].value) == (0, 100)


def events_of(*names: str) -> list[Event]:
    """One for each, a second apart."""
    return [seen(person(name), NOW + timedelta(seconds=number)) for number, name in enumerate(names)]


def judged(received: Sequence[str], lasting: list[Event], brief: list[Event], *, late: int = 0) -> dict[str, Row]:
    expired = {brief[0].event_id} if brief else set()
    return {row.what: row for row in _judge("w", _Log(list(received), 0, late), lasting, brief, expired, 0)}


class TestJudge:
    def test_all_is_well(self) -> None:
        lasting = events_of("ana", "bea", "ana")
        first, second, third = (one.event_id for one in lasting)
        rows = judged([second, first, first, third], lasting, [])
        assert all(row.met is not False for row in rows.values())
        assert rows["received more than once, by the same id"].value == 1

    def test_one_that_is_missing(self) -> None:
        lasting = events_of("ana", "bea")
        assert judged([lasting[0].event_id], lasting, [])["delivered"].met is False

    def test_one_before_an_earlier_one_of_the_same_person(self) -> None:
        lasting = events_of("ana", "bea", "ana")
        first, second, third = (one.event_id for one in lasting)
        assert judged([third, second, first], lasting, [])["out of order, of one person"].value == 1

    def test_an_id_of_nobody(self) -> None:
        assert judged(["x"], [], [])["received under another id"].met is False

    def test_what_was_good_for_a_moment_may_expire_but_not_vanish(self) -> None:
        brief = events_of("ana", "bea")
        what = "of those neither delivered nor recorded as expired"
        assert judged([brief[1].event_id], [], brief)[what].met
        assert judged([], [], brief)[what].met is False

    def test_a_call_after_the_expiry(self) -> None:
        assert judged([], [], [], late=1)["acted on after expiry"].met is False


async def test_the_plugin_says_when_it_is_called_too_late() -> None:
    log = _Log()
    receiver = _Receiver(log, 10)
    receiver.start()
    sender = _Sender(receiver, log)
    (event,) = events_of("ana")
    await sender.handle(delivery(event, expire_time=NOW))
    await sender.handle(delivery(event, expire_time=datetime.now(UTC) + timedelta(hours=1)))
    receiver.stop()
    assert (log.late, log.received) == (1, [event.event_id] * 2)
    with pytest.raises(TryLaterError, match="the receiver is away"):
        await sender.handle(delivery(event))
