"""``EnrollmentService``: parse, call, map the reply. What touches the disk runs in threads."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
from ulid import ULID

from facesvc.api import convert
from facesvc.api.engines import Engine
from facesvc.api.question import check_size
from facesvc.api.service import Lobby, Service
from facesvc.errors import ContractMismatchError, ImageError, InputError, PreconditionError
from facesvc.gallery import DuplicateImageError, IdentityConflictError, Sample, Subject
from facesvc.gallery.records import check_id, check_text
from facesvc.v1 import enrollment_pb2, enrollment_pb2_grpc
from facesvc.vision.detection import MinimumFace
from facesvc.vision.fitness import Bar, Verdict, judge
from facesvc.vision.pipeline import Analysis, Face

Context = grpc.aio.ServicerContext[Any, Any]
MAX_PAGE_SIZE = 200
_DEFAULT_PAGE_SIZE = 100
# Enrolment looks for faces half as wide as it accepts, so that it can say "too small" instead of "none".
_SEARCHED_SHARE = 0.5
# Between the change of the gallery and that of the engine lie microseconds.
_REPLACEMENT_TIMEOUT_S = 10.0

_VERDICTS: dict[Verdict, enrollment_pb2.EnrollmentVerdict.ValueType] = {
    verdict: enrollment_pb2.EnrollmentVerdict.Value(f"ENROLLMENT_VERDICT_{verdict.value}")
    for verdict in Verdict
    if verdict is not Verdict.FIT
}


class EnrollmentServicer(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """The people the box knows."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby

    async def CreateSubject(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.CreateSubjectRequest, context: Context
    ) -> enrollment_pb2.CreateSubjectResponse:
        """Make a person known."""
        service = self._lobby.service
        check_text(request.request_id, "request_id", 128)
        if not request.subject.subject_id:
            request.subject.subject_id = _new_subject_id(request.request_id)
        subject = convert.subject_of(request.subject, service.now())
        created = await asyncio.to_thread(service.gallery.create_subject, subject, request.request_id)
        return enrollment_pb2.CreateSubjectResponse(subject=convert.subject(created))

    async def GetSubject(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.GetSubjectRequest, context: Context
    ) -> enrollment_pb2.GetSubjectResponse:
        """One person."""
        gallery = self._lobby.service.gallery
        subject = await asyncio.to_thread(gallery.get_subject, *_name(request))
        return enrollment_pb2.GetSubjectResponse(subject=convert.subject(subject))

    async def ListSubjects(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.ListSubjectsRequest, context: Context
    ) -> enrollment_pb2.ListSubjectsResponse:
        """All people of a collection."""
        gallery = self._lobby.service.gallery
        if not 0 <= request.page_size <= MAX_PAGE_SIZE:
            raise InputError(f"must be 0 to {MAX_PAGE_SIZE}, not {request.page_size}", field="page_size")
        collection_id = _collection(request.collection_id)
        subjects, token = await asyncio.to_thread(
            gallery.list_subjects, collection_id, request.page_size or _DEFAULT_PAGE_SIZE, request.page_token
        )
        return enrollment_pb2.ListSubjectsResponse(
            subjects=[convert.subject(subject) for subject in subjects],
            next_page_token=token,
            total_size=await asyncio.to_thread(gallery.subject_count, collection_id),
        )

    async def UpdateSubject(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.UpdateSubjectRequest, context: Context
    ) -> enrollment_pb2.UpdateSubjectResponse:
        """Change what is known of a person."""
        service = self._lobby.service
        subject = convert.subject_of(request.subject, service.now())
        fields = {"enabled" if path == "disabled" else path for path in request.update_mask.paths}
        if "enabled" in request.update_mask.paths:
            raise InputError("there is no field enabled: name disabled", field="update_mask")
        updated = await asyncio.to_thread(service.gallery.update_subject, subject, fields, service.now())
        return enrollment_pb2.UpdateSubjectResponse(subject=convert.subject(updated))

    async def EraseSubject(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.EraseSubjectRequest, context: Context
    ) -> enrollment_pb2.EraseSubjectResponse:
        """Forget a person, all samples, and what happened with them."""
        service = self._lobby.service
        name = _name(request)
        async with service.observer.erasing(*name):
            receipt = await asyncio.to_thread(service.gallery.erase_subject, *name, service.now())
        return enrollment_pb2.EraseSubjectResponse(receipt=convert.receipt(receipt))

    async def ListSamples(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.ListSamplesRequest, context: Context
    ) -> enrollment_pb2.ListSamplesResponse:
        """The samples of a person."""
        gallery = self._lobby.service.gallery
        samples = await asyncio.to_thread(gallery.list_samples, *_name(request))
        return enrollment_pb2.ListSamplesResponse(samples=convert.samples(samples))

    async def DeleteSample(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.DeleteSampleRequest, context: Context
    ) -> enrollment_pb2.DeleteSampleResponse:
        """Forget one sample."""
        gallery = self._lobby.service.gallery
        check_id(request.sample_id, "sample_id")
        await asyncio.to_thread(gallery.delete_sample, *_name(request), request.sample_id)
        return enrollment_pb2.DeleteSampleResponse()

    async def EnrollSamples(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[enrollment_pb2.EnrollSamplesRequest], context: Context
    ) -> AsyncIterator[enrollment_pb2.EnrollSamplesResponse]:
        """Add pictures, each judged on its own."""
        service = self._lobby.service
        timeout_s = service.settings.limits.enrollment_idle_timeout_seconds
        party = service.workers.party(patient=True)
        with service.enrollments.admitted():
            while (request := await self._lobby.next_message(requests, timeout_s, "ENROLLMENT_IDLE")) is not None:
                yield await service.workers.run_next(party, partial(_Enrolment, service, request), _Enrolment.answer)


