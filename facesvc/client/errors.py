"""What went wrong: on the way to the server and there (``CallError``), or in an iterator of the caller's own."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class CallError(Exception):
    """A call that the server refused or that did not reach it.

    ``code`` is gRPC's, ``reason`` the server's word for it in UPPER_SNAKE (empty where the server was not reached),
    ``field`` the argument it is about, ``retry_delay_s`` the time to wait where the server named one.
    """

    def __init__(self, error: grpc.RpcError, address: str) -> None:
        super().__init__()
        self.code: grpc.StatusCode = error.code()
        self.reason, self.field = "", ""
        self.retry_delay_s: float | None = None
        self._address = address
        self._details = error.details() or self.code.name
        self._read_details(error)

    def __str__(self) -> str:
        """Say what was wrong and what to do: in the server's words, or in ours where it said nothing."""
        if self.reason:
            return self._details
        return {
            grpc.StatusCode.UNAVAILABLE: f"no server answers at {self._address}: start one with `facesvc serve`",
            grpc.StatusCode.DEADLINE_EXCEEDED: f"the server at {self._address} took too long to answer",
        }.get(self.code, f"the server at {self._address} answered {self.code.name}: {self._details}")

    def _read_details(self, error: grpc.RpcError) -> None:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            if detail.Unpack(info):
                self.reason = info.reason
            elif detail.Unpack(bad) and bad.field_violations:
                self.field = bad.field_violations[0].field
            elif detail.Unpack(retry):
                self.retry_delay_s = retry.retry_delay.ToTimedelta().total_seconds()


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Errors of gRPC as ``CallError``."""
    try:
        yield
    except grpc.RpcError as error:
        raise CallError(error, address) from error


class KeptError:
    """The error of an iterator that is read apart from who asked (a thread, a task), where it would be lost."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep an error, and go on as if the iterator had ended."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - kept for the one who asked
            self._error = error

    def check(self) -> None:
        """Raise what was kept, if anything."""
        if self._error is not None:
            raise self._error
