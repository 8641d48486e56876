"""An employee with a token that is for something else: faces, names, doors, the log, tokens, the gallery itself."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from attackers.besieged import CARD, SECRETS, SUBJECT, Box, film, refused
from attackers.wire import DATA, Wire, message, secured

from facesvc.api.disclosure import BELOW
from facesvc.client import frame as picture_frame
from facesvc.client import image, opening
from facesvc.v1 import admin_pb2, common_pb2, enrollment_pb2, presence_pb2, recognition_pb2

COMPARE = "/facesvc.v1.RecognitionService/Compare"
AT_ONCE = 8
OPENED = presence_pb2.DOOR_ACTION_OPENED
DENIED = grpc.StatusCode.PERMISSION_DENIED


def guesses(box: Box, group_jpeg: bytes) -> list[bytes]:
    """Requests to compare Jane with faces on the way from somebody else's to hers."""
    jane = cv2.imdecode(np.frombuffer(box.picture, np.uint8), cv2.IMREAD_COLOR)
    group = cv2.imdecode(np.frombuffer(group_jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert jane is not None
    assert group is not None
    face = max((one.box for one in box.client("camera").detect(group_jpeg).faces), key=lambda one: one.width)
    left, top, room = int(face.left), int(face.top), int(0.2 * face.width)
    other = group[top - room : top + int(face.height) + room, left - room : left + int(face.width) + room]
    other = cv2.resize(other, jane.shape[1::-1])
    reference, found = image(box.picture), []
    for share in np.linspace(0, 1, 12):
        data = cv2.imencode(".jpg", cv2.addWeighted(jane, share, other, 1 - share, 0))[1].tobytes()
        request = recognition_pb2.CompareRequest(reference=reference, image=image(data))
        found.append(message(request.SerializeToString()))
    return found


@pytest.mark.parametrize("calls", [2000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_calls_of_compare(box: Box, group_jpeg: bytes, calls: int) -> None:
    """After a hundred the rate ends it, and of these none says more than yes or no."""
    asked = guesses(box, group_jpeg)
    with secured(box.port, box.ca) as connection:
        wire = Wire(connection)
        for number in range(calls):
            wire.call(COMPARE, box.bearer("climber"), body=[asked[number % len(asked)]], stream=2 * number + 1)
            while number - len(wire.over) >= AT_ONCE and not wire.closed:
                wire.turn()
        while len(wire.over) < calls and not wire.closed:
            wire.turn()
    answers = [payload for kind, _, _, payload in wire.frames if kind == DATA and payload]
    compared = [recognition_pb2.CompareResponse.FromString(answer[5:]) for answer in answers]
    assert 100 <= len(compared) < 1000
    told = {(face.same_person, face.similarity) for one in compared for face in one.faces}
    assert told == {(True, compared[0].threshold), (False, BELOW)}
    notes = list(box.client("auditor").list_audit(action="Compare"))
    assert notes
    assert all(one.actor.startswith("climber at ") for one in notes)


def test_a_camera_and_a_door_learn_no_names(box: Box) -> None:
    events = box.client("door").watch_events()
    next(events)
    results = film(box)
    assert results[-1].faces[0].decision.outcome == common_pb2.OUTCOME_MATCH
    told = "".join(map(str, results))
    assert [secret for secret in SECRETS if secret in told] == []
    seen = next(events).event
    assert seen.seen.decision.subject.subject_id == SUBJECT
    told = str(seen) + "".join(map(str, box.client("door").list_events()))
    assert {secret for secret in SECRETS if secret in told} == {SUBJECT, CARD}
    for who in ("camera", "door", "auditor"):
        client = box.client(who)
        assert refused(client.list_subjects).code is DENIED
        assert refused(lambda client=client: client.get_subject(SUBJECT)).code is DENIED


def test_an_acknowledgement_that_is_repeated_or_of_another_door(box: Box) -> None:
    own, other = box.client("door"), box.client("other door")
    watches = [own.watch_events(), other.watch_events()]
    for watch in watches:
        next(watch)
    film(box)
    mine, theirs = (next(watch) for watch in watches)
    event_id = mine.event.event_id
    assert mine.nonce != theirs.nonce

    def said(client: Any, nonce: str, about: str = event_id) -> Callable[[], None]:
        return lambda: client.acknowledge_decision(about, nonce, "front", OPENED)

    wrong = [said(other, mine.nonce), said(own, theirs.nonce), said(own, mine.nonce, "another"), said(own, "guessed")]
    errors = [refused(one) for one in wrong]
    said(own, mine.nonce)()
    errors.append(refused(said(own, mine.nonce)))
    assert {(error.reason, str(error)) for error in errors} == {("NONCE_UNKNOWN", str(errors[0]))}
    entries = [one.detail for one in box.client("auditor").list_audit(action="AcknowledgeDecision")]
    assert [event_id in one for one in entries] == [True]


def test_nobody_makes_themselves_more_than_they_are(box: Box) -> None:
    boss = admin_pb2.Token(name="me", role=admin_pb2.ROLE_ADMIN)
    calls: dict[str, list[Callable[[Any], Any]]] = {
        "enroller": [
            lambda one: one.create_token(boss),
            lambda one: one.revoke_token("admin"),
            lambda one: one.export_subject(SUBJECT),
            lambda one: one.export_encodings(),
            lambda one: one.embed(box.picture),
            lambda one: one.create_backup(),
            lambda one: one.list_audit(),
        ],
        "dashboard": [
            lambda one: one.list_audit(),
            lambda one: one.list_tokens(),
            lambda one: one.search(box.picture),
            lambda one: one.erase_subject(SUBJECT),
            lambda one: one.acknowledge_decision("e", "n", "front", OPENED),
        ],
        "auditor": [
            lambda one: one.revoke_token("admin"),
            lambda one: one.rotate_key(),
            lambda one: one.call_plugin("door", "open", {"door": "front"}),
            lambda one: one.list_events(),
        ],
        "door": [
            lambda one: one.call_plugin("door", "open", {"door": "front"}),
            lambda one: one.list_presence(),
            lambda one: one.recognize(opening("gate"), iter(())),
        ],
        "camera": [
            lambda one: one.search(box.picture),
            lambda one: one.watch_events(),
            lambda one: one.enroll([]),
            lambda one: one.load_model("default"),
        ],
    }
    for who, tried in calls.items():
        client = box.client(who)
        for number, call in enumerate(tried):
            error = refused(lambda call=call, client=client: call(client))
            assert error.code is DENIED, (who, number)
    assert not {one.name for one in box.client("admin").list_tokens()} & {"me"}


def test_a_camera_makes_no_decision_hold_for_longer(box: Box) -> None:
    """By saying that a frame was taken later than it was: a minute gains nothing, an hour is refused."""
    late, later = picture_frame(1, box.picture), picture_frame(2, box.picture)
    now = datetime.now(UTC)
    late.capture_time.FromDatetime(now + timedelta(seconds=50))
    later.capture_time.FromDatetime(now + timedelta(hours=1))
    [result] = box.client("camera").recognize(opening("gate"), iter([late]))
    assert result.faces[0].decision.outcome == common_pb2.OUTCOME_MATCH
    assert result.faces[0].decision.expire_time.ToDatetime(UTC) < now + timedelta(seconds=40)
    [result] = box.client("camera").recognize(opening("gate"), iter([later]))
    assert (result.error.reason, len(result.faces)) == ("FRAME_FROM_THE_FUTURE", 0)


def test_names_that_would_be_paths_or_lines(box: Box) -> None:
    """What callers call things by stands in logs, files and topics: nothing of it leads elsewhere."""
    admin = box.client("admin")
    for name in ("../../etc/passwd", "a/b", "..", "a\nb", "a\0b", "-rf", "=cmd()", "a+b", "#", "x" * 200, "ä"):
        jane = enrollment_pb2.Subject(subject_id=name, display_name="x")
        assert refused(lambda jane=jane: admin.create_subject(jane)).field == "subject.subject_id"
        lab = enrollment_pb2.Subject(subject_id="x", collection_id=name)
        assert refused(lambda lab=lab: admin.create_subject(lab)).field == "subject.collection_id"
        assert refused(lambda n=name: admin.recognize(opening(n), iter(()))).field == "opening.camera_id"
        assert refused(lambda n=name: admin.recognize(opening("x", zone=n), iter(()))).field == "opening.zone"
        assert refused(lambda n=name: admin.load_model(n)).code in {
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
        }
    with_line = enrollment_pb2.Subject(subject_id="x", display_name="a\nb")
    assert refused(lambda: admin.create_subject(with_line)).field == "subject.display_name"
