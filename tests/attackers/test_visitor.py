"""A visitor with somebody's photo in their hand, before a camera that opens a door."""

import cv2
import numpy as np
from attackers.besieged import Box, film, refused

from facesvc.client import opening
from facesvc.v1 import common_pb2


def green(picture: bytes) -> bytes:
    """What the box's liveness model takes for alive: it is a small one, made for tests."""
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    tinted = np.clip(pixels.astype(int) + np.array((-25, 25, -25)), 0, 255).astype(np.uint8)
    return cv2.imencode(".png", tinted)[1].tobytes()


def test_a_photo_is_no_match_where_liveness_is_required(box: Box) -> None:
    door = box.client("door").watch_events()
    next(door)
    shown = film(box, policy="gate")
    outcomes = [face.decision.outcome for result in shown for face in result.faces]
    assert common_pb2.OUTCOME_MATCH not in outcomes
    assert outcomes[-1] == common_pb2.OUTCOME_SPOOF
    answer = next(door)
    assert (answer.event.WhichOneof("payload"), answer.nonce) == ("spoof_attempt", "")
    alive = film(box, policy="gate", picture=green(box.picture))
    assert alive[-1].faces[0].decision.outcome == common_pb2.OUTCOME_MATCH


def test_a_policy_for_doors_that_the_box_cannot_keep_is_refused(box: Box) -> None:
    """The default pack is not good enough for ``access``, and whoever asks is told so, not given less."""
    error = refused(lambda: box.client("camera").recognize(opening("gate", policy="access"), iter(())))
    assert (error.reason, "cannot be honoured" in str(error)) == ("POLICY_UNAVAILABLE", True)
