"""A picture on its way into the gallery."""

import hashlib

from ulid import ULID

from facesvc.api import convert
from facesvc.api.checkup import unlike_similarity
from facesvc.api.disclosure import NOTHING, Told
from facesvc.api.engines import Engine
from facesvc.api.naming import name_of
from facesvc.api.question import check_size
from facesvc.api.service import Service
from facesvc.errors import ContractMismatchError, ImageError, InputError, PreconditionError
from facesvc.gallery import DuplicateImageError, IdentityConflictError, Sample, Subject
from facesvc.gallery.records import check_text
from facesvc.v1 import enrollment_pb2
from facesvc.vision.detection import MinimumFace
from facesvc.vision.fitness import Bar, Verdict, judge
from facesvc.vision.pipeline import Analysis, Face

# Enrolment looks for faces half as wide as it accepts, so that it can say "too small" instead of "none".
_SEARCHED_SHARE = 0.5
# Between the change of the gallery and that of the engine lie microseconds.
_REPLACEMENT_TIMEOUT_S = 10.0

_VERDICTS: dict[Verdict, enrollment_pb2.EnrollmentVerdict.ValueType] = {
    verdict: enrollment_pb2.EnrollmentVerdict.Value(f"ENROLLMENT_VERDICT_{verdict.value}")
    for verdict in Verdict
    if verdict is not Verdict.FIT
}


class Enrolment:
    """One picture of one person on its way into the gallery, in a worker thread."""

    def __init__(
        self, service: Service, request: enrollment_pb2.EnrollSamplesRequest, actor: str, told: Told = NOTHING
    ) -> None:
        self._service = service
        self._request = request
        self._actor = actor
        self._told = told

    def answer(self) -> enrollment_pb2.EnrollSamplesResponse:
        """The verdict; a request that is wrong in itself gives an error instead."""
        try:
            check_size(self._service, self._request.image.data, "image.data")
            check_text(self._request.source, "source")
            return self._enrol(self._service.gallery.get_subject(*name_of(self._request)))
        except ImageError as error:
            return _response(enrollment_pb2.ENROLLMENT_VERDICT_UNDECODABLE, error.message)
        except DuplicateImageError as error:
            return _response(enrollment_pb2.ENROLLMENT_VERDICT_DUPLICATE_IMAGE, error.message)
        except (InputError, PreconditionError) as error:
            item = convert.item_error(error)
            return enrollment_pb2.EnrollSamplesResponse(error=item, message=item.message)

    def _enrol(self, subject: Subject) -> enrollment_pb2.EnrollSamplesResponse:
        """The verdict under the engine in use; where that is replaced meanwhile the picture is looked at once more."""
        while True:
            with self._service.engines.using() as engine:
                try:
                    return self._judge(engine, subject)
                except ContractMismatchError:
                    replaced = engine
            # The gallery has changed already, and its engine is about to.
            if not self._service.engines.wait_replaced(replaced, _REPLACEMENT_TIMEOUT_S):
                raise ContractMismatchError("the gallery was made with other models than those in use: load those")

    def _judge(self, engine: Engine, subject: Subject) -> enrollment_pb2.EnrollSamplesResponse:
        settings = self._service.settings
        data = self._request.image.data
        bar = settings.enrollment
        searched = MinimumFace(max(12.0, bar.minimum_face_pixels * _SEARCHED_SHARE))
        analysis = engine.pipeline.embed(data, searched, settings.limits.max_faces)
        fitness = judge(
            analysis,
            Bar(bar.minimum_face_pixels, bar.minimum_quality, bar.maximum_yaw_degrees, bar.maximum_pitch_degrees),
        )
        if fitness.verdict is not Verdict.FIT or fitness.face is None:
            return _response(_VERDICTS[fitness.verdict], fitness.advice, analysis, fitness.face)
        return self._store(engine, subject, analysis, fitness.face)

    def _store(
        self, engine: Engine, subject: Subject, analysis: Analysis, face: Face
    ) -> enrollment_pb2.EnrollSamplesResponse:
        service, request = self._service, self._request
        rate = service.settings.enrollment.conflict_false_match_rate
        now = service.now()
        sample = Sample(
            sample_id=str(ULID()),
            collection_id=subject.collection_id,
            subject_id=subject.subject_id,
            vector=engine.pipeline.template(request.image.data, face.detection),
            quality=face.quality.score,
            source=request.source,
            image_sha256=hashlib.sha256(request.image.data).digest(),
            create_time=now,
        )
        conflict_at = None if request.allow_conflict else engine.policies.calibration.similarity_at(rate)
        crop = (
            engine.pipeline.crop(request.image.data, face.detection) if service.settings.enrollment.keep_crops else None
        )
        try:
            service.gallery.add_sample(sample, conflict_at, now, contract_id=engine.pack.contract_id, crop=crop)
        except IdentityConflictError as error:
            return self._conflict(error, conflict_at or 0.0, analysis, face)
        words = "enrolled" + self._doubt(engine, sample)
        detail = f"sample {sample.sample_id}"
        service.audit.note("EnrollSamples", sample.collection_id, sample.subject_id, detail, self._actor)
        response = _response(enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED, words, analysis, face)
        response.sample.CopyFrom(convert.sample(sample))
        return response

    def _conflict(
        self, error: IdentityConflictError, conflict_at: float, analysis: Analysis, face: Face
    ) -> enrollment_pb2.EnrollSamplesResponse:
        words = f"this face is too like subject {error.subject_id}; enrol it there, or erase that subject"
        message = error.message if self._told.exact else words
        response = _response(enrollment_pb2.ENROLLMENT_VERDICT_IDENTITY_CONFLICT, message, analysis, face)
        response.conflict.subject_id = error.subject_id
        response.conflict.similarity = self._told.similarity(error.similarity, conflict_at)
        response.conflict.distance = convert.distance(response.conflict.similarity)
        return response

    def _doubt(self, engine: Engine, sample: Sample) -> str:
        """What to say of a sample that is hardly like the others of its person; it may be one of somebody else."""
        others = self._service.gallery.list_samples(sample.collection_id, sample.subject_id)
        likenesses = [
            float(sample.vector @ one.vector)
            for one in others
            if sample.vector is not None and one.vector is not None and one.sample_id != sample.sample_id
        ]
        best = max(likenesses, default=1.0)
        try:
            if best >= unlike_similarity(engine.policies.calibration):
                return ""
        except PreconditionError:
            return ""  # a calibration that cannot tell
        how = f" (similarity {best:.2f} at best)" if self._told.exact else ""
        return (
            f"; but it is hardly like the other {len(likenesses)} of this person{how}: look"
            f" whether it shows them, and if not, `facesvc subjects split {sample.subject_id} {sample.sample_id}`"
        )


def _response(
    verdict: enrollment_pb2.EnrollmentVerdict.ValueType,
    message: str,
    analysis: Analysis | None = None,
    face: Face | None = None,
) -> enrollment_pb2.EnrollSamplesResponse:
    shown = convert.face(face, analysis.width, analysis.height) if face is not None and analysis is not None else None
    return enrollment_pb2.EnrollSamplesResponse(verdict=verdict, message=message, face=shown)
