"""Events as CloudEvents 1.0 in JSON, structured mode: the whole event is the body of the request.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

import json
from datetime import datetime

from pydantic import JsonValue

from facesvc.events.outside import as_json, kind_of, rfc3339
from facesvc.events.records import Event

CONTENT_TYPE = "application/cloudevents+json"


def encode(event: Event, *, source: str, type_prefix: str, names: bool) -> bytes:
    """An event; its ``id`` is the same however often it is sent."""
    return _encode(
        as_json(event, names=names),
        event_id=event.event_id,
        source=source,
        event_type=f"{type_prefix}.{kind_of(event)}",
        time=event.event_time,
        subject=event.about,
    )


def encode_test(test_id: str, time: datetime, *, source: str, type_prefix: str) -> bytes:
    """One that says nothing of anybody, only whether it arrives."""
    return _encode(
        {"kind": "test"}, event_id=test_id, source=source, event_type=f"{type_prefix}.test", time=time, subject=""
    )


def _encode(data: JsonValue, *, event_id: str, source: str, event_type: str, time: datetime, subject: str) -> bytes:
    envelope: dict[str, JsonValue] = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": event_type,
        "time": rfc3339(time),
        # The attribute may be missing, but not be empty.
        **({"subject": subject} if subject else {}),
        "datacontenttype": "application/json",
        "data": data,
    }
    return json.dumps(envelope, separators=(",", ":"), allow_nan=False).encode()
