"""The signature of a request, for who sends and for who receives. Needs the standard library only.

The header ``Facesvc-Signature`` is ``t=UNIX,v1=HEX``, as Stripe's: HMAC-SHA-256 (RFC 2104), by the secret, of the time
in the header, a full stop and the body. While a secret is exchanged there are two ``v1``, and one that fits is enough.
A receiver refuses what is older than a few minutes, so that a request that somebody recorded is worth nothing later.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable

HEADER = "Facesvc-Signature"
TOLERANCE_S = 300.0
_MAX_HEADER_LENGTH = 1024
_TIME = re.compile(r"[0-9]{1,12}")


class SignatureError(ValueError):
    """The request does not come from who has the secret, or not just now."""


def sign(body: bytes, secrets: Iterable[str], unix_s: int) -> str:
    """The header's value for a body that is sent at that time, in seconds since 1970."""
    return ",".join([f"t={unix_s}", *(f"v1={_mac(body, secret, str(unix_s))}" for secret in secrets)])


def verify(body: bytes, header: str, secrets: Iterable[str], *, now: float, tolerance_s: float = TOLERANCE_S) -> None:
    """Check the body exactly as it was received; ``header`` is ``Facesvc-Signature``, ``now`` is ``time.time()``.

    Raises ``SignatureError`` where none of the secrets made one of the signatures, or where the time of the signature
    is further than ``tolerance_s`` from now.
    """
    time, signatures = _parsed(header)
    expected = [_mac(body, secret, time).encode() for secret in secrets]
    # Bytes, since compare_digest refuses text that is not ASCII.
    if not any(hmac.compare_digest(one, given.encode()) for one in expected for given in signatures):
        raise SignatureError("the signature was not made with this secret, or the body was changed on the way")
    if abs(now - int(time)) > tolerance_s:
        raise SignatureError(f"the request was signed more than {tolerance_s:g} s from now: an old one, or a clock")


def _parsed(header: str) -> tuple[str, list[str]]:
    """The time as it stands there, and the signatures; other versions of them are passed over."""
    items = [item.partition("=") for item in header.split(",")] if len(header) <= _MAX_HEADER_LENGTH else []
    times = [value for name, _, value in items if name == "t"]
    if len(times) != 1 or not _TIME.fullmatch(times[0]):
        raise SignatureError(f"{HEADER} is missing or is not t=UNIX,v1=HEX")
    return times[0], [value for name, _, value in items if name == "v1"]


def _mac(body: bytes, secret: str, time: str) -> str:
    return hmac.new(secret.encode(), time.encode() + b"." + body, hashlib.sha256).hexdigest()
