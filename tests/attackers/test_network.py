"""Somebody on the camera network: who has no token, or a wrong one, or no business to ask."""

import threading
import urllib.request
from collections.abc import Iterator

import grpc
import pytest
from attackers.besieged import NAME, SECRETS, SUBJECT, Box, film, refused
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from facesvc.client import frame as picture_frame
from facesvc.client import opening
from facesvc.security.roles import RULES, Role
from facesvc.v1 import admin_pb2, enrollment_pb2, recognition_pb2

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE
GUARDED = {method: rule for method, rule in RULES.items() if not rule.public}
OK = b"\x0bgrpc-status\x010"
FALSE = f"fsv_{'0' * 26}_{'A' * 43}"


def ask(channel: grpc.Channel, method: str) -> grpc.StatusCode:
    """How a call ends that comes without its request, so that nothing is changed where it is let in."""
    call = channel.stream_stream(method)(iter(()), timeout=20)
    with pytest.raises(grpc.RpcError) as error:
        list(call)
    code: grpc.StatusCode = error.value.code()
    return code


def test_no_token(box: Box) -> None:
    channel = box.channel()
    assert {method: ask(channel, method) for method in GUARDED} == dict.fromkeys(GUARDED, UNAUTHENTICATED)
    error = refused(box.client().server_info)
    assert (error.reason, "show a token" in str(error)) == ("UNAUTHENTICATED", True)


def test_a_guessed_token_is_slowed_down(box: Box) -> None:
    own = box.client("admin").create_token(admin_pb2.Token(name="guessed", role=admin_pb2.ROLE_ADMIN))[1]
    for guess in (FALSE, own[:31] + "A" * 43):
        stranger = box.client(guess)
        errors = [refused(stranger.server_info) for _ in range(7)]
        assert [error.code for error in errors] == [UNAUTHENTICATED] * 6 + [EXHAUSTED]
        assert (errors[-1].reason, errors[-1].retry_delay_s is not None) == ("TOO_MANY_WRONG_TOKENS", True)
    box.client("admin").revoke_token("guessed")


def test_a_token_that_is_over(box: Box) -> None:
    assert refused(box.client("over").server_info).code is UNAUTHENTICATED


def test_a_revoked_token_also_in_the_middle_of_a_stream(box: Box) -> None:
    admin = box.client("admin")
    thief = box.client(admin.create_token(admin_pb2.Token(name="stolen", role=admin_pb2.ROLE_CAMERA))[1])
    ended = threading.Event()

    def frames() -> Iterator[recognition_pb2.Frame]:
        yield picture_frame(1, box.picture)
        ended.wait(60)

    results = thief.recognize(opening("gate"), frames())
    try:
        assert next(results).faces
        admin.revoke_token("stolen")
        error = refused(lambda: list(results))
    finally:
        ended.set()
    assert (error.code, "what stolen showed is over or was revoked" in str(error)) == (UNAUTHENTICATED, True)
    # Its id is nobody's any more: it counts as a guess, and somebody here has guessed before.
    assert refused(thief.server_info).code in {UNAUTHENTICATED, EXHAUSTED}


def test_a_wrong_role(box: Box) -> None:
    for role in Role:
        channel = box.channel(role.value)
        forbidden = [method for method, rule in GUARDED.items() if not rule.allows(role)]
        assert {method: ask(channel, method) for method in forbidden} == dict.fromkeys(forbidden, DENIED), role
    error = refused(lambda: box.client("camera").list_subjects())
    assert str(error) == "camera has the role camera, which may not call ListSubjects"


def test_a_wrong_camera(box: Box) -> None:
    error = refused(lambda: box.client("camera").recognize(opening("vault"), iter(())))
    assert (error.code, error.reason) == (DENIED, "WRONG_CAMERA")


def test_a_wrong_gallery(box: Box) -> None:
    lab = box.client("lab dashboard")
    for call in (
        lambda: lab.get_subject(SUBJECT),
        lambda: lab.list_subjects(collection_id="default"),
        lab.list_presence,
        lab.list_events,
        lab.watch_events,
    ):
        assert refused(call).reason == "WRONG_COLLECTION"
    assert list(lab.list_presence(collection_id="lab")) == []


def test_nobody_looks_around_without_a_token(box: Box) -> None:
    """Nor is anybody told by a stranger's refusal whether there is such a person or call."""
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    for token, code in (("", UNAUTHENTICATED), ("camera", DENIED), ("door", DENIED)):
        stub = reflection_pb2_grpc.ServerReflectionStub(box.channel(token))
        assert refused(lambda stub=stub: stub.ServerReflectionInfo(iter([listing]))).code is code
    assert refused(box.client().server_info).code is UNAUTHENTICATED
    strangers, camera = box.client(), box.client("camera")
    for client in (strangers, camera):
        told = {str(refused(lambda one=one, client=client: client.get_subject(one))) for one in (SUBJECT, "nobody")}
        assert len(told) == 1


def test_health_and_metrics_name_nobody(box: Box) -> None:
    health = health_pb2_grpc.HealthStub(box.channel())
    watch = health.Watch(health_pb2.HealthCheckRequest())
    answers = [
        health.Check(health_pb2.HealthCheckRequest()),
        next(watch),
    ]
    watch.cancel()
    with urllib.request.urlopen(f"http://127.0.0.1:{box.metrics}/metrics", timeout=20) as page:
        text = page.read().decode()
    assert "facesvc_subjects" in text
    told = text + "".join(map(str, answers))
    assert [secret for secret in SECRETS if secret in told] == []


def test_the_log_names_nobody_and_holds_no_token(box: Box) -> None:
    """Also while somebody is looked for, and refused, and tries to write lines of their own into it."""
    admin = box.client("admin")
    film(box)
    jane = enrollment_pb2.Subject(subject_id=SUBJECT, display_name=NAME)
    assert refused(lambda: admin.create_subject(jane)).code is grpc.StatusCode.ALREADY_EXISTS
    forged = 'x\n{"event": "all is well", "level": "info"}'
    assert refused(lambda: admin.get_subject(forged)).field == "subject_id"
    assert refused(lambda: box.client("wide camera").recognize(opening(forged), iter(()))).field == "opening.camera_id"
    assert refused(lambda: admin.create_token(admin_pb2.Token(name=forged, role=admin_pb2.ROLE_DOOR))).field == "name"
    log = (box.folder / "log").read_text()
    assert [one for one in (*SECRETS, *(token[31:] for token in box.tokens.values())) if one in log] == []
    assert "all is well" not in log
