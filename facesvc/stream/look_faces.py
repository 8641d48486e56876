"""The faces of one look, each worked out as far as somebody asks: quality, good landmarks, vector."""

from facesvc.vision.detection import Detection, Floats
from facesvc.vision.pipeline import Face, Pipeline, Scene, StageTimes


class LookFaces:
    """What a rough scan has found, by the place of the detection. For one thread."""

    def __init__(self, pipeline: Pipeline, scene: Scene, minimum_quality: float, times: StageTimes) -> None:
        self._pipeline = pipeline
        self._scene = scene
        self._minimum_quality = minimum_quality
        self._times = times
        self._faces: dict[int, Face] = {}
        self._refined: dict[int, Detection] = {}
        self._vectors: dict[int, Floats] = {}

    @property
    def detections(self) -> list[Detection]:
        """All of them, in pixels of the full picture."""
        scale = 1 / self._scene.image.scale
        return [detection.scaled(scale) for detection in self._scene.detections]

    @property
    def embedded(self) -> int:
        """How many were embedded."""
        return len(self._vectors)

    def face(self, number: int) -> Face:
        """A detection with its quality, from its rough landmarks unless somebody wanted to know better."""
        if number not in self._faces:
            detection = self._refined.get(number, self._scene.detections[number])
            self._faces[number] = self._pipeline.face(self._scene, detection, self._times, embed=False)
        return self._faces[number]

    def is_fit(self, number: int) -> bool:
        """Whether a detection is worth embedding, by its good landmarks where it is so by its rough ones."""
        if self.face(number).quality.score >= self._minimum_quality and number not in self._refined:
            self._refined[number] = self._pipeline.refine(self._scene, self._scene.detections[number], self._times)
            del self._faces[number]
        return self.face(number).quality.score >= self._minimum_quality

    def is_embedded(self, number: int) -> bool:
        """Whether its vector is there already."""
        return number in self._vectors

    def vector(self, number: int) -> Floats:
        """The (D,) float32 unit vector of a detection that is fit."""
        if number not in self._vectors:
            face = self._pipeline.face(self._scene, self._refined[number], self._times, embed=True)
            assert face.vector is not None
            self._vectors[number] = face.vector
        return self._vectors[number]
