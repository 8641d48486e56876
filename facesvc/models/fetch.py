"""Fetches packs by name: those of the catalogue, and from a mirror those of another box.

A mirror is any static web server (``models.mirror``, ``https://HOST/PATH``). Below its address lie

* ``opencv_zoo/FILE`` and ``insightface/NAME.zip``: the files of the catalogue, under their own names;
* ``NAME/manifest.json`` and the files that it names: a pack of facesvc, for every other name. So the cache folder of
  another box, served as it is, is a mirror of all that was pulled, added, quantised or calibrated there.

The manifest of such a pack is believed, for who sets a mirror trusts it; so give it an address with https. What is
installed here already is not fetched again: of a file that changed only those chunks come that are new. What breaks off
goes on where it stopped, from ``.downloads`` in the library. Nothing here is put in place: a ``Fetched`` is a value.
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from facesvc.errors import DependencyError, InputError, NotFoundError, WeightsError
from facesvc.models import archives, catalog, default_pack, folders
from facesvc.models.catalog import Entry, Remote
from facesvc.models.description import PACK_TOML
from facesvc.models.download import Downloader, Progress
from facesvc.models.intake import Agree, Draft, build, draft_asking, not_accepted
from facesvc.models.library import Library, check_name
from facesvc.models.packs import MANIFEST, AnyPack, load_any_manifest, verify
from facesvc.models.parts import Source, StoredFile

_MAX_MANIFEST_BYTES = 1 << 20
_MAX_UNPACKED_BYTES = 2 << 30  # the largest archive known, antelopev2, has 0.4 GB
_MAX_UNPACKED_FILES = 200


@dataclass(frozen=True, slots=True)
class Tools:
    """What fetching needs: ``watch`` gives who is told how far the file of that name is, ``now`` dates acceptances."""

    library: Library
    downloader: Downloader
    mirror: str
    watch: Callable[[str], Progress]
    agree: Agree
    now: datetime


@dataclass(frozen=True, slots=True)
class Fetched:
    """A pack that was fetched; ``received_bytes`` of ``size_bytes`` came over the network. ``pins`` are new ones."""

    draft: Draft
    received_bytes: int
    size_bytes: int
    pins: Mapping[str, str] = field(default_factory=dict)

    def install(self, library: Library) -> AnyPack:
        """The pack in the library."""
        if self.pins:
            library.pin(self.pins)
        return self.draft.install(library)


def pull(name: str, tools: Tools, *, new_pin: bool = False) -> Fetched | None:
    """The pack of that name; None where it is installed, whole and the same.

    With ``new_pin`` the archive may be another one than was pulled before. Raises ``InputError`` and ``NotFoundError``
    for a name that nothing is known under, ``PreconditionError`` (``LICENCE_NOT_ACCEPTED``), ``DependencyError`` for a
    network or a disk that fails, and ``WeightsError`` for what is not what it should be.
    """
    check_name(name)
    if name == default_pack.NAME:
        raise InputError(f"the pack {name} is not fetched but built here: `facesvc models build`", field="name")
    entry = catalog.ENTRIES.get(name)
    if new_pin and (entry is None or all(remote.sha256 for remote in entry.remotes)):
        raise InputError(f"there is nothing to pin: the SHA-256 of every file of {name} is known", field="new_pin")
    if entry is not None:
        return _catalogued(entry, tools, {} if new_pin else tools.library.pins())
    if not tools.mirror:
        raise NotFoundError(
            f"there is no pack {name} to fetch, only {', '.join(catalog.ENTRIES)}; others come from the mirror that "
            f"models.mirror names, and it names none",
            field="name",
        )
    return _mirrored(name, tools)


@contextmanager
def opened(path: Path, workplace: Path) -> Iterator[Path]:
    """The folder with the files of a pack, for the time of the block: ``path``, the only folder in it, or an archive.

    An archive is unpacked in ``workplace``. Raises ``InputError`` for a path where nothing is, and ``WeightsError`` for
    an archive that is refused.
    """
    if not path.exists():
        raise InputError(f"there is no {path}", field="path")
    if path.is_dir():
        yield _inner(path)
        return
    unpacked = workplace / ".unpacked"
    # The pack is called as the archive is, unless somebody says otherwise.
    folder = unpacked / (
        re.sub(r"[^A-Za-z0-9_.-]+", "_", re.sub(r"(\.tar)?\.\w{1,4}$", "", path.name)).lstrip(".") or "_"
    )
    try:
        with folders.blaming(workplace):
            shutil.rmtree(unpacked, ignore_errors=True)
            folder.mkdir(parents=True)
        archives.unpack(path, folder, max_bytes=_MAX_UNPACKED_BYTES, max_files=_MAX_UNPACKED_FILES)
        yield _inner(folder)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _inner(folder: Path) -> Path:
    """``folder``, or the only folder in it where it holds nothing that a pack is made of."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    inner = [path for path in entries if path.is_dir()]
    of_a_pack = any(path.suffix == ".onnx" or path.name in {MANIFEST, PACK_TOML} for path in entries)
    return inner[0] if len(inner) == 1 and not of_a_pack else folder


