"""The people of the synthetic video: who they are, how they are enrolled, and the heads that are cut out of pictures.

Without a data set they come from the pictures of installed packages: eight people, of whom there is one picture each,
so that they are enrolled by the very picture that walks about. A crowd is filled up with relatives of theirs, whose
features are moved within the face until the networks take them for others.

With the Labeled Faces in the Wild each person is enrolled by one photo and filmed with another. Only people whom the
models in use know again between the two are cast: how many those are is what ``facesvc evaluate`` says; here it is
about following and naming them.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facesvc.cli.footage import Actor, Sprite
from facesvc.cli.lfw import read_protocol
from facesvc.cli.pictures import pixels_of
from facesvc.cli.samples import GROUP, GUEST, astronaut, sample_picture
from facesvc.client import Client, sample
from facesvc.errors import InputError
from facesvc.v1 import common_pb2, enrollment_pb2, recognition_pb2
from facesvc.vision.geometry import Box

Pixels = NDArray[np.uint8]

# Room around a face in a picture for enrolment, and in one that is looked at for casting: shares of its height.
_MARGIN = 0.9
_SMALL = recognition_pb2.DetectionOptions(minimum_face_pixels=24)
# Relatives: what was so far from the middle of the face is at 1, which makes it wider or narrower; and its features lie
# so much lower or higher, in face heights.
_RELATIVES = ((0.72, 0.09), (1.35, 0.09))
_REACH = 0.4


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who may be cast: the file to enrol, and the file to film."""

    person: str
    enrolment: bytes
    filmed: bytes


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays, the files they are enrolled by, and how many were asked before there were enough."""

    actors: tuple[Actor, ...]
    enrolments: dict[str, bytes]
    asked: int

    def only(self, count: int, strangers: Collection[int] = ()) -> "Cast":
        """The first ``count`` of them; ``strangers``, by their numbers, are not enrolled."""
        actors = self.actors[:count]
        known = [actor.person for number, actor in enumerate(actors) if number not in strangers]
        return Cast(actors, {person: self.enrolments[person] for person in known}, self.asked)


def installed(client: Client) -> Iterator[Candidate]:
    """The people of the installed pictures, then their relatives."""
    sources = [pixels_of(sample_picture(GROUP)), pixels_of(sample_picture(GUEST)), astronaut()]
    portraits = [portrait for pixels in sources for portrait in _portraits(client, pixels)]
    for number, portrait in enumerate(portraits):
        yield Candidate(f"person-{number}", _png(portrait), _png(portrait))
    for kind, (width, shift) in enumerate(_RELATIVES):
        for number, portrait in enumerate(portraits):
            relative = _png(_relative(portrait, width, shift))
            yield Candidate(f"relative-{number}-{kind}", relative, relative)


def of_folder(folder: Path) -> Iterator[Candidate]:
    """The people of a data set as ``facesvc evaluate`` takes it, in its order: first photo, second photo."""
    protocol = read_protocol(folder)
    if not protocol.people:
        raise InputError(f"{folder} names nobody of whom there are two photos: identification.txt", field="shared")
    for person in protocol.people:
        files = (photo.within(folder).read_bytes() for photo in (person.gallery, person.probes[0]))
        yield Candidate(person.gallery.name, *files)


def people_of(client: Client, folder: Path | None) -> Iterator[Candidate]:
    """The candidates of a data set, or of the installed pictures."""
    return of_folder(folder) if folder else installed(client)


def cast(client: Client, candidates: Iterable[Candidate], count: int, *, policy: str = "") -> Cast:
    """The first ``count`` candidates whom the server can enrol by one file and recognises in the other.

    They are enrolled there and then. Raises ``InputError`` where there are too few.
    """
    actors, enrolments, asked = [], {}, 0
    for candidate in candidates:
        asked += 1
        if sprite := _audition(client, candidate, policy):
            actors.append(Actor(candidate.person, sprite))
            enrolments[candidate.person] = candidate.enrolment
        if len(actors) == count:
            return Cast(tuple(actors), enrolments, asked)
    raise InputError(f"{count} people are wanted; of {asked} there are only {len(actors)} that can be used")


def enrol(client: Client, people: Cast) -> None:
    """Make those of the cast who are no strangers known to a server."""
    for person, file in people.enrolments.items():
        client.create_subject(enrollment_pb2.Subject(subject_id=person, display_name=person))
        (answer,) = client.enroll([sample(person, file, source="bench", allow_conflict=True)])
        if answer.verdict != enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED:
            raise InputError(f"{person} could not be enrolled: {answer.message}")


def _audition(client: Client, candidate: Candidate, policy: str) -> Sprite | None:
    """The head of somebody who can be enrolled, and is then recognised; None, and nothing is kept, for others."""
    person = candidate.person
    client.create_subject(enrollment_pb2.Subject(subject_id=person, display_name=person))
    (answer,) = client.enroll([sample(person, candidate.enrolment, source="bench", allow_conflict=True)])
    if answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED:
        found = client.search(candidate.filmed, policy=policy, options=_SMALL).faces
        if len(found) == 1 and found[0].decision.subject.subject_id == person:
            return Sprite.cut_out(pixels_of(candidate.filmed), _box(found[0].face.box))
    client.erase_subject(person)
    return None


def _portraits(client: Client, pixels: Pixels) -> Iterator[Pixels]:
    """Each face of a picture with room around it, from left to right."""
    for face in sorted(client.detect(_png(pixels)).faces, key=lambda face: face.box.left):
        box = _box(face.box)
        side = (1 + 2 * _MARGIN) * box.height
        left, top = box.left + box.width / 2 - side / 2, box.top + box.height / 2 - side / 2
        shift = np.array([[1, 0, -left], [0, 1, -top]], np.float64)
        size = (round(side), round(side))
        cut = cv2.warpAffine(pixels, shift, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        yield np.asarray(cut, np.uint8)


def _relative(portrait: Pixels, width: float, shift: float) -> Pixels:
    """A portrait whose face has another width and whose eyes, nose and mouth lie elsewhere in it."""
    side = portrait.shape[0]
    face = side / (1 + 2 * _MARGIN)
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    right, down = (columns - side / 2) / face, (rows - side / 2) / face
    near = np.exp(-(right * right + down * down) / (2 * _REACH**2))
    right, down = right * width, down + shift * near * np.cos(2 * np.pi * down)
    x, y = (side / 2 + face * right).astype(np.float32), (side / 2 + face * down).astype(np.float32)
    moved = cv2.remap(portrait, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _box(box: common_pb2.BoundingBox) -> Box:
    return Box(box.left, box.top, box.width, box.height)


def _png(pixels: Pixels) -> bytes:
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, ::-1]))
    return encoded.tobytes()
