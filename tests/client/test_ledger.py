"""What an answer says of the pace."""

from datetime import UTC, datetime, timedelta

from client.scripted import more, opened, result

from facesvc.client import frame
from facesvc.client.ledger import Ledger, Tally
from facesvc.client.pacing import LEVELS, Lightening
from facesvc.v1 import recognition_pb2

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def worked(frame_id: int, seconds: float) -> recognition_pb2.RecognizeResponse:
    answer = result(frame_id)
    answer.result.timings.total.FromTimedelta(timedelta(seconds=seconds))
    return answer


def send(ledger: Ledger, number: int, clock: float, skipped: int = 0, place: int = 0) -> recognition_pb2.Frame:
    message = frame(number, b"", frames_skipped=skipped)
    ledger.spend(clock)
    ledger.send(message, T0 + timedelta(seconds=number), clock - 0.01, place, clock)
    return message


def credit(ledger: Ledger, clock: float = 0) -> int:
    """How many frames could go out; they are spent."""
    number = 0
    while ledger.wait_s(clock) == 0:
        ledger.spend(clock)
        number += 1
    return number


def test_credits_come_with_the_opening_by_themselves_and_with_results() -> None:
    ledger = Ledger(Tally(), Lightening(0), 0, 5)
    ledger.note(opened(2), 0)
    ledger.note(more(3), 0)
    ledger.note(result(1, credit=4), 0)
    ledger.note(result(2), 0)
    assert credit(ledger) == 9


def test_without_a_word_of_credits_each_result_is_one() -> None:
    ledger = Ledger(Tally(), Lightening(0), 0, 5)
    ledger.note(opened(), 0)
    assert credit(ledger) == 1
    ledger.note(result(1), 0)
    assert credit(ledger) == 1


def test_what_was_passed_over_before_the_first_frame_does_not_count() -> None:
    tally = Tally()
    ledger = Ledger(tally, Lightening(0), 0, 5)
    assert [send(ledger, number, 0, skipped=7).frames_skipped for number in range(2)] == [0, 7]
    figures = tally.figures(LEVELS[0])
    assert (figures.sent, figures.skipped) == (2, 7)


def test_only_a_picture_from_before_the_last_one_is_older() -> None:
    ledger = Ledger(Tally(), Lightening(0), 0, 5)
    assert not ledger.is_older(T0)
    send(ledger, 0, 0)
    assert not ledger.is_older(T0)
    assert ledger.is_older(T0 - timedelta(microseconds=1))


def test_what_the_server_worked_is_not_the_way() -> None:
    for total, place in ((0.05, 1), (0.45, 0)):
        lightening = Lightening(0)
        ledger = Ledger(Tally(), lightening, 0, 5)
        for number in range(5):
            send(ledger, number, number)
            ledger.note(worked(number, total), number + 0.5)
        assert lightening.place == place


def test_the_age_is_from_the_camera_to_here_and_unknown_frames_are_none() -> None:
    tally = Tally()
    ledger = Ledger(tally, Lightening(0), 0, 5)
    send(ledger, 4, 10)
    ledger.note(result(99, frames_dropped=2), 20)
    assert tally.age_s == 0
    ledger.note(result(4), 10.5)
    assert round(tally.age_s, 6) == 0.51
    assert (tally.results, tally.dropped) == (2, 2)


def test_frames_that_are_never_answered_are_forgotten() -> None:
    ledger = Ledger(Tally(), Lightening(0), 0, 5)
    for number in range(1000):
        send(ledger, number, 0)
    assert len(ledger._sent) == 256
    assert min(ledger._sent) == 744
