"""Any message of the API, built from its descriptor out of values that stand at an edge; and the list of all calls.

Nothing here names a call or a message: what is added to the API is found by its descriptor.
"""

import base64
import importlib
import json
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from fuzz import nasty
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import strategies as st

import facesvc.v1
from facesvc.api.paging import _question

_DEPTH = 4
_SMALL = 200  # characters of what is repeated hundreds of times

TEXTS = (
    *("", "default", "p1", "p2", "new", "presence", "access", "entry", "a" * 129, "b" * 70_000),
    *(
        "\0",
        "a\0b",
        "\n",
        "\r\n",
        "\t",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\u202eabc",
        "\u200b",
        "\ufeff",
        "\uffff",
        "\u2028",
    ),
    *("../../etc/passwd", "..", "/", "=cmd|' /C calc'!A0", "%s%n", "{0}", "<b>", "'; --", "*", "name", "-1", "1e999"),
    *("é", "é", "\N{FOX FACE}" * 40, "\U0010ffff", "\N{ARABIC LIGATURE BISMILLAH AR-RAHMAN AR-RAHEEM}" * 99),
    *("01J00000000000000000000000", "ZZZZZZZZZZZZZZZZZZZZZZZZZZ", "0" * 26, "subject.display_name", "grpc.health.v1"),
)
"""Names, ids and tokens as nobody should write them; ``p1`` and ``p2`` are enrolled."""

# What a well-meant request says, so that hostile values reach what lies behind the first check.
TAME_TEXTS = {
    "collection_id": ("", "", "default"),
    "subject_id": ("p1", "p2"),
    "policy": ("", "presence"),
    "page_token": ("",),
    "resume_token": ("",),
    "name": ("made", "new", "default"),
    "paths": ("display_name", "metadata", "external_ids", "consent", "disabled"),
    "time_zone": ("", "UTC"),
    "reason": ("NO_PERMISSION",),
}
TAME_NUMBERS = {"minimum_face_pixels": 40, "minimum_face_fraction": 0.1, "seconds": 1_700_000_000}
_TAME_NUMBERS = (0, 0, 1, 2, 0.5)

_WHOLE = (0, 1, -1, 2, 3, 16, 999, 1000, 1001, 10**6, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
TIMES = (1_700_000_000, 253_402_300_799, 253_402_300_800, -62_135_596_800, -62_135_596_801)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, 1e-6, 24.0, 40.0, 5e-324, 1e308, 3.5e38, float("nan"), float("inf"))
_NUMBERS = (*_FLOATS, -float("inf"), -1e308)

INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


@dataclass(frozen=True, slots=True)
class Method:
    """A call: its path, what it is asked with, and whether that comes, and is answered, in a stream."""

    path: str
    request: Descriptor
    streams_in: bool
    streams_out: bool


@cache
def methods() -> tuple[Method, ...]:
    """Every call that the server answers, sorted by path."""
    return tuple(
        Method(f"/{service.full_name}/{one.name}", one.input_type, one.client_streaming, one.server_streaming)
        for service in sorted(_services(), key=lambda service: service.full_name)
        for one in service.methods
    )


def _services() -> Iterator[ServiceDescriptor]:
    for module in pkgutil.iter_modules(facesvc.v1.__path__, "facesvc.v1."):
        if module.name.endswith("_pb2"):
            yield from importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()
    yield health_pb2.DESCRIPTOR.services_by_name["Health"]
    yield reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


def message_class(descriptor: Descriptor) -> type[Message]:
    """The class of a message."""
    return message_factory.GetMessageClass(descriptor)


def requests(method: Method) -> st.SearchStrategy[list[bytes]]:
    """What a call may be asked with, as it goes over the wire."""
    one = messages(method.request).map(lambda message: message.SerializePartialToString())
    return st.lists(one, max_size=5) if method.streams_in else one.map(lambda data: [data])


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = _DEPTH) -> Message:
    """A message with some of its fields set."""
    made = message_class(descriptor)()
    wildness = draw(st.sampled_from((0, 0, 1, 2, 5)))  # in fifths of the fields
    share = draw(st.sampled_from((3, 9)))  # in tenths of the fields
    chosen = {one.full_name: draw(st.sampled_from(tuple(one.fields))).name for one in descriptor.oneofs}
    for field in descriptor.fields:
        if chosen.get(field.containing_oneof.full_name if field.containing_oneof else "", field.name) != field.name:
            continue
        if draw(st.integers(0, 9)) < share and (depth or field.message_type is None):
            _set(draw, made, field, depth, is_wild=draw(st.integers(0, 4)) < wildness)
    if "page_token" in descriptor.fields_by_name and draw(st.booleans()):
        made.page_token = draw(_page_tokens(made))  # type: ignore[attr-defined]  # it was just found to have one
    return made


