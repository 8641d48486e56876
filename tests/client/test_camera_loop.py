"""The camera's loop against a server on a real socket, whose every answer the test gives."""

import itertools
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from client.scripted import WAIT_S, Running, Tape, more, opened, result, running, server

from facesvc.client import CallError, CameraLoop, Client, challenge, opening
from facesvc.client.camera import Times
from facesvc.client.capture import Capture
from facesvc.client.pacing import Backoff
from facesvc.v1 import recognition_pb2

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Endless(Tape):
    """A camera that never ends by itself, at up to a thousand pictures a second."""

    def __iter__(self) -> Iterator[str]:
        for number in itertools.count():
            if self.closed:
                return
            time.sleep(0.001)
            yield str(number)


def test_without_a_credit_nothing_is_encoded_and_what_is_passed_over_is_told() -> None:
    tape = Tape("0", "1", "2")
    with server() as far, running(far.address, lambda: tape) as near:
        near.grabbed(3)
        desk = far.desk()
        desk.say(opened(0), more(1))
        first = desk.frame()
        tape.put("3", "4", "5")
        near.grabbed(6)
        for _ in range(20):  # each a round through the sender, which would have sent a frame by now
            near.loop.challenge(challenge())
            assert desk.read().HasField("challenge")
        desk.say(result(2), more(1))
        second = desk.frame()
        tape.put("6")
        near.grabbed(7)
        desk.say(result(5, credit=1))
        third = desk.frame()
    assert [(one.frame_id, one.image.data, one.frames_skipped) for one in (first, second, third)] == [
        (2, b"2", 0),
        (5, b"5", 2),
        (6, b"6", 0),
    ]
    assert len(near.levels) == 3


def test_several_credits_are_several_frames() -> None:
    tape = Tape()
    with server() as far, running(far.address, lambda: tape) as near:
        tape.put("0")
        desk = far.desk()
        desk.say(opened(2))
        frames = [desk.frame()]
        tape.put("1")
        frames.append(desk.frame())
        tape.put("2", "3")
        near.grabbed(4)
        desk.say(more(1))
        frames.append(desk.frame())
    assert [(one.frame_id, one.frames_skipped) for one in frames] == [(0, 0), (1, 0), (3, 1)]


def test_a_server_that_never_speaks_of_credits_gets_the_next_frame_with_its_result() -> None:
    tape = Tape("0")
    with server() as far, running(far.address, lambda: tape) as near:
        desk = far.desk()
        desk.say(opened())
        assert desk.frame().frame_id == 0
        tape.put("1", "2", "3")
        near.grabbed(4)
        desk.say(result(0))
        frame = desk.frame()
    assert (frame.frame_id, frame.frames_skipped) == (3, 2)


def test_a_credit_that_got_lost_is_not_waited_for_for_ever() -> None:
    times = Times(starved_s=0.05)
    with server() as far, running(far.address, lambda: Tape("0"), times=times):
        desk = far.desk()
        desk.say(opened(0))
        assert desk.frame().frame_id == 0


def test_a_frame_is_stamped_when_it_is_grabbed() -> None:
    times = (T0 + timedelta(seconds=second) for second in itertools.count())
    tape = Tape("0", "1")
    with server() as far, running(far.address, lambda: tape, now=lambda: next(times)) as near:
        near.grabbed(2)
        desk = far.desk()
        desk.say(opened(1))
        frame = desk.frame()
    assert frame.capture_time.ToDatetime(UTC) == T0 + timedelta(seconds=1)


def test_the_end_of_a_file_is_the_end_after_its_last_frame_is_answered() -> None:
    tape = Tape("0", None)
    with server() as far, running(far.address, lambda: tape, live=False) as near:
        desk = far.desk()
        desk.say(opened(1))
        assert desk.frame().frame_id == 0
        assert desk.received.get(timeout=WAIT_S) is None
        desk.say(result(0), None)
        assert near.end() is None
        assert near.loop.figures().results == 1
    assert tape.closed
    assert near.troubles == []


def test_a_file_whose_end_the_server_does_not_answer_is_an_error() -> None:
    with server() as far, running(far.address, lambda: Tape("0", None), live=False) as near:
        desk = far.desk()
        desk.say(opened(1))
        desk.frame()
        desk.say(grpc.StatusCode.UNAVAILABLE)
        assert isinstance(near.end(), CallError)


