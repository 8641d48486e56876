"""Who is in a picture: the vision pipeline, the gallery and the policy in a line. Runs in a worker thread."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from facesvc.gallery import Gallery
from facesvc.stream.policy import Decision, Evidence, Policy, decide
from facesvc.vision.detection import MinimumFace
from facesvc.vision.pipeline import Analysis, Face, Pipeline

# The policy looks at the best two, whatever the caller wants to see.
_NEEDED_CANDIDATES = 2


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every picture of one call or stream."""

    collection_id: str
    policy: Policy
    max_candidates: int
    minimum_face: MinimumFace
    max_faces: int


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

    def recognize(self, data: bytes, question: Question, capture_time: datetime) -> Answer:
        """Everybody in an encoded picture. Raises ``ImageError``."""
        analysis = self.pipeline.embed(data, question.minimum_face, question.max_faces)
        started = self.pipeline.clock()
        evidence = self._evidence(analysis, question)
        decisions = decide(evidence, question.policy, capture_time=capture_time, now=self.now(), new_id=self.new_id)
        analysis.times.add("search", self.pipeline.clock() - started)
        return Answer(analysis, tuple(decisions))

    def _evidence(self, analysis: Analysis, question: Question) -> list[Evidence]:
        if not analysis.faces:
            return []
        vectors = np.stack([face.vector for face in analysis.faces if face.vector is not None])
        limit = max(_NEEDED_CANDIDATES, question.max_candidates)
        found = self.gallery.search(self.contract_id, question.collection_id, vectors, limit, self.now())
        return [Evidence(face.quality, candidates) for face, candidates in zip(analysis.faces, found, strict=True)]
