"""The one place that knows status codes: errors of ours become ``google.rpc.Status`` with details.

https://google.aip.dev/193: ``ErrorInfo`` names the reason and the domain, ``BadRequest`` the field, ``RetryInfo`` the
time to wait.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from ulid import ULID

from facesvc import errors
from facesvc.api.calls import Calls
from facesvc.api.convert import shortened
from facesvc.events.journal import EventsMissedError

DOMAIN = "facesvc"
Context = grpc.aio.ServicerContext[Any, Any]

# The first row that fits; children stand before their parents.
_CODES: tuple[tuple[type[errors.FacesvcError], int], ...] = (
    (errors.NotFoundError, code_pb2.NOT_FOUND),
    (errors.AlreadyExistsError, code_pb2.ALREADY_EXISTS),
    (errors.InputError, code_pb2.INVALID_ARGUMENT),
    (errors.PreconditionError, code_pb2.FAILED_PRECONDITION),
    (errors.UnauthenticatedError, code_pb2.UNAUTHENTICATED),
    (errors.ForbiddenError, code_pb2.PERMISSION_DENIED),
    (errors.ExhaustedError, code_pb2.RESOURCE_EXHAUSTED),
    (errors.UnavailableError, code_pb2.UNAVAILABLE),
    (errors.DeadlineError, code_pb2.DEADLINE_EXCEEDED),
    (EventsMissedError, code_pb2.OUT_OF_RANGE),
)

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # generic in the type stubs only

# What a caller may know of a failure beside us, by its reason; paths and the like stay in the log.
_TOLD = {
    "DISK_FULL": "the server's disk is full: nothing was stored, searching goes on; free space on the box",
    "BACKUP_FOLDER_UNUSABLE": "the server's backup folder cannot be used: check that it is there, and its rights",
    "GALLERY_AWAY": "the database of the gallery does not answer: recognition goes on with what is known; come again",
}

_log = structlog.get_logger(__name__)


def status_of(error: Exception) -> status_pb2.Status:
    """The status that the caller gets; what is not the caller's to know is logged, and only its id is told."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return status_pb2.Status(
                code=code, message=shortened(error.message), details=[_packed(d) for d in _details(error)]
            )
    if isinstance(error, NotImplementedError):
        # What the generated base class raises for a call that has no servicer yet.
        return status_pb2.Status(code=code_pb2.UNIMPLEMENTED, message="this call is not implemented yet")
    incident = str(ULID())
    _log.error("call failed", incident=incident, exc_info=error)
    dependency = isinstance(error, errors.DependencyError)
    reason = error.reason if isinstance(error, errors.FacesvcError) else "INTERNAL"
    message = f"{_TOLD.get(reason, 'the server failed')}; its log says more under incident {incident}"
    info = error_details_pb2.ErrorInfo(
        reason=reason,
        domain=DOMAIN,
        metadata={"incident": incident},
    )
    code = code_pb2.UNAVAILABLE if dependency else code_pb2.INTERNAL
    return status_pb2.Status(code=code, message=message, details=[_packed(info)])


def _details(error: errors.FacesvcError) -> list[Message]:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, errors.InputError) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=shortened(error.field), description=shortened(error.message), reason=error.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.ExhaustedError):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(1000 * error.retry_delay_s))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of the gatekeeper, so that what it raises leaves as a status; and counts how calls end.

    Those are coroutines that take a stream of requests, and write answers themselves where there are many.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler":
        """Called by gRPC for each call."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        if handler is None:
            return handler  # type: ignore[return-value]  # gRPC answers None with UNIMPLEMENTED

        streams = handler.response_streaming
        behaviour: Any = handler.stream_stream if streams else handler.stream_unary

        async def call(requests: Any, context: Context) -> Any:
            begun = time.perf_counter()
            async with self._guarded(method, context):
                response = await behaviour(requests, context)
                if not streams:
                    self._calls.took(method, time.perf_counter() - begun)
                return response

        make = grpc.stream_stream_rpc_method_handler if streams else grpc.stream_unary_rpc_method_handler
        return make(call, handler.request_deserializer, handler.response_serializer)

    @asynccontextmanager
    async def _guarded(self, method: str, context: Context) -> AsyncIterator[None]:
        """What is raised inside ends the call with a status."""
        try:
            yield
        # abort() leaves by an exception of its own, which is not ours to translate.
        except grpc.aio.AbortError:
            raise
        except asyncio.CancelledError:
            self._calls.ended(method, "CANCELLED")
            raise
        except Exception as error:  # noqa: BLE001 - the one place where every error becomes a status
            status = status_of(error)
            reason = error.reason if isinstance(error, errors.FacesvcError) else ""
            self._calls.ended(method, code_pb2.Code.Name(status.code), reason)
            sent = rpc_status.to_status(status)
            await context.abort(sent.code, sent.details, sent.trailing_metadata)
        else:
            self._calls.ended(method, "OK")
