"""Errors become statuses: the caller's fault in full, ours and a dependency's without what is inside."""

import pytest
from google.rpc import code_pb2, error_details_pb2

from facesvc import errors
from facesvc.api.status import status_of

SECRET = "/var/lib/facesvc/gallery.db"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("bad", field="a.b"), code_pb2.INVALID_ARGUMENT),
        (errors.ImageError("bad"), code_pb2.INVALID_ARGUMENT),
        (errors.NotFoundError("none"), code_pb2.NOT_FOUND),
        (errors.AlreadyExistsError("taken"), code_pb2.ALREADY_EXISTS),
        (errors.PreconditionError("no"), code_pb2.FAILED_PRECONDITION),
        (errors.ContractMismatchError("no"), code_pb2.FAILED_PRECONDITION),
        (errors.ExhaustedError("full", retry_delay_s=2), code_pb2.RESOURCE_EXHAUSTED),
        (errors.UnavailableError("later"), code_pb2.UNAVAILABLE),
        (errors.DeadlineError("late"), code_pb2.DEADLINE_EXCEEDED),
        (NotImplementedError(), code_pb2.UNIMPLEMENTED),
        (errors.DependencyError(SECRET), code_pb2.UNAVAILABLE),
        (RuntimeError(SECRET), code_pb2.INTERNAL),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_its_code_and_tells_no_secret(error: Exception, code: int) -> None:
    status = status_of(error)
    assert status.code == code
    assert SECRET not in str(status)


def test_details_name_reason_field_and_delay() -> None:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    first, second = status_of(errors.InputError("bad", field="a.b", reason="ODD")).details
    assert first.Unpack(info)
    assert (info.reason, info.domain) == ("ODD", "facesvc")
    assert second.Unpack(bad)
    assert bad.field_violations[0].field == "a.b"
    _, delay = status_of(errors.ExhaustedError("full", retry_delay_s=2.5)).details
    assert delay.Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 2500


def test_a_full_disk_is_said_in_words() -> None:
    status = status_of(errors.DependencyError(SECRET, reason="DISK_FULL"))
    assert "disk is full: nothing was stored" in status.message
    assert SECRET not in status.message


@pytest.mark.parametrize("text", ["x" * 100_000, "ü" * 100_000, "\U0001f600" * 100_000])
def test_a_status_fits_into_grpcs_headers(text: str) -> None:
    status = status_of(errors.InputError(text, field=text))
    assert len(status.SerializeToString()) + len(status.message.encode()) * 3 < 8192
