"""How asyncio code calls a server: the connection, errors as ``CallError``, streams that end with their readers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc

from facesvc.client.connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, OPTIONS, Credentials
from facesvc.client.errors import KeptError, translated
from facesvc.v1 import admin_pb2_grpc, enrollment_pb2_grpc, plugins_pb2_grpc, presence_pb2_grpc, recognition_pb2_grpc

Q = TypeVar("Q")
R = TypeVar("R")
S = TypeVar("S")
# A plain iterable is read on the event loop, which it must not hold up: a list, say.
Source = AsyncIterable[S] | Iterable[S]


class AsyncCalls:
    """A connection, and the ways to call over it."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        credentials: Credentials | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """See ``Client``."""
        self._address = address
        self._timeout_s = timeout_s
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials.for_channel(), options=OPTIONS)
        self._recognition = recognition_pb2_grpc.RecognitionServiceStub(self._channel)
        self._enrollment = enrollment_pb2_grpc.EnrollmentServiceStub(self._channel)
        self._presence = presence_pb2_grpc.PresenceServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        self._plugins = plugins_pb2_grpc.PluginServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def close(self) -> None:
        """Close the connection; open streams end."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self.close()

    async def _call(self, method: Callable[..., Awaitable[R]], request: Message, least_s: float = 0.0) -> R:
        call = method(request, timeout=max(self._timeout_s, least_s))
        with translated(self._address), _cancelled_by_task_only(call):
            return await call

    async def _talk(
        self, method: "grpc.aio.StreamStreamMultiCallable[Q, R]", sent: AsyncIterable[Q]
    ) -> AsyncGenerator[R, None]:
        call, kept = method(), KeptError()
        # A task of ours and not gRPC's, which would go on waiting for a frame when the server has ended the call.
        sender = asyncio.create_task(_send(call, sent, kept))
        try:
            async with aclosing(self._answers(call)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        kept.check()

    async def _answers(
        self, call: "grpc.aio.UnaryStreamCall[Any, R] | grpc.aio.StreamStreamCall[Any, R]"
    ) -> AsyncGenerator[R, None]:
        try:
            with translated(self._address), _cancelled_by_task_only(call):
                async for answer in call:
                    yield answer
        finally:
            call.cancel()


@contextmanager
def _cancelled_by_task_only(call: Any) -> Iterator[None]:
    """Tell a call that ended with its client from a task that is cancelled; gRPC raises the same for both."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling() or not call.cancelled():
            raise
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, "the client was closed") from None


async def _send(call: "grpc.aio.StreamStreamCall[Q, R]", sent: AsyncIterable[Q], kept: KeptError) -> None:
    with kept.keeping():
        async for request in sent:
            try:
                await call.write(request)
            except (grpc.RpcError, asyncio.InvalidStateError):
                return  # The call has ended; who reads the answers is told why.
    await call.done_writing()


async def made(source: Source[S], request: Callable[[S], Q], *first: Q) -> AsyncGenerator[Q, None]:
    """The requests of a stream: ``first``, and one for each item of ``source``."""
    for one in first:
        yield one
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield request(item)
    else:
        for item in source:
            yield request(item)
