"""Where plugins ask for what the server knows: people, who is present, the audit log, enrolment."""

from collections.abc import Callable, Sequence
from datetime import datetime
from threading import Lock

from facesvc.api.enrolling import Enrolment
from facesvc.api.service import Service
from facesvc.errors import NotFoundError, UnavailableError
from facesvc.events.journal import Journal
from facesvc.events.plugin import About, Person
from facesvc.events.records import EnrichedEvent, Stay
from facesvc.gallery import Gallery
from facesvc.v1 import common_pb2, enrollment_pb2


class Reception:
    """See ``delivery.desk.Server``; serves from ``open`` on."""

    def __init__(self, gallery: Gallery, journal: Journal, now: Callable[[], datetime]) -> None:
        self._gallery = gallery
        self._journal = journal
        self._now = now
        self._service: Service | None = None
        # Plugins enrol beside the workers, who are busy with cameras: one picture at a time.
        self._enrolling = Lock()

    def open(self, service: Service) -> None:
        """There is somebody to ask."""
        self._service = service

    def now(self) -> datetime:
        """The time of day, UTC."""
        return self._now()

    def person(self, about: About) -> Person | None:
        """Somebody who is enrolled."""
        try:
            subject = self._gallery.get_subject(*about)
        except NotFoundError:
            return None
        return Person(
            collection_id=subject.collection_id,
            subject_id=subject.subject_id,
            display_name=subject.display_name,
            external_ids=dict(subject.external_ids),
            metadata=dict(subject.metadata),
            recognisable=subject.recognisable(self._now()),
            consent_purpose=subject.consent.purpose if subject.consent else "",
        )

    def present(self) -> Sequence[Stay]:
        """Who is present on this box."""
        return self._journal.open_stays()

    def tell(self, event: EnrichedEvent) -> None:
        """Put an event into the journal, soon."""
        self._opened().observer.tell(event)

    def audit(self, actor: str, action: str, detail: str, about: About) -> None:
        """An entry in the audit log."""
        self._opened().audit.note(action, *about, detail, actor)

    def enrol(self, actor: str, about: About, picture: bytes, source: str) -> str:
        """Enrol a face; the verdict."""
        request = enrollment_pb2.EnrollSamplesRequest(
            collection_id=about[0], subject_id=about[1], image=common_pb2.Image(data=picture), source=source
        )
        with self._enrolling:
            response = Enrolment(self._opened(), request, actor).answer()
        if response.HasField("error"):
            return f"{response.error.reason}: {response.error.message}"
        return enrollment_pb2.EnrollmentVerdict.Name(response.verdict).removeprefix("ENROLLMENT_VERDICT_")

    def _opened(self) -> Service:
        if self._service is None:
            raise UnavailableError("the server is starting: try again in a moment")
        return self._service
