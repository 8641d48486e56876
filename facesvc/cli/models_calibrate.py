"""``facesvc models calibrate``: which similarity belongs to which false-match rate on pictures of one's own people.

Every picture is a template, as enrolment makes it, and a probe, as a camera's face is; each template is compared with
each probe but that of its own picture. The person meant is the face nearest the centre. Needs no server.
"""

import math
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from facesvc.cli.console import Json, complain, out, print_json, printable, say, settings_of
from facesvc.cli.evaluation import Look, as_table, in_threads, look_at
from facesvc.cli.pictures import pictures_and_others
from facesvc.cli.progress import tracked
from facesvc.config import Settings
from facesvc.engine import Concurrency, Models, cores, image_limits, library, load
from facesvc.errors import InputError
from facesvc.models.calibration import RULE_OF_THREE, Bounds, Calibration, supported_rates
from facesvc.vision.detection import MinimumFace
from facesvc.vision.scores import compare_all, tallied_point

LEAST_USEFUL_RATE = 1e-2
_NEEDED_PAIRS = math.ceil(RULE_OF_THREE / LEAST_USEFUL_RATE)


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture and the person it shows."""

    person: str
    path: Path


@dataclass(frozen=True, slots=True)
class Looked:
    """What was made of a folder: pictures with a face and their vectors, those without one, and what is no picture."""

    found: tuple[tuple[Shown, Look], ...]
    faceless: tuple[Path, ...]
    unreadable: tuple[str, ...]


def calibrate(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The pack.")],
    images: Annotated[Path, typer.Option(metavar="DIR", help="A folder with a folder of pictures for each person.")],
    minimum_face: Annotated[float, typer.Option(help="Side of the smallest face looked for, in pixels.")] = 40.0,
    as_json: Json = False,
) -> None:
    """Measure and keep which similarity belongs to which false-match rate, on pictures of people you know.

    From its next start on the server takes its thresholds from there.
    """
    started = time.perf_counter()
    settings, minimum = settings_of(context), MinimumFace(minimum_face)
    pictures = find_pictures(images)
    check_enough(Counter(shown.person for shown in pictures).values(), images)
    models = load_for_measuring(settings, name)
    looked = _look(models, settings, pictures, minimum, show=not as_json)
    for path in looked.faceless:
        complain(f"{path}: no face found, left out")
    for problem in looked.unreadable:
        complain(f"{problem}, left out")
    table = calibration_of(looked, images)
    keep(settings, models, table)
    seconds = time.perf_counter() - started
    if as_json:
        print_json(_as_object(models, looked, table, seconds))
    else:
        out.print(as_rich(table, name))
        people = len({shown.person for shown, _ in looked.found})
        say(f"{len(looked.found):,} pictures of {people:,} people in {seconds:.0f} s")


def find_pictures(folder: Path) -> list[Shown]:
    """The pictures in the folders of ``folder``, by person. Raises ``InputError``."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: name one that has a folder of pictures for each person")
    loose, others = pictures_and_others(folder)
    people = [path for path in others if path.is_dir()]
    if loose:
        complain(f"{folder}: left out {len(loose)} pictures that are in no person's folder")
    return [Shown(person.name, path) for person in people for path in pictures_and_others(person)[0]]


def check_enough(sizes: Collection[int], folder: Path) -> None:
    """An ``InputError`` unless so many pictures of each person are enough for a rate of 1e-2."""
    total = sum(sizes)
    if len(sizes) < 2:
        raise InputError(
            f"{folder} has pictures with a face of {len(sizes)} people: two are the least that can be told apart; give"
            " each a folder of their own"
        )
    pairs = total**2 - sum(size**2 for size in sizes)
    if pairs < _NEEDED_PAIRS:
        # Pairs grow with the square of the pictures, as long as these spread over people as they do now.
        needed = math.ceil(total * math.sqrt(_NEEDED_PAIRS / pairs))
        raise InputError(
            f"{folder} has {total} pictures of {len(sizes)} people, which make {pairs} comparisons of two people: a"
            f" false-match rate of {LEAST_USEFUL_RATE:g} takes {_NEEDED_PAIRS}, about {needed} pictures in all"
        )
    if max(sizes) < 2:
        raise InputError(
            f"{folder} has one picture of each person: two of somebody are needed to see who is recognised"
        )


def load_for_measuring(settings: Settings, name: str) -> Models:
    """A pack with a thread for each network and as many pictures at a time as there are cores."""
    pack = library(settings).open(name)
    return load(pack, settings.models, how=Concurrency(settings.server.workers or cores(), 1))


