"""``facesvc evaluate --liveness``: what a liveness pack lets pass and refuses, in the terms of ISO/IEC 30107-3.

APCER is the share of attacks of one kind that pass as genuine, BPCER that of genuine presentations that do not. Attacks
of several kinds are never averaged: who wants to get in chooses the one that works. A presentation without a face that
could be looked at is no error but a non-response, and counted apart.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from facesvc import engine
from facesvc.cli import attacks, pictures
from facesvc.cli.console import cell, complain, out, print_json, printable
from facesvc.cli.lfw import Protocol
from facesvc.cli.models_calibrate import percent_bounds
from facesvc.cli.progress import tracked
from facesvc.cli.samples import GROUP, sample_picture
from facesvc.config import Settings
from facesvc.errors import InputError
from facesvc.models.calibration import bounds
from facesvc.vision.detection import Detection, Pixels
from facesvc.vision.liveness import Liveness
from facesvc.vision.pipeline import Detector

FRAMES = 8
"""Of a simulated presentation; its score is their mean."""
_MINIMUM_FACE = 40.0
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_TAKES = 4
"""Simulated presentations of each kind, of one face: each is moved otherwise."""
# Of a face with fewer pixels no attack is made: it would be blurred, and refused for that.
_VICTIM_PIXELS = 80.0
_PEOPLE = 6  # in the group
_MOST_PHOTOS = 200  # of LFW that are looked at
_NAME = re.compile(r"(genuine|spoof_([a-z-]+))[^a-z]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Presentation:
    """What was shown to the camera: of which kind, and its score, None where there was no face to look at."""

    kind: str
    genuine: bool
    simulated: bool
    score: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """All presentations of one kind; ``wrong`` of those with ``scores`` were taken for what they are not."""

    kind: str
    genuine: bool
    simulated: bool
    scores: tuple[float, ...]
    without_face: int
    wrong: int

    @property
    def error_rate(self) -> float | None:
        """BPCER of genuine presentations, APCER of attacks; None where none was scored."""
        return self.wrong / len(self.scores) if self.scores else None

    @property
    def quantiles(self) -> dict[str, float]:
        """The scores in short."""
        return {f"{one:g}": float(np.quantile(self.scores, one)) for one in _QUANTILES} if self.scores else {}


@dataclass(frozen=True, slots=True)
class _Judge:
    """A detector and what it finds being judged."""

    detector: Detector
    liveness: Liveness

    def largest(self, pixels: Pixels) -> Detection | None:
        found = self.detector.detect(pixels, _MINIMUM_FACE)
        return max(found, key=lambda face: face.box.area, default=None)

    def picture(self, kind: str, pixels: Pixels, face: Detection | None, *, genuine: bool) -> Presentation:
        score = None if face is None else self.liveness.score(pixels, face)
        return Presentation(kind, genuine, simulated=False, score=score)

    def made_of(self, pixels: Pixels, face: Detection | None) -> Iterator[Presentation]:
        """Every attack that is made of a genuine picture, and the picture filmed as the attacks are."""
        if face is None or face.box.width < _VICTIM_PIXELS:
            return
        for kind, show in (("filmed still", attacks.filmed), *attacks.ATTACKS.items()):
            for take in range(_TAKES):
                track = (self._frame(frame) for frame in show(pixels, face.box, FRAMES, take))
                known = [score for score in track if score is not None]
                score = sum(known) / len(known) if known else None
                yield Presentation(kind, show is attacks.filmed, simulated=True, score=score)

    def _frame(self, frame: Pixels) -> float | None:
        face = self.largest(frame)
        return None if face is None else self.liveness.score(frame, face)


def evaluate_liveness(
    settings: Settings, folder: Path, lfw: tuple[Path, Protocol] | None, pack: str, *, as_json: bool
) -> None:
    """Measure and print. Raises ``InputError`` for a folder without pictures of both kinds."""
    name = pack or settings.liveness.pack
    if not name:
        raise InputError("name a liveness pack: --pack NAME, or pack under [liveness] in the settings", field="pack")
    chosen = settings.model_copy(update={"liveness": settings.liveness.model_copy(update={"pack": name})})
    liveness = engine.load_liveness(chosen)
    assert liveness is not None
    shown = list(_named_by_kind(folder))
    models = engine.load_models(settings)
    judge = _Judge(models.detector, liveness)
    photos = _spread([photo.within(lfw[0]) for photo in lfw[1].photos()], _MOST_PHOTOS) if lfw else []
    steps = tracked(_presented(judge, shown, photos), len(shown) + len(photos) + _PEOPLE, show=not as_json)
    found = (presentation for step in steps for presentation in step)
    threshold = settings.liveness.threshold
    groups = grouped(found, threshold)
    if as_json:
        print_json({"pack": name, "detector": models.pack.name, **as_object(groups, threshold)})
    else:
        out.print(_table(groups, name, models.pack.name, threshold))


def grouped(presentations: Iterable[Presentation], threshold: float) -> list[Group]:
    """One group a kind, genuine ones first; a score of ``threshold`` passes."""
    kinds: dict[tuple[bool, bool, str], list[float | None]] = {}
    for one in presentations:
        kinds.setdefault((not one.genuine, one.simulated, one.kind), []).append(one.score)
    groups = []
    for (attack, simulated, kind), all_scores in sorted(kinds.items()):
        scores = tuple(score for score in all_scores if score is not None)
        wrong = sum((score >= threshold) == attack for score in scores)
        groups.append(Group(kind, not attack, simulated, scores, len(all_scores) - len(scores), wrong))
    return groups


def as_object(groups: Iterable[Group], threshold: float) -> dict[str, Any]:
    """The figures for programs."""
    return {
        "threshold": threshold,
        "presentations": [
            {
                "kind": group.kind,
                "genuine": group.genuine,
                "simulated": group.simulated,
                "bpcer" if group.genuine else "apcer": group.error_rate,
                "scored": len(group.scores),
                "without_face": group.without_face,
                "quantiles": group.quantiles,
            }
            for group in groups
        ],
        "frames_of_simulated": FRAMES,
        "note": _note(groups),
    }


def _named_by_kind(folder: Path) -> Iterator[tuple[str, bool, Pixels]]:
    """The pictures ``genuine*`` and ``spoof_KIND*`` of a folder: kind, whether genuine, pixels."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", field="liveness")
    files, _ = pictures.pictures_and_others(folder)
    named = [(path, match) for path in files if (match := _NAME.fullmatch(path.stem))]
    if {bool(match[2]) for _, match in named} != {False, True}:
        raise InputError(
            f"{folder} needs pictures of both kinds: genuine*.jpg, and spoof_KIND*.jpg such as spoof_print.jpg",
            field="liveness",
        )
    if skipped := [path.name for path in files if path not in {one for one, _ in named}]:
        complain(f"{folder}: skipped, named neither genuine nor spoof_KIND: {', '.join(skipped)}")
    for path, match in named:
        kind = f"{match[2].lower()}, real" if match[2] else f"pictures of {printable(folder.resolve().name)}"
        yield kind, not match[2], pictures.pixels_of(path.read_bytes())


