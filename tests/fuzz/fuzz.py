"""Fuzzes with atheris, which follows the branches: ``python tests/fuzz/fuzz.py [TARGET ...] --seconds N``.

Each target runs in a process of its own, so that a crash of native code is seen as well, and goes on after a crash.
What made it crash is kept, and so are the inputs that led somewhere new: a later run with the same ``--folder`` sets
out from them.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

# This folder comes first where a script runs; the rooms of tests are found from the one above.
TESTS = Path(__file__).resolve().parents[1]
sys.path[0:1] = [str(TESTS), *map(str, TESTS.parent.glob("plugins/*/tests"))]

_MEMORY_MB = 3000
_AN_INPUT_S = 30
_MOST_CRASHES = 10
_COUNT = re.compile(r"^(?:stat::number_of_executed_units: |#)(\d+)", re.MULTILINE)
# What every target goes through, and is not what reads.
_UNFOLLOWED = ["facesvc.v1", "hypothesis", "pytest"]


@dataclass(slots=True)
class Found:
    """What came of one target."""

    executions: int = 0
    seconds: float = 0.0
    crashes: int = 0


def fuzz(name: str, seconds: float, folder: Path) -> Found:
    """Fuzz one target in processes of its own, until the time is over or it has crashed too often."""
    found = Found()
    (folder / "crashes").mkdir(parents=True, exist_ok=True)
    while found.seconds < seconds and found.crashes < _MOST_CRASHES:
        started = time.monotonic()
        command = [sys.executable, __file__, name, "--inside", "--folder", str(folder)]
        command += ["--seconds", str(max(1, round(seconds - found.seconds)))]
        with (folder / f"{name}.log").open("a+b") as log:
            before = log.seek(0, os.SEEK_END)
            code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
            log.seek(before)
            text = log.read().decode(errors="replace")
        found.executions += max((int(count) for count in _COUNT.findall(text)), default=0)
        found.seconds += time.monotonic() - started
        found.crashes += code != 0
    return found


def run_inside(name: str, seconds: float, folder: Path) -> None:
    """The process of one target: ends with a code other than 0 where it crashes."""
    import atheris

    os.environ["FACESVC_SERVER__PLAINTEXT"] = "true"
    with atheris.instrument_imports(exclude=_UNFOLLOWED, include=["facesvc", *_followed()]):
        from fuzz.targets import TARGETS

    target, corpus = TARGETS[name], folder / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup(
        [
            sys.argv[0],
            *(f"-max_total_time={seconds:.0f}", f"-rss_limit_mb={_MEMORY_MB}", f"-timeout={_AN_INPUT_S}"),
            *("-print_final_stats=1", f"-artifact_prefix={folder}/crashes/{name}-"),
            str(corpus),
        ],
        target,
    )
    atheris.Fuzz()


def _followed() -> list[str]:
    """Readers that others wrote in Python, and that are part of ours."""
    return ["PIL", "tomllib", "zipfile", "pickletools", "pickle", "json", "gzip"]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them, where none is named")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (60)")
    parser.add_argument("--folder", type=Path, help="for crashes and what was learnt; else a new temporary one")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.exit("atheris is not installed here (it is for Linux on x86-64); the tests in tests/fuzz run everywhere")
    if asked.inside:
        run_inside(asked.targets[0], asked.seconds, asked.folder)
        return
    from fuzz.targets import TARGETS

    if unknown := set(asked.targets) - TARGETS.keys():
        sys.exit(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="facesvc-fuzz-"))
    _say(f"{'target':<18}{'executions':>12}{'per second':>12}{'crashes':>9}")
    crashed = 0
    for name in asked.targets or TARGETS:
        found = fuzz(name, asked.seconds, folder)
        crashed += found.crashes
        rate = found.executions / max(found.seconds, 1e-9)
        _say(f"{name:<18}{found.executions:>12,}{rate:>12,.0f}{found.crashes:>9}")
    _say(f"logs, inputs that crashed, and what was learnt: {folder}")
    sys.exit(1 if crashed else 0)


if __name__ == "__main__":
    main()
