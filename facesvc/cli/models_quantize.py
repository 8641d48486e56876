"""``facesvc models quantize``: a pack made int8, with what it gains and what it loses. Needs no server."""

import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from facesvc.cli import evaluation, quantizing, quantizing_frames
from facesvc.cli.console import Json, cell, complain, err, out, print_json, say, settings_of
from facesvc.cli.evaluation import Evaluation
from facesvc.cli.lfw import Protocol, read_protocol
from facesvc.cli.pictures import pixels_of
from facesvc.cli.quantizing import Part, Quantised
from facesvc.cli.quantizing_frames import Pixels
from facesvc.config import Settings
from facesvc.engine import Models, image_limits, library
from facesvc.errors import InputError, PreconditionError
from facesvc.gallery.crops import kept
from facesvc.gallery.masterkey import sources
from facesvc.models import default_pack
from facesvc.models.calibration import Calibration, supports
from facesvc.models.intake import UNCALIBRATED
from facesvc.models.library import Library, check_new_name
from facesvc.models.packs import Pack
from facesvc.vision.detection import MinimumFace

_STRICT = 1e-4
"""The false-match rate at which true matches may not be lost."""
_UNSEEN_PHOTOS = 200


@dataclass(frozen=True, slots=True)
class Measured:
    """What a pack does on LFW; ``tmr`` is None where there are too few comparisons for a rate of 1e-4."""

    accuracy: float
    tmr: float | None
    calibration: Calibration

    @classmethod
    def of(cls, result: Evaluation, protocol: Protocol) -> "Measured":
        """The figures that matter here."""
        identified = result.identification
        if identified is None:
            return cls(result.verification.accuracy, None, UNCALIBRATED)
        probes = sum(len(person.probes) for person in protocol.people)
        source = f"LFW, {len(protocol.people):,} people with one photo each against {probes:,} other photos"
        enough = supports(len(identified.scores.impostor), _STRICT)
        (point,) = identified.scores.points([_STRICT])
        return cls(result.verification.accuracy, point.tmr if enough else None, identified.calibration(source))


def quantize(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The pack to make int8; it stays as it is.")],
    to: Annotated[str, typer.Option(metavar="NAME", help="What to call the int8 pack; empty: NAME-int8.")] = "",
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures of faces to calibrate with; none: the bundled ones.")
    ] = None,
    crops: Annotated[
        bool, typer.Option("--crops", help="Calibrate with the crops that the gallery keeps; stop the server first.")
    ] = False,
    lfw: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Measure what is lost on LFW: pairs.txt and images/ in here.")
    ] = None,
    weight_bits: Annotated[
        int, typer.Option(min=7, max=8, help="8 is more exact, but only where the processor has VNNI.")
    ] = 7,
    as_json: Json = False,
) -> None:
    """Make a pack int8: about twice as fast on a CPU, a quarter of the size, with other vectors than before.

    Change to it with `facesvc models migrate`, or enrol people anew. The exit status is 1 for one that loses too much.
    """
    settings = settings_of(context)
    packs, result_name = library(settings), to or f"{name}-int8"
    pack = _float_pack(packs, name, result_name)
    protocol = read_protocol(lfw) if lfw else None
    photos = [photo.within(lfw) for photo in protocol.photos()] if protocol and lfw else []
    if crops and images:
        raise InputError("calibrate with --crops or with --images, not with both", field="images")
    tried = quantizing_frames.spread(photos, _UNSEEN_PHOTOS)
    pictures, unseen = _of_crops(settings, tried) if crops else representative(settings, images, tried)
    bits: Literal[7, 8] = 7 if weight_bits == 7 else 8
    with tempfile.TemporaryDirectory(prefix="facesvc-quantize-") as folder:
        with err.status(f"making pack {name} int8"):
            made = quantizing.quantise(pack, result_name, pictures, unseen, bits, Path(folder))
        before = after = None
        if protocol and lfw:
            with err.status("measuring both packs on LFW"):
                before, after = (
                    _measured(quantizing.load(each), settings, lfw, protocol) for each in (pack, made.pack)
                )
        installed = packs.install(_with_losses(made.pack, before, after), made.contents())
    objections = installed.quantization.objections() if installed.quantization else []
    if as_json:
        print_json(_as_object(installed, made, before, after, objections))
    else:
        out.print(_table(installed, made, before, after))
        _advise(installed, objections)
    if objections:
        raise typer.Exit(1)


def representative(
    settings: Settings, images: Path | None, photos: list[Path]
) -> tuple[Iterable[Pixels], Iterable[Pixels]]:
    """Pictures to calibrate with and pictures to try the result on: from a folder, or those of installed packages.

    ``photos`` are tried on too. Raises ``InputError`` for a folder without pictures.
    """
    most = settings.limits.max_image_bytes
    unseen = chain(quantizing_frames.portraits(), quantizing_frames.opened(photos, most))
    if images is None:
        return quantizing_frames.bundled(), unseen
    chosen, held_out = quantizing_frames.in_folder(images)
    return quantizing_frames.opened(chosen, most), chain(quantizing_frames.opened(held_out, most), unseen)


