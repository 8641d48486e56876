"""``EnrollmentService``: parse, call, map the reply. What touches the disk runs in threads."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
from ulid import ULID

from facesvc.api import audit, convert, corrections, disclosure, encodings, erasure, export
from facesvc.api.access import principal
from facesvc.api.audit import Note, actor_of, asker_of
from facesvc.api.checkup import Checkups
from facesvc.api.enrolling import Enrolment
from facesvc.api.naming import collection_of, name_of
from facesvc.api.probes import Probe
from facesvc.api.service import Lobby
from facesvc.errors import ExhaustedError, InputError
from facesvc.gallery import Subject
from facesvc.gallery.records import check_id, check_text
from facesvc.v1 import enrollment_pb2, enrollment_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
MAX_PAGE_SIZE = 200
_DEFAULT_PAGE_SIZE = 100
MAX_CONFLICTS = 100
"""So many faces of one stream may be somebody else's: each says of a face who has one like it."""
_CONFLICTS_RETRY_S = 3600.0


class EnrollmentServicer(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """The people the box knows."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby
        self._checkups = Checkups()

    async def CreateSubject(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.CreateSubjectRequest, context: Context
    ) -> enrollment_pb2.CreateSubjectResponse:
        """Make a person known."""
        service = self._lobby.service
        check_text(request.request_id, "request_id", 128)
        if not request.subject.subject_id:
            request.subject.subject_id = _new_subject_id(request.request_id)
        subject = convert.subject_of(request.subject, service.now())
        change = partial(service.gallery.create_subject, subject, request.request_id)
        created = await audit.noted(service, actor_of(context), change, lambda one: [_created(one, subject)])
        return enrollment_pb2.CreateSubjectResponse(subject=convert.subject(created))

    async def GetSubject(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.GetSubjectRequest, context: Context
    ) -> enrollment_pb2.GetSubjectResponse:
        """One person."""
        gallery = self._lobby.service.gallery
        subject = await asyncio.to_thread(gallery.get_subject, *name_of(request))
        return enrollment_pb2.GetSubjectResponse(subject=convert.subject(subject))

    async def ListSubjects(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.ListSubjectsRequest, context: Context
    ) -> enrollment_pb2.ListSubjectsResponse:
        """All people of a collection."""
        gallery = self._lobby.service.gallery
        if not 0 <= request.page_size <= MAX_PAGE_SIZE:
            raise InputError(f"must be 0 to {MAX_PAGE_SIZE}, not {request.page_size}", field="page_size")
        collection_id = collection_of(request.collection_id)
        subjects, token = await asyncio.to_thread(
            gallery.list_subjects,
            collection_id,
            request.page_size or _DEFAULT_PAGE_SIZE,
            request.page_token,
            request.prefix,
            convert.filters_of(request.filters),
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
        change = partial(service.gallery.update_subject, subject, fields, service.now())
        note = Note("UpdateSubject", subject.collection_id, subject.subject_id, ", ".join(sorted(fields)))
        updated = await audit.noted(service, actor_of(context), change, lambda _: [note])
        return enrollment_pb2.UpdateSubjectResponse(subject=convert.subject(updated))

    async def EraseSubject(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.EraseSubjectRequest, context: Context
    ) -> enrollment_pb2.EraseSubjectResponse:
        """Forget a person, all samples, and what happened with them."""
        receipt = await erasure.erase(self._lobby.service, *name_of(request), actor_of(context))
        return enrollment_pb2.EraseSubjectResponse(receipt=convert.receipt(receipt))

    async def GetErasureReceipt(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.GetErasureReceiptRequest, context: Context
    ) -> enrollment_pb2.GetErasureReceiptResponse:
        """The receipt of an erasure."""
        receipt = await erasure.receipt(self._lobby.service, request.receipt_id)
        return enrollment_pb2.GetErasureReceiptResponse(receipt=convert.receipt(receipt))

    async def MergeSubjects(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.MergeSubjectsRequest, context: Context
    ) -> enrollment_pb2.MergeSubjectsResponse:
        """Make one person of two entries."""
        return await corrections.merge(self._lobby.service, request, actor_of(context))

    async def SplitSubject(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.SplitSubjectRequest, context: Context
    ) -> enrollment_pb2.SplitSubjectResponse:
        """Make some samples those of somebody else."""
        return await corrections.split(self._lobby.service, request, actor_of(context))

    async def ListSamples(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.ListSamplesRequest, context: Context
    ) -> enrollment_pb2.ListSamplesResponse:
        """The samples of a person."""
        gallery = self._lobby.service.gallery
        samples = await asyncio.to_thread(gallery.list_samples, *name_of(request))
        return enrollment_pb2.ListSamplesResponse(samples=convert.samples(samples))

    async def DeleteSample(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.DeleteSampleRequest, context: Context
    ) -> enrollment_pb2.DeleteSampleResponse:
        """Forget one sample."""
        service, name = self._lobby.service, name_of(request)
        check_id(request.sample_id, "sample_id")
        change = partial(service.gallery.delete_sample, *name, request.sample_id)
        note = Note("DeleteSample", *name, f"sample {request.sample_id}")
        await audit.noted(service, actor_of(context), change, lambda _: [note])
        return enrollment_pb2.DeleteSampleResponse()

    async def EnrollSamples(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[enrollment_pb2.EnrollSamplesRequest], context: Context
    ) -> AsyncIterator[enrollment_pb2.EnrollSamplesResponse]:
        """Add pictures, each judged on its own."""
        service = self._lobby.service
        timeout_s = service.settings.limits.enrollment_idle_timeout_seconds
        party, told = service.workers.party(patient=True), disclosure.told(principal())
        conflicts = 0
        with service.enrollments.admitted():
            while (request := await self._lobby.next_message(requests, timeout_s, "ENROLLMENT_IDLE")) is not None:
                enrolment = partial(Enrolment, service, request, actor_of(context), told)
                answer = await service.workers.run_next(party, enrolment, Enrolment.answer)
                if answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_IDENTITY_CONFLICT:
                    conflicts += 1
                    probe = Probe(asker_of(context), "EnrollSamples", collection_of(request.collection_id))
                    await service.probes.note(probe, 1, 1)
                yield answer
                if conflicts >= MAX_CONFLICTS and not told.exact:
                    message = f"{conflicts} of these faces are somebody else's: ask an administrator, or come again"
                    raise ExhaustedError(message, retry_delay_s=_CONFLICTS_RETRY_S, reason="TOO_MANY_PROBES")

    async def ExportSubject(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.ExportSubjectRequest, context: Context
    ) -> AsyncIterator[enrollment_pb2.ExportSubjectResponse]:
        """Everything about one person."""
        async for piece in export.export(self._lobby.service, *name_of(request), actor_of(context)):
            yield piece

    async def ImportEncodings(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[enrollment_pb2.ImportEncodingsRequest], context: Context
    ) -> AsyncIterator[enrollment_pb2.ImportEncodingsResponse]:
        """Take over encodings made elsewhere."""
        async for response in encodings.take_over(self._lobby, requests, actor_of(context)):
            yield response

    async def ExportEncodings(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.ExportEncodingsRequest, context: Context
    ) -> AsyncIterator[enrollment_pb2.ExportEncodingsResponse]:
        """The templates of a collection."""
        async for response in encodings.give_away(self._lobby.service, request, actor_of(context)):
            yield response

    async def CheckGallery(  # noqa: N802 - gRPC's name
        self, request: enrollment_pb2.CheckGalleryRequest, context: Context
    ) -> AsyncIterator[enrollment_pb2.CheckGalleryResponse]:
        """What is doubtful in a collection."""
        told = disclosure.told(principal())
        for response in await self._checkups.check(self._lobby.service, request, told):
            yield disclosure.finding(principal(), response)


def _created(created: Subject, subject: Subject) -> Note:
    repeated = created.create_time != subject.create_time
    detail = "the request was repeated: nothing was changed" if repeated else ""
    return Note("CreateSubject", created.collection_id, created.subject_id, detail)


def _new_subject_id(request_id: str) -> str:
    """An id for somebody who came without one; a request that is repeated must name the same person again."""
    if not request_id:
        return str(ULID())
    return str(ULID.from_bytes(hashlib.sha256(request_id.encode()).digest()[:16]))
