"""Every field of every request at each of its edges, one at a time, while all the others are as they should be."""

from collections.abc import Iterator
from typing import Any

from fuzz import messages, nasty
from fuzz.messages import Method, message_class
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_DEPTH = 4
_TEXTS = ("", "\0", "a" * 129, "b" * 70_000, "\x1b[31m", "\u202ea", "../..", "*", "Z" * 26, "\U0010ffff")
_FLOATS = (float("nan"), float("inf"), -float("inf"), -1.0, 1e308, 5e-324, 0.0)


def requests(method: Method) -> Iterator[list[bytes]]:
    """What to ask, one after the other."""
    whole = tame(method.request)
    first = [whole.SerializePartialToString()] if method.streams_in else []
    yield [whole.SerializePartialToString()]
    for path in _paths(method.request, _DEPTH):
        for value in _values(path[-1]):
            changed = message_class(method.request)()
            changed.CopyFrom(whole)
            _put(changed, path, value)
            yield [*first, changed.SerializePartialToString()]


def tame(descriptor: Descriptor, depth: int = _DEPTH) -> Message:
    """A message with something sensible in each field; of those that exclude each other in the first."""
    made = message_class(descriptor)()
    for field in reversed(descriptor.fields):
        if depth or field.message_type is None:
            _put(made, (field,), _tame(field, depth))
    for name in ("expire_time", "end_time"):  # they come after others
        if name in descriptor.fields_by_name:
            getattr(made, name).seconds = 4_000_000_000
    return made


def _tame(field: FieldDescriptor, depth: int) -> Any:
    if field.message_type is not None:
        return tame(field.message_type, depth - 1)
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.type == FieldDescriptor.TYPE_STRING:
        return messages.TAME_TEXTS.get(field.name, ("p1",))[-1]
    if field.type == FieldDescriptor.TYPE_BYTES:
        return nasty.small()[0]
    if field.type == FieldDescriptor.TYPE_BOOL:
        return False
    return messages.TAME_NUMBERS.get(field.name, 1)


def _paths(descriptor: Descriptor, depth: int) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The way to each value."""
    for field in descriptor.fields:
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            yield (field,)
        elif depth:
            yield from ((field, *path) for path in _paths(field.message_type, depth - 1))


def _put(made: Message, path: tuple[FieldDescriptor, ...], value: Any) -> None:
    """Set the value at the end of a path, in the first of those that are repeated."""
    field, own = path[0], getattr(made, path[0].name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, content = value if isinstance(value, tuple) else ("team", "a")
        if field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING:
            own[key] = content
    elif len(path) > 1:
        _put((own[0] if own else own.add()) if field.is_repeated else own, path[1:], value)
    elif field.is_repeated:
        del own[:]
        own.append(value)
    elif field.message_type is not None:
        own.CopyFrom(value)
    else:
        setattr(made, field.name, value)


def _values(field: FieldDescriptor) -> list[Any]:
    if field.message_type is not None:
        return [(text, "a") for text in _TEXTS] + [("team", text) for text in _TEXTS]
    if field.enum_type is not None:
        return [*(value.number for value in field.enum_type.values), 99, -1]
    if field.type in messages.INTEGERS:
        low, high = messages.INTEGERS[field.type]
        return [one for one in {low, -1, 0, 1, 1001, high, *messages.TIMES} if low <= one <= high]
    if field.type == FieldDescriptor.TYPE_BOOL:
        return [True, False]
    if field.type == FieldDescriptor.TYPE_STRING:
        return list(_TEXTS)
    return list(nasty.small()) if field.type == FieldDescriptor.TYPE_BYTES else list(_FLOATS)
