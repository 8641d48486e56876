"""How what a server said of a video agrees with what is known of it: names, tracks and events as rows."""

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from facesvc.cli import tracking_scores
from facesvc.cli.bench_streams_cameras import Recording
from facesvc.cli.bench_streams_report import Row, at_least, at_most, plain
from facesvc.cli.footage import Footage
from facesvc.cli.tracking_scores import Happening
from facesvc.v1 import presence_pb2

_NAMED_S, _SWITCHES_A_MINUTE = 0.5, 1.0
# An event may be so late, or so early.
_TOLERANCE_S = 1.5
# So many of what is wrong are named in a row.
_NAMED = 5


def followed(name: str, footage: Footage, recording: Recording, enrolled: frozenset[str]) -> Iterator[Row]:
    """Names and tracks, over the frames that were answered."""
    answers, minutes = recording.answers(), len(footage.frames) / footage.take.fps / 60
    tracks = tracking_scores.tracks(footage.truth, answers)
    seen = tracking_scores.tracks(footage.truth, recording.answers(looks=True))
    names = tracking_scores.names(footage.truth, answers, enrolled)
    naming = tracking_scores.naming(footage.truth, answers, enrolled, footage.take.fps)
    never = _some(naming.never, "never: ")
    yield at_least(name, f"people named{never}", naming.named, naming.named + len(naming.never), "{:.0f}")
    yield plain(name, "time to the name p50, s", naming.p50_s)
    yield at_most(name, "time to the name, longest, s", naming.longest_s, _NAMED_S)
    wrong = _some([f"{given} on {person}" for person, given in names.wrong], "")
    yield at_most(name, f"wrong names{wrong}", len(names.wrong), 0, "{:.0f}")
    yield plain(name, "precision of names", names.precision, "{:.2%}")
    yield plain(name, "recall of names", names.recall, "{:.2%}")
    # A face is given its track when it is looked at; in between, boxes of two who cross may lie on each other's faces.
    switched = _some([f"{person} at {frame / footage.take.fps:.1f}" for frame, person in seen.switches], "")
    yield at_most(name, f"id switches a minute{switched}", len(seen.switches) / minutes, _SWITCHES_A_MINUTE, "{:.1f}")
    yield plain(name, "the same with predicted boxes", len(tracks.switches) / minutes, "{:.1f}")
    yield plain(name, "IDF1", tracks.idf1, "{:.2%}")
    yield plain(name, "IDF1 of frames that were looked at", seen.idf1, "{:.2%}")
    yield plain(name, "faces found", tracks.recall, "{:.2%}")
    yield plain(name, "faces found in frames that were looked at", seen.recall, "{:.2%}")
    yield plain(name, "boxes on a face", tracks.precision, "{:.2%}")
    yield plain(name, "named boxes off their face", names.adrift, "{:.2%}")


def told(name: str, footage: Footage, enrolled: frozenset[str], got: Sequence[Happening]) -> Iterator[Row]:
    """Events, each paired with the one that should have been told."""
    scored = tracking_scores.events(expected(footage, enrolled), got, _TOLERANCE_S)
    extra, missing = _some(map(_worded, scored.extra), "too much: "), _some(map(_worded, scored.missing), "missing: ")
    yield plain(name, f"precision of events{extra}", scored.precision, "{:.1%}")
    yield plain(name, f"recall of events{missing}", scored.recall, "{:.1%}")


def expected(footage: Footage, enrolled: frozenset[str]) -> list[Happening]:
    """What should be told of a video in which nobody comes twice: arrivals and leavings by when somebody was there."""
    seen: dict[str, list[float]] = {}
    for number, faces in enumerate(footage.truth):
        for face in faces:
            if face.counts:
                seen.setdefault(face.person, []).append(number / footage.take.fps)
    events = []
    for person, times in seen.items():
        if person in enrolled:
            kinds = {"seen": times[0], "arrived": times[0], "left": times[-1]}
            events += [Happening(kind, person, at) for kind, at in kinds.items()]
        else:
            events.append(Happening("unknown_person", "", times[0]))
    return events


def happening(event: presence_pb2.Event, begun: float) -> Happening:
    """An event of a video that began at ``begun``, in seconds of the time of day."""
    match event.WhichOneof("payload"):
        case "seen":
            return _at("seen", event.seen.decision.subject.subject_id, event.event_time, begun)
        case "arrived":
            return _at("arrived", event.arrived.subject_id, event.arrived.arrive_time, begun)
        case "left":
            return _at("left", event.left.subject_id, event.left.leave_time, begun)
        case kind:
            return _at(kind or "", "", event.event_time, begun)


def _at(kind: str, person: str, when: Timestamp, begun: float) -> Happening:
    return Happening(kind, person, when.ToNanoseconds() / 1e9 - begun)


def _worded(one: Happening) -> str:
    return f"{one.kind} {one.person or 'somebody'} at {one.at_s:.1f}"


def _some(texts: Iterable[str], what: str) -> str:
    """The first few, for a row that is to be understood."""
    named = list(texts)
    more = ["..."] if len(named) > _NAMED else []
    return f" ({what}{', '.join(named[:_NAMED] + more)})" if named else ""