def _set(draw: st.DrawFn, made: Message, field: FieldDescriptor, depth: int, *, is_wild: bool) -> None:
    own = getattr(made, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        for _ in range(draw(st.integers(1, 3))):
            name = draw(_values(key, depth, is_wild))
            if value.message_type is None:
                own[name] = draw(_values(value, depth, is_wild))
            else:
                own[name].CopyFrom(draw(_values(value, depth, is_wild)))
    elif field.is_repeated:
        one = draw(st.lists(_values(field, depth, is_wild), min_size=1, max_size=3))
        is_small = sum(len(str(value)) for value in one) < _SMALL
        own.extend(one * (draw(st.sampled_from((1, 1, 1, 3, 400))) if is_small else 1))
    elif field.message_type is not None:
        own.CopyFrom(draw(_values(field, depth, is_wild)))
    else:
        setattr(made, field.name, draw(_values(field, depth, is_wild)))


def _values(field: FieldDescriptor, depth: int, is_wild: bool) -> st.SearchStrategy[Any]:  # noqa: FBT001, PLR0911 - as drawn; one a kind
    """One value of a field."""
    if field.message_type is not None:
        return messages(field.message_type, depth - 1)
    if field.enum_type is not None:
        return st.sampled_from([*(value.number for value in field.enum_type.values), 99, -1])
    if not is_wild and field.name in TAME_NUMBERS:
        return st.just(TAME_NUMBERS[field.name])
    if not is_wild and field.type in _TAME:
        return _TAME[field.type]
    if not is_wild and field.type == FieldDescriptor.TYPE_STRING:
        return st.sampled_from(TAME_TEXTS.get(field.name, ("p1", "p2", "lobby")))
    if field.type in INTEGERS:
        low, high = INTEGERS[field.type]
        edges = TIMES if field.name == "seconds" else _WHOLE
        return st.sampled_from([one for one in edges if low <= one <= high]) | st.integers(low, high)
    return _SCALARS[field.type]


def _vector(values: int, fill: float) -> bytes:
    return np.full(values, fill, "<f4").tobytes()


@cache
def _contents() -> st.SearchStrategy[bytes]:
    """Bytes as a field may hold them: pictures, vectors, anything."""
    vectors = [_vector(128, fill) for fill in (1, 0, float("nan"), float("inf"), 1e38)] + [_vector(3, 1), b"\0" * 511]
    return st.sampled_from([*nasty.small(), *vectors]) | st.binary(max_size=64)


_SCALARS: Mapping[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_FLOAT: st.sampled_from(_NUMBERS) | st.floats(width=32),
    FieldDescriptor.TYPE_DOUBLE: st.sampled_from(_NUMBERS) | st.floats(),
    FieldDescriptor.TYPE_STRING: st.sampled_from(TEXTS) | st.text(max_size=20),
    FieldDescriptor.TYPE_BYTES: st.deferred(lambda: st.one_of(_contents())),
}
_TAME: Mapping[int, st.SearchStrategy[Any]] = {
    **dict.fromkeys(INTEGERS, st.integers(0, 5)),
    FieldDescriptor.TYPE_FLOAT: st.sampled_from(_TAME_NUMBERS),
    FieldDescriptor.TYPE_DOUBLE: st.sampled_from(_TAME_NUMBERS),
    FieldDescriptor.TYPE_BYTES: st.deferred(lambda: st.sampled_from((nasty.small()[0], _vector(128, 1)))),
}


def _page_tokens(request: Message) -> st.SearchStrategy[str]:
    """Tokens that belong to the question, with keys that no list gave out."""
    keys = st.sampled_from([*TEXTS[:12], "\ud800", *_WHOLE, 10**30, None, 1.5]) | st.text(max_size=8)
    return st.lists(keys, max_size=3).map(
        lambda key: base64.urlsafe_b64encode(json.dumps([_question(request), *key]).encode()).decode()
    )
