"""What is doubtful in a collection: long work beside that of the cameras, in a thread that gives way to theirs."""

import threading
from collections.abc import Iterator

import numpy as np

from facesvc.api.disclosure import Told
from facesvc.api.naming import collection_of
from facesvc.api.service import Service
from facesvc.api.workers import Background
from facesvc.errors import ExhaustedError, InputError, PreconditionError
from facesvc.gallery import Sample
from facesvc.gallery.checkup import UNLIKE_FALSE_MATCH_RATE, Bounds, FalseMatchRate, Finding, Kind, check
from facesvc.gallery.likeness import Proceed
from facesvc.models.calibration import Calibration, OperatingPoint, supports
from facesvc.v1 import enrollment_pb2

MAX_FINDINGS = 1000
_DEFAULT_FINDINGS = 100
_PAGE = 1000


class _LeftError(Exception):
    """Nobody waits for the findings any more."""


class Checkups:
    """Checks of collections, one at a time: each takes much memory, and all the time that the cameras leave."""

    def __init__(self) -> None:
        self._running = threading.Lock()

    async def check(
        self, service: Service, request: enrollment_pb2.CheckGalleryRequest, told: Told
    ) -> list[enrollment_pb2.CheckGalleryResponse]:
        """The findings, the worst first; by ids for who is not told how alike people are, or the order would say it.

        Raises ``ExhaustedError`` (``CHECK_RUNNING``) while another check runs, and ``PreconditionError`` where there
        are too many samples, or the error rates of the models are not known.
        """
        collection_id = collection_of(request.collection_id)
        if not 0 <= request.max_findings <= MAX_FINDINGS:
            raise InputError(f"must be 0 to {MAX_FINDINGS}, not {request.max_findings}", field="max_findings")
        left = threading.Event()
        with Background() as background:
            try:
                count = request.max_findings or _DEFAULT_FINDINGS
                # Nor may it be said which are the worst by asking for few of them.
                sought = count if told.exact else MAX_FINDINGS
                findings = await background.run(self._check, service, collection_id, sought, left)
            finally:
                left.set()
        if not told.exact:
            findings = sorted(findings, key=_by_ids)
        return [_message(finding) for finding in findings[:count]]

    def _check(self, service: Service, collection_id: str, max_findings: int, left: threading.Event) -> list[Finding]:
        """In a thread: the findings; given up once ``left`` is set."""

        def proceed() -> None:
            if left.is_set():
                raise _LeftError

        if not self._running.acquire(blocking=False):
            message = "a gallery is being checked already: come again when that is done"
            raise ExhaustedError(message, retry_delay_s=30.0, reason="CHECK_RUNNING")
        try:
            return _findings(service, collection_id, max_findings, proceed)
        finally:
            self._running.release()


def _findings(service: Service, collection_id: str, max_findings: int, proceed: Proceed) -> list[Finding]:
    engine = service.engine
    calibration = engine.policies.calibration
    bounds = _bounds(calibration, service.settings.enrollment.conflict_false_match_rate)
    samples = _samples(service, collection_id, engine.pack.contract_id)
    subject_ids = list(_subject_ids(service, collection_id))
    return check(subject_ids, samples, bounds, false_match_rate(calibration), max_findings, proceed)


def _samples(service: Service, collection_id: str, contract_id: str) -> Iterator[Sample]:
    """Those of everybody, all with vectors of one contract. Raises ``PreconditionError`` where it has changed."""
    for sample in service.gallery.samples(collection_id):
        if service.gallery.contract.contract_id != contract_id:
            raise PreconditionError("the models were changed meanwhile: check again", reason="CONTRACT_CHANGED")
        yield sample


def _subject_ids(service: Service, collection_id: str) -> Iterator[str]:
    """Everybody, also those without samples."""
    token = ""
    while True:
        page, token = service.gallery.list_subjects(collection_id, _PAGE, token)
        yield from (subject.subject_id for subject in page)
        if not token:
            return


def _bounds(calibration: Calibration, conflict_rate: float) -> Bounds:
    """What is alike and what is not, by the error rates of the models. Raises ``PreconditionError``."""
    return Bounds(calibration.similarity_at(conflict_rate), unlike_similarity(calibration))


def unlike_similarity(calibration: Calibration) -> float:
    """Below it a sample is hardly like another of the same person. Raises ``PreconditionError``."""
    points = _supported(calibration)
    return calibration.similarity_at(min(max(UNLIKE_FALSE_MATCH_RATE, points[-1].fmr), points[0].fmr))


def false_match_rate(calibration: Calibration) -> FalseMatchRate:
    """How often two different people are so much alike: as ``Calibration.similarity_at``, the other way round.

    Beyond the measured points it is that of the last one, in both directions.
    """
    points = _supported(calibration)
    similarities, decades = [point.similarity for point in points], np.log10([point.fmr for point in points])
    return lambda similarity: float(10 ** np.interp(similarity, similarities, decades))


def _supported(calibration: Calibration) -> list[OperatingPoint]:
    """The points that enough pairs were compared for, the most tolerant first."""
    return [point for point in calibration.points if supports(calibration.impostor_pairs, point.fmr)]


def _by_ids(finding: Finding) -> tuple[int, str, str, list[str]]:
    """The kinds stay in their order."""
    return list(Kind).index(finding.kind), finding.subject_id, finding.other_subject_id, sorted(finding.sample_ids)


def _message(finding: Finding) -> enrollment_pb2.CheckGalleryResponse:
    return enrollment_pb2.CheckGalleryResponse(
        kind=enrollment_pb2.FindingKind.Value(f"FINDING_KIND_{finding.kind.value}"),
        message=finding.message,
        subject_id=finding.subject_id,
        other_subject_id=finding.other_subject_id,
        sample_ids=finding.sample_ids,
        similarity=finding.similarity,
        false_match_rate=finding.false_match_rate,
    )
