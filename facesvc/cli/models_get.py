"""How packs come to this box, change and go: ``pull``, ``add``, ``update``, ``rollback``, ``use`` and ``remove``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from facesvc import engine
from facesvc.cli.console import Json, err, print_json, say, settings_of
from facesvc.config import Settings
from facesvc.errors import NotFoundError, PreconditionError, WeightsError
from facesvc.models import default_pack, download, fetch
from facesvc.models.intake import Agree, draft_asking
from facesvc.models.library import Library
from facesvc.models.liveness_packs import LivenessPack
from facesvc.models.packs import AnyPack, Pack, kind_of

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the pack.")]
AcceptLicence = Annotated[
    bool, typer.Option("--accept-license", help="Accept a licence that forbids commercial use; that is recorded.")
]
NewPin = Annotated[
    bool, typer.Option("--new-pin", help="Take an archive also where another one was pulled under its name before.")
]


def pull(
    context: typer.Context,
    name: Name,
    accept_license: AcceptLicence = False,
    new_pin: NewPin = False,
    as_json: Json = False,
) -> None:
    """Fetch a pack of the catalogue, or one of another box from the mirror."""
    settings = settings_of(context)
    _get(settings, name, accepted=accept_license, new_pin=new_pin, as_json=as_json)


def update(context: typer.Context, name: Name, accept_license: AcceptLicence = False, as_json: Json = False) -> None:
    """Fetch what changed of a pack that is installed; the version before is kept for a rollback."""
    settings = settings_of(context)
    if name != default_pack.NAME:
        engine.library(settings).path(name)
    _get(settings, name, accepted=accept_license, new_pin=False, as_json=as_json)


def add(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder, zip or tar with the files of the pack.")],
    name: Annotated[str, typer.Option("--name", help="What to call it; none: as it says itself.")] = "",
    accept_license: AcceptLicence = False,
    as_json: Json = False,
) -> None:
    """Make a pack of files that are here: of InsightFace, with a pack.toml, or one of facesvc. Nothing is fetched."""
    settings = settings_of(context)
    library = engine.library(settings)
    agree = _asking(accepted=accept_license)
    with library.workplace() as workplace, fetch.opened(path, workplace) as folder:
        draft = draft_asking(folder, name, library, agree, datetime.now(UTC))
    before = _contract(library, draft.pack.name)
    pack = draft.install(library)
    if as_json:
        print_json(_told(pack))
        return
    say(f"{pack.name}: added, {megabytes(size_bytes(pack))}, {_makes(pack)}, in {pack.folder}")
    _say_more(settings, pack, before)


def use(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Choose the pack that the server and the commands run on from their next start."""
    settings = settings_of(context)
    library = engine.library(settings)
    configured = settings.models.pack
    if name != default_pack.NAME:
        library.peek(name)
    if configured and configured != name:
        raise PreconditionError(
            f"the settings say that pack {configured} is used: write {name} there, in the settings file as pack under"
            " [models] or in FACESVC_MODELS__PACK, or take it out and choose again"
        )
    before = library.active(configured)
    contract_before = _contract(library, before)
    pack = library.open(name)
    library.choose(name)
    if as_json:
        print_json({**_told(pack), "before": before, "same_contract": contract_before == pack.contract_id})
        return
    say(f"{name}: in use from the next start on; a running server changes with `facesvc models migrate {name}`")
    if contract_before != pack.contract_id:
        say(
            f"{name}: its vectors do not compare with those of {before}: a gallery that was made with another embedding"
            f" contract than {pack.contract_id} is refused until `facesvc models migrate {name}` has changed it"
        )
    if not pack.calibration.points:
        say(f"{name}: its false-match rates were never measured: `facesvc models calibrate {name}`")


