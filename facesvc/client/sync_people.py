"""What plain code asks about the people a box knows."""

from collections.abc import Generator, Iterable

from facesvc.client import people_requests as requests
from facesvc.client.requests import Filters
from facesvc.client.sync_calls import Calls
from facesvc.v1 import enrollment_pb2


class PeopleCalls(Calls):
    """Calls of ``EnrollmentService``."""

    def create_subject(self, subject: enrollment_pb2.Subject, *, request_id: str = "") -> enrollment_pb2.Subject:
        """Make a person known."""
        return self._call(self._enrollment.CreateSubject, requests.create_subject(subject, request_id)).subject

    def get_subject(self, subject_id: str, *, collection_id: str = "") -> enrollment_pb2.Subject:
        """One person."""
        return self._call(self._enrollment.GetSubject, requests.get_subject(subject_id, collection_id)).subject

    def list_subjects(
        self, *, collection_id: str = "", prefix: str = "", filters: Filters | None = None, page_size: int = 0
    ) -> Generator[enrollment_pb2.Subject, None, None]:
        """All people of a collection, or those meant by name, id or metadata, page by page as they are needed."""
        token = ""
        while True:
            request = requests.list_subjects(collection_id, prefix, filters, page_size, token)
            page = self._call(self._enrollment.ListSubjects, request)
            yield from page.subjects
            token = page.next_page_token
            if not token:
                return

    def update_subject(self, subject: enrollment_pb2.Subject, fields: Iterable[str]) -> enrollment_pb2.Subject:
        """Change the named ``fields`` of a person to what ``subject`` says."""
        return self._call(self._enrollment.UpdateSubject, requests.update_subject(subject, fields)).subject

    def erase_subject(self, subject_id: str, *, collection_id: str = "") -> enrollment_pb2.ErasureReceipt:
        """Forget a person and all samples."""
        return self._call(self._enrollment.EraseSubject, requests.erase_subject(subject_id, collection_id)).receipt

    def get_erasure_receipt(self, receipt_id: str) -> enrollment_pb2.ErasureReceipt:
        """The receipt of an erasure."""
        request = enrollment_pb2.GetErasureReceiptRequest(receipt_id=receipt_id)
        return self._call(self._enrollment.GetErasureReceipt, request).receipt

    def export_subject(self, subject_id: str, *, collection_id: str = "") -> Generator[bytes, None, None]:
        """Everything about one person: the pieces, in order, of a ZIP archive."""
        request = enrollment_pb2.ExportSubjectRequest(collection_id=collection_id, subject_id=subject_id)
        for answer in self._answers(self._enrollment.ExportSubject(request)):
            yield answer.chunk

    def enroll(
        self, samples: Iterable[enrollment_pb2.EnrollSamplesRequest]
    ) -> Generator[enrollment_pb2.EnrollSamplesResponse, None, None]:
        """One verdict for each picture, in order; make them with ``sample``. Read and raised like in ``recognize``."""
        return self._talk(self._enrollment.EnrollSamples, map(requests.enrolling, samples))

    def list_samples(self, subject_id: str, *, collection_id: str = "") -> list[enrollment_pb2.Sample]:
        """The samples of a person, oldest first."""
        return list(self._call(self._enrollment.ListSamples, requests.list_samples(subject_id, collection_id)).samples)

    def delete_sample(self, subject_id: str, sample_id: str, *, collection_id: str = "") -> None:
        """Forget one sample."""
        self._call(self._enrollment.DeleteSample, requests.delete_sample(subject_id, sample_id, collection_id))

    def import_encodings(
        self, encodings: Iterable[enrollment_pb2.ImportEncodingsRequest]
    ) -> Generator[enrollment_pb2.ImportEncodingsResponse, None, None]:
        """One verdict for each encoding, in order; make them with ``encoding``. Read and raised as by ``enroll``."""
        return self._talk(self._enrollment.ImportEncodings, map(requests.importing, encodings))

    def export_encodings(
        self, *, collection_id: str = "", subject_id: str = ""
    ) -> Generator[enrollment_pb2.ExportEncodingsResponse, None, None]:
        """The templates of everybody, or of one person, in order of the ids."""
        request = enrollment_pb2.ExportEncodingsRequest(collection_id=collection_id, subject_id=subject_id)
        yield from self._answers(self._enrollment.ExportEncodings(request))

    def merge_subjects(
        self, subject_id: str, merged_subject_id: str, *, collection_id: str = ""
    ) -> enrollment_pb2.MergeSubjectsResponse:
        """Make one person of two: the second is erased, and the samples become those of the first."""
        request = enrollment_pb2.MergeSubjectsRequest(
            collection_id=collection_id, subject_id=subject_id, merged_subject_id=merged_subject_id
        )
        return self._call(self._enrollment.MergeSubjects, request)

    def split_subject(
        self,
        subject_id: str,
        sample_ids: Iterable[str],
        *,
        new_subject_id: str = "",
        display_name: str = "",
        collection_id: str = "",
    ) -> enrollment_pb2.Subject:
        """Make some samples those of somebody else, known or new; that person."""
        request = requests.split_subject(subject_id, sample_ids, new_subject_id, display_name, collection_id)
        return self._call(self._enrollment.SplitSubject, request).subject

    def check_gallery(
        self, *, collection_id: str = "", max_findings: int = 0
    ) -> Generator[enrollment_pb2.CheckGalleryResponse, None, None]:
        """What is doubtful in a collection, the worst first."""
        request = enrollment_pb2.CheckGalleryRequest(collection_id=collection_id, max_findings=max_findings)
        yield from self._answers(self._enrollment.CheckGallery(request))
