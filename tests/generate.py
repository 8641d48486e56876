"""Writes ``facesvc/v1`` from ``proto/``: ``python tests/generate.py FOLDER``. The test of staleness uses it too."""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = '"""Generated from ``proto/facesvc/v1`` by ``make proto``; never edited."""\n'


def generate(folder: Path) -> None:
    """Write messages, services and their type stubs into ``folder``, as the package ``facesvc.v1``.

    :param folder: ends in ``facesvc/v1``; made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out = folder.parent.parent
    protos = sorted(str(path) for path in (ROOT / "proto/facesvc/v1").glob("*.proto"))
    well_known = str(files("grpc_tools") / "_proto")
    flags = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}"
        for name in ("mypy", "mypy_grpc")
    ]
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", *plugins, *flags, *protos])
    if code:
        raise SystemExit(code)
    (folder / "__init__.py").write_text(CHAPTER)


if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve())
