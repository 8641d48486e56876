"""What can go wrong, sorted by whose fault it is.

``InputError`` and its children are the caller's, ``DependencyError`` is something beside us (a file, a package, a
disk), and any other exception is a bug of ours. Every error carries a ``reason`` in UPPER_SNAKE that a program can
branch on, and a message that says what was wrong and what to do. Only ``facesvc.api`` turns them into status codes.
"""


class FacesvcError(Exception):
    """Base of every error that facesvc raises on purpose."""

    reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason

    @property
    def message(self) -> str:
        """What was wrong and what to do, in words for a person."""
        return str(self)


class InputError(FacesvcError):
    """The caller sent something that cannot be used; ``field`` names it in the words of the API."""

    reason = "INVALID_INPUT"

    def __init__(self, message: str, *, field: str = "", reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.field = field


class ImageError(InputError):
    """Bytes that are no picture we can read, or one larger than the limit."""

    reason = "IMAGE_UNDECODABLE"

    def __init__(self, message: str, *, field: str = "image.data", reason: str | None = None) -> None:
        super().__init__(message, field=field, reason=reason)


class NotFoundError(InputError):
    """Something was asked for by an id that does not exist."""

    reason = "NOT_FOUND"


class AlreadyExistsError(InputError):
    """Something was created under an id that is taken."""

    reason = "ALREADY_EXISTS"


class PreconditionError(FacesvcError):
    """A sound request that the present state (pack, policy, gallery) cannot honour."""

    reason = "PRECONDITION_FAILED"


class ContractMismatchError(PreconditionError):
    """Vectors of two embedding contracts would meet."""

    reason = "EMBEDDING_CONTRACT_MISMATCH"


class UnauthenticatedError(FacesvcError):
    """Nobody knows who calls."""

    reason = "UNAUTHENTICATED"


class ForbiddenError(FacesvcError):
    """It is known who calls, and they may not."""

    reason = "FORBIDDEN"


class ExhaustedError(FacesvcError):
    """A bound was reached; ``retry_delay_s`` says when to come again."""

    reason = "LIMIT_REACHED"

    def __init__(self, message: str, *, retry_delay_s: float = 1.0, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_delay_s = retry_delay_s


class UnavailableError(FacesvcError):
    """The service cannot answer now (starting, stopping); the same call may succeed later."""

    reason = "UNAVAILABLE"


class DeadlineError(FacesvcError):
    """The caller let a time limit pass."""

    reason = "DEADLINE_EXCEEDED"


class DependencyError(FacesvcError):
    """Something beside us failed: a package, a file, a disk."""

    reason = "DEPENDENCY_FAILED"


class WeightsError(DependencyError):
    """A weight file that is missing, damaged or of another version than the one we know."""

    reason = "WEIGHTS_UNREADABLE"


class ConfigError(DependencyError):
    """A setting that cannot be used; the message names it."""

    reason = "CONFIG_INVALID"