def test_a_server_that_was_never_there_is_an_error() -> None:
    with running("127.0.0.1:1", Endless) as near:
        error = near.end()
    assert isinstance(error, CallError)
    assert error.code is grpc.StatusCode.UNAVAILABLE


def test_a_restarted_server_gets_a_new_stream() -> None:
    with server() as before, running(before.address, Endless) as near:
        desk = before.desk()
        desk.say(opened(1))
        first = desk.frame()
        desk.say(result(first.frame_id))
        assert near.answer().HasField("opened")
        before.stop()
        with server(before.address) as after:
            desk = after.desk()
            desk.say(opened(1))
            second = desk.frame()
            assert second.frame_id > first.frame_id
            assert second.frames_skipped == 0
            near.loop.close()
    assert any("trying again in 0.0 s" in text for text in near.troubles)


@pytest.mark.parametrize("end", [None, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_whatever_ends_a_stream_that_had_begun_another_follows(end: grpc.StatusCode | None) -> None:
    with server() as far, running(far.address, Endless):
        for _ in range(3):
            far.desk().say(opened(0), end)
        far.desk()


def test_what_will_never_be_granted_is_not_asked_for_again() -> None:
    with server() as far, running(far.address, Endless) as near:
        far.desk().say(opened(0), grpc.StatusCode.UNAUTHENTICATED)
        error = near.end()
    assert isinstance(error, CallError)
    assert near.troubles == []


def test_a_camera_that_goes_away_is_opened_again() -> None:
    tapes = iter([Tape("0", None), Tape("1", OSError("unplugged")), Tape("2")])
    with server() as far, running(far.address, lambda: next(tapes)) as near:
        near.grabbed(3)
        desk = far.desk()
        desk.say(opened(1))
        assert desk.frame().image.data == b"2"
    assert near.troubles[0].startswith("the camera gives no more pictures; trying again in ")
    assert near.troubles[1].startswith("unplugged; trying again in ")


def test_a_camera_that_hangs_is_opened_again() -> None:
    tapes = iter([Tape("0"), Tape("1")])
    with server() as far, running(far.address, lambda: next(tapes), times=Times(stalled_s=0.05)) as near:
        desk = far.desk()
        desk.say(opened(2))
        assert [desk.frame().image.data, desk.frame().image.data] == [b"0", b"1"]
    assert near.troubles[0] == "the camera has given no picture for 0.05 s; opening it anew"


def test_a_camera_that_was_never_there_is_an_error() -> None:
    def absent() -> Tape:
        raise OSError("no such camera")

    with running("127.0.0.1:1", absent) as near:
        assert isinstance(near.end(), OSError)


def test_a_file_that_cannot_be_read_on_is_an_error() -> None:
    tape = Tape("0", OSError("torn"))
    with server() as far, running(far.address, lambda: tape, live=False) as near:
        assert isinstance(near.end(), OSError)
        assert far.desks.empty()


def test_a_clock_that_is_set_back_begins_a_new_stream() -> None:
    times = iter([T0, T0 - timedelta(hours=1), T0])
    tape = Tape("0")
    with server() as far, running(far.address, lambda: tape, now=lambda: next(times)) as near:
        desk = far.desk()
        desk.say(opened(9))
        assert desk.frame().frame_id == 0
        tape.put("1")
        assert desk.received.get(timeout=WAIT_S) is None
        desk.say(None)
        tape.put("2")
        near.grabbed(3)
        desk = far.desk()
        desk.say(opened(1))
        assert desk.frame().frame_id == 2
    assert near.troubles == ["the clock was set back: a new stream begins"]


def test_a_challenge_goes_out_without_a_credit_and_its_progress_comes_in() -> None:
    with server() as far, running(far.address, lambda: Tape("0")) as near:
        near.loop.challenge(challenge("t", steps=2, time_limit_s=9.5))
        desk = far.desk()
        asked = desk.read().challenge
        desk.say(recognition_pb2.RecognizeResponse(challenge=recognition_pb2.ChallengeProgress(challenge_id="c")))
        assert near.answer().challenge.challenge_id == "c"
    assert (asked.track_id, asked.steps, asked.time_limit.ToTimedelta().total_seconds()) == ("t", 2, 9.5)


def test_what_the_encoder_raises_is_raised() -> None:
    def encode(pixels: str, level: object) -> bytes:
        raise ValueError("no picture")

    with server() as far, running(far.address, lambda: Tape("0"), encode=encode) as near:
        desk = far.desk()
        desk.say(opened(1))
        assert desk.received.get(timeout=WAIT_S) is None
        desk.say(None)
        assert isinstance(near.end(), ValueError)


def test_closing_ends_it_while_it_waits_for_a_camera_a_credit_or_a_server() -> None:
    with running("127.0.0.1:1", Tape) as near:
        near.loop.close()
        assert near.end() is None
    with server() as far, running(far.address, Endless) as near:
        desk = far.desk()
        desk.say(opened(0))
        near.answer()
        near.loop.close()
        assert desk.received.get(timeout=WAIT_S) is None
        desk.say(None)
        assert near.end() is None
    with server() as far, running(far.address, Endless, times=Times(first_pause_s=30)) as near:
        far.desk().say(opened(0), None)
        wait_for_trouble(near)
        near.loop.close()
        assert near.end() is None


def wait_for_trouble(near: Running) -> None:
    with near.loop._changed:
        assert near.loop._changed.wait_for(lambda: bool(near.troubles), WAIT_S)


def test_leaving_the_iterator_closes_the_camera_and_the_stream() -> None:
    tape = Endless()
    with server() as far, Client(far.address) as client:
        loop = CameraLoop(client, opening("cam"), lambda: tape, lambda pixels, level: pixels.encode())
        answers = loop.run()
        reader = threading.Thread(target=lambda: far.desk().say(opened(0)))
        reader.start()
        assert next(answers).HasField("opened")
        answers.close()
        reader.join(WAIT_S)
    assert tape.closed
    assert not [thread for thread in threading.enumerate() if thread.name == "camera"]


def test_a_stream_that_is_over_takes_no_frame_from_the_next() -> None:
    tape = Tape("0")
    tapes = iter([tape, Endless()])
    with server() as far, running(far.address, lambda: next(tapes)) as near:
        desk = far.desk()
        desk.say(opened(60))
        desk.frame()
        desk.say(None)
        wait_for_trouble(near)
        tape.put(None)
        desk = far.desk()
        desk.say(opened(0))
        for _ in range(20):  # time enough for a sender that was left behind
            near.loop.challenge(challenge())
            assert desk.read().HasField("challenge")
        assert len(near.levels) == 1


def test_a_picture_of_before_the_break_is_not_sent_after_it() -> None:
    changed = threading.Condition()
    capture = capture_of(lambda: Tape("0", "1"), changed, clock=lambda: 0.0, on_trouble=lambda text: None)
    capture.start()
    with changed:
        assert changed.wait_for(lambda: capture._grabbed == 2, WAIT_S)
        capture.forget()
        assert not capture.waiting
    capture.close()


def test_what_became_of_the_frames_is_counted() -> None:
    tape = Tape("0", "1")
    clock = itertools.count()
    with server() as far, running(far.address, lambda: tape, clock=lambda: next(clock) / 100) as near:
        near.grabbed(2)
        desk = far.desk()
        desk.say(opened(2))
        desk.frame()
        tape.put("2")
        desk.frame()
        desk.say(result(2, frames_dropped=1))
        near.answer()
        near.answer()
        figures = near.loop.figures()
    assert (figures.sent, figures.skipped, figures.dropped, figures.results) == (2, 0, 1, 1)
    assert figures.age_s > 0


def capture_of(source: Any, changed: threading.Condition, **options: Any) -> Capture[str]:
    backoff = Backoff(random.Random(1), 30)
    return Capture(source, live=True, changed=changed, backoff=backoff, stalled_s=15, now=lambda: T0, **options)


def test_threads_that_hang_in_a_camera_are_few() -> None:
    release, now, troubles = threading.Event(), [0.0], list[str]()
    opens = threading.Semaphore(0)

    class Hanging(Tape):
        def __iter__(self) -> Iterator[str]:
            opens.release()
            release.wait(WAIT_S)
            return iter(())

    changed = threading.Condition()
    source: Any = Hanging
    capture = capture_of(source, changed, clock=lambda: now[0], on_trouble=troubles.append)
    capture.start()
    for _ in range(3):
        assert opens.acquire(timeout=WAIT_S)
        now[0] += 14
        with changed:
            capture.check()
        now[0] += 2
        with changed:
            capture.check()
    for _ in range(5):
        now[0] += 16
        with changed:
            capture.check()
    assert len(troubles) == 2
    assert not opens.acquire(blocking=False)
    release.set()
    capture.close()
