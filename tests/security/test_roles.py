"""Each call of each service has exactly one row in the table of roles, and no row is of a call that is not there."""

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from facesvc.security.roles import RULES, Kind, Role
from facesvc.v1 import admin_pb2, enrollment_pb2, plugins_pb2, presence_pb2, recognition_pb2

MODULES = (admin_pb2, enrollment_pb2, plugins_pb2, presence_pb2, recognition_pb2, health_pb2, reflection_pb2)
METHODS = {
    f"/{service.full_name}/{method.name}"
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
PUBLIC = {f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch")}


def test_every_call_has_a_row_and_every_row_a_call() -> None:
    assert set(RULES) == METHODS


def test_only_health_needs_no_token() -> None:
    assert {method for method, rule in RULES.items() if rule.public} == PUBLIC


def test_the_administrator_may_do_everything() -> None:
    assert all(rule.allows(Role.ADMIN) for rule in RULES.values())


def test_a_camera_may_look_and_nothing_else() -> None:
    allowed = {method.rpartition("/")[2] for method, rule in RULES.items() if rule.allows(Role.CAMERA)}
    assert allowed - {"Check", "List", "Watch"} <= {"Recognize", "Detect", "GetServerInfo"}


def test_only_the_administrator_takes_people_away() -> None:
    taking = {method for method in METHODS if "Export" in method or "Backup" in method or "Token" in method}
    for method in taking - {m for m in METHODS if "/List" in m}:
        assert RULES[method].roles == frozenset()


def test_what_tells_how_alike_faces_are_is_a_probe() -> None:
    probes = {method.rpartition("/")[2] for method, rule in RULES.items() if rule.kind is Kind.PROBE}
    assert probes == {"Embed", "Compare", "Search", "CheckGallery"}