def _of_crops(settings: Settings, photos: list[Path]) -> tuple[Iterable[Pixels], Iterable[Pixels]]:
    """As ``representative``, from the crops of the enrolled people; every eighth is tried on instead."""
    keys = sources(settings.gallery)
    found = [
        pixels_of(crop)
        for crop in kept(settings.gallery.path, keys, quantizing_frames.MOST_PICTURES, datetime.now(UTC))
    ]
    held_out = found[7::8]
    pictures = [pixels for at, pixels in enumerate(found) if at % 8 != 7]
    opened = quantizing_frames.opened(photos, settings.limits.max_image_bytes)
    return pictures, chain(held_out, quantizing_frames.portraits(), opened)


def _float_pack(packs: Library, name: str, result_name: str) -> Pack:
    """The pack to start from. Raises ``InputError`` for a name, ``PreconditionError`` for one that is int8 already."""
    check_new_name(result_name)
    pack = packs.open(name)
    if name == default_pack.NAME or pack.quantization:
        whole = "is built with an int8 embedder" if name == default_pack.NAME else "was made int8 already"
        raise PreconditionError(
            f"pack {name} {whole}: there is nothing more to gain; choose a float pack", reason="ALREADY_INT8"
        )
    if result_name == name:
        raise PreconditionError(
            f"pack {name} would be replaced by its int8 form: choose another name with --to", reason="ALREADY_EXISTS"
        )
    return pack


def _measured(models: Models, settings: Settings, lfw: Path, protocol: Protocol) -> Measured:
    pipeline = models.pipeline(image_limits(settings))
    seen = dict(evaluation.looks(pipeline, lfw, protocol, MinimumFace(), models.concurrency.workers))
    return Measured.of(evaluation.figures(protocol, seen), protocol)


def _with_losses(pack: Pack, before: Measured | None, after: Measured | None) -> Pack:
    if not (before and after and pack.quantization):
        return pack
    tmr_loss = None if before.tmr is None or after.tmr is None else before.tmr - after.tmr
    losses = replace(pack.quantization, accuracy_loss=before.accuracy - after.accuracy, tmr_loss=tmr_loss)
    return replace(pack, quantization=losses, calibration=after.calibration)


def _as_object(
    pack: Pack, made: Quantised, before: Measured | None, after: Measured | None, objections: list[str]
) -> dict[str, Any]:
    return {
        "pack": pack.name,
        "contract_id": pack.contract_id,
        "embedder": asdict(made.embedder),
        "detector": asdict(made.detector),
        "quantization": asdict(pack.quantization) if pack.quantization else None,
        "accuracy": [before.accuracy, after.accuracy] if before and after else None,
        "tmr": [before.tmr, after.tmr] if before and after else None,
        "objections": objections,
    }


def _table(pack: Pack, made: Quantised, before: Measured | None, after: Measured | None) -> Table:
    table = Table("", "float", "int8", "", title=f"Pack {pack.name}")
    table.columns[1].justify = table.columns[2].justify = "right"
    for role, unit, part in (("embedder", "a face", made.embedder), ("detector", "a frame", made.detector)):
        _add_part(table, role, unit, part)
        table.add_section()
    drift = made.embedder.drift
    if drift and not made.embedder.kept:
        about = f"{drift.faces} views of faces not calibrated with"
        table.add_row("mean cosine of vectors", "", f"{drift.mean_cosine:.4f}", about)
        table.add_row("least cosine of vectors", "", f"{drift.least_cosine:.4f}", "")
    if made.detector.recall is not None:
        table.add_row("faces found again", "", f"{made.detector.recall:.2%}", "")
    if before and after:
        table.add_row("accuracy on LFW", f"{before.accuracy:.2%}", f"{after.accuracy:.2%}", "")
        if before.tmr is not None and after.tmr is not None:
            table.add_row("TMR at FMR 1e-4", f"{before.tmr:.2%}", f"{after.tmr:.2%}", "")
    return table


def _add_part(table: Table, role: str, unit: str, part: Part) -> None:
    small = "" if part.int8_bytes is None else f"{part.int8_bytes / 1e6:.1f} MB"
    note = f"stays float: it {part.kept}" if part.kept else "int8"
    table.add_row(role, f"{part.float_bytes / 1e6:.1f} MB", small, cell(note))
    if part.pace:
        faster = f"{part.pace.speedup:.2f} times as fast"
        table.add_row(f"time {unit}", f"{1e3 * part.pace.float_s:.2f} ms", f"{1e3 * part.pace.int8_s:.2f} ms", faster)


def _advise(pack: Pack, objections: list[str]) -> None:
    for objection in objections:
        complain(f"{pack.name} will not be used: {objection}")
    if objections:
        complain("try again with --images of more people or --weight-bits 8, or use the float pack")
        return
    say(f"{pack.name} is in {pack.folder}; `facesvc models use {pack.name}` chooses it")
    if pack.calibration == UNCALIBRATED:
        say("its false-match rates are unknown: measure them with --lfw or `facesvc models calibrate`")
