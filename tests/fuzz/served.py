"""A real server with scripted networks, asked over a socket for whatever bytes somebody makes up."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

import grpc
from api.conftest import Vision, with_vision
from fuzz.messages import Method
from grpc_health.v1 import health_pb2, health_pb2_grpc

from facesvc import app, config
from facesvc.api.server import Server
from facesvc.v1 import enrollment_pb2, enrollment_pb2_grpc

T = TypeVar("T")

_DEADLINE_S = 30.0
_SILENCE_S = 0.05
"""Whoever watches is told nothing for a while: after so long the call is given up."""
_MOST_ANSWERS = 50
_PEOPLE = ("p1", "p2")
_CALLS_BETWEEN_LOOKS = 50
_FORGETS = ("EraseSubject", "MergeSubjects")

# Nothing that a caller writes may end in one of these: the first two say that facesvc has a bug, the others that it is
# ill.
_NEVER = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


class Served:
    """A server in a thread, on a socket in ``folder``, with two people enrolled; ``close`` ends it."""

    def __init__(self, pack_cache: Path, folder: Path) -> None:
        self._folder, self._pack_cache = folder, pack_cache
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="served")
        self._stack = AsyncExitStack()
        self._calls = 0
        self._thread.start()
        self._wait(self._start())
        self._enroll()

    @classmethod
    def in_temporary_folder(cls, pack_cache: Path) -> Self:
        """One that leaves nothing behind when it is closed."""
        temporary = TemporaryDirectory()
        served = cls(pack_cache, Path(temporary.name))
        served._stack.callback(temporary.cleanup)
        return served

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    async def _start(self) -> None:
        loaded = config.load()
        settings = loaded.model_copy(
            update={
                "server": loaded.server.model_copy(update={"plaintext": True}),
                "models": loaded.models.model_copy(update={"cache_dir": self._pack_cache}),
                "gallery": loaded.gallery.model_copy(update={"path": self._folder / "gallery.db"}),
                "backup": loaded.backup.model_copy(update={"folder": self._folder / "backups", "keep": 2}),
                # Small pictures are all that is sent: the rest is refused, and takes no time.
                "limits": loaded.limits.model_copy(update={"max_image_pixels": 1_000_000}),
            }
        )
        address = f"unix:{self._folder}/socket"
        server = Server(settings)
        await server.start(address)
        service = await asyncio.to_thread(app.load_service, settings)
        self._stack.callback(service.gallery.close)
        self._stack.callback(service.workers.close)
        self._stack.push_async_callback(server.stop)
        await server.open(with_vision(service, Vision()))
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", 64 << 20)])
        self._stack.callback(self._channel.close)

    def _enroll(self) -> None:
        """The people that requests speak of, as far as they have not been erased or changed."""
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(self._channel)
        for person in _PEOPLE:
            subject = enrollment_pb2.Subject(subject_id=person, display_name=person)
            try:
                stub.CreateSubject(enrollment_pb2.CreateSubjectRequest(subject=subject), timeout=_DEADLINE_S)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.ALREADY_EXISTS, error  # noqa: PT017 - no other is meant

    def close(self) -> None:
        """Stop it."""
        self._wait(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def ask(self, method: Method, requests: Sequence[bytes]) -> grpc.StatusCode | None:
        """Ask, and see that the answer is one; its code, None where the call was given up because nothing came.

        Raises ``AssertionError`` for an answer that says that the server failed, and for a server that is not well.
        """
        code, details = self._ask(method, requests)
        self._calls += 1
        failed = code in _NEVER and method.path.startswith("/facesvc.")
        if failed:
            raise AssertionError(f"{method.path} answers {code}: {details}")
        if self._calls % _CALLS_BETWEEN_LOOKS == 0 or method.path.endswith(_FORGETS):
            self._look()
        return code

    def _ask(self, method: Method, requests: Sequence[bytes]) -> tuple[grpc.StatusCode | None, str]:
        kind = f"{'stream' if method.streams_in else 'unary'}_{'stream' if method.streams_out else 'unary'}"
        make = getattr(self._channel, kind)(method.path)
        asked = iter(requests) if method.streams_in else requests[0]
        call = make(asked, timeout=_DEADLINE_S) if method.streams_out else make.future(asked, timeout=_DEADLINE_S)
        if method.streams_out and _goes_silent(call):
            call.cancel()
            return None, ""
        if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not call.trailing_metadata():
            raise AssertionError(f"{method.path} does not answer within {_DEADLINE_S:g} s")
        return call.code(), str(call.details())

    def _look(self) -> None:
        """Health says that it serves, and a plain call is answered."""
        request = health_pb2.HealthCheckRequest()
        health = health_pb2_grpc.HealthStub(self._channel).Check(request, timeout=_DEADLINE_S)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        self._enroll()


def _goes_silent(call: Any) -> bool:
    """Whether a stream of answers neither goes on nor ends."""
    came: queue.SimpleQueue[object] = queue.SimpleQueue()

    def read() -> None:
        with contextlib.suppress(grpc.RpcError):
            for answer in call:
                came.put(answer)
        came.put(None)

    threading.Thread(target=read, daemon=True).start()
    with contextlib.suppress(queue.Empty):
        for _ in range(_MOST_ANSWERS):
            if came.get(timeout=_SILENCE_S) is None:
                return False
    return True
