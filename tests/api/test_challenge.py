"""What is asked of a challenge, and how one is told."""

import random

import pytest
from google.protobuf import duration_pb2

from facesvc.api import challenge
from facesvc.api.challenge import ChallengeOrder
from facesvc.errors import InputError, PreconditionError
from facesvc.stream.challenge import Progress, Prompt, State
from facesvc.v1 import recognition_pb2

ORDER = ChallengeOrder("", 3, 15)


def request(**fields: object) -> recognition_pb2.ChallengeRequest:
    return recognition_pb2.ChallengeRequest(**fields)  # type: ignore[arg-type]  # a case names what it is about


def test_what_is_not_said_is_three_steps_in_fifteen_seconds() -> None:
    assert challenge.parse(request()) == ORDER


def test_what_is_said_counts() -> None:
    limit = duration_pb2.Duration(seconds=59, nanos=500_000_000)
    assert challenge.parse(request(track_id="t", steps=5, time_limit=limit)) == ChallengeOrder("t", 5, 59.5)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"steps": -1}, "challenge.steps"),
        ({"steps": 6}, "challenge.steps"),
        ({"time_limit": duration_pb2.Duration()}, "challenge.time_limit"),
        ({"time_limit": duration_pb2.Duration(seconds=-1)}, "challenge.time_limit"),
        ({"time_limit": duration_pb2.Duration(seconds=60, nanos=1)}, "challenge.time_limit"),
        ({"time_limit": duration_pb2.Duration(seconds=2**62)}, "challenge.time_limit"),
        ({"track_id": "no id"}, "challenge.track_id"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as error:
        challenge.parse(request(**fields))
    assert error.value.field == field


def begun(order: ChallengeOrder, present: dict[str, float]) -> Progress:
    one = challenge.begin(order, present, clock=5.0, randomness=random.Random(1), new_id=lambda: "new")
    return one.progress(5.0)


def test_the_largest_face_is_asked_unless_another_is_named() -> None:
    present = {"a": 50.0, "b": 90.0, "c": 70.0}
    assert begun(ORDER, present).track_id == "b"
    named = begun(ChallengeOrder("a", 2, 9), present)
    assert named == Progress("new", "a", State.RUNNING, Prompt.LOOK_STRAIGHT, 0, 2, 9.0)


@pytest.mark.parametrize(("order", "present"), [(ORDER, {}), (ChallengeOrder("x", 3, 15), {"a": 50.0})])
def test_nobody_to_ask_is_told(order: ChallengeOrder, present: dict[str, float]) -> None:
    with pytest.raises(PreconditionError) as error:
        begun(order, present)
    told = challenge.refusal(request(track_id=order.track_id), error.value)
    assert (told.state, told.reason, told.track_id) == (
        recognition_pb2.CHALLENGE_STATE_FAILED, "CHALLENGE_NO_FACE", order.track_id,
    )  # fmt: skip
    assert told.message.endswith("ask again when somebody is")


def test_one_at_a_time() -> None:
    running = challenge.begin(ORDER, {"a": 50.0}, clock=5.0, randomness=random.Random(1), new_id=lambda: "new")
    challenge.check_none_runs(None)
    with pytest.raises(PreconditionError) as error:
        challenge.check_none_runs(running)
    assert error.value.reason == "CHALLENGE_RUNNING"
    assert running.wait(20.0)
    challenge.check_none_runs(running)


@pytest.mark.parametrize("prompt", Prompt)
@pytest.mark.parametrize("state", State)
def test_progress_as_a_message(state: State, prompt: Prompt) -> None:
    message = challenge.message(Progress("c", "t", state, prompt, 1, 3, 2.5, "REASON", "words"))
    assert recognition_pb2.ChallengeState.Name(message.state) == f"CHALLENGE_STATE_{state.name}"
    assert recognition_pb2.ChallengePrompt.Name(message.prompt).endswith(prompt.value)
    assert (message.challenge_id, message.track_id, message.steps_done, message.steps_total) == ("c", "t", 1, 3)
    assert (message.time_left.ToTimedelta().total_seconds(), message.reason, message.message) == (
        2.5,
        "REASON",
        "words",
    )
