"""Who is in a picture: the vision pipeline, the gallery and the policy in a line. Runs in a worker thread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from facesvc.gallery import Candidate, Gallery, SubjectFilter
from facesvc.stream.policy import Capture, Decision, Evidence, LivenessScore, Moment, Policy, View, decide
from facesvc.vision.detection import Detection, Floats, MinimumFace, Pixels
from facesvc.vision.pipeline import Analysis, Face, Pipeline, StageTimes

# The policy looks at the best two, whatever the caller wants to see.
_NEEDED_CANDIDATES = 2

LivenessScorer = Callable[[Pixels, Detection], float | None]
"""How alive a face of (H, W, 3) uint8 RGB looks, 0 (an attack) to 1 (genuine); None where it cannot be told."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every picture of one call or stream."""

    collection_id: str
    policy: Policy
    max_candidates: int
    minimum_face: MinimumFace
    max_faces: int
    filters: tuple[SubjectFilter, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a picture shows, and one decision for each of its faces, in the same order."""

    analysis: Analysis
    decisions: tuple[Decision, ...]

    @property
    def faces(self) -> list[tuple[Face, Decision]]:
        """Each face with its decision."""
        return list(zip(self.analysis.faces, self.decisions, strict=True))


@dataclass(frozen=True, slots=True)
class Recognizer:
    """Answers questions about pictures. Calls may run side by side in several threads."""

    pipeline: Pipeline
    gallery: Gallery
    contract_id: str  # of the pipeline's vectors
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    liveness: LivenessScorer | None = None

    @property
    def moment(self) -> Moment:
        """Now, by both clocks."""
        return Moment(self.now(), self.pipeline.clock())

    def recognize(self, data: bytes, question: Question, capture_time: datetime) -> Answer:
        """Everybody in an encoded picture. Raises ``ImageError``."""
        times = StageTimes()
        pipeline, policy = self.pipeline, question.policy.of_one_picture
        now = self.moment
        age = max(0.0, (now.time - capture_time).total_seconds())
        capture = Capture(capture_time, now.clock - age)
        scene = pipeline.scan(data, question.minimum_face, question.max_faces, times)
        faces = tuple(pipeline.face(scene, detection, times, embed=True) for detection in scene.detections)
        scores = [self.liveness_of(scene.image.pixels, detection, times) for detection in scene.detections]
        started = pipeline.clock()
        found = self.search([face.vector for face in faces if face.vector is not None], question)
        evidence = [
            Evidence(
                face.quality,
                (View(capture, candidates),) if face.quality.score >= policy.minimum_quality else (),
                None if score is None else LivenessScore(score, 1),
            )
            for face, candidates, score in zip(faces, found, scores, strict=True)
        ]
        decisions = decide(evidence, policy, capture, self.moment, self.new_id)
        times.add("search", pipeline.clock() - started)
        image = scene.image
        analysis = Analysis(image.width, image.height, faces, scene.omitted, times, scene.minimum_face)
        return Answer(analysis, tuple(decisions))

    def search(self, vectors: Sequence[Floats], question: Question) -> Sequence[Sequence[Candidate]]:
        """The candidates for each vector, best first."""
        if not vectors:
            return []
        limit = max(_NEEDED_CANDIDATES, question.max_candidates)
        return self.gallery.search(
            self.contract_id, question.collection_id, np.stack(vectors), limit, self.now(), question.filters
        )

    def recognises(self, collection_id: str, subject_id: str) -> bool:
        """Whether somebody may still be named."""
        return self.gallery.recognises(collection_id, subject_id, self.now())

    def liveness_of(self, pixels: Pixels, detection: Detection, times: StageTimes) -> float | None:
        """How alive a face looks; None where that cannot be told, or no liveness model is loaded."""
        if self.liveness is None:
            return None
        started = self.pipeline.clock()
        score = self.liveness(pixels, detection)
        times.add("liveness", self.pipeline.clock() - started)
        return score
