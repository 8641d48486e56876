"""How well a pack recognises the people of a data set: every picture through the pipeline, then the error rates.

Verification is the protocol of LFW: is a pair one person or two? Identification enrols everybody by one photo, as the
server does (a template averaged over jittered crops), and looks for them with all other photos, as they are.

The person meant is the face nearest the centre of the picture. Where no face is found, nothing is left out in favour
of the pack: a pair with such a picture counts as decided wrongly, a person who could not be enrolled or found as not
recognised. Only impostor scores, which set the thresholds, are those of faces that were compared.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from facesvc.cli.lfw import Pair, Person, Photo, Protocol
from facesvc.errors import ImageError, InputError
from facesvc.models import calibration
from facesvc.models.calibration import Calibration, supported_rates
from facesvc.vision.detection import MinimumFace
from facesvc.vision.pipeline import Analysis, Face, Pipeline
from facesvc.vision.scores import Booleans, Floats, OperatingPoint, cross_validate, operating_point, rank_one

VERIFICATION_RATES = (1e-2, 1e-3)
IDENTIFICATION_RATES = (1e-3, 1e-4, 1e-5, 1e-6)
_MAX_FACES = 32
Item = TypeVar("Item")
Result = TypeVar("Result")
NOT_COMPARED = -1.0
"""The similarity of two pictures of one person where no face was found in one of them: below every threshold."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was made of one picture: vectors (D,) float32 of unit length, None where no face was found."""

    probe: Floats | None
    template: Floats | None
    """The gallery's vector; None also for a picture that nobody is enrolled by."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Similarities (N,) float32: ``genuine`` of one person with themselves, ``impostor`` of two people."""

    genuine: Floats
    impostor: Floats

    def points(self, rates: Iterable[float]) -> tuple[OperatingPoint, ...]:
        """The operating point at each false-match rate."""
        return tuple(operating_point(self.genuine, self.impostor, rate) for rate in rates)


@dataclass(frozen=True, slots=True)
class Verification:
    """One person or two: mean accuracy over the folds, its sample deviation, and true matches at fixed error rates."""

    accuracy: float
    deviation: float
    points: tuple[OperatingPoint, ...]
    scores: Scores


@dataclass(frozen=True, slots=True)
class Identification:
    """Who is it: share of probes whose person comes first, and true matches at fixed error rates."""

    rank_one: float
    points: tuple[OperatingPoint, ...]
    scores: Scores

    def calibration(self, source: str) -> Calibration:
        """The table at the rates that the number of impostor pairs is enough for; ``source`` says where it is from."""
        genuine, impostor = len(self.scores.genuine), len(self.scores.impostor)
        points = as_table(self.scores.points(supported_rates(impostor)))
        return Calibration.measured(points, impostor, genuine, source)