def _new_subject_id(request_id: str) -> str:
    """An id for somebody who came without one; a request that is repeated must name the same person again."""
    if not request_id:
        return str(ULID())
    return str(ULID.from_bytes(hashlib.sha256(request_id.encode()).digest()[:16]))


def _name(
    request: enrollment_pb2.GetSubjectRequest
    | enrollment_pb2.EraseSubjectRequest
    | enrollment_pb2.ListSamplesRequest
    | enrollment_pb2.DeleteSampleRequest
    | enrollment_pb2.EnrollSamplesRequest,
) -> tuple[str, str]:
    """Collection and person that a request names."""
    check_id(request.subject_id, "subject_id")
    return _collection(request.collection_id), request.subject_id


def _collection(collection_id: str) -> str:
    """The collection that is meant. Raises ``InputError``."""
    if not collection_id:
        return convert.DEFAULT_COLLECTION
    check_id(collection_id, "collection_id")
    return collection_id


class _Enrolment:
    """One picture of one person on its way into the gallery, in a worker thread."""

    def __init__(self, service: Service, request: enrollment_pb2.EnrollSamplesRequest) -> None:
        self._service = service
        self._request = request

    def answer(self) -> enrollment_pb2.EnrollSamplesResponse:
        """The verdict; a request that is wrong in itself gives an error instead."""
        try:
            check_size(self._service, self._request.image.data, "image.data")
            check_text(self._request.source, "source")
            return self._enrol(self._service.gallery.get_subject(*_name(self._request)))
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
            response = _response(enrollment_pb2.ENROLLMENT_VERDICT_IDENTITY_CONFLICT, error.message, analysis, face)
            response.conflict.subject_id = error.subject_id
            response.conflict.similarity = error.similarity
            response.conflict.distance = convert.distance(error.similarity)
            return response
        response = _response(enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED, "enrolled", analysis, face)
        response.sample.CopyFrom(convert.sample(sample))
        return response


def _response(
    verdict: enrollment_pb2.EnrollmentVerdict.ValueType,
    message: str,
    analysis: Analysis | None = None,
    face: Face | None = None,
) -> enrollment_pb2.EnrollSamplesResponse:
    shown = convert.face(face, analysis.width, analysis.height) if face is not None and analysis is not None else None
    return enrollment_pb2.EnrollSamplesResponse(verdict=verdict, message=message, face=shown)
