"""What ``facesvc bench --tune`` found to be the better mode, kept in the library folder.

It holds for an embedding contract, which stands for the graphs, and for a number of cores; another box of the same kind
may share the file.
"""

import json
from pathlib import Path
from typing import Literal

import structlog

from facesvc.models import folders, manifest

Mode = Literal["throughput", "latency"]
Modes = dict[tuple[str, int], Mode]
"""The better mode, by contract id and number of cores."""

FILE = "tuning.json"

_log = structlog.get_logger(__name__)


def read(folder: Path) -> Modes:
    """What was written down in ``folder``; a damaged file is a warning in the log, and counts as none."""
    path = folder / FILE
    try:
        return dict(_entry(fields) for fields in manifest.read(path).objects("modes"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning(f"{path} cannot be used: {error}; run `facesvc bench --tune` again")
        return {}


def write(folder: Path, contract_id: str, cores: int, mode: Mode) -> None:
    """Writes one entry down and keeps the others. Raises ``DependencyError`` for a folder that cannot be written to."""
    with folders.locked(folder):
        modes = {**read(folder), (contract_id, cores): mode}
        entries = [{"contract_id": key[0], "cores": key[1], "mode": mode} for key, mode in modes.items()]
        folders.replace_file(folder / FILE, json.dumps({"modes": entries}, indent=1).encode())


def _entry(fields: manifest.Fields) -> tuple[tuple[str, int], Mode]:
    key = fields.text("contract_id"), fields.integer("cores")
    match fields.text("mode"):
        case "throughput":
            return key, "throughput"
        case "latency":
            return key, "latency"
        case other:
            raise ValueError(f"there is no mode {other[:40]!a}")