def as_table(points: Iterable[OperatingPoint]) -> Iterator[calibration.OperatingPoint]:
    """Operating points as the lines of a calibration."""
    return (calibration.OperatingPoint(point.fmr, point.similarity, point.tmr) for point in points)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures; ``missed`` are the pictures, of all that were looked at, in which no face was found."""

    verification: Verification
    identification: Identification | None
    missed: tuple[Photo, ...]


def looks(
    pipeline: Pipeline, folder: Path, protocol: Protocol, minimum: MinimumFace, threads: int
) -> Iterator[tuple[Photo, Look]]:
    """Every picture of the protocol and what was made of it, always in the same order; only vectors are kept.

    Raises ``InputError`` for a picture that cannot be read or decoded.
    """
    enrolled = protocol.gallery_photos()

    def look(photo: Photo) -> Look:
        return look_at(pipeline, photo.within(folder), minimum, enrol=photo in enrolled)

    return in_threads(look, protocol.photos(), threads)


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Iterator[tuple[Item, Result]]:
    """Each of ``items`` and what ``work`` makes of it, in their order; so many are worked on at the same time."""
    executor = ThreadPoolExecutor(threads, thread_name_prefix="evaluate")
    try:
        yield from zip(items, executor.map(work, items), strict=True)
    finally:
        # Whoever stops half-way does not wait for the other half.
        executor.shutdown(cancel_futures=True)


def figures(protocol: Protocol, seen: Mapping[Photo, Look]) -> Evaluation:
    """The figures of a ``protocol`` all of whose pictures were seen. Raises ``InputError`` where too few had a face."""
    missed = tuple(sorted(photo for photo, look in seen.items() if look.probe is None))
    identification = identify(protocol.people, seen) if protocol.people else None
    return Evaluation(verify(protocol.pairs, seen), identification, missed)


def verify(pairs: tuple[Pair, ...], seen: Mapping[Photo, Look]) -> Verification:
    """Compares the two of each pair; one with a missed picture is decided wrongly whatever the threshold."""
    same = np.array([pair.same for pair in pairs])
    folds = np.array([pair.fold for pair in pairs], np.int64)
    similarities = np.array(
        [_similarity(seen[pair.first].probe, seen[pair.second].probe) for pair in pairs], np.float32
    )
    compared = ~np.isnan(similarities)
    wrong = np.where(same, np.float32(-1), np.float32(1))
    result = cross_validate(np.where(compared, similarities, wrong), same, folds)
    scores = _scores(similarities, same)
    return Verification(result.accuracy, result.deviation, scores.points(VERIFICATION_RATES), scores)


def identify(people: tuple[Person, ...], seen: Mapping[Photo, Look]) -> Identification:
    """Looks for every probe among all who are enrolled; who was missed here or there was not recognised."""
    enrolled = {person.gallery.name: seen[person.gallery].template for person in people}
    gallery = {name: template for name, template in enrolled.items() if template is not None}
    photos = [photo for person in people for photo in person.probes]
    vectors = [seen[photo].probe for photo in photos]
    found = [(photo.name, vector) for photo, vector in zip(photos, vectors, strict=True) if vector is not None]
    if not found or not gallery:
        raise InputError("no face was found for identification: try a smaller --minimum-face", field="lfw")
    names, labels = list(gallery), [name for name, _ in found]
    templates, probes = np.stack(list(gallery.values())), np.stack([vector for _, vector in found])
    same = np.array(labels)[:, None] == np.array(names)[None]
    similarities = (probes @ templates.T).astype(np.float32)
    absent = np.full(len(photos) - int(same.sum()), np.nan, np.float32)
    scores = _scores(
        np.concatenate([similarities[same], absent, similarities[~same]]),
        np.repeat([True, False], [len(photos), int((~same).sum())]),
    )
    hits = rank_one(templates, names, probes, labels) * len(found)
    return Identification(hits / len(photos), scores.points(IDENTIFICATION_RATES), scores)


def look_at(pipeline: Pipeline, path: Path, minimum: MinimumFace, *, enrol: bool) -> Look:
    """What is made of the picture at ``path``. Raises ``InputError`` for one that cannot be read or decoded."""
    try:
        data = path.read_bytes()
        analysis = pipeline.embed(data, minimum, _MAX_FACES)
        face = _nearest_the_centre(analysis)
        if face is None:
            return Look(None, None)
        return Look(face.vector, pipeline.template(data, face.detection) if enrol else None)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ImageError as error:
        raise InputError(f"{path}: {error.message}", reason=error.reason) from error


def _nearest_the_centre(analysis: Analysis) -> Face | None:
    def distance(face: Face) -> float:
        box = face.detection.box
        return math.hypot(box.left + box.width / 2 - analysis.width / 2, box.top + box.height / 2 - analysis.height / 2)

    return min(analysis.faces, key=distance, default=None)


def _similarity(first: Floats | None, second: Floats | None) -> float:
    return math.nan if first is None or second is None else float(first @ second)


def _scores(similarities: Floats, same: Booleans) -> Scores:
    """Parts the two kinds. What was not compared (NaN) is no match if genuine, and left out of the impostors."""
    compared = ~np.isnan(similarities)
    impostor = similarities[~same & compared]
    if not len(impostor):
        raise InputError("no face was found in any pair of two people: try a smaller --minimum-face", field="lfw")
    return Scores(np.where(compared, similarities, np.float32(NOT_COMPARED))[same], impostor)
