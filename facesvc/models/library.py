"""The packs on this box: a folder each below the cache folder, and which of them was chosen.

The pack in use is the one that the settings name, else the one that was chosen here, else ``default``. What was
measured on this box, the similarity that belongs to each false-match rate, is kept beside the packs under the embedding
contract it holds for, so that it outlives a pack that is fetched or built again; and so is the SHA-256 of what was
fetched without one being published (``pins.json``).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from facesvc.errors import DependencyError, InputError, NotFoundError, WeightsError
from facesvc.models import default_pack, folders, manifest, tuning
from facesvc.models.calibration import Calibration
from facesvc.models.figures import Figures, dump, load
from facesvc.models.liveness_packs import LivenessPack
from facesvc.models.packs import (
    MANIFEST,
    OTHER_KIND,
    AnyPack,
    Pack,
    dump_manifest,
    load_any_manifest,
    load_manifest,
    read_calibration,
    verify,
)

_CHOICE = "chosen"
_CALIBRATIONS = "calibrations"
_FIGURES = "figures"
_PINS = "pins.json"
Kind = TypeVar("Kind", bound=AnyPack)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def check_name(name: str) -> None:
    """An ``InputError`` unless ``name`` can be that of a pack."""
    if not _NAME.fullmatch(name) or name in (_CHOICE, _CALIBRATIONS, _FIGURES, _PINS, tuning.FILE):
        message = f"{name[:64]!a} cannot be the name of a pack: 1 to 64 letters, digits, '_', '.' and '-' can"
        raise InputError(message, field="pack")


def check_new_name(name: str) -> None:
    """As ``check_name``, and an ``InputError`` for the name of the pack that facesvc builds."""
    check_name(name)
    if name == default_pack.NAME:
        raise InputError(f"the name {name} belongs to the pack that facesvc builds: choose another", field="name")


class Library:
    """The packs below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """A folder for what is on its way here, for one process at a time; what a break left there is there again."""
        folder = self.folder / ".downloads"
        with folders.locked(folder):
            yield folder

    def names(self) -> list[str]:
        """The default pack, there or not, and every other that is there."""
        found = {path.parent.name for path in self.folder.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")}
        # And one whose writer was killed between two renames: ``path`` puts it back.
        found |= {path.parent.name[1:-4] for path in self.folder.glob(f".*.old/{MANIFEST}")}
        return [default_pack.NAME, *sorted(name for name in found - {default_pack.NAME} if _NAME.fullmatch(name))]

    def path(self, name: str) -> Path:
        """Where a pack lies. Raises ``InputError``, and ``NotFoundError`` for one that is not there."""
        check_name(name)
        if name not in self.names():
            known = ", ".join(self.names())
            raise NotFoundError(
                f"there is no model pack {name!a} in {self.folder}, only {known}: pull or add it first", field="pack"
            )
        folder = self.folder / name
        if name != default_pack.NAME and not folder.exists():
            with folders.locked(self.folder):
                folders.clear_leftovers(folder, keep=True)
        return folder

    def open(self, name: str) -> Pack:
        """A pack for recognition, every byte checked; the default one is built where it is missing.

        Raises ``NotFoundError``, also for a pack of another kind, and ``WeightsError`` for one that is damaged.
        """
        if name == default_pack.NAME:
            return self._calibrated(default_pack.ensure(self.folder))
        self._check_whole(name)
        return self.peek(name)

    def open_liveness(self, name: str) -> LivenessPack:
        """A pack of kind liveness, every byte checked; raises as ``open`` does."""
        pack = self.open_any(name)
        if not isinstance(pack, LivenessPack):
            raise NotFoundError(
                f"the pack {name} is for recognition, not of kind liveness: name another under [liveness]",
                field="pack",
                reason=OTHER_KIND,
            )
        return pack

    def open_any(self, name: str) -> AnyPack:
        """A pack of any kind; raises as ``open`` does."""
        if name == default_pack.NAME:
            return self.open(name)
        self._check_whole(name)
        return self.peek_any(name)

    def peek(self, name: str) -> Pack:
        """A pack for recognition by its manifest alone, files unread. Raises ``NotFoundError``, ``WeightsError``."""
        return self._calibrated(self._named(load_manifest(self.path(name)), name))

    def peek_any(self, name: str) -> AnyPack:
        """As ``peek``, for a pack of any kind."""
        pack = self._named(load_any_manifest(self.path(name)), name)
        return self._calibrated(pack) if isinstance(pack, Pack) else pack

    def _check_whole(self, name: str) -> None:
        if problems := verify(self.path(name)):
            raise WeightsError(f"pack {name} is damaged: {'; '.join(problems)}; add or pull it again")

    @staticmethod
    def _named(pack: Kind, name: str) -> Kind:
        if pack.name != name:
            raise WeightsError(f"{pack.folder} holds the pack {pack.name}: give the folder that name")
        return pack

    def active(self, configured: str = "") -> str:
        """The name of the pack in use; ``configured`` is what the settings say, empty for nothing."""
        return configured or self.chosen() or default_pack.NAME

    def chosen(self) -> str:
        """What ``choose`` was last told; empty for nothing."""
        try:
            name = (self.folder / _CHOICE).read_text("ascii").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise DependencyError(f"{self.folder / _CHOICE} cannot be read: {error}; choose a pack again") from error
        return name if _NAME.fullmatch(name) else ""

    def choose(self, name: str) -> None:
        """From the next start on ``name`` is the pack in use, unless the settings name another.

        Raises ``NotFoundError``, also for one of another kind, and ``PreconditionError`` for one that lost too much
        when it was made int8.
        """
        if name != default_pack.NAME:  # that may not be built yet
            self.peek(name).check_fit_for_use()
        with folders.locked(self.folder):
            folders.replace_file(self.folder / _CHOICE, f"{name}\n".encode())

    def install(self, pack: Kind, contents: Iterable[tuple[str, bytes]]) -> Kind:
        """Puts a pack in place, the version before is kept; ``contents`` are its files, which its record names."""
        check_new_name(pack.name)
        folder = self.folder / pack.name

        def files() -> Iterable[tuple[str, bytes]]:
            yield from contents
            yield MANIFEST, dump_manifest(pack)

        with folders.locked(self.folder):
            folders.clear_leftovers(folder, keep=True)
            # What is damaged, or the same, is not worth to be gone back to.
            worth = not verify(folder) and load_any_manifest(folder) != replace(pack, folder=folder)
            folders.publish(folder, files(), keep=worth)
        installed = self.open_any(pack.name)
        assert isinstance(installed, type(pack))
        return installed

    def has_previous(self, name: str) -> bool:
        """Whether there is a version to roll back to."""
        return (folders.previous(self.path(name)) / MANIFEST).exists()

    def rollback(self, name: str) -> AnyPack:
        """Exchanges a pack and the version before it.

        Raises ``NotFoundError`` where there is none, and ``WeightsError`` for one that is damaged.
        """
        folder = self.path(name)
        with folders.locked(self.folder):
            folders.clear_leftovers(folder, keep=True)
            if not (folders.previous(folder) / MANIFEST).exists():
                raise NotFoundError(f"no earlier version of pack {name} is kept here", field="pack")
            if problems := verify(folders.previous(folder)):
                raise WeightsError(f"the earlier version of pack {name} is damaged: {'; '.join(problems)}")
            folders.swap(folder)
        return self.open_any(name)

    def remove(self, name: str) -> None:
        """Deletes a pack and the version before it; what was measured for it stays."""
        folder = self.path(name)
        with folders.locked(self.folder):
            folders.remove(folder)

    def pins(self) -> dict[str, str]:
        """The SHA-256 of each file that was fetched without one being published, by the name it was fetched under."""
        path = self.folder / _PINS
        try:
            return manifest.read(path).texts("pins")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise DependencyError(
                f"{path} cannot be used: {error}; remove it, and what is pulled next is pinned"
            ) from error

    def pin(self, pins: Mapping[str, str]) -> None:
        """Adds to ``pins``, in place of what was pinned before under the same names."""
        with folders.locked(self.folder):
            content = json.dumps({"pins": {**self.pins(), **pins}}, indent=1, sort_keys=True)
            folders.replace_file(self.folder / _PINS, content.encode())

    def calibrate(self, contract_id: str, calibration: Calibration) -> None:
        """Keeps ``calibration`` for all packs of that contract, in place of the one that they came with."""
        with folders.locked(self.folder):
            (self.folder / _CALIBRATIONS).mkdir(exist_ok=True)
            content = json.dumps(asdict(calibration), indent=1).encode()
            folders.replace_file(self._calibration_path(contract_id), content)

    def record(self, contract_id: str, figures: Figures) -> None:
        """Keeps what an evaluation measured for all packs of that contract, in place of an earlier one."""
        path = self._figures_path(contract_id)
        with folders.locked(self.folder), folders.blaming(path.parent):
            path.parent.mkdir(exist_ok=True)
            folders.replace_file(path, dump(figures))

    def figures(self, contract_id: str) -> Figures | None:
        """What was last measured, None for nothing. Raises ``WeightsError`` for a record that cannot be used."""
        path = self._figures_path(contract_id)
        try:
            return load(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            message = f"{path} cannot be used: {error}; evaluate the pack again, or remove that file"
            raise WeightsError(message) from error

    def _calibrated(self, pack: Pack) -> Pack:
        path = self._calibration_path(pack.contract_id)
        try:
            return replace(pack, calibration=read_calibration(manifest.read(path)))
        except FileNotFoundError:
            return pack
        except (OSError, ValueError) as error:
            message = f"{path} cannot be used: {error}; calibrate pack {pack.name} again, or remove that file"
            raise WeightsError(message) from error

    def _calibration_path(self, contract_id: str) -> Path:
        check_name(contract_id)
        return self.folder / _CALIBRATIONS / f"{contract_id}.json"

    def _figures_path(self, contract_id: str) -> Path:
        check_name(contract_id)
        return self.folder / _FIGURES / f"{contract_id}.json"
