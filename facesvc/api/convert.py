"""Records to messages and back. Times are timezone-aware UTC on our side."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf import duration_pb2, timestamp_pb2

from facesvc.errors import FacesvcError, InputError
from facesvc.gallery import Candidate, Consent, ErasureReceipt, Sample, Subject, SubjectFilter
from facesvc.stream.policy import Decision, Outcome
from facesvc.stream.recognizer import Answer
from facesvc.stream.shown import Seen
from facesvc.v1 import common_pb2, enrollment_pb2, recognition_pb2
from facesvc.vision.detection import LANDMARKS, MinimumFace
from facesvc.vision.geometry import Box
from facesvc.vision.pipeline import Analysis, Face, StageTimes
from facesvc.vision.quality import PARTS, Quality

DEFAULT_COLLECTION = "default"
MAX_FILTERS = 8
# gRPC carries a status in headers, of which all together may have 8 KB; there a letter beyond ASCII takes up to twelve.
_MAX_MESSAGE = 1000
_MAX_MESSAGE_BEYOND_ASCII = 160

_OUTCOMES = {outcome: common_pb2.Outcome.Value(f"OUTCOME_{outcome.value}") for outcome in Outcome}


def timestamp(time: datetime) -> timestamp_pb2.Timestamp:
    """A time as a message."""
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time)
    return message


def time_of(message: timestamp_pb2.Timestamp, field: str) -> datetime:
    """A message as a time. Raises ``InputError`` naming ``field`` where it is out of range."""
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError("this is not a time between the years 1 and 9999", field=field) from error


def duration(seconds: float) -> duration_pb2.Duration:
    """Seconds as a message."""
    message = duration_pb2.Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def distance(similarity: float) -> float:
    """The Euclidean distance of two unit vectors with this cosine."""
    return math.sqrt(max(0.0, 2.0 - 2.0 * similarity))


def minimum_face(options: recognition_pb2.DetectionOptions, default: MinimumFace) -> MinimumFace:
    """What a request says of the smallest face, ``default`` where it says nothing. Raises ``InputError``."""
    return MinimumFace(options.minimum_face_pixels or default.pixels, options.minimum_face_fraction or default.fraction)


def max_faces(options: recognition_pb2.DetectionOptions, limit: int) -> int:
    """How many faces a request wants. Raises ``InputError`` for a negative number."""
    if options.max_faces < 0:
        raise InputError(
            f"must be 0 (the limit of {limit}) or more, not {options.max_faces}", field="options.max_faces"
        )
    return min(options.max_faces or limit, limit)


def item_error(error: FacesvcError) -> common_pb2.ItemError:
    """What was wrong with one item of a stream."""
    field = error.field if isinstance(error, InputError) else ""
    return common_pb2.ItemError(reason=error.reason, message=shortened(error.message), field=field)


def shortened(message: str) -> str:
    """A message as long as a status can carry; it may repeat what the caller sent."""
    most = _MAX_MESSAGE if message.isascii() else _MAX_MESSAGE_BEYOND_ASCII
    return message if len(message) <= most else f"{message[:most]}..."


def box(record: Box, width: float = 1.0, height: float = 1.0) -> common_pb2.BoundingBox:
    """A box in units of ``width`` and ``height``."""
    return common_pb2.BoundingBox(
        left=record.left / width, top=record.top / height, width=record.width / width, height=record.height / height
    )


def quality(record: Quality) -> common_pb2.Quality:
    """A quality as a message."""
    return common_pb2.Quality(
        score=record.score,
        face_pixels=record.face_pixels,
        sharpness=record.sharpness,
        brightness=record.brightness,
        yaw_degrees=record.yaw,
        pitch_degrees=record.pitch,
        roll_degrees=record.roll,
        parts=common_pb2.QualityParts(**{name: getattr(record.parts, name) for name in PARTS}),
    )


def face(record: Face, width: int, height: int) -> common_pb2.Face:
    """A face of a picture of that size."""
    points = {
        name: common_pb2.Point(x=float(x), y=float(y))
        for name, (x, y) in zip(LANDMARKS, record.detection.landmarks, strict=True)
    }
    return common_pb2.Face(
        box=box(record.detection.box),
        normalized_box=box(record.detection.box, width, height),
        landmarks=common_pb2.Landmarks(**points),
        detection_score=record.detection.score,
        quality=quality(record.quality),
    )


def faces(analysis: Analysis) -> list[common_pb2.Face]:
    """All faces of a picture."""
    return [face(record, analysis.width, analysis.height) for record in analysis.faces]


def timings(times: StageTimes, wait_s: float, total_s: float) -> common_pb2.Timings:
    """Where the time went, in seconds."""
    stages = {stage: duration(seconds) for stage, seconds in times.seconds.items()}
    return common_pb2.Timings(wait=duration(wait_s), total=duration(total_s), **stages)


def candidate(record: Candidate, *, ids: bool = True) -> common_pb2.Candidate:
    """A candidate, with the distance that belongs to the similarity, and with its ids elsewhere."""
    return common_pb2.Candidate(
        subject_id=record.subject_id,
        display_name=record.display_name,
        similarity=record.similarity,
        distance=distance(record.similarity),
        external_ids=record.external_ids if ids else None,
        sample_id=record.sample_id,
    )


def decision(record: Decision, max_candidates: int, clock: float) -> common_pb2.Decision:
    """A decision with at most ``max_candidates`` candidates, as it stands at ``clock``."""
    return common_pb2.Decision(
        decision_id=record.decision_id,
        outcome=_OUTCOMES[record.outcome],
        subject=candidate(record.subject) if record.subject else None,
        candidates=[candidate(one, ids=False) for one in record.candidates[:max_candidates]],
        threshold=record.policy.threshold,
        false_match_rate=record.policy.false_match_rate,
        policy=record.policy.name,
        capture_time=timestamp(record.capture_time),
        decision_time=timestamp(record.decision_time),
        expire_time=timestamp(record.expire_time),
        low_quality_reason=record.low_quality_reason,
        valid_for=duration(record.valid_for(clock)),
        frames_looked_at=record.frames_looked_at,
        frames_agreeing=record.frames_agreeing,
        settled=record.settled,
        liveness=liveness(record),
    )


def liveness(record: Decision) -> common_pb2.Liveness | None:
    """What a liveness model made of a face; None where none did."""
    if record.liveness is None:
        return None
    return common_pb2.Liveness(
        score=record.liveness.score,
        frames_looked_at=record.liveness.frames,
        threshold=record.policy.liveness_threshold,
    )


def recognized_faces(answer: Answer, max_candidates: int, clock: float) -> list[recognition_pb2.RecognizedFace]:
    """Each face of a picture with its decision, sent at ``clock``."""
    analysis = answer.analysis
    return [
        recognition_pb2.RecognizedFace(
            face=face(record, analysis.width, analysis.height), decision=decision(made, max_candidates, clock)
        )
        for record, made in answer.faces
    ]


def followed_faces(seen: Seen, max_candidates: int, clock: float) -> list[recognition_pb2.RecognizedFace]:
    """Each face of a frame of a stream with its track and the decision that holds, sent at ``clock``."""
    return [
        recognition_pb2.RecognizedFace(
            face=face(one.face, seen.width, seen.height),
            decision=decision(one.decision, max_candidates, clock) if one.decision else None,
            track=recognition_pb2.Track(
                track_id=one.track.track_id,
                start_time=timestamp(one.track.start.time),
                predicted=one.predicted,
                velocity_x=one.track.motion.right,
                velocity_y=one.track.motion.down,
            ),
        )
        for one in seen.faces
    ]


def subject(record: Subject) -> enrollment_pb2.Subject:
    """A person as a message."""
    return enrollment_pb2.Subject(
        collection_id=record.collection_id,
        subject_id=record.subject_id,
        display_name=record.display_name,
        external_ids=record.external_ids,
        metadata=record.metadata,
        consent=_consent(record.consent) if record.consent else None,
        disabled=not record.enabled,
        create_time=timestamp(record.create_time),
        update_time=timestamp(record.update_time),
        sample_count=record.sample_count,
    )


def subject_of(message: enrollment_pb2.Subject, now: datetime) -> Subject:
    """A message as a person whose record is made ``now``. Raises ``InputError`` naming the field."""
    return Subject(
        collection_id=message.collection_id or DEFAULT_COLLECTION,
        subject_id=message.subject_id,
        display_name=message.display_name,
        external_ids=dict(message.external_ids),
        metadata=dict(message.metadata),
        consent=_consent_of(message.consent) if message.HasField("consent") else None,
        enabled=not message.disabled,
        create_time=now,
        update_time=now,
    )


def _consent(record: Consent) -> enrollment_pb2.Consent:
    return enrollment_pb2.Consent(
        purpose=record.purpose,
        given_time=timestamp(record.given_time),
        expire_time=timestamp(record.expire_time) if record.expire_time else None,
    )


def _consent_of(message: enrollment_pb2.Consent) -> Consent:
    expire_time = (
        time_of(message.expire_time, "subject.consent.expire_time") if message.HasField("expire_time") else None
    )
    return Consent(message.purpose, time_of(message.given_time, "subject.consent.given_time"), expire_time)


def sample(record: Sample) -> enrollment_pb2.Sample:
    """A sample, without its vector."""
    return enrollment_pb2.Sample(
        sample_id=record.sample_id,
        collection_id=record.collection_id,
        subject_id=record.subject_id,
        quality=record.quality,
        source=record.source,
        create_time=timestamp(record.create_time),
    )


def samples(records: Iterable[Sample]) -> list[enrollment_pb2.Sample]:
    """Samples, without their vectors."""
    return [sample(record) for record in records]


def filters_of(filters: Sequence[common_pb2.SubjectFilter]) -> tuple[SubjectFilter, ...]:
    """Whom a request is about. Raises ``InputError``."""
    if len(filters) > MAX_FILTERS:
        raise InputError(f"there are {len(filters)} filters, at most {MAX_FILTERS} are allowed", field="filters")
    return tuple(SubjectFilter(one.key, tuple(one.values)) for one in filters)


def receipt(record: ErasureReceipt) -> enrollment_pb2.ErasureReceipt:
    """The proof of an erasure."""
    return enrollment_pb2.ErasureReceipt(
        receipt_id=record.receipt_id,
        collection_id=record.collection_id,
        subject_id=record.subject_id,
        sample_ids=record.sample_ids,
        erase_time=timestamp(record.erase_time),
        event_count=record.event_count,
        crop_count=record.crop_count,
        plugin_note_count=record.plugin_note_count,
        backup_names=record.backup_names,
        unreached_backups=record.unreached_backups,
        box_ids=record.box_ids,
        document=record.document,
        signature=record.signature,
        public_key=record.public_key,
    )
