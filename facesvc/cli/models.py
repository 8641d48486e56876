"""``facesvc models``: which packs there are, building the default one, and checking that a pack is whole."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from facesvc.cli.console import Json, cell, out, print_json, say, settings_of
from facesvc.errors import NotFoundError, WeightsError
from facesvc.models import default_pack, packs

app = typer.Typer(help="The packs of neural networks that recognition runs on.", no_args_is_help=True)

WHOLE, DAMAGED, NOT_BUILT = "whole", "damaged", "not built yet"
_STYLES = {WHOLE: "green", DAMAGED: "red", NOT_BUILT: "yellow"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A pack that is there or could be; without a manifest that can be read, little is known about it."""

    name: str
    active: bool
    state: str
    licences: tuple[str, ...] = ()
    size_bytes: int | None = None
    dimension: int | None = None
    contract_id: str | None = None


@app.command("list")
def list_packs(context: typer.Context, as_json: Json = False) -> None:
    """List the packs, installed or available, with licences, size and embedding contract."""
    chosen = settings_of(context).models
    found = [_listed(chosen.cache_dir / name, active=name == chosen.pack) for name in names(chosen.cache_dir)]
    if as_json:
        print_json([asdict(pack) for pack in found])
        return
    table = Table(
        "pack",
        "active",
        "state",
        Column("licences", overflow="fold"),
        "size",
        "dimension",
        Column("embedding contract", overflow="fold"),
    )
    for pack in found:
        table.add_row(
            cell(pack.name),
            "yes" if pack.active else "",
            cell(pack.state, _STYLES[pack.state]),
            Text("\n").join(cell(licence) for licence in pack.licences),
            "" if pack.size_bytes is None else _megabytes(pack.size_bytes),
            "" if pack.dimension is None else str(pack.dimension),
            cell(pack.contract_id or ""),
        )
    out.print(table)


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
        say(f"{pack.name}: built in {seconds:.1f} s, {_megabytes(_size_bytes(pack))}, in {pack.folder}")
    else:
        say(f"{pack.name}: already there and whole, in {pack.folder}; --force builds it anew")


@app.command()
def verify(
    context: typer.Context,
    pack: Annotated[str, typer.Argument(help="Name of the pack; none: the active one.")] = "",
    as_json: Json = False,
) -> None:
    """Compare every file of a pack with the hash in its manifest; the exit status is 1 for one that is damaged."""
    chosen = settings_of(context).models
    name = pack or chosen.pack
    if name not in names(chosen.cache_dir):
        known = ", ".join(names(chosen.cache_dir))
        raise NotFoundError(f"there is no model pack {name[:64]!a} in {chosen.cache_dir}, only {known}", field="pack")
    folder = chosen.cache_dir / name
    problems = packs.verify(folder)
    if as_json:
        print_json({"pack": name, "folder": folder, "whole": not problems, "problems": problems})
    elif problems:
        for line in (*problems, _advice(name)):
            say(f"{name}: {line}")
    else:
        found = packs.load_manifest(folder)
        say(f"{name}: {len(found.files)} files, {_megabytes(_size_bytes(found))}, all whole, in {folder}")
    if problems:
        raise typer.Exit(1)


def names(cache_dir: Path) -> list[str]:
    """The default pack, there or not, and every other folder of ``cache_dir`` with a manifest."""
    others = {
        path.parent.name for path in cache_dir.glob(f"*/{packs.MANIFEST}") if not path.parent.name.startswith(".")
    }
    return [default_pack.NAME, *sorted(others - {default_pack.NAME})]


def _listed(folder: Path, *, active: bool) -> Listed:
    if not folder.exists():
        licences = dict.fromkeys(
            f"{source.package} {source.version}: {source.licence}" for source in default_pack.SOURCES.values()
        )
        return Listed(
            folder.name, active, NOT_BUILT, tuple(licences), None, default_pack.DIMENSION, default_pack.contract_id()
        )
    try:
        pack = packs.load_manifest(folder)
    except WeightsError:
        return Listed(folder.name, active, DAMAGED)
    state = DAMAGED if packs.verify(folder) else WHOLE
    return Listed(folder.name, active, state, pack.licences, _size_bytes(pack), pack.dimension, pack.contract_id)


def _advice(name: str) -> str:
    if name == default_pack.NAME:
        return "`facesvc models build` writes it anew; so does the server when it starts"
    return "put the pack in place again from where it came"


def _identity(folder: Path) -> tuple[int, int] | None:
    """Changes whenever the folder is replaced; None where there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _size_bytes(pack: packs.Pack) -> int:
    return sum(file.size_bytes for file in pack.files)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