def _catalogued(entry: Entry, tools: Tools, pins: Mapping[str, str]) -> Fetched | None:
    expected = {remote.key: remote.sha256 or pins.get(remote.key, "") for remote in entry.remotes}
    if _is_there(entry, tools.library, expected):
        return None
    if entry.terms:
        refusal = not_accepted(entry.remotes[0].licence, entry.terms)
        if not tools.agree(refusal.message):
            raise refusal
    with _room(tools.library, entry.name) as folder:
        _require_space(folder, 2 * (entry.size_bytes or 0))
        got = [_remote(remote, folder, expected[remote.key], tools) for remote in entry.remotes]
        if entry.description is not None:
            draft = build(folder, entry.description, entry.name, tools.library)
        else:
            with opened(folder / entry.remotes[0].name, folder) as inner:
                draft = draft_asking(inner, entry.name, tools.library, tools.agree, tools.now)
        sources = tuple(
            Source(remote.origin, remote.version, remote.name, sha256, remote.licence)
            for remote, (sha256, _, _) in zip(entry.remotes, got, strict=True)
        )
        new = {
            remote.key: sha256
            for remote, (sha256, _, _) in zip(entry.remotes, got, strict=True)
            if not expected[remote.key]
        }
        draft = replace(draft, pack=replace(draft.pack, sources=sources))
    return Fetched(draft, sum(received for _, received, _ in got), sum(size for *_, size in got), new)


def _is_there(entry: Entry, library: Library, expected: Mapping[str, str]) -> bool:
    if entry.name not in library.names() or verify(library.path(entry.name)):
        return False
    sources = load_any_manifest(library.path(entry.name)).sources
    return expected == {f"{source.package}/{source.file}": source.sha256 for source in sources}


def _remote(remote: Remote, folder: Path, expected: str, tools: Tools) -> tuple[str, int, int]:
    """Fetches a file of the catalogue into ``folder``: its SHA-256, how many bytes came, how many it has."""
    target = folder / remote.name
    if expected and target.is_file() and _sha256(target) == expected:  # from a pull that broke off at a later file
        return expected, 0, target.stat().st_size
    try:
        fetched = tools.downloader.fetch(
            remote.url(tools.mirror),
            target,
            sha256=expected or None,
            size_bytes=remote.size_bytes,
            progress=tools.watch(remote.name),
        )
    except WeightsError as error:
        if remote.sha256 or not expected:
            raise
        raise WeightsError(
            f"{error.message}; that one was pinned when it was first pulled here: --new-pin takes what is there now"
        ) from error
    return fetched.sha256, fetched.received_bytes, fetched.size_bytes


def _mirrored(name: str, tools: Tools) -> Fetched | None:
    url = f"{tools.mirror}/{name}"
    with _room(tools.library, name) as folder:
        new = _manifest(f"{url}/{MANIFEST}", name, folder, tools.downloader)
        old = _installed(name, tools.library)
        if old is not None and replace(new, folder=old.folder) == old and not verify(old.folder):
            return None
        size_bytes = sum(file.size_bytes for file in new.files)
        _require_space(folder, 2 * size_bytes)
        received = sum(_file(f"{url}/{file.name}", file, folder, old, tools) for file in new.files)
        contents = {file.name: new.path(file.name).read_bytes() for file in new.files}
    return Fetched(Draft(replace(new, folder=Path()), contents), received, size_bytes)


def _manifest(url: str, name: str, folder: Path, downloader: Downloader) -> AnyPack:
    content = downloader.read_small(url, _MAX_MANIFEST_BYTES)
    with folders.blaming(folder):
        (folder / MANIFEST).write_bytes(content)
    try:
        pack = load_any_manifest(folder)
    except WeightsError as error:
        raise WeightsError(f"{url} cannot be used as a manifest: {error.__cause__}; check the mirror") from error
    if pack.name != name:
        raise WeightsError(f"{url} is the manifest of a pack {pack.name}, not of {name}; check the mirror")
    return pack


def _installed(name: str, library: Library) -> AnyPack | None:
    try:
        return load_any_manifest(library.path(name))
    except (NotFoundError, WeightsError):
        return None


def _file(url: str, file: StoredFile, folder: Path, old: AnyPack | None, tools: Tools) -> int:
    """Fetches a file of a pack into ``folder``, as far as it is not in ``old``; how many bytes came."""
    target, progress = folder / file.name, tools.watch(file.name)
    if target.is_file() and _sha256(target) == file.sha256:
        return 0
    if old is None:
        return tools.downloader.fetch(
            url, target, sha256=file.sha256, size_bytes=file.size_bytes, progress=progress
        ).received_bytes
    return tools.downloader.fetch_changed(
        url,
        target,
        old=old.path(file.name),
        chunks=file.chunks,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        progress=progress,
    ).received_bytes


@contextmanager
def _room(library: Library, name: str) -> Iterator[Path]:
    """A folder for the files of a pack on their way. It stays where that can go on: not when it is done, nor wrong."""
    with library.workplace() as workplace:
        folder = workplace / name
        with folders.blaming(workplace):
            folder.mkdir(exist_ok=True)
        try:
            yield folder
        except WeightsError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _require_space(folder: Path, needed_bytes: int) -> None:
    """Raises ``DependencyError`` where there is no room for what is fetched and, beside it, what is installed."""
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise DependencyError(
            f"{needed_bytes} bytes are needed in {folder}, where {free} are free; free space there or configure "
            f"another cache folder"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
