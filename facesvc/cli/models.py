"""``facesvc models``: which packs there are, where they come from, and whether they are whole."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from facesvc import engine
from facesvc.cli import models_calibrate, models_get, models_migrate, models_quantize
from facesvc.cli.console import Json, cell, complain, out, print_json, say, settings_of, table_of
from facesvc.cli.models_get import megabytes, size_bytes
from facesvc.errors import NotFoundError, WeightsError
from facesvc.models import catalog, default_pack, liveness_packs, packs
from facesvc.models.figures import Figures
from facesvc.models.library import Library
from facesvc.models.parts import licences

app = typer.Typer(help="The packs of neural networks that recognition runs on.", no_args_is_help=True)

WHOLE, DAMAGED, NOT_BUILT = "whole", "damaged", "not built yet"
AVAILABLE, MISSING = "available", "not there"
_STYLES = {WHOLE: "green", DAMAGED: "red", NOT_BUILT: "yellow", AVAILABLE: "dim", MISSING: "red"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A pack that is there or could be; without a manifest that can be read, little is known about it.

    ``kind`` is what it is for; one of kind liveness has no contract and no calibration.
    ``accepted`` is when each licence that forbids commercial use was accepted. ``calibration`` says where the
    false-match rates are from, measured with so many ``impostor_pairs``; ``accuracy`` (0 to 1) is what
    ``facesvc evaluate`` found here on ``data_set``. All four are None where nothing was measured.
    """

    name: str
    active: bool
    state: str
    kind: str | None = packs.RECOGNITION
    licences: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    size_bytes: int | None = None
    dimension: int | None = None
    contract_id: str | None = None
    calibration: str | None = None
    impostor_pairs: int | None = None
    accuracy: float | None = None
    data_set: str | None = None
    has_previous: bool = False


@app.command("list")
def list_packs(context: typer.Context, as_json: Json = False) -> None:
    """List the packs, installed or to be pulled, with licences, size, embedding contract and calibration."""
    settings = settings_of(context)
    library = engine.library(settings)
    found = _found(library, library.active(settings.models.pack), settings.liveness.pack)
    if as_json:
        print_json([asdict(pack) for pack in found])
        return
    table = table_of("pack", "kind", "active", "state", "size", "what is known")
    for pack in found:
        table.add_row(
            cell(pack.name),
            cell(pack.kind or ""),
            "yes" if pack.active else "",
            cell(pack.state, _STYLES[pack.state]),
            "" if pack.size_bytes is None else megabytes(pack.size_bytes),
            Text("\n").join(cell(line) for line in _known(pack)),
        )
    out.print(table)


app.command()(models_get.pull)
app.command()(models_get.add)


@app.command()
def build(
    context: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Build it also where a whole one is there.")] = False,
    as_json: Json = False,
) -> None:
    """Build the default pack from the weights that installed Python packages carry."""
    cache_dir = settings_of(context).models.cache_dir
    before = _identity(cache_dir / default_pack.NAME)
    started = time.perf_counter()
    pack = default_pack.build(cache_dir, force=force)
    seconds = time.perf_counter() - started
    built = _identity(pack.folder) != before
    if as_json:
        print_json({"pack": pack.name, "folder": pack.folder, "built": built, "seconds": round(seconds, 3)})
    elif built:
        say(f"{pack.name}: built in {seconds:.1f} s, {megabytes(size_bytes(pack))}, in {pack.folder}")
    else:
        say(f"{pack.name}: already there and whole, in {pack.folder}; --force builds it anew")


@app.command()
def verify(
    context: typer.Context,
    pack: Annotated[str, typer.Argument(help="Name of the pack; none: the active one.")] = "",
    as_json: Json = False,
) -> None:
    """Compare every file of a pack with the hash in its manifest; the exit status is 1 for one that is damaged."""
    settings = settings_of(context)
    library = engine.library(settings)
    name = pack or library.active(settings.models.pack)
    folder = library.path(name)
    problems = _problems(library, name)
    if as_json:
        print_json({"pack": name, "folder": folder, "whole": not problems, "problems": problems})
    elif problems:
        for line in (*problems, _advice(library, name)):
            say(f"{name}: {line}")
    else:
        found = library.peek_any(name)
        say(f"{name}: {len(found.files)} files, {megabytes(size_bytes(found))}, all whole, in {folder}")
    if problems:
        raise typer.Exit(1)


