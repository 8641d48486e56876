"""The Python SDK: ``Client`` for plain code, ``AsyncClient`` for asyncio; both typed, both context managers.

    with Client("127.0.0.1:50051") as client:
        for face in client.search(open("door.jpg", "rb").read()).faces:
            print(face.decision.subject.display_name)

Methods take plain values and return the messages of ``facesvc.v1``. A call that fails raises ``CallError``, which
carries the reason that the server gave. Calls wait at most ``timeout_s``; streams have no limit.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from facesvc.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    common_pb2,
    enrollment_pb2,
    enrollment_pb2_grpc,
    presence_pb2,
    presence_pb2_grpc,
    recognition_pb2,
    recognition_pb2_grpc,
)

DEFAULT_ADDRESS = "127.0.0.1:50051"
_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 30_000),
)


class CallError(Exception):
    """A call that the server refused or that did not reach it.

    ``code`` is gRPC's, ``reason`` the server's word for it in UPPER_SNAKE (empty where the server was not reached),
    ``field`` the argument it is about, ``retry_delay_s`` the time to wait where the server named one.
    """

    def __init__(self, error: grpc.RpcError) -> None:
        self.code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
        self.reason, self.field, self.retry_delay_s = "", "", None
        message = error.details() or self.code.name  # type: ignore[attr-defined]
        super().__init__(message)
        self._read_details(error)

    retry_delay_s: float | None

    def _read_details(self, error: grpc.RpcError) -> None:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        for detail in status.details if status else ():
            info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                self.reason = info.reason
            elif detail.Unpack(bad) and bad.field_violations:
                self.field = bad.field_violations[0].field
            elif detail.Unpack(retry):
                self.retry_delay_s = retry.retry_delay.ToTimedelta().total_seconds()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise CallError(error) from error


@dataclass(frozen=True, slots=True)
class _Stubs:
    recognition: recognition_pb2_grpc.RecognitionServiceStub
    enrollment: enrollment_pb2_grpc.EnrollmentServiceStub
    presence: presence_pb2_grpc.PresenceServiceStub
    admin: admin_pb2_grpc.AdminServiceStub
    health: health_pb2_grpc.HealthStub
