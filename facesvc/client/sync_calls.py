"""How plain code calls a server: the connection, and errors as ``CallError``."""

from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc

from facesvc.client.connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, OPTIONS, Credentials
from facesvc.client.errors import KeptError, translated
from facesvc.v1 import admin_pb2_grpc, enrollment_pb2_grpc, plugins_pb2_grpc, presence_pb2_grpc, recognition_pb2_grpc

Q = TypeVar("Q")
R = TypeVar("R")


class Calls:
    """A connection, and the ways to call over it."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        credentials: Credentials | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """``credentials`` None: plain text, which a server speaks on its own machine only, where it is told to."""
        self._address = address
        self._timeout_s = timeout_s
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials.for_channel(), options=OPTIONS)
        self._recognition = recognition_pb2_grpc.RecognitionServiceStub(self._channel)
        self._enrollment = enrollment_pb2_grpc.EnrollmentServiceStub(self._channel)
        self._presence = presence_pb2_grpc.PresenceServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        self._plugins = plugins_pb2_grpc.PluginServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; open streams end."""
        self._channel.close()

    def _call(self, method: Callable[..., R], request: Message, least_s: float = 0.0) -> R:
        with translated(self._address):
            return method(request, timeout=max(self._timeout_s, least_s))

    def _talk(self, method: "grpc.StreamStreamMultiCallable[Q, R]", sent: Iterable[Q]) -> Generator[R, None, None]:
        kept = KeptError()
        yield from self._answers(method(_readable(sent, kept)))
        kept.check()

    def _answers(self, call: "grpc._CallIterator[R]") -> Generator[R, None, None]:
        try:
            with translated(self._address):
                yield from call
        finally:
            call.cancel()


def _readable(sent: Iterable[Q], kept: KeptError) -> Iterator[Q]:
    """All that is to be sent, or what came before an error: gRPC's thread would lose it."""
    with kept.keeping():
        yield from sent