app.command()(models_get.use)
app.command()(models_get.update)
app.command()(models_get.rollback)
app.command()(models_get.remove)
app.command()(models_calibrate.calibrate)
app.command()(models_migrate.migrate)
app.command()(models_quantize.quantize)


def _found(library: Library, active: str, liveness: str) -> list[Listed]:
    """The packs that are here, then the active ones that are not, then what the catalogue has beside them."""
    here, kinds = library.names(), {packs.RECOGNITION: active, liveness_packs.KIND: liveness}
    missing = [
        Listed(name, active=True, state=MISSING, kind=kind) for kind, name in kinds.items() if name and name not in here
    ]
    known = [
        Listed(name, active=False, state=AVAILABLE, licences=entry.licences, size_bytes=entry.size_bytes)
        for name, entry in catalog.ENTRIES.items()
        if name not in here and name not in kinds.values()
    ]
    return [*(_listed(library, name, kinds) for name in here), *missing, *known]


def _listed(library: Library, name: str, in_use: Mapping[str, str]) -> Listed:
    if name == default_pack.NAME and not (library.folder / name).exists():
        return Listed(
            name,
            name == in_use[packs.RECOGNITION],
            NOT_BUILT,
            licences=licences(default_pack.SOURCES.values()),
            dimension=default_pack.DIMENSION,
            contract_id=default_pack.contract_id(),
        )
    try:
        pack = library.peek_any(name)
    except (WeightsError, NotFoundError):
        return Listed(name, name in in_use.values(), DAMAGED, kind=None)
    kind = packs.kind_of(pack)
    listed = Listed(
        name,
        name == in_use[kind],
        DAMAGED if packs.verify(pack.folder) else WHOLE,
        kind,
        pack.licences,
        tuple(f"{one.time}: {one.licence}" for one in pack.acceptances),
        size_bytes(pack),
        has_previous=library.has_previous(name),
    )
    return _with_measurements(listed, library, pack) if isinstance(pack, packs.Pack) else listed


def _with_measurements(listed: Listed, library: Library, pack: packs.Pack) -> Listed:
    measured, figures = bool(pack.calibration.points), _figures(library, pack)
    return replace(
        listed,
        dimension=pack.dimension,
        contract_id=pack.contract_id,
        calibration=pack.calibration.source if measured else None,
        impostor_pairs=pack.calibration.impostor_pairs if measured else None,
        accuracy=figures.accuracy if figures else None,
        data_set=figures.data_set if figures else None,
    )


def _figures(library: Library, pack: packs.Pack) -> Figures | None:
    try:
        return library.figures(pack.contract_id)
    except WeightsError as error:
        complain(f"{pack.name}: {error.message}")
        return None


def _known(pack: Listed) -> Iterator[str]:
    """What the table says of a pack, line by line."""
    yield from pack.licences
    for acceptance in pack.accepted:
        yield f"accepted {acceptance}"
    if pack.contract_id is not None:
        yield f"{pack.dimension} values a face, contract {pack.contract_id}"
    if pack.calibration is not None:
        yield f"false-match rates from {pack.calibration} ({pack.impostor_pairs:,} impostor pairs)"
    elif pack.state == WHOLE and pack.kind == packs.RECOGNITION:
        yield "false-match rates never measured"
    if pack.accuracy is not None:
        yield f"accuracy {pack.accuracy:.2%}, measured here on {pack.data_set}"
    if pack.has_previous:
        yield "another version is kept"


def _problems(library: Library, name: str) -> list[str]:
    if problems := packs.verify(library.path(name)):
        return problems
    try:
        library.peek_any(name)
    except WeightsError as error:
        return [error.message]
    return []


def _advice(library: Library, name: str) -> str:
    if name == default_pack.NAME:
        return "`facesvc models build` writes it anew; so does the server when it starts"
    again = f"`facesvc models pull {name}` or `facesvc models add` puts it in place again"
    return f"{again}, `facesvc models rollback {name}` the version before" if library.has_previous(name) else again


def _identity(folder: Path) -> tuple[int, int] | None:
    """Changes whenever the folder is replaced; None where there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