def _presented(
    judge: _Judge, shown: Iterable[tuple[str, bool, Pixels]], photos: list[Path]
) -> Iterator[list[Presentation]]:
    """What is presented, a picture with all that is made of it at a time."""
    for kind, genuine, pixels in shown:
        face = judge.largest(pixels)
        made = judge.made_of(pixels, face if genuine else None)
        yield [judge.picture(kind, pixels, face, genuine=genuine), *made]
    group = pictures.pixels_of(sample_picture(GROUP))
    for face in judge.detector.detect(group, _MINIMUM_FACE):
        one = judge.picture("people of a group", group, face, genuine=True)
        yield [one, *judge.made_of(group, face)]
    for path in photos:
        pixels = pictures.pixels_of(path.read_bytes())
        yield [judge.picture("crops of LFW", pixels, judge.largest(pixels), genuine=True)]


def _spread(paths: list[Path], most: int) -> list[Path]:
    """At most so many of them, from all over the list."""
    return paths[:: -(-len(paths) // most)] if paths else []


def _note(groups: Iterable[Group]) -> str:
    attacks_seen = [group for group in groups if not group.genuine]
    real = sum(len(group.scores) for group in attacks_seen if not group.simulated)
    made = sum(len(group.scores) for group in attacks_seen if group.simulated)
    return (
        f"{real} real attack{'s' if real != 1 else ''} and {made} made of still pictures: far too few to certify"
        " anything; what is made is of few faces, each several times, and lacks hands, printers and shutters"
    )


def _table(groups: list[Group], pack: str, detector: str, threshold: float) -> Table:
    title = f"Liveness pack {pack} on faces found by {detector}, threshold {threshold:g}"
    table = Table("presented", "", "scored", "no face", "error", "95 % bounds", title=title, caption=_note(groups))
    for quantile in _QUANTILES:
        table.add_column(f"score {quantile:.0%}", justify="right")
    for group in groups:
        rate, scored = group.error_rate, len(group.scores)
        table.add_row(
            cell(group.kind),
            "simulated" if group.simulated else "",
            str(scored),
            str(group.without_face),
            "" if rate is None else f"{'BPCER' if group.genuine else 'APCER'} {rate:.1%}",
            "" if rate is None else percent_bounds(bounds(group.wrong, scored)),
            *(f"{score:.3f}" for score in group.quantiles.values()),
        )
    return table
