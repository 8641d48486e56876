"""Who is told what: the one place that takes out of an answer what its reader is not to know.

=====================  ==========  ====  ============  ===========  ==========  =================================
role                   subject_id  name  external_ids  sample ids   similarity  events
=====================  ==========  ====  ============  ===========  ==========  =================================
camera                 no          no    no            no           in steps    none
camera, with names     yes         yes   yes           no           in steps    none
door                   yes         no    card_number   no           in steps    seen, unknown_person, spoof_attempt
dashboard              yes         yes   yes           no           in steps    all
enroller               yes         yes   yes           yes          in steps    none
admin                  yes         yes   yes           yes          as it is    all
=====================  ==========  ====  ============  ===========  ==========  =================================

Everybody who is limited to cameras (``Scope.camera_ids``) is told of what these have seen, and of nothing else.

**In steps**: who may not export templates learns of a similarity only whether it reaches the threshold: it is rounded
down to the threshold, or else to -1, and candidates below the threshold are left out. A grid is not enough: whoever
asks 10,000 times about faces of their own choice, and is told each similarity to the next 0.1, has the template
afterwards (a cosine of 0.96 to it), by nothing but a weighted mean of these faces, over which the rounding averages
out. Nor may the order of answers say which of two faces is nearer, for that is a similarity, too: candidates and the
findings about a gallery come by their ids, and of more than were asked for the first by these. So there is no hill to
climb from below the threshold; ``tests/api/test_hill_climb.py`` has the figures.

What remains: a match says who of those that reach the threshold is the likest, and a finding names their likest
samples. Who has passed for somebody already can still feel their way along the threshold; a conflict upon enrolment
says yes or no about a face, and so does the word that a sample is hardly like the others. Against these stand
``limits.probes_per_second`` and ``probes_per_day``, an end after so many conflicts, and the audit log. The score of a
liveness model is told as it is: it says nothing of who somebody is, but who makes masks can climb by it. A list of
events says nothing of those that are not told (``past``); the tokens of a watch count them, and move when they happen.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from facesvc.api import convert
from facesvc.security.principals import Principal
from facesvc.security.roles import Role
from facesvc.v1 import admin_pb2, common_pb2, enrollment_pb2, presence_pb2, recognition_pb2

BELOW = -1.0
"""What those are told for whom similarities are rounded, where the threshold is not reached: the least there is."""
_DECISIONS = frozenset({"seen", "unknown_person", "spoof_attempt"})
_ADVICE = {
    enrollment_pb2.FINDING_KIND_UNLIKE_OTHERS: "{0}: samples are not like the others of this person. Look whether they"
    " show somebody else, or nobody",
    enrollment_pb2.FINDING_KIND_ALIKE: "{0} and {1} look like one person. If they are one: `facesvc subjects merge {0}"
    " {1}`; if not, such as twins, searches find them AMBIGUOUS: add good pictures of both",
}


@dataclass(frozen=True, slots=True)
class Told:
    """A row of the table: what somebody is told of people. ``external_ids`` and ``events``: None means all of them."""

    subject_id: bool = False
    name: bool = False
    external_ids: frozenset[str] | None = frozenset()
    samples: bool = False
    exact: bool = False
    events: frozenset[str] | None = frozenset()

    def similarity(self, value: float, threshold: float) -> float:
        """A cosine as it may be told: not less than ``threshold`` exactly where the value is not."""
        if self.exact:
            return value
        return threshold if value >= threshold else BELOW


NOTHING = Told()
_NAMES = Told(subject_id=True, name=True, external_ids=None)
_TABLE = {
    Role.CAMERA: NOTHING,
    Role.DOOR: Told(subject_id=True, external_ids=frozenset({"card_number"}), events=_DECISIONS),
    Role.DASHBOARD: Told(subject_id=True, name=True, external_ids=None, events=None),
    Role.ENROLLER: Told(subject_id=True, name=True, external_ids=None, samples=True),
    Role.AUDITOR: NOTHING,
    Role.ADMIN: Told(subject_id=True, name=True, external_ids=None, samples=True, exact=True, events=None),
}


def told(caller: Principal) -> Told:
    """What a caller is told."""
    return _NAMES if caller.role is Role.CAMERA and caller.scope.names else _TABLE[caller.role]


def faces(caller: Principal, messages: Iterable[recognition_pb2.RecognizedFace], max_candidates: int) -> None:
    """Take out of recognised faces what the caller is not to know, and candidates beyond so many."""
    for message in messages:
        if message.HasField("decision"):
            _decision(told(caller), message.decision)
            del message.decision.candidates[max_candidates:]


def event(caller: Principal, message: presence_pb2.Event) -> bool:
    """Whether the caller is told of an event; if so, what they are not to know is taken out of it."""
    known, kind = told(caller), message.WhichOneof("payload")
    if kind is None or not (known.events is None or kind in known.events):
        return False
    happened = getattr(message, kind)
    # What a plugin found out was seen by no camera.
    if not caller.scope.has_camera(getattr(happened, "camera_id", "")):
        return False
    if kind in _DECISIONS:
        _decision(known, happened.decision)
    return True


def finding(caller: Principal, message: enrollment_pb2.CheckGalleryResponse) -> enrollment_pb2.CheckGalleryResponse:
    """A doubt about a gallery, with its numbers only for those who may know them."""
    if not told(caller).exact and message.kind in _ADVICE:
        message.ClearField("similarity")
        message.ClearField("false_match_rate")
        message.message = _ADVICE[message.kind].format(message.subject_id, message.other_subject_id)
    return message


def server_info(caller: Principal, message: admin_pb2.GetServerInfoResponse) -> admin_pb2.GetServerInfoResponse:
    """What runs here, with the galleries that the caller has to do with; cameras and doors have with none."""
    shown = [
        one
        for one in message.collections
        if caller.role not in {Role.CAMERA, Role.DOOR} and caller.scope.has_collection(one.collection_id)
    ]
    del message.collections[:]
    message.collections.extend(shown)
    if caller.role in {Role.CAMERA, Role.DOOR} or caller.scope.collection_ids:
        # How many people there are in the others.
        message.model_pack.ClearField("embedded_sample_count")
        for policy in message.policies:
            policy.ClearField("false_positive_identification_rate")
    return message


def statistics(caller: Principal, message: admin_pb2.GetStatisticsResponse) -> admin_pb2.GetStatisticsResponse:
    """What was done, with the streams of the caller's cameras, and the plugins for who looks after the box."""
    shown = [one for one in message.streams if caller.scope.has_camera(one.camera_id)]
    del message.streams[:]
    message.streams.extend(shown)
    if caller.role not in {Role.AUDITOR, Role.ADMIN}:
        # What a plugin says of its troubles may be anything, also about people.
        del message.plugins[:]
    return message


def _decision(known: Told, message: common_pb2.Decision) -> None:
    if known.exact:
        return
    shown = [one for one in message.candidates if known.subject_id and one.similarity >= message.threshold]
    # The order says who is the likest; that may be known of the subject alone.
    likest = message.subject.subject_id
    del message.candidates[:]
    message.candidates.extend(sorted(shown, key=lambda one: (one.subject_id != likest, one.subject_id)))
    if not known.subject_id:
        message.ClearField("subject")
    for candidate in (*message.candidates, *([message.subject] if message.HasField("subject") else ())):
        _candidate(known, candidate, message.threshold)


def _candidate(known: Told, message: common_pb2.Candidate, threshold: float) -> None:
    message.similarity = known.similarity(message.similarity, threshold)
    message.distance = convert.distance(message.similarity)
    if not known.name:
        message.ClearField("display_name")
    if not known.samples:
        message.ClearField("sample_id")
    if known.external_ids is not None:
        for key in set(message.external_ids) - known.external_ids:
            del message.external_ids[key]