def calibration_of(looked: Looked, folder: Path) -> Calibration:
    """The table of all that was compared. Raises ``InputError`` where that is too little."""
    sizes = Counter(shown.person for shown, _ in looked.found)
    check_enough(sizes.values(), folder)
    numbers = {person: number for number, person in enumerate(sizes)}
    people = np.array([numbers[shown.person] for shown, _ in looked.found], np.int64)
    genuine, impostor = compare_all(
        np.stack([look.template for _, look in looked.found if look.template is not None]),
        np.stack([look.probe for _, look in looked.found if look.probe is not None]),
        people,
    )
    points = as_table(tallied_point(genuine, impostor, rate) for rate in supported_rates(impostor.total))
    name = printable(folder.resolve().name) or "a folder"
    source = f"{name}, {len(sizes):,} people on {len(people):,} pictures, each against every other"
    return Calibration.measured(points, impostor.total, genuine.total, source)


def keep(settings: Settings, models: Models, table: Calibration) -> None:
    """Stores ``table`` for the pack, and says which rates of the settings it does not reach."""
    if not table.points:
        raise InputError(
            "no similarity tells these people apart: pictures of different people are the same; see that each person"
            " has a folder of their own pictures only"
        )
    library(settings).calibrate(models.pack.contract_id, table)
    least = table.points[-1].fmr
    rates = {"enrollment.conflict_false_match_rate": settings.enrollment.conflict_false_match_rate}
    rates |= {
        f"policies.{name}.false_match_rate": policy.false_match_rate
        for name, policy in settings.policies.items()
        if not policy.extrapolate
    }
    for setting, rate in rates.items():
        if rate < least:
            complain(
                f"{setting} is {rate:g}, and this table ends at {least:.2g}: what needs it is refused; raise it, or"
                " calibrate with more pictures"
            )


def as_objects(table: Calibration) -> list[dict[str, Any]]:
    """The lines of a table with the 95 % bounds of both rates, for programs."""
    return [
        {
            "fmr": point.fmr,
            "fmr_bounds": table.false_match_bounds_at(point.fmr),
            "similarity": point.similarity,
            "tmr": point.tmr,
            "tmr_bounds": table.true_match_bounds_at(point.fmr),
        }
        for point in table.points
    ]


def as_rich(table: Calibration, pack: str) -> Table:
    """The same for people, with the rates of false and of true matches by their short names."""
    rich = Table(
        "FMR",
        "95 % bounds",
        "similarity",
        "TMR",
        "95 % bounds",
        title=f"Calibration of pack {pack}",
        caption=f"{table.impostor_pairs:,} impostor and {table.genuine_pairs:,} genuine pairs",
    )
    for column in rich.columns:
        column.justify = "right"
    for point in table.points:
        false, true = table.false_match_bounds_at(point.fmr), table.true_match_bounds_at(point.fmr)
        rich.add_row(
            f"{point.fmr:.2g}",
            f"{false[0]:.2g} to {false[1]:.2g}",
            f"{point.similarity:.4f}",
            f"{point.tmr:.2%}",
            percent_bounds(true),
        )
    return rich


def percent_bounds(bounds: Bounds) -> str:
    """``97.0 to 99.1 %``."""
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"


def _look(models: Models, settings: Settings, pictures: list[Shown], minimum: MinimumFace, *, show: bool) -> Looked:
    pipeline = models.pipeline(image_limits(settings))

    def look(shown: Shown) -> Look | InputError:
        try:
            return look_at(pipeline, shown.path, minimum, enrol=True)
        except InputError as error:
            return error

    seen = list(tracked(in_threads(look, pictures, models.concurrency.workers), len(pictures), show=show))
    return Looked(
        tuple((shown, look) for shown, look in seen if isinstance(look, Look) and look.probe is not None),
        tuple(shown.path for shown, look in seen if isinstance(look, Look) and look.probe is None),
        tuple(_messages(look for _, look in seen)),
    )


def _messages(results: Iterator[Look | InputError]) -> Iterator[str]:
    return (result.message for result in results if isinstance(result, InputError))


def _as_object(models: Models, looked: Looked, table: Calibration, seconds: float) -> dict[str, Any]:
    return {
        "pack": models.pack.name,
        "embedding_contract": models.pack.contract_id,
        "source": table.source,
        "people": len({shown.person for shown, _ in looked.found}),
        "pictures": len(looked.found),
        "without_face": looked.faceless,
        "unreadable": looked.unreadable,
        "impostor_pairs": table.impostor_pairs,
        "genuine_pairs": table.genuine_pairs,
        "calibration": as_objects(table),
        "seconds": round(seconds, 3),
    }
