"""Challenges over ``Recognize``: what is asked, what meets it, and what does not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from api.conftest import Start, Vision
from api.test_following import results
from api.test_stream import Talk
from google.protobuf import duration_pb2

from facesvc.v1 import recognition_pb2
from facesvc.vision.detection import Detection
from facesvc.vision.geometry import Box

T0 = datetime(2026, 1, 1, tzinfo=UTC)


async def challenge(talk: Talk, **fields: Any) -> recognition_pb2.ChallengeProgress:
    """Ask for a challenge; the first that is told of it."""
    request = recognition_pb2.ChallengeRequest(**fields)
    await talk.call.write(recognition_pb2.RecognizeRequest(challenge=request))
    while True:
        answer = await talk.call.read()
        assert answer is not grpc.aio.EOF
        if answer.HasField("challenge"):
            return answer.challenge


async def test_a_challenge_begins_with_the_face_that_is_there(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        nobody = await challenge(talk)
        (result,) = await results(talk, 1)
        begun = await challenge(talk, steps=2)
        again = await challenge(talk)
    assert (nobody.state, nobody.reason) == (recognition_pb2.CHALLENGE_STATE_FAILED, "CHALLENGE_NO_FACE")
    assert begun.state == recognition_pb2.CHALLENGE_STATE_RUNNING
    assert (begun.track_id, begun.steps_done, begun.steps_total) == (result.faces[0].track.track_id, 0, 2)
    assert begun.prompt == recognition_pb2.CHALLENGE_PROMPT_LOOK_STRAIGHT
    assert (again.state, again.reason) == (recognition_pb2.CHALLENGE_STATE_FAILED, "CHALLENGE_RUNNING")


async def test_a_challenge_ends_when_the_face_is_gone(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        await talk.send(0, capture=T0)
        await talk.result()
        await challenge(talk)
        vision.faces = 0
        for number, seconds in enumerate((0.5, 1.2, 1.9)):
            await talk.send(number + 1, capture=T0 + timedelta(seconds=seconds))
        while True:
            answer = await talk.call.read()
            if answer.HasField("challenge"):
                break
    assert (answer.challenge.state, answer.challenge.reason) == (
        recognition_pb2.CHALLENGE_STATE_FAILED,
        "CHALLENGE_FACE_LOST",
    )


async def test_a_bad_challenge_is_told_and_the_stream_goes_on(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        refused = await challenge(talk, steps=9)
        assert refused.state == recognition_pb2.CHALLENGE_STATE_FAILED
        assert refused.message
        assert len((await results(talk, 1))[0].faces) == 1


class Head:
    """A head that does what it is told: turned by ``yaw`` degrees, with ``size`` pixels between the eyes."""

    MODEL = np.array([(-0.5, 0, 0), (0.5, 0, 0), (0, 0.58, 0.44), (-0.42, 1.07, 0.03), (0.42, 1.07, 0.03)])

    def __init__(self) -> None:
        self.yaw, self.size = 0.0, 50.0

    def detection(self) -> Detection:
        turn = np.radians(self.yaw)
        across = self.MODEL[:, 0] * np.cos(turn) + self.MODEL[:, 2] * np.sin(turn)
        points = np.stack([across, self.MODEL[:, 1]], axis=1) * self.size + (120, 80)
        side = 2 * self.size
        return Detection(Box(120 - self.size, 80 - 0.5 * self.size, side, side), points.astype(np.float32), 0.99)

    def obey(self, prompt: "recognition_pb2.ChallengePrompt.ValueType") -> None:
        self.yaw = {
            recognition_pb2.CHALLENGE_PROMPT_TURN_LEFT: 38.0,
            recognition_pb2.CHALLENGE_PROMPT_TURN_RIGHT: -38.0,
        }.get(prompt, 0.0)
        self.size = 68.0 if prompt == recognition_pb2.CHALLENGE_PROMPT_COME_CLOSER else 50.0


@pytest.mark.parametrize("obedient", [True, False])
async def test_a_head_that_does_what_it_is_told_meets_the_challenge(
    start: Start, vision: Vision, monkeypatch: pytest.MonkeyPatch, *, obedient: bool
) -> None:
    head = Head()
    monkeypatch.setattr(vision, "detect", lambda pixels, minimum_face, *, rough=False: [head.detection()])
    running = await start(vision=vision)
    told: list[recognition_pb2.ChallengeProgress] = []
    async with running.channel() as channel:
        talk = Talk(running, channel)
        await talk.open(every_frame=True)
        await talk.send(0, capture=T0)
        await talk.result()
        limit = duration_pb2.Duration(seconds=15 if obedient else 1)
        told.append(await challenge(talk, steps=3, time_limit=limit))
        for number in range(1, 400):
            await talk.send(number, capture=T0 + timedelta(seconds=0.1 * number))
            while not (answer := await talk.call.read()).HasField("result"):
                if answer.HasField("challenge"):
                    told.append(answer.challenge)
            if told[-1].state != recognition_pb2.CHALLENGE_STATE_RUNNING:
                break
            if obedient:
                head.obey(told[-1].prompt)
    passed = (recognition_pb2.CHALLENGE_STATE_PASSED, "", 3)
    late = (recognition_pb2.CHALLENGE_STATE_FAILED, "CHALLENGE_TIMED_OUT", 0)
    assert (told[-1].state, told[-1].reason, told[-1].steps_done) == (passed if obedient else late)
