"""The limits of a token, held against each message of its calls: which cameras and which galleries it may name."""

from collections.abc import Iterator

from google.protobuf.message import Message

from facesvc.api.convert import DEFAULT_COLLECTION
from facesvc.errors import ForbiddenError
from facesvc.security.principals import Principal

# Where an empty gallery means all of them, and not the default one.
_OF_ALL = ("ListPresenceRequest", "WatchEventsRequest", "ListEventsRequest")
_DEPTH = 3


def check(caller: Principal, message: Message) -> None:
    """Raises ``ForbiddenError`` for a camera or gallery that the caller's token does not have."""
    for part in _parts(message, _DEPTH):
        fields = part.DESCRIPTOR.fields_by_name
        if "collection_id" in fields and caller.scope.collection_ids:
            _check_collection(caller, part)
        if "camera_id" in fields and not caller.scope.has_camera(getattr(part, "camera_id")):  # noqa: B009 - of any message
            own = ", ".join(sorted(caller.scope.camera_ids))
            raise ForbiddenError(f"{caller.name} is for the cameras {own} only", reason="WRONG_CAMERA")


def _check_collection(caller: Principal, message: Message) -> None:
    named: str = getattr(message, "collection_id")  # noqa: B009 - of any message
    if not named and message.DESCRIPTOR.name not in _OF_ALL:
        named = DEFAULT_COLLECTION
    if not caller.scope.has_collection(named):
        own = ", ".join(sorted(caller.scope.collection_ids))
        raise ForbiddenError(f"{caller.name} is for the galleries {own} only: name one", reason="WRONG_COLLECTION")


def _parts(message: Message, depth: int) -> Iterator[Message]:
    """A message and those within it; also such as are not set, and stand for their defaults, but for alternatives."""
    yield message
    if not depth:
        return
    for field in message.DESCRIPTOR.fields:
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        value = getattr(message, field.name)
        if field.is_repeated:
            for one in value:
                yield from _parts(one, depth - 1)
        elif field.containing_oneof is None or message.HasField(field.name):
            yield from _parts(value, depth - 1)
