"""What a request asks for, parsed: which faces of a picture, whose, and decided how."""

from dataclasses import dataclass

from facesvc.api import convert, disclosure
from facesvc.api.access import principal
from facesvc.api.engines import Engine
from facesvc.api.service import Service
from facesvc.errors import ForbiddenError, ImageError, InputError
from facesvc.gallery.records import check_id
from facesvc.stream.policy import Policy
from facesvc.stream.recognizer import Question
from facesvc.v1 import common_pb2, recognition_pb2
from facesvc.vision.decode import check_length
from facesvc.vision.detection import MinimumFace
from facesvc.vision.pipeline import Analysis

MAX_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Look:
    """What is looked for in a single picture."""

    service: Service
    engine: Engine
    minimum_face: MinimumFace
    max_faces: int

    @classmethod
    def parse(cls, service: Service, options: recognition_pb2.DetectionOptions) -> "Look":
        """From the options of a request. Raises ``InputError``."""
        return cls(
            service,
            service.engine,
            convert.minimum_face(options, default_minimum_face(service)),
            convert.max_faces(options, service.settings.limits.max_faces),
        )

    async def analyse(
        self, arrival: float, data: bytes, *, embed: bool, field: str = "image.data"
    ) -> tuple[Analysis, common_pb2.Timings]:
        """The faces of a picture, and where the time since ``arrival`` went. ``ImageError`` names ``field``."""
        check_size(self.service, data, field)
        pipeline = self.engine.pipeline
        stage = pipeline.embed if embed else pipeline.detect

        def work() -> tuple[float, Analysis]:
            return pipeline.clock(), stage(data, self.minimum_face, self.max_faces)

        try:
            begun, analysis = await self.service.workers.run(work)
        except ImageError as error:
            raise ImageError(error.message, field=field, reason=error.reason) from error
        return analysis, convert.timings(analysis.times, begun - arrival, pipeline.clock() - arrival)


def default_minimum_face(service: Service) -> MinimumFace:
    """What the settings say of the smallest face."""
    detection = service.settings.detection
    return MinimumFace(detection.minimum_face_pixels, detection.minimum_face_fraction)


def parse_question(
    service: Service, request: recognition_pb2.SearchRequest | recognition_pb2.StreamOpening, path: str = ""
) -> Question:
    """What a request asks of every picture.

    Raises ``InputError``, whose field begins with ``path``, ``ForbiddenError``, and what ``Policies.get`` does.
    """
    try:
        return _parse_question(service, request)
    except InputError as error:
        error.field = path + error.field
        raise


def _parse_question(
    service: Service, request: recognition_pb2.SearchRequest | recognition_pb2.StreamOpening
) -> Question:
    if not 0 <= request.max_candidates <= MAX_CANDIDATES:
        message = f"must be 0 to {MAX_CANDIDATES}, not {request.max_candidates}"
        raise InputError(message, field="max_candidates")
    told = disclosure.told(principal())
    if request.filters and not told.subject_id:
        # Who asks with one filter after the other would hear of somebody's metadata, and so who it is.
        raise ForbiddenError(f"{principal().name} is told no names, and so may not filter by metadata")
    if request.collection_id:
        check_id(request.collection_id, "collection_id")
    look = Look.parse(service, request.options)
    return Question(
        request.collection_id or convert.DEFAULT_COLLECTION,
        _policy(service, request),
        # Who is not to know which is the likest: all of them, of which ``disclosure.faces`` leaves so many.
        MAX_CANDIDATES if told.subject_id and not told.exact else shown_candidates(request),
        look.minimum_face,
        look.max_faces,
        convert.filters_of(request.filters),
    )


def shown_candidates(request: recognition_pb2.SearchRequest | recognition_pb2.StreamOpening) -> int:
    """How many candidates are to be shown."""
    return request.max_candidates or 1


def _policy(service: Service, request: recognition_pb2.SearchRequest | recognition_pb2.StreamOpening) -> Policy:
    policies = service.engine.policies
    if isinstance(request, recognition_pb2.SearchRequest):
        return policies.get_for_picture(request.policy)
    return policies.get(request.policy)


def check_size(service: Service, data: bytes, field: str) -> None:
    """Refuse a picture that is too large before it waits for a worker. Raises ``ImageError`` naming ``field``."""
    try:
        check_length(data, service.engine.pipeline.limits)
    except ImageError as error:
        raise ImageError(error.message, field=field, reason=error.reason) from error
