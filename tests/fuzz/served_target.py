"""The server as a target: the first byte says which call, the rest is what it is asked, message by message."""

import atexit
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz import nasty
from fuzz.messages import Method, message_class, methods
from fuzz.served import Served

from facesvc.models import default_pack

_MOST_MESSAGES = 20


def framed(messages: Sequence[bytes]) -> bytes:
    """Messages one after the other, each behind its length."""
    return b"".join(len(one).to_bytes(3, "big") + one for one in messages)


def _unframed(data: bytes) -> list[bytes]:
    found = []
    while data and len(found) < _MOST_MESSAGES:
        end = 3 + int.from_bytes(data[:3], "big")
        found.append(data[3:end])
        data = data[end:]
    return found


@cache
def server() -> Served:
    """One for the whole process, with the default pack built for it."""
    packs = TemporaryDirectory(prefix="facesvc-fuzz-packs-")
    atexit.register(packs.cleanup)
    default_pack.ensure(Path(packs.name))
    served = Served.in_temporary_folder(Path(packs.name))
    atexit.register(served.close)
    return served


def input_of(method: Method, messages: Sequence[bytes]) -> bytes:
    """What ``run`` takes for asking ``method``."""
    return bytes([methods().index(method)]) + framed(messages)


def asked_by(data: bytes) -> tuple[Method, list[bytes]]:
    """Any bytes as requests of a call."""
    method = methods()[data[0] % len(methods())] if data else methods()[0]
    messages = _unframed(data[1:])
    return method, messages if method.streams_in else [messages[0] if messages else b""]


def run(data: bytes) -> None:
    """Ask a server of the process for what these bytes say, over its socket."""
    server().ask(*asked_by(data))


@cache
def seeds() -> Sequence[bytes]:
    """Of each call an empty request, and one with something in each of its fields."""
    return [input_of(method, [b""]) for method in methods()] + [
        input_of(method, [_full(method)]) for method in methods()
    ]


def _full(method: Method) -> bytes:
    made = message_class(method.request)()
    for field in made.DESCRIPTOR.fields:
        if field.is_repeated:
            continue
        if field.message_type is not None:
            getattr(made, field.name).SetInParent()
            if field.message_type.name == "Image":
                getattr(made, field.name).data = nasty.small()[0]
        elif field.cpp_type == field.CPPTYPE_STRING and field.type == field.TYPE_STRING:
            setattr(made, field.name, "p1")
    return made.SerializePartialToString()