def remove(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Delete a pack and the version before it; what was measured for it stays."""
    settings = settings_of(context)
    library = engine.library(settings)
    if name == default_pack.NAME:
        raise PreconditionError(
            f"the pack {name} is not removed: it is what is built and used wherever no other is chosen;"
            " `facesvc models build --force` builds it anew"
        )
    library.path(name)
    if name in (library.active(settings.models.pack), settings.liveness.pack):
        raise PreconditionError(f"the pack {name} is in use: `facesvc models use` another one first")
    library.remove(name)
    if as_json:
        print_json({"pack": name, "removed": True})
    else:
        say(f"{name}: removed, with the version before it")


def rollback(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Go back to the version of a pack that was there before; once more, and it is forward again."""
    settings = settings_of(context)
    library = engine.library(settings)
    before = _contract(library, name)
    pack = library.rollback(name)
    if as_json:
        print_json({**_told(pack), "same_contract": before == _contract_of(pack)})
        return
    say(f"{name}: the version before is there again")
    _say_more(settings, pack, before)


def megabytes(size_bytes: int) -> str:
    """A size for people."""
    return f"{size_bytes / 1e6:.1f} MB"


def size_bytes(pack: AnyPack) -> int:
    """All files of a pack together."""
    return sum(file.size_bytes for file in pack.files)


def _get(settings: Settings, name: str, *, accepted: bool, new_pin: bool, as_json: bool) -> None:
    library = engine.library(settings)
    with download.Downloader() as downloader, _progress_bars() as bars:
        agree = _asking(accepted=accepted, before=bars.stop)
        tools = fetch.Tools(library, downloader, settings.models.mirror, bars.watch, agree, datetime.now(UTC))
        fetched = fetch.pull(name, tools, new_pin=new_pin)
    if fetched is None:
        pack = library.peek_any(name)
        if as_json:
            print_json({**_told(pack), "received_bytes": 0, "changed": False})
        else:
            say(f"{name}: up to date and whole, in {pack.folder}")
        return
    before = _contract(library, name)
    pack = fetched.install(library)
    if as_json:
        received = {"received_bytes": fetched.received_bytes, "size_bytes": fetched.size_bytes}
        print_json({**_told(pack), **received, "changed": True, "pins": dict(fetched.pins)})
        return
    say(
        f"{name}: installed in {pack.folder}, {_makes(pack)}; {fetched.received_bytes:,} of"
        f" {fetched.size_bytes:,} bytes were fetched"
    )
    for key, sha256 in fetched.pins.items():
        say(f"{name}: no SHA-256 is published for {key}: from now on only {sha256} is taken for it")
    _say_more(settings, pack, before)


def _makes(pack: AnyPack) -> str:
    return "tells living faces from pictures" if isinstance(pack, LivenessPack) else f"{pack.dimension} values a face"


def _say_more(settings: Settings, pack: AnyPack, before: str | None) -> None:
    """What there is to do about a pack that was just put in place of one with the contract ``before``, if any."""
    library = engine.library(settings)
    if library.has_previous(pack.name):
        say(f"{pack.name}: another version is kept: `facesvc models rollback {pack.name}`")
    if isinstance(pack, LivenessPack):
        used = settings.liveness.pack == pack.name
        in_settings = f'pack = "{pack.name}" under [liveness] in the settings chooses it'
        say(f"{pack.name}: {'in use after a restart of the server' if used else f'not in use; {in_settings}'}")
        return
    if library.active(settings.models.pack) != pack.name:
        say(f"{pack.name}: not in use; `facesvc models use {pack.name}` chooses it")
        return
    say(f"{pack.name}: in use after a restart of the server, or by `facesvc models migrate {pack.name}`")
    if before not in (None, pack.contract_id):
        say(
            f"{pack.name}: its vectors do not compare with those of the other version: a gallery made with that one"
            f" is refused until `facesvc models migrate {pack.name}` has changed it"
        )


def _told(pack: AnyPack) -> dict[str, object]:
    of_kind = {"contract_id": pack.contract_id, "dimension": pack.dimension} if isinstance(pack, Pack) else {}
    return {
        "pack": pack.name,
        "kind": kind_of(pack),
        "folder": pack.folder,
        **of_kind,
        "licences": pack.licences,
        "acceptances": [{"licence": one.licence, "time": one.time} for one in pack.acceptances],
    }


def _contract(library: Library, name: str) -> str | None:
    """The embedding contract of a pack; None where there is none to read."""
    if name == default_pack.NAME:
        return default_pack.contract_id()
    try:
        return _contract_of(library.peek_any(name))
    except (NotFoundError, WeightsError):
        return None


def _contract_of(pack: AnyPack) -> str | None:
    return pack.contract_id if isinstance(pack, Pack) else None


def _asking(*, accepted: bool, before: Callable[[], None] = lambda: None) -> Agree:
    """Whether a licence is accepted: as the command line says, else whoever sits at the terminal is asked, once."""
    given: set[str] = set()

    def agree(terms: str) -> bool:
        if accepted or terms in given:
            return True
        if not _at_a_terminal():
            return False
        before()
        say(terms, to=err)
        if typer.confirm("Is it accepted?", default=False, err=True):
            given.add(terms)
        return terms in given

    return agree


def _at_a_terminal() -> bool:
    return sys.stdin.isatty() and err.is_terminal


class _Bars:
    """A bar on standard error for each file that is fetched, where that is a terminal."""

    def __init__(self) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        self._bars = Progress(*columns, console=err) if err.is_terminal else None

    def watch(self, name: str) -> download.Progress:
        """Who is told how far the file of that name is."""
        if self._bars is None:
            return lambda there, total: None
        bars, bar = self._bars, self._bars.add_task(name, total=None)
        bars.start()
        return lambda there, total: bars.update(bar, completed=there, total=total)

    def stop(self) -> None:
        """Leaves the terminal to others until the next file."""
        if self._bars is not None:
            self._bars.stop()


@contextmanager
def _progress_bars() -> Iterator[_Bars]:
    bars = _Bars()
    try:
        yield bars
    finally:
        bars.stop()
