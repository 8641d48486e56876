"""What asyncio code asks about the people a box knows."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from facesvc.client import people_requests as requests
from facesvc.client.aio_calls import AsyncCalls, Source, made
from facesvc.client.requests import Filters
from facesvc.v1 import enrollment_pb2


class AsyncPeopleCalls(AsyncCalls):
    """Calls of ``EnrollmentService``."""

    async def create_subject(self, subject: enrollment_pb2.Subject, *, request_id: str = "") -> enrollment_pb2.Subject:
        """See ``Client``."""
        request = requests.create_subject(subject, request_id)
        return (await self._call(self._enrollment.CreateSubject, request)).subject

    async def get_subject(self, subject_id: str, *, collection_id: str = "") -> enrollment_pb2.Subject:
        """See ``Client``."""
        request = requests.get_subject(subject_id, collection_id)
        return (await self._call(self._enrollment.GetSubject, request)).subject

    async def list_subjects(
        self, *, collection_id: str = "", prefix: str = "", filters: Filters | None = None, page_size: int = 0
    ) -> AsyncGenerator[enrollment_pb2.Subject, None]:
        """See ``Client``."""
        token = ""
        while True:
            request = requests.list_subjects(collection_id, prefix, filters, page_size, token)
            page = await self._call(self._enrollment.ListSubjects, request)
            for subject in page.subjects:
                yield subject
            token = page.next_page_token
            if not token:
                return

    async def update_subject(self, subject: enrollment_pb2.Subject, fields: Iterable[str]) -> enrollment_pb2.Subject:
        """See ``Client``."""
        request = requests.update_subject(subject, fields)
        return (await self._call(self._enrollment.UpdateSubject, request)).subject

    async def erase_subject(self, subject_id: str, *, collection_id: str = "") -> enrollment_pb2.ErasureReceipt:
        """See ``Client``."""
        request = requests.erase_subject(subject_id, collection_id)
        return (await self._call(self._enrollment.EraseSubject, request)).receipt

    async def get_erasure_receipt(self, receipt_id: str) -> enrollment_pb2.ErasureReceipt:
        """See ``Client``."""
        request = enrollment_pb2.GetErasureReceiptRequest(receipt_id=receipt_id)
        return (await self._call(self._enrollment.GetErasureReceipt, request)).receipt

    async def export_subject(self, subject_id: str, *, collection_id: str = "") -> AsyncGenerator[bytes, None]:
        """See ``Client``."""
        request = enrollment_pb2.ExportSubjectRequest(collection_id=collection_id, subject_id=subject_id)
        async with aclosing(self._answers(self._enrollment.ExportSubject(request))) as answers:
            async for answer in answers:
                yield answer.chunk

    def enroll(
        self, samples: Source[enrollment_pb2.EnrollSamplesRequest]
    ) -> AsyncGenerator[enrollment_pb2.EnrollSamplesResponse, None]:
        """See ``Client``; ``samples`` is read in another task."""
        return self._talk(self._enrollment.EnrollSamples, made(samples, requests.enrolling))

    async def list_samples(self, subject_id: str, *, collection_id: str = "") -> list[enrollment_pb2.Sample]:
        """See ``Client``."""
        request = requests.list_samples(subject_id, collection_id)
        return list((await self._call(self._enrollment.ListSamples, request)).samples)

    async def delete_sample(self, subject_id: str, sample_id: str, *, collection_id: str = "") -> None:
        """See ``Client``."""
        await self._call(self._enrollment.DeleteSample, requests.delete_sample(subject_id, sample_id, collection_id))

    def import_encodings(
        self, encodings: Source[enrollment_pb2.ImportEncodingsRequest]
    ) -> AsyncGenerator[enrollment_pb2.ImportEncodingsResponse, None]:
        """See ``Client``; ``encodings`` is read in another task."""
        return self._talk(self._enrollment.ImportEncodings, made(encodings, requests.importing))

    async def export_encodings(
        self, *, collection_id: str = "", subject_id: str = ""
    ) -> AsyncGenerator[enrollment_pb2.ExportEncodingsResponse, None]:
        """See ``Client``."""
        request = enrollment_pb2.ExportEncodingsRequest(collection_id=collection_id, subject_id=subject_id)
        async with aclosing(self._answers(self._enrollment.ExportEncodings(request))) as answers:
            async for answer in answers:
                yield answer

    async def merge_subjects(
        self, subject_id: str, merged_subject_id: str, *, collection_id: str = ""
    ) -> enrollment_pb2.MergeSubjectsResponse:
        """See ``Client``."""
        request = enrollment_pb2.MergeSubjectsRequest(
            collection_id=collection_id, subject_id=subject_id, merged_subject_id=merged_subject_id
        )
        return await self._call(self._enrollment.MergeSubjects, request)

    async def split_subject(
        self,
        subject_id: str,
        sample_ids: Iterable[str],
        *,
        new_subject_id: str = "",
        display_name: str = "",
        collection_id: str = "",
    ) -> enrollment_pb2.Subject:
        """See ``Client``."""
        request = requests.split_subject(subject_id, sample_ids, new_subject_id, display_name, collection_id)
        return (await self._call(self._enrollment.SplitSubject, request)).subject

    async def check_gallery(
        self, *, collection_id: str = "", max_findings: int = 0
    ) -> AsyncGenerator[enrollment_pb2.CheckGalleryResponse, None]:
        """See ``Client``."""
        request = enrollment_pb2.CheckGalleryRequest(collection_id=collection_id, max_findings=max_findings)
        async with aclosing(self._answers(self._enrollment.CheckGallery(request))) as answers:
            async for answer in answers:
                yield answer
